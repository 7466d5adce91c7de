/**
 * Owns why an agent refuses what a coordinator asks of it, in words, and whether a quota is one that the coordinator may
 * give: what this host's owner allows, what its agent offered, what the run itself asked for. Must never read a host's
 * resources, or end anything.
 */
import type { Finding } from '../base/errors.ts';
import { formatCount, formatDuration } from '../base/units.ts';

/**
 * How often the quota of one share may grow. Each growth is at least one process, and each lost agent is one: a run that
 * loses more has no use for what is left of it.
 */
const GROWTHS_MAX = 64;

/** What one quota is judged by. */
interface QuotaTerms {
  /** this host's owner's; Infinity: no limit */
  readonly connectionsMax: number;
  /** what the agent said that it can hold */
  readonly offered: number;
  /** the whole run's */
  readonly wholeRun: number;
  readonly pendingMax: number;
  /** the run hands lost quotas on (`--on-agent-loss replace`) */
  readonly mayGrow: boolean;
  /** the quota that it has; null: none yet */
  readonly current: number | null;
  /** how often it has grown */
  readonly growths: number;
}

function refusal(
  what: string,
  needed: number,
  available: number,
  unit: string,
  message: string,
  fix: string,
): Finding {
  return { what, severity: 'refuse', needed, available, unit, message, fix };
}

const NOT_ALLOWED = 'the coordinator has no permission for that: see docs/PROTOCOL.md';

/**
 * Judges a quota.
 * @param quota connections, and connects in flight at most
 * @returns why it is refused; null: it may be
 */
export function checkQuota(
  quota: { readonly connections: number; readonly pendingMax: number },
  terms: QuotaTerms,
): Finding | null {
  const { connections } = quota;
  const { connectionsMax, offered, wholeRun, current } = terms;
  if (connections > connectionsMax) {
    return refusal(
      'max-conns',
      connections,
      connectionsMax,
      'connections',
      `a quota of ${formatCount(connections)} connections, this agent allows ${formatCount(connectionsMax)}`,
      'its owner decides: c100k-bench agent --max-conns',
    );
  }
  const most = Math.min(offered, wholeRun);
  if (connections > most) {
    const bound = offered <= wholeRun ? 'this agent offered' : 'the whole run has';
    const message = `a quota of ${formatCount(connections)} connections was asked for, ${bound} ${formatCount(most)}`;
    return refusal('quota', connections, most, 'connections', message, NOT_ALLOWED);
  }
  if (quota.pendingMax > terms.pendingMax) {
    const message = `${formatCount(quota.pendingMax)} connects in flight were asked for, the whole run has ${formatCount(terms.pendingMax)}`;
    return refusal('pending', quota.pendingMax, terms.pendingMax, 'connects', message, NOT_ALLOWED);
  }
  return current === null ? null : checkGrowth(connections, current, terms);
}

function checkGrowth(connections: number, current: number, terms: QuotaTerms): Finding | null {
  const grew = `the quota grew from ${formatCount(current)} to ${formatCount(connections)} connections`;
  if (!terms.mayGrow) {
    const message = `${grew}, and this run was not to hand lost quotas on (--on-agent-loss replace)`;
    return refusal('quota', connections, current, 'connections', message, NOT_ALLOWED);
  }
  if (terms.growths < GROWTHS_MAX) return null;
  const message = `${grew}, for the ${formatCount(terms.growths + 1)}th time`;
  return refusal('quota', terms.growths + 1, GROWTHS_MAX, 'times', message, NOT_ALLOWED);
}

/** The new holders of a quota that grew need more memory than this host has. */
export function noMemoryFor(holders: number, neededBytes: number, freeBytes: number): Finding {
  return refusal(
    'memory',
    neededBytes,
    freeBytes,
    'bytes',
    `${formatCount(holders)} more holders for a quota that grew need ${formatCount(neededBytes)} bytes of memory, this host has ${formatCount(freeBytes)}`,
    'lost quotas go to other agents: start more of them',
  );
}

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
