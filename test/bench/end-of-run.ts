/**
 * Owns the question how long a user waits for the prompt when the time to hold is over: the program as it is installed, both ends on this host, seen
 * from outside, from the line that says that the hold is over to the end of the process.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Figure, figure, median } from './figure.ts';

const CONNECTIONS = 130_000;
const ARGUMENTS = ['--conns', String(CONNECTIONS), '--duration', '3s', '--engine', 'uring', '--holders', '1'];
const RUNS = 3;
const PAUSE_MS = 2_000;
/** By figure: silent connections, which are asked once more, and ones that prove themselves each ten seconds. */
const TARGETS = [
  ['end-of-run', 'self', 'silent'],
  ['end-of-run-echo', 'echo://self', 'echoing'],
] as const;

/** @returns seconds */
async function endOfRun(target: string): Promise<number> {
  const entry = join(process.cwd(), 'bin', 'c100k-bench.js');
  const child = spawn(process.execPath, [entry, '--target', target, ...ARGUMENTS], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let overMs = 0;
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (overMs === 0 && line.includes(' draining ')) overMs = performance.now();
  });
  const [code] = await once(child, 'exit');
  const endedMs = performance.now();
  assert.equal(code, 0, 'all are held to the end');
  assert(overMs > 0, 'it says when the hold is over');
  return (endedMs - overMs) / 1_000;
}

export async function measureEndOfRun(): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [name, target, what] of TARGETS) {
    const samples: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      samples.push(await endOfRun(target));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    figures.push(
      figure({
        name,
        meaning: `from the end of the hold of ${CONNECTIONS} ${what} connections to the prompt, io_uring, one holder, both ends on this host, median of ${RUNS}`,
        value: median(samples),
        unit: 's',
        bound: 2,
        boundIs: 'at-most',
        samples,
      }),
    );
  }
  return figures;
}
