/**
 * Owns the command `npm run fuzz`: which readers get how many inputs from which seed, and what is said of them. An input that breaks a
 * promise is found again by its seed alone. Memory is compared after collecting garbage, early and at the end.
 */
import { randomInt } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Random } from '../simulate/random.ts';
import type { FuzzTarget } from './recordings.ts';
import { FUZZ_TARGETS } from './targets.ts';

const SEEDS = 2 ** 31;
const RUNS_DEFAULT = 10_000;
/** Of the inputs: by then everything is compiled and every table has grown. */
const WARM_SHARE = 0.2;
/** How much more there may be at the end, of what there was. */
const GROWTH_MAX = 0.05;

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

function heapBytes(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

async function fuzz(target: FuzzTarget, seed: number, runs: number): Promise<boolean> {
  const beganMs = performance.now();
  const warmAt = Math.floor(runs * WARM_SHARE);
  let warmBytes = 0;
  for (let run = 0; run < runs; run += 1) {
    if (run === warmAt) warmBytes = heapBytes();
    try {
      await target.run(new Random(seed + run));
    } catch (error) {
      process.stdout.write(
        `${target.name}: seed ${seed + run} fails: ${error instanceof Error ? error.stack : error}\n` +
          `again: npm run fuzz -- --target ${target.name} --seed ${seed + run} --runs 1\n`,
      );
      return false;
    }
  }
  const growth = heapBytes() / warmBytes - 1;
  const seconds = ((performance.now() - beganMs) / 1_000).toFixed(1);
  const isFlat = growth <= GROWTH_MAX;
  process.stdout.write(
    `${target.name}: ${runs} inputs from seed ${seed} in ${seconds} s, heap ${(growth * 100).toFixed(1)} %${isFlat ? '' : ': it grows'}\n`,
  );
  return isFlat;
}

const { values } = parseArgs({
  options: { seed: { type: 'string' }, runs: { type: 'string' }, target: { type: 'string' } },
});
const seed = values.seed === undefined ? randomInt(SEEDS) : Number(values.seed);
const runs = values.runs === undefined ? RUNS_DEFAULT : Number(values.runs);
if (!Number.isSafeInteger(seed) || !Number.isSafeInteger(runs))
  throw new Error('a seed and runs are whole numbers');
let found = 0;
for (const make of FUZZ_TARGETS) {
  const target = make();
  try {
    if (values.target !== undefined && values.target !== target.name) continue;
    found += 1;
    if (!(await fuzz(target, seed, runs))) process.exitCode = 1;
  } finally {
    target.end?.();
  }
}
if (found === 0) throw new Error(`nothing is called ${values.target}`);
