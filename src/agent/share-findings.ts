/**
 * Owns why a share of a run is refused after it was offered, in words. Must never decide that it is.
 */
import type { Finding } from '../base/errors.ts';
import { formatDuration } from '../base/units.ts';

/** The run has not begun within the time that this host's owner gives it. */
export function startedLate(runMsMax: number): Finding {
  return {
    what: 'max-duration',
    severity: 'refuse',
    needed: null,
    available: runMsMax,
    unit: 'ms',
    message: `the run did not begin within ${formatDuration(runMsMax)}, the longest that this agent is there for one`,
    fix: 'its owner decides: c100k-bench agent --max-duration',
  };
}

/** What the coordinator said breaks the rules of the channel. @param problem in words */
export function brokenRule(problem: string): Finding {
  return {
    what: 'protocol',
    severity: 'refuse',
    needed: null,
    available: null,
    unit: '',
    message: `the coordinator asked for what no agent does: ${problem}`,
    fix: 'docs/PROTOCOL.md has the range of every number; both sides need the same version of c100k-bench',
  };
}

/** The holders did not come up. @param why what one of them said, if any did */
export function notStarted(why: string | undefined): Finding {
  return {
    what: 'holders',
    severity: 'refuse',
    needed: null,
    available: null,
    unit: 'holders',
    message: why ?? 'the holder processes did not start in time',
    fix: 'see the lines above; fewer --holders need less memory and time to start',
  };
}
