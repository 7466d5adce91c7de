/**
 * The simulator: seeds are clean, and one seed is one history, in every process and whatever was simulated before it. That it
 * finds faults is tested by test/system/planted-faults.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLANTED_FAULTS } from './planted-faults.ts';
import { Wire } from './sim-network.ts';
import { simulated } from './simulated.ts';
import { World } from './world.ts';

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

test('a connection keeps the order of what is sent, to whatever moment a slow reader puts it off', async () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const world = new World(seed);
    const wire = new Wire(world, world.spawn('client', 'a'), world.spawn('server', 'b'));
    // Moments with as many digits as there are, as sums of many delays have them.
    wire.toServer.slowUntilMs = 20_000 + 500 * Math.sqrt(seed + 1);
    const came: number[] = [];
    for (let number = 0; number < 20; number += 1)
      world.time.after(500 * number + 100 * Math.sqrt(31 * seed + number), world.outside, () => {
        wire.toServer.send(1, () => came.push(number));
      });
    await world.time.run(40_000, () => false);
    assert.deepEqual(
      came,
      Array.from({ length: 20 }, (_, number) => number),
      `seed ${seed}`,
    );
  }
});
