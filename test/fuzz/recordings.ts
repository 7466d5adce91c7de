/** Owns the recordings from which fuzzed inputs are made, and what a target of fuzzing is. Must never change one. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../simulate/random.ts';

/** Files in memory: a reader of files is tried with hundreds of thousands of them. */
const MEMORY = '/dev/shm';
if (existsSync(MEMORY)) process.env.TMPDIR = MEMORY;

/** One reader. */
export interface FuzzTarget {
  readonly name: string;
  /** Makes one input and reads it. @throws what it threw, or the promise that it broke */
  run(random: Random): void | Promise<void>;
  /** gives back what it made on this host */
  end?(): void;
}

/** A recording, where the sources have it. */
export function recording(name: string): string {
  return readFileSync(join(import.meta.dirname, '../../../test/fuzz/corpus', name), 'utf8');
}

export function linesOf(name: string): readonly [string, ...string[]] {
  const [first = '', ...more] = recording(name)
    .split('\n')
    .filter((line) => line !== '');
  return [first, ...more];
}
