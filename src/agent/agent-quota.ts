/**
 * Owns what a quota means for one host: whether it may be, what each holder of it gets, and what further holders get when
 * it grows. Must never start a holder, or read this host.
 */
import type { Finding } from '../base/errors.ts';
import type { CoordinatorMessageOf } from '../control/message.ts';
import { type Allowance, allowedShare } from '../plan/allowance.ts';
import type { HostPlan } from '../plan/host-plan.ts';
import type { HolderSpec, RunSpec } from '../run/run-spec.ts';
import { holderSpecs } from '../sources/preparation.ts';
import { checkQuota } from './refusal.ts';

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
    };
    const { agent, spec } = this.#options;
    const placement = { tuplesFrom: taken.tuplesEnd, indexFrom: taken.size };
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
