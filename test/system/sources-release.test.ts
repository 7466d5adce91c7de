/**
 * Owns what becomes of aliases whose removal takes longer than a process usually needs to end. The addresses are read by
 * `ip` in the client's namespace, never taken from the program's word.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addArguments, hostAlias, removeArguments } from '../../src/run/alias.ts';
import { until } from '../support/bench-run.ts';
import { whyNoNetwork } from '../support/network.ts';
import { PORT, SERVER, serveOn, sourceLab } from '../support/source-lab.ts';
import { HANG_MS, pause } from '../support/waiting.ts';

const skip = whyNoNetwork();

/** Takes the lock for changing addresses (sources/alias-records.ts) as soon as it is free, and keeps it until it is killed. */
const LOCKER = `
  const take = () => require('node:net').createServer()
    .once('error', () => setTimeout(take, 1))
    .listen('\\0c100k-bench-addresses', () => console.error('locked'));
  take();
`;
/** An agent that gives no sign for 2 s is killed: so long, and longer, it must be waited for. */
const KEPT_MS = 3_000;

test('a refused run takes its aliases with it, also when another program keeps the lock for seconds: it is waited for', async (t) => {
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
  await until('the aliases are there', HANG_MS, async () => {
    if (run.child.exitCode !== null) assert.fail((await run.result).stdout);
    return (await lab.aliases()).length >= 99;
  });
  const locker = lab.client.spawn([process.execPath, '-e', LOCKER]);
  // A holder that dies before it is ready refuses the run: the one refusal that comes when aliases are there.
  let holder = 0;
  await until('a holder', HANG_MS, () => {
    [holder = 0] = run.pids('holder');
    if (holder !== 0) process.kill(holder, 'SIGSTOP');
    return holder !== 0;
  });
  await locker.saw(/locked/);
  process.kill(holder, 'SIGKILL');
  await pause(KEPT_MS);
  assert.equal(run.child.exitCode, null, 'it waits for the lock');
  assert((await lab.aliases()).length >= 99, 'nothing is removed without it');
  locker.child.kill('SIGKILL');
  const { code, stderr } = await run.result;
  assert.equal(code, 3, stderr);
  await run.gone(HANG_MS);
  assert.deepEqual(await lab.aliases(), []);
});

test('the kernel removes an alias by its label, and leaves what another program has added in its place', async (t) => {
  if (skip !== null) return t.skip(skip);
  const { client, aliases } = await sourceLab(t);
  const alias = hostAlias('10.9.0.101', 'eth0');
  const ip = (command: string) => client.run(['ip', ...command.split(' ')]);
  const remove = async (): Promise<number | null> => (await ip(removeArguments(alias))).code;
  await ip(addArguments(alias, 60));
  assert.deepEqual(await aliases(), ['10.9.0.101']);
  assert.equal(await remove(), 0);
  assert.deepEqual(await aliases(), []);
  await ip(addArguments(alias, null));
  assert.notEqual(await remove(), 0);
  assert.match(await client.must('ip', 'addr', 'show', 'eth0'), /10\.9\.0\.101\/32/);
});
