/**
 * Owns what becomes of aliases whose removal takes longer than a process usually needs to end. The addresses are read by
 * `ip` in the client's namespace, never taken from the program's word.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { test } from 'node:test';
import { until } from '../support/bench-run.ts';
import { whyNoNetwork } from '../support/network.ts';
import { PORT, SERVER, serveOn, sourceLab } from '../support/source-lab.ts';

const skip = whyNoNetwork();

/** Takes the lock for changing addresses (sources/address-lock.ts) as soon as it is free, and keeps it for a while. */
const LOCKED_MS = 7_000;
const LOCKER = `
  const take = () => require('node:net').createServer()
    .once('error', () => setTimeout(take, 1))
    .listen('\\0c100k-bench-addresses', () => setTimeout(() => process.exit(), ${LOCKED_MS}));
  take();
`;

test('a refused run takes its aliases with it, also when another program keeps the lock for seconds', async (t) => {
  if (skip !== null) return t.skip(skip);
  const lab = await sourceLab(t);
  await serveOn(lab, { workers: 1 });
  const run = lab.bench([
    ...[
      '--target',
      `${SERVER}:${PORT}`,
      '--source-ports',
      '20000-20009',
      '--conns',
      '1000',
      '--duration',
      '60s',
    ],
    ...['--source-ip', '10.9.0.101-10.9.0.200', '--alias-dev', 'auto', '--holders', '1'],
  ]);
  await until('the aliases are there', 10_000, async () => {
    if (run.child.exitCode !== null) assert.fail((await run.result).stdout);
    return (await lab.aliases()).length >= 99;
  });
  lab.client.spawn([process.execPath, '-e', LOCKER]);
  // A holder that dies before it is ready refuses the run: the one refusal that comes when aliases are there.
  await until('a holder', 10_000, () => {
    const [pid] = run.pids('holder');
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    return pid !== undefined;
  });
  const killedMs = performance.now();
  const { code, stderr } = await run.result;
  assert.equal(code, 3, stderr);
  await run.gone(1_000);
  assert.deepEqual(await lab.aliases(), []);
  const tookMs = performance.now() - killedMs;
  assert(tookMs > 2_500, `the lock did not delay the removal: ${Math.round(tookMs)} ms`);
});
