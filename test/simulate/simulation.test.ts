/**
 * The simulator: seeds are clean, and one seed is one history, in every process and whatever was simulated before it. That it
 * finds faults is tested by test/system/planted-faults.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLANTED_FAULTS } from './planted-faults.ts';
import { simulated } from './simulated.ts';

const SEED = 77;
const RUNS = 8;

/** What each seed came to, in the order of the seeds. */
async function historiesOf(seed: number, runs: number): Promise<string[]> {
  const { code, output } = await simulated('--seed', String(seed), '--runs', String(runs), '--trace');
  assert.equal(code, 0, output);
  const lines = output.split('\n').filter((line) => / comes to .*, history [0-9a-f]+$/.test(line));
  assert.equal(lines.length, runs, output);
  return lines;
}

test('one seed is one history, in another process and after other seeds; another seed is another one', async () => {
  const [first, second] = await Promise.all([
    historiesOf(SEED, RUNS),
    historiesOf(SEED + RUNS / 2, RUNS / 2),
  ]);
  assert.deepEqual(second, first.slice(RUNS / 2));
  const digests = first.map((line) => line.slice(line.lastIndexOf(' ')));
  assert.equal(new Set(digests).size, RUNS);
});

test('a planted fault that there is not is an error, not a clean run', async () => {
  const { code, output } = await simulated('--plant', 'no such fault', '--runs', '1');
  assert.notEqual(code, 0);
  assert.match(output, /no planted fault no such fault/);
  assert.ok(PLANTED_FAULTS.size >= 12);
});
