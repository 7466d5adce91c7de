/** Sessions of MQTT through the real command line, against mosquitto: what it takes, what it refuses, and what it counts. */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { type BenchRun, startBench, until } from '../support/bench-run.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { startBroker, WHY_NO_MOSQUITTO } from '../support/mosquitto.ts';
import { freePort } from '../support/net-target.ts';

const RUN = { timeoutMs: 180_000 };
const SKIP = { skip: WHY_NO_MOSQUITTO };
const OPEN = ['allow_anonymous true'];

let certificates: Certificates;
before(() => {
  certificates = makeCertificates();
});
after(() => certificates.remove());

function mqtt(t: TestContext, port: number, args: readonly string[]): BenchRun {
  return startBench(t, ['--target', `mqtt://127.0.0.1:${port}`, ...args], RUN);
}

for (const version of ['3.1.1', '5'] as const) {
  for (const engine of ['uring', 'epoll'] as const) {
    test(
      `${version}, ${engine}: a fleet is held for longer than mosquitto waits, each with its own client id`,
      SKIP,
      async (t) => {
        const port = await freePort();
        const broker = await startBroker(
          t,
          port,
          [`listener ${port} 127.0.0.1`, 'password_file FOLDER/passwords'],
          { 'user-7': 'right' },
        );
        const session = [
          '--mqtt-version',
          version,
          '--mqtt-client-id',
          'dev-{agent}-{conn}',
          '--mqtt-user',
          'user-7',
        ];
        const secret = [
          '--mqtt-password',
          'right',
          '--mqtt-subscribe',
          'dev/{conn}/#',
          '--mqtt-keep-alive',
          '4s',
        ];
        // Without the PINGREQs of the keep alive mosquitto ends it after 6 s, and looks each 5 s.
        const load = ['--conns', '400', '--duration', '15s', '--probe-every', '1h', '--engine', engine];
        const run = mqtt(t, port, [...session, ...secret, ...load]);
        let most = 0;
        let isOver = false;
        void run.result.then(() => {
          isOver = true;
        });
        await until('the broker has them all, or the run is over', RUN.timeoutMs, () => {
          most = Math.max(most, broker.sockets(port));
          return most >= 400 || isOver;
        });
        const { code, stdout } = await run.result;
        assert.equal(code, 0, stdout);
        assert.equal(most, 400, 'what the kernel of the broker counts');
        const report = run.report();
        assert.deepEqual([report.connections.held, report.connections.verified], [400, 400]);
        assert.equal(report.hold.proof, 'probes');
        assert((report.echoMs.count ?? 0) >= 4 * 400, `${report.echoMs.count} probes were answered`);
        const names = Array.from({ length: 400 }, (_, index) => `dev-local-${index}`);
        assert.deepEqual(broker.clientIds().toSorted(), names.toSorted());
        assert.doesNotMatch(broker.log(), /exceeded timeout/);
        assert.equal([...broker.log().matchAll(/Received SUBSCRIBE from/g)].length, 400);
        assert.match(report.about?.command ?? '', /--mqtt-password \.\.\./);
        assert.doesNotMatch(JSON.stringify(report) + stdout, /right/);
      },
    );
  }
}

const REFUSED: readonly (readonly [version: string, args: readonly string[], detail: RegExp])[] = [
  [
    '5',
    ['--mqtt-user', 'fleet', '--mqtt-password', 'wrong'],
    /^20 x mqtt CONNACK 135: not authorized; check --mqtt-user/,
  ],
  [
    '3.1.1',
    ['--mqtt-user', 'fleet', '--mqtt-password', 'wrong'],
    /^20 x mqtt CONNACK 5: not authorized; check --mqtt-user/,
  ],
  ['5', [], /^20 x mqtt CONNACK 135: not authorized/],
];

