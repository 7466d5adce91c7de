/**
 * The simulator finds what it is there for: each planted fault, a line of the program that is changed as it is loaded
 * (test/simulate/planted-faults.ts), breaks a promise within so many seeds. One seed is one history, so the figures are the same
 * on each machine.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLANTED_FAULTS } from '../simulate/planted-faults.ts';
import { simulated } from '../simulate/simulated.ts';

const SEEDS = ['--seed', '1', '--runs', '1000'];

for (const name of PLANTED_FAULTS.keys()) {
  test(`the simulator finds: ${name}`, async () => {
    const { code, output } = await simulated('--plant', name, ...SEEDS);
    assert.equal(code, 1, output.slice(-2_000));
    assert.match(output, /^seed \d+ fails with its first \d+ of \d+ faults:$/m);
    assert.match(output, /^ {2}BROKEN at \d/m);
  });
}
