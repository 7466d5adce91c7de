/**
 * Owns why a share of a run is refused after it was offered, in words. Must never decide that it is.
 */
import type { Finding } from '../base/finding.ts';
import { formatCount } from '../base/units.ts';

/** The quota is more than this host's owner allows. */
export function tooMany(asked: number, allowed: number): Finding {
  return {
    what: 'max-conns',
    severity: 'refuse',
    needed: asked,
    available: allowed,
    unit: 'connections',
    message: `a quota of ${formatCount(asked)} connections, this agent allows ${formatCount(allowed)}`,
    fix: 'its owner decides: c100k-bench agent --max-conns',
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
