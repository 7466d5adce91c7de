/** The protocols that prove, through the real command line and against servers that this project did not write. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { startBench, until } from '../support/bench-run.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { type NginxFront, startNginxFront } from '../support/nginx-front.ts';
import { whyNot } from '../support/targets.ts';
import { type ForeignWsServer, startWsServer, whyNoPython } from '../support/ws-servers.ts';

const FEW = 500;
const RUN = { timeoutMs: 180_000 };

let certificates: Certificates;
before(() => {
  certificates = makeCertificates();
});
after(() => certificates.remove());

async function front(t: TestContext): Promise<NginxFront & { readonly upstream: ForeignWsServer }> {
  const upstream = await startWsServer(t, 'ws');
  const { good, otherName, expired } = certificates;
  return { ...(await startNginxFront(t, [good, otherName, expired], upstream.port)), upstream };
}

test('5,000 wss:// connections to nginx with a certificate: all verified', {
  skip: whyNot('nginx'),
}, async (t) => {
  const { tlsPorts, upstream } = await front(t);
  const target = ['--target', `wss://127.0.0.1:${tlsPorts[0]}/ws`];
  const tls = ['--tls-ca', certificates.ca.certPath, '--tls-servername', 'server.test'];
  const rest = ['--conns', '5000', '--duration', '6s', '--probe-every', '4s', '--connect-timeout', '60s'];
  const run = startBench(
    t,
    [...target, ...tls, ...rest, '--probe-timeout', '30s', '--max-pending', '200'],
    RUN,
  );
  let isOver = false;
  void run.result.then(() => {
    isOver = true;
  });
  let most = 0;
  await until('the server behind nginx holds them all, or the run is over', RUN.timeoutMs, async () => {
    most = Math.max(most, (await upstream.counts()).clients);
    return most >= 5_000 || isOver;
  });
  const { code, stdout } = await run.result;
  assert.equal(code, 0, stdout);
  assert.equal(most, 5_000, 'what the server behind nginx counted');
  const report = run.report();
  assert.equal(report.connections.verified, 5_000);
  assert.equal(report.connections.held, 5_000);
  assert.equal(report.tls?.sessions, 5_000);
  assert.equal(report.tls?.unverified, 0);
  assert.equal(report.kernel.established, 5_000);
  t.diagnostic(report.notes.find((note) => note.startsWith('tls: ')) ?? '');
  t.diagnostic(
    `${report.ramp.ratePerSec.toFixed(0)} opened a second, ${report.generator.residentBytesMax} bytes resident`,
  );
});

test('a wrong CA, a wrong name and an expired certificate: counted by reason, with what to type', {
  skip: whyNot('nginx'),
}, async (t) => {
  const { tlsPorts } = await front(t);
  const [good, otherName, expired] = tlsPorts;
  const { ca, unknownCa } = certificates;
  const cases = [
    [
      good,
      unknownCa,
      /^500 tls: .*CA that is not trusted here \(UNABLE_TO_VERIFY_LEAF_SIGNATURE\); pass --tls-ca/,
    ],
    [
      otherName,
      ca,
      /^500 tls: certificate is for another name \(ERR_TLS_CERT_ALTNAME_INVALID\); pass --tls-servername/,
    ],
    [expired, ca, /^500 tls: certificate has expired \(CERT_HAS_EXPIRED\); pass --insecure, or renew it/],
  ] as const;
  for (const [port, trusted, note] of cases) {
    const args = [
      '--target',
      `wss://127.0.0.1:${port}/ws`,
      '--tls-ca',
      trusted.certPath,
      '--conns',
      `${FEW}`,
    ];
    const run = startBench(t, [...args, '--duration', '1s', '--max-pending', '100'], RUN);
    const { code, stdout } = await run.result;
    assert.equal(code, 1, stdout);
    const report = run.report();
    assert.deepEqual(report.connections.failed, { tls: FEW });
    assert.equal(report.whoRanOut, 'target');
    assert(
      report.notes.some((each) => note.test(each)),
      `${note} in:\n${report.notes.join('\n')}`,
    );
    assert.match(stdout.replace(/\s+/g, ' '), new RegExp(note.source.slice(1)));
  }
  const careless = ['--target', `wss://127.0.0.1:${expired}/ws`, '--insecure', '--conns', '100'];
  const run = startBench(t, [...careless, '--duration', '1s'], RUN);
  assert.equal((await run.result).code, 0);
  assert.equal(run.report().tls?.unverified, 100);
});

test('http:// keep-alive to nginx: requests prove every connection; a bad status is a failed handshake', {
  skip: whyNot('nginx'),
}, async (t) => {
  const { plainPort } = await front(t);
  const probes = ['--probe-every', '2s', '--probe-timeout', '20s'];
  const load = ['--conns', '3000', '--duration', '5s'];
  const run = startBench(t, ['--target', `http://127.0.0.1:${plainPort}/ok`, ...load, ...probes], RUN);
  const { code, stdout } = await run.result;
  assert.equal(code, 0, stdout);
  const report = run.report();
  assert.equal(report.connections.verified, 3_000);
  assert(report.probes.answered >= 6_000, `${report.probes.answered} answers`);
  const few = ['--conns', '50', '--duration', '1s'];
  const wrong = startBench(t, ['--target', `http://127.0.0.1:${plainPort}/teapot`, ...few], RUN);
  assert.equal((await wrong.result).code, 1);
  assert.deepEqual(wrong.report().connections.failed, { handshake: 50 });
  assert(wrong.report().notes.includes('50 x http status 418'), wrong.report().notes.join('\n'));
  const asked = ['--target', `http://127.0.0.1:${plainPort}/teapot`, '--http-status', '418'];
  assert.equal((await startBench(t, [...asked, ...few], RUN).result).code, 0);
});

test('nginx that wants a token in a header: held with it from a file, each probe too, 401 without it', {
  skip: whyNot('nginx'),
}, async (t) => {
  const { plainPort, tlsPorts } = await front(t);
  const folder = mkdtempSync(join(tmpdir(), 'c100k-header-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'token.txt'), '# who we are\nAuthorization: Bearer right\n');
  const load = ['--conns', '200', '--duration', '3s', '--probe-every', '500ms'];
  const secure = ['--tls-ca', certificates.ca.certPath, '--tls-servername', 'server.test'];
  for (const [target, more] of [
    [`http://127.0.0.1:${plainPort}/token`, ['--engine', 'uring', '--method', 'PUT', '--body', 'x=1']],
    [`http://127.0.0.1:${plainPort}/token`, ['--engine', 'epoll']],
    [`https://127.0.0.1:${tlsPorts[0]}/token`, secure],
  ] as const) {
    const run = startBench(
      t,
      ['--target', target, ...load, ...more, '--header', `@${folder}/token.txt`],
      RUN,
    );
    const { code, stdout } = await run.result;
    assert.equal(code, 0, stdout);
    const report = run.report();
    assert.equal(report.connections.verified, 200);
    assert.ok(report.probes.answered >= 800, `${report.probes.answered}`);
    assert.ok(!JSON.stringify(report).includes('right'), 'the token is not in the report');
  }
  const wrong = ['--header', 'Authorization: Bearer wrong', '--conns', '20', '--duration', '1s'];
  const refused = startBench(t, ['--target', `http://127.0.0.1:${plainPort}/token`, ...wrong], RUN);
  assert.equal((await refused.result).code, 1);
  assert.deepEqual(refused.report().connections.failed, { handshake: 20 });
  assert.ok(refused.report().notes.some((note) => note.startsWith('20 x http status 401')));
});

for (const kind of ['ws', 'python'] as const) {
  test(`a subprotocol that the server of ${kind} takes is held, one that it does not is named`, {
    skip: kind === 'python' ? whyNoPython() : false,
  }, async (t) => {
    const server = await startWsServer(t, kind);
    const load = ['--target', `ws://127.0.0.1:${server.port}/`, '--conns', '100', '--duration', '2s'];
    const run = startBench(t, [...load, '--ws-protocol', 'other', '--ws-protocol', 'mqtt'], RUN);
    assert.equal((await run.result).code, 0);
    assert.equal(run.report().connections.verified, 100);
    const wrong = startBench(t, [...load, '--ws-protocol', 'nonsense'], RUN);
    assert.equal((await wrong.result).code, 1);
    const { notes, connections } = wrong.report();
    assert.deepEqual(connections.failed, { handshake: 100 });
    assert.ok(
      notes.some((note) => note.startsWith('100 x ws no subprotocol of those offered was chosen')),
      notes.join('\n'),
    );
  });
}
