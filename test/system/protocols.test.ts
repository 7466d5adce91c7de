/** The protocols that prove, through the real command line and against servers that this project did not write. */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { startBench, until } from '../support/bench-run.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';
import { type NginxFront, startNginxFront } from '../support/nginx-front.ts';
import { whyNot } from '../support/targets.ts';
import { type ForeignWsServer, startWsServer } from '../support/ws-servers.ts';

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
