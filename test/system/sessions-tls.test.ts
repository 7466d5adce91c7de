/** Client certificates, ALPN and resumption through the real command line, against nginx and mosquitto. */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { startBench } from '../support/bench-run.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { startBroker, WHY_NO_MOSQUITTO } from '../support/mosquitto.ts';
import { freePort } from '../support/net-target.ts';
import { startNginxFront } from '../support/nginx-front.ts';
import { whyNot } from '../support/targets.ts';

const RUN = { timeoutMs: 180_000 };

let certificates: Certificates;
before(() => {
  certificates = makeCertificates();
});
after(() => certificates.remove());

interface Played {
  readonly code: number;
  readonly stdout: string;
  readonly report: RunReport;
}

async function played(t: TestContext, target: string, args: readonly string[]): Promise<Played> {
  const tls = ['--tls-ca', certificates.ca.certPath, '--tls-servername', 'server.test'];
  const run = startBench(t, ['--target', target, ...tls, '--duration', '2s', ...args], RUN);
  const { code, stdout } = await run.result;
  return { code: code ?? -1, stdout, report: run.report() };
}

/** nginx that takes clients of `ca` alone. */
async function strictNginx(t: TestContext): Promise<number> {
  const inServer = `ssl_client_certificate ${certificates.ca.certPath}; ssl_verify_client on; ssl_session_tickets on;`;
  const { tlsPorts } = await startNginxFront(t, [certificates.good], 1, inServer);
  return tlsPorts[0] ?? assert.fail('nginx has a port with TLS');
}

test('nginx with ssl_verify_client on: the right certificate, none, and one of another CA', {
  skip: whyNot('nginx'),
}, async (t) => {
  const target = `https://127.0.0.1:${await strictNginx(t)}/ok`;
  const load = ['--conns', '200', '--max-pending', '50'];
  const [first] = certificates.clients.pairs;
  assert(first !== undefined);
  const right = await played(t, target, [...load, '--tls-cert', first.certPath, '--tls-key', first.keyPath]);
  assert.equal(right.code, 0, right.stdout);
  assert.deepEqual([right.report.connections.verified, right.report.tls?.sessions], [200, 200]);
  assert.deepEqual(right.report.tls?.alpn, { 'http/1.1': 200 });
  const secret = first.key.split('\n')[2] ?? assert.fail('a key has lines');
  assert(!(JSON.stringify(right.report) + right.stdout).includes(secret), 'nothing of the key is shown');

  const none = await played(t, target, load);
  assert.equal(none.code, 1, none.stdout);
  assert.deepEqual(none.report.connections.failed, { handshake: 200 });
  assert.match(none.report.diagnoses[0]?.next ?? '', /wants a client certificate: --tls-cert and --tls-key/);

  const { certPath, keyPath } = certificates.strangeClient;
  const strange = await played(t, target, [...load, '--tls-cert', certPath, '--tls-key', keyPath]);
  assert.equal(strange.code, 1, strange.stdout);
  assert.deepEqual(strange.report.connections.failed, { handshake: 200 });
  assert.match(strange.report.diagnoses[0]?.next ?? '', /does not take our client certificate/);
});

test('nginx resumes sessions that are offered to it, and the report has how many of how many', {
  skip: whyNot('nginx'),
}, async (t) => {
  const target = `https://127.0.0.1:${await strictNginx(t)}/ok`;
  const certs = ['--tls-cert', certificates.clients.folder];
  const load = ['--conns', '300', '--max-pending', '10', ...certs];
  const full = await played(t, target, load);
  assert.deepEqual([full.code, full.report.tls?.resumed], [0, 0], full.stdout);
  const { code, stdout, report } = await played(t, target, [...load, '--tls-resume']);
  assert.equal(code, 0, stdout);
  const { sessions = 0, resumed = 0 } = report.tls ?? {};
  assert.equal(sessions, 300);
  // The first of each endpoint and certificate in each holder find none.
  assert(resumed >= 200 && resumed < 300, `${resumed} of ${sessions} were resumed`);
  assert(report.notes.some((note) => note.includes(`300 sessions, ${resumed} resumed`)));
});

test('mosquitto takes the name of each client certificate for its user', {
  skip: WHY_NO_MOSQUITTO,
}, async (t) => {
  const port = await freePort();
  const { good, ca, clients } = certificates;
  const listener = [`listener ${port} 127.0.0.1`, `cafile ${ca.certPath}`];
  const own = [`certfile ${good.certPath}`, `keyfile ${good.keyPath}`];
  const broker = await startBroker(t, port, [
    ...listener,
    ...own,
    'require_certificate true',
    'use_identity_as_username true',
  ]);
  const target = `mqtts://127.0.0.1:${port}`;
  const ids = ['--mqtt-client-id', 'number-{conn}'];
  const { code, stdout, report } = await played(t, target, [
    '--conns',
    '30',
    '--tls-cert',
    clients.folder,
    ...ids,
  ]);
  assert.equal(code, 0, stdout);
  assert.equal(report.connections.verified, 30);
  const users = [...broker.log().matchAll(/as number-(\d+) \(p5, c1, k60, u'(device-\d)'\)/g)];
  assert.equal(users.length, 30);
  for (const [, number, user] of users) assert.equal(user, `device-${Number(number) % 3}`);

  const none = await played(t, target, ['--conns', '30']);
  assert.equal(none.code, 1, none.stdout);
  assert.match(none.stdout.replace(/\s+/g, ' '), /wants a client certificate.*--tls-cert and --tls-key/);
});
