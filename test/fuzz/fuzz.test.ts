/** Readers of what comes from elsewhere keep their promises for inputs that are nearly right. `npm run fuzz` makes many more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../simulate/random.ts';
import { FUZZ_TARGETS } from './targets.ts';

const RUNS = 600;

for (const make of FUZZ_TARGETS) {
  const target = make();
  test(`${target.name} keeps its promises for ${RUNS} inputs that are nearly right`, async (t) => {
    t.after(() => target.end?.());
    for (let seed = 1; seed <= RUNS; seed += 1) {
      try {
        await target.run(new Random(seed));
      } catch (error) {
        assert.fail(`seed ${seed}: ${error instanceof Error ? error.stack : error}`);
      }
    }
  });
}