for (const [version, args, detail] of REFUSED) {
  test(`${version} ${args.join(' ')}: mosquitto's no is in the report in words`, SKIP, async (t) => {
    const port = await freePort();
    const lines = [`listener ${port} 127.0.0.1`, 'password_file FOLDER/passwords'];
    await startBroker(t, port, lines, { fleet: 'right' });
    const run = mqtt(t, port, ['--conns', '20', '--duration', '1s', '--mqtt-version', version, ...args]);
    const { code, stdout } = await run.result;
    assert.equal(code, 1, stdout);
    const report = run.report();
    assert.deepEqual(report.connections.failed, { handshake: 20 });
    assert.deepEqual([report.whoRanOut, report.diagnoses[0]?.what], ['target', 'target-handshake']);
    assert(
      report.notes.some((note) => detail.test(note)),
      report.notes.join('\n'),
    );
    assert.match(stdout.replace(/\s+/g, ' '), /not authorized/);
  });
}

test('mosquitto sets a shorter keep alive: it is kept, and the sessions outlive it', SKIP, async (t) => {
  const port = await freePort();
  const broker = await startBroker(t, port, ['max_keepalive 10', `listener ${port} 127.0.0.1`, ...OPEN]);
  const load = ['--conns', '50', '--duration', '22s', '--probe-every', '1h', '--mqtt-keep-alive', '1h'];
  const run = mqtt(t, port, load);
  const { code, stdout } = await run.result;
  assert.equal(code, 0, stdout);
  assert.equal(run.report().connections.held, 50);
  assert.doesNotMatch(broker.log(), /exceeded timeout/);
});

test('max_connections: what goes beyond is closed, and the target is named', SKIP, async (t) => {
  const port = await freePort();
  const broker = await startBroker(t, port, [`listener ${port} 127.0.0.1`, ...OPEN, 'max_connections 40']);
  const run = mqtt(t, port, ['--conns', '100', '--duration', '3s']);
  const { code, stdout } = await run.result;
  assert.equal(code, 1, stdout);
  const report = run.report();
  const { held } = report.connections;
  // The connection that found out whether it listens counts as one that is gone twice.
  assert(held === 40 || held === 41, `${held} were held`);
  assert.deepEqual([report.whoRanOut, report.diagnoses[0]?.count], ['target', 100 - held]);
  assert.equal(new Set(broker.clientIds()).size, held, 'what the broker took');
});

test(
  'sessions that another run takes over are lost, and the report says what may be why',
  SKIP,
  async (t) => {
    const port = await freePort();
    const broker = await startBroker(t, port, [`listener ${port} 127.0.0.1`, ...OPEN]);
    const ids = ['--mqtt-client-id', 'dup-{conn}'];
    const first = mqtt(t, port, ['--conns', '30', '--duration', '12s', ...ids]);
    await until('the first run holds', RUN.timeoutMs, () => broker.clientIds().length === 30);
    const second = mqtt(t, port, ['--conns', '10', '--duration', '1s', ...ids]);
    assert.equal((await second.result).code, 0);
    const { code, stdout } = await first.result;
    assert.equal(code, 1, stdout);
    assert.equal([...broker.log().matchAll(/already connected, closing old connection/g)].length, 10);
    const report = first.report();
    assert.deepEqual(report.connections.dropped, { fin: 10 });
    assert.match(report.diagnoses[0]?.next ?? '', /--mqtt-client-id/);
  },
);

test('mqtts: with the right CA it is held, and a client without that CA is not', SKIP, async (t) => {
  const port = await freePort();
  const { good, ca } = certificates;
  const tls = [`certfile ${good.certPath}`, `keyfile ${good.keyPath}`];
  await startBroker(t, port, [`listener ${port} 127.0.0.1`, ...OPEN, ...tls]);
  const target = ['--target', `mqtts://127.0.0.1:${port}`, '--tls-servername', 'server.test'];
  const run = startBench(t, [...target, '--tls-ca', ca.certPath, '--conns', '100', '--duration', '3s'], RUN);
  const { code, stdout } = await run.result;
  assert.equal(code, 0, stdout);
  const report = run.report();
  assert.deepEqual(
    [report.connections.held, report.connections.verified, report.tls?.sessions],
    [100, 100, 100],
  );
  const stranger = startBench(t, [...target, '--conns', '5', '--duration', '1s'], RUN);
  assert.equal((await stranger.result).code, 1);
  assert.deepEqual(stranger.report().connections.failed, { tls: 5 });
});
