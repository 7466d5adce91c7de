/**
 * Owns what a quota means for one host: whether the coordinator may give it (what this host's owner allows, what its agent
 * offered, what the run itself asked for), what each holder of it gets, and what further holders get when it grows; and why an
 * agent refuses what a coordinator asks of it, in words. Must never start a holder, read this host, or end anything.
 */
import type { Finding } from '../base/errors.ts';
import { formatCount, formatDuration } from '../base/units.ts';
import type { CoordinatorMessageOf } from '../control/message.ts';
import { gatherHostFacts } from '../host/host-facts.ts';
import { type Allowance, allowedShare } from '../plan/allowance.ts';
import { memoryFree } from '../plan/capacity.ts';
import { HOLDER_BYTES, holdersFor } from '../plan/cost.ts';
import type { HostPlan } from '../plan/host-plan.ts';
import type { HolderSpec, RunSpec } from '../run/run-spec.ts';
import { cutShares } from '../run/schedule.ts';
import { holderSpecs } from '../sources/preparation.ts';

type Quota = CoordinatorMessageOf<'quota'>;

interface QuotaOptions {
  readonly agent: string;
  readonly spec: RunSpec;
  readonly allowance: Allowance;
  /** the run hands lost quotas on */
  readonly mayGrow: boolean;
}

/** A quota as it was, and how often it has grown. */
interface CurrentQuota {
  readonly connections: number;
  readonly growths: number;
}

/** What a quota that grew brings. */
interface Growth {
  readonly specs: readonly HolderSpec[];
  /** what those that are there keep of the rate; null: unlimited */
  readonly keptRatePerSec: number | null;
}

/** Quotas of one run on one host. */
export class AgentQuota {
  readonly #options: QuotaOptions;

  constructor(options: QuotaOptions) {
    this.#options = options;
  }

  /**
   * @param offered connections that this host has offered
   * @param current null: there is no quota yet
   * @returns why a quota is refused; null: it may be
   */
  problem(quota: Quota, offered: number, current: CurrentQuota | null): Finding | null {
    const { allowance, spec, mayGrow } = this.#options;
    return checkQuota(quota, {
      connectionsMax: allowance.connectionsMax,
      offered,
      wholeRun: spec.connections,
      pendingMax: spec.pendingMax,
      mayGrow,
      current: current?.connections ?? null,
      growths: current?.growths ?? 0,
    });
  }

  /**
   * How many connections to plan for: one that may grow is planned for all that it can reach.
   * @param capacityMax what the plan of the offer can hold
   */
  plannedFor(connections: number, capacityMax: number): number {
    const { allowance, spec, mayGrow } = this.#options;
    const mayReach = Math.min(spec.connections, capacityMax, allowance.connectionsMax);
    return mayGrow ? Math.max(connections, mayReach) : connections;
  }

  /** The holders of a first quota; of one of 0 there are none until it grows. */
  first(plan: HostPlan, quota: Quota): readonly HolderSpec[] {
    if (quota.connections === 0) return [];
    const share = { ...quota, ratePerSec: this.#rateOf(quota) };
    return holderSpecs(this.#options.agent, this.#options.spec, plan, share, this.#keepFree(quota));
  }

  /**
   * New holders for the difference, from tuples that no holder has.
   * @param before connections of the quota that grew
   * @param taken what the holders that are there have: their tuples end there, and so many are they
   */
  growth(
    plan: HostPlan,
    before: number,
    quota: Quota,
    taken: { readonly tuplesEnd: number; readonly size: number },
  ): Growth {
    const extra = quota.connections - before;
    const part = extra / quota.connections;
    const ratePerSec = this.#rateOf(quota);
    const share = {
      connections: extra,
      ratePerSec: ratePerSec === null ? null : ratePerSec * part,
      pendingMax: Math.max(1, Math.floor(quota.pendingMax * part)),
      ...(quota.shares === undefined ? {} : { shares: cutShares(quota.shares, [before, extra])[1] ?? [] }),
    };
    const { agent, spec } = this.#options;
    const placement = { tuplesFrom: taken.tuplesEnd, indexFrom: taken.size, connectionsFrom: before };
    return {
      specs: holderSpecs(agent, spec, plan, share, this.#keepFree(quota), placement),
      keptRatePerSec: ratePerSec === null ? null : ratePerSec * (1 - part),
    };
  }

  #rateOf({ ratePerSec }: Quota): number | null {
    return allowedShare(this.#options.allowance, ratePerSec);
  }

  /** A quota that may grow leaves as many tuples free as it can ever grow by. */
  #keepFree(quota: Quota): number {
    return this.#options.mayGrow ? this.#options.spec.connections - quota.connections : 0;
  }
}

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
function checkQuota(
  quota: Pick<Quota, 'connections' | 'pendingMax' | 'shares'>,
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
  if (quota.shares?.some(({ to }) => to > wholeRun) === true) {
    const message = `connections beyond the ${formatCount(wholeRun)} of the whole run were asked for`;
    return refusal('quota', connections, wholeRun, 'connections', message, NOT_ALLOWED);
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

/**
 * The plan had memory for the holders of the whole; each growth brings more of them.
 * @param extra connections more than before
 * @returns why there is no memory for their holders; null: there is
 */
export async function memoryLackFor(
  extra: number,
  { shape }: Pick<HostPlan, 'shape'>,
  { endpoints }: Pick<RunSpec, 'endpoints'>,
): Promise<Finding | null> {
  const holders = holdersFor(extra, shape);
  const neededBytes = holders * HOLDER_BYTES;
  const freeBytes = memoryFree(await gatherHostFacts(endpoints));
  if (freeBytes === null || neededBytes <= freeBytes) return null;
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

/** Holders named in one note. */
const NAMED_MAX = 4;

/** Who did not become ready, for a person. */
export function notReady(
  late: readonly { readonly id: string; readonly pid: number }[],
  timeoutMs: number,
): string {
  const named = late.slice(0, NAMED_MAX).map(({ id, pid }) => `${id} (pid ${pid})`);
  const more = late.length > NAMED_MAX ? ` and ${late.length - NAMED_MAX} more` : '';
  return `not ready within ${timeoutMs / 1_000} s: holder ${named.join(', ')}${more}`;
}
