/**
 * Owns 130,000 connections from aliases over a real link, and from one address over three endpoints.
 * Every count of connections is taken by `ss` in the server's namespace.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressRange } from '../../src/base/address.ts';
import { startBench } from '../support/bench-run.ts';
import { freePort } from '../support/net-target.ts';
import { held, networkTest } from '../support/network-test.ts';
import { startCli } from '../support/run-cli.ts';
import { assertEven, PORT, SERVER, serveOn, serverView, sourceLab } from '../support/source-lab.ts';

networkTest(
  '130,000 connections to one endpoint through aliases that are added, spread evenly and removed again',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab);
    const before = await lab.addresses();
    const run = lab.bench([
      ...['--target', `${SERVER}:${PORT}`, '--conns', '130000', '--duration', '5s'],
      ...['--source-ip', '10.9.0.101-10.9.0.110', '--alias-dev', 'auto'],
    ]);
    const seen = await held(run, () => serverView(lab.server));
    assert.equal(seen.total, 130_000);
    // Ten are named; four carry the quota with ports outside the ephemeral range, so four are added.
    assert.deepEqual(Object.keys(seen.bySource).sort(), addressRange('10.9.0.101', 4));
    assertEven(Object.values(seen.bySource), 0.01);
    assert.deepEqual(run.report().bySource, seen.bySource);
    assert.equal(run.report().kernel.established, 130_000);
    assert.equal(await lab.addresses(), before, 'the client is as it was');
  },
);

test('130,000 connections from one loopback address over three endpoint ports, without any alias', async (t) => {
  const ports = [await freePort(), await freePort(), await freePort()];
  for (const port of ports) {
    const serve = startCli(['serve', '--port', String(port), '--workers', '3'], {
      timeoutMs: 120_000,
      wrap: 'echo; exec "$@"',
    });
    t.after(() => {
      serve.child.kill('SIGTERM');
      return serve.result;
    });
  }
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const targets = ports.flatMap((port) => ['--target', `127.0.0.1:${port}`]);
  const run = startBench(t, [...targets, '--conns', '130k', '--duration', '3s', '--source-ip', '127.0.0.2'], {
    timeoutMs: 120_000,
  });
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, `${stdout}${stderr}`);
  const report = run.report();
  assert.deepEqual(report.bySource, { '127.0.0.2': 130_000 });
  assertEven(Object.values(report.byEndpoint), 0.01);
  assert.equal(report.kernel.established, 130_000, 'the kernel counts them too');
});
