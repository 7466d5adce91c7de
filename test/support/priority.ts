/** Owns what this host lets a test's processes do to their priority. Must never change the priority of the tests themselves. */
import { spawnSync } from 'node:child_process';
import { getPriority } from 'node:os';

/** Of processes that must answer in time, where the host lets them (host/command.ts). */
const ANSWERING_NICE = -5;

/** The nice value that a run and its agents take which these tests start; the tests' own where another one was chosen, or none may be taken. */
export function answeringNice(): number {
  const own = getPriority();
  if (own !== 0) return own;
  // nice(1) says what it could not do, and goes on without.
  const { stdout } = spawnSync('nice', ['-n', String(ANSWERING_NICE), 'nice'], { encoding: 'utf8' });
  return Number(stdout) === ANSWERING_NICE ? ANSWERING_NICE : own;
}
