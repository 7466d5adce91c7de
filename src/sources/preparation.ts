/**
 * Owns what an agent finds out about its host before anything is opened: facts, sources, plan, findings.
 * Must never open a connection to the target.
 *
 * The way of a source through this folder, from what was typed to what is given back: source-addresses.ts -> discover.ts ->
 * preparation.ts -> source-check.ts -> alias-lease.ts -> aliases.ts -> alias-records.ts.
 */

import assert from 'node:assert/strict';
import { BenchError, ErrorCode, ExitCode, type Finding } from '../base/errors.ts';
import { slicesOf } from '../base/tuple-space.ts';
import { probeUring } from '../engine/drivers/uring-probe.ts';
import { gatherHostFacts } from '../host/host-facts.ts';
import { ANY_SOURCE, type SourceLimits } from '../plan/allowance.ts';
import { holdersFor } from '../plan/cost.ts';
import { connectionsToTry, mayUseUring } from '../plan/engine-choice.ts';
import { type HostPlan, planHost, sourceFindings } from '../plan/host-plan.ts';
import { tuplesPerConnection } from '../plan/resting.ts';
import { splitEvenly, splitPending, splitRate } from '../run/quota.ts';
import type { HolderSpec, RunSpec } from '../run/run-spec.ts';
import { cutShares, type LoadShare } from '../run/schedule.ts';
import { chooseFrom, type FoundSources, findSources, type SourceChoice } from './discover.ts';

/** What this host can do for `wanted` connections of a run. */
export interface Preparation {
  readonly plan: HostPlan;
  readonly notes: readonly string[];
  readonly wanted: number;
  readonly found: FoundSources;
  /** the sources of the plan, and what must be added before they can be used */
  readonly choice: SourceChoice;
  /** what makes the sources impossible here, whatever the capacity; the plan's findings hold it too */
  readonly blocked: readonly Finding[];
}

/** Turns a refusal by exception into a finding, so that it crosses the control channel like the others. */
function findingOf(error: BenchError): Finding {
  return {
    what: error.code,
    severity: 'refuse',
    needed: null,
    available: null,
    unit: '',
    message: error.message,
    fix: error.hint,
  };
}

/**
 * Refuses a system whose kernel is not Linux: sockets are opened by its system calls.
 * @param platform as Node names it
 * @throws BenchError `not-linux`, exit 3
 */
function checkSystem(platform: string): void {
  if (platform === 'linux') return;
  throw new BenchError(
    ErrorCode.notLinux,
    ExitCode.refused,
    `agents and holders need Linux, and this is ${platform}`,
    'run it in a container or a virtual machine with Linux, or take agents on Linux hosts: --ssh user@host',
  );
}

/** Why io_uring does not work here for so many connections; null: it does. */
function uringRefusal(connections: number): string | null {
  return probeUring({ connections })?.text ?? null;
}

/**
 * Gathers facts and plans.
 * @param wanted connections that this host is to hold
 * @param limits what the owner of this host says about sources
 * @param agentTasks tasks that the agent has already: they are part of what it needs
 * @returns the plan, or the findings that make one impossible
 */
export async function prepareHost(
  spec: RunSpec,
  wanted: number,
  limits: SourceLimits = ANY_SOURCE,
  agentTasks = 0,
): Promise<Preparation | readonly Finding[]> {
  try {
    const measured = await gatherHostFacts(spec.endpoints);
    checkSystem(measured.platform);
    const { tasks } = measured;
    const gathered =
      tasks === null ? measured : { ...measured, tasks: { ...tasks, free: tasks.free + agentTasks } };
    const facts = mayUseUring(spec)
      ? { ...gathered, uringRefusal: uringRefusal(connectionsToTry(wanted, gathered)) }
      : gathered;
    const found = await findSources(spec, facts, tuplesFor(spec, wanted), undefined, limits);
    if (found.forbidden !== null) return [found.forbidden];
    return planSources(spec, wanted, found);
  } catch (error) {
    if (error instanceof BenchError) return [findingOf(error)];
    throw error;
  }
}

/**
 * Plans with the sources of this host, less those that were found not to work.
 * @param wanted connections that this host is to hold
 */
export function planSources(
  spec: RunSpec,
  wanted: number,
  found: FoundSources,
  excluded: ReadonlySet<string> = new Set(),
): Preparation {
  const choice = chooseFrom(found, spec, tuplesFor(spec, wanted), excluded);
  const plan = planHost({ spec, wanted, facts: found.facts, addresses: choice.addresses });
  const ofSources = sourceFindings({
    facts: found.facts,
    settings: found.settings,
    leavesBy: found.leavesBy,
    addresses: choice.addresses,
    aliases: choice.aliases,
    spare: choice.spare,
    leaseMs: spec.sources.aliasLeaseMs,
    canChangeAddresses: found.canChangeAddresses,
  });
  return {
    plan: { ...plan, findings: [...plan.findings, ...ofSources] },
    notes: [...found.notes, ...plan.notes],
    wanted,
    found,
    choice,
    blocked: ofSources.filter((finding) => finding.severity === 'refuse'),
  };
}

/** Where further holders of a grown quota go: behind the tuples and the numbers that are taken. */
interface Placement {
  readonly tuplesFrom: number;
  readonly indexFrom: number;
  /** connections of the agent's holders before these */
  readonly connectionsFrom: number;
}

/**
 * Splits an agent's quota over its holders: disjoint slices, quotas that sum to the whole.
 * @param share connections, rate and pending cap of this agent
 * @param keepFree tuples that no holder gets now, for a quota that may grow
 */
export function holderSpecs(
  agent: string,
  spec: RunSpec,
  plan: HostPlan,
  share: {
    readonly connections: number;
    readonly ratePerSec: number | null;
    readonly pendingMax: number;
    readonly shares?: readonly LoadShare[];
  },
  keepFree: number,
  placement: Placement = { tuplesFrom: 0, indexFrom: 0, connectionsFrom: 0 },
): HolderSpec[] {
  const holders = holdersFor(share.connections, plan.shape);
  const quotas = splitEvenly(share.connections, holders);
  const rates = splitRate(share.ratePerSec, quotas);
  const pendings = splitPending(share.pendingMax, quotas);
  // The slice behind the last holder's belongs to none: a quota that grows takes its tuples from there.
  const tuples = plan.tuples - placement.tuplesFrom;
  const slices = slicesOf(tuples, [...quotas, Math.min(keepFree, tuples - share.connections)]);
  const shares = share.shares === undefined ? null : cutShares(share.shares, quotas);
  return quotas.map((connections, index) => {
    const [slice, ratePerSec, pendingMax] = [slices[index], rates[index], pendings[index]];
    assert(
      slice !== undefined && ratePerSec !== undefined && pendingMax !== undefined,
      'a part for each holder',
    );
    return {
      id: `${agent}/${placement.indexFrom + index + 1}`,
      addresses: plan.addresses,
      ports: plan.ports,
      endpoints: spec.endpoints,
      sliceFrom: placement.tuplesFrom + slice.from,
      sliceTo: placement.tuplesFrom + slice.to,
      connections,
      connectionsFrom: quotas.slice(0, index).reduce((sum, each) => sum + each, placement.connectionsFrom),
      ratePerSec,
      pendingMax,
      connectTimeoutMs: spec.connectTimeoutMs,
      close: spec.close,
      protocol: spec.protocol,
      ...(spec.protocolOptions === undefined ? {} : { protocolOptions: spec.protocolOptions }),
      ...(spec.proxyHeader === undefined ? {} : { proxyHeader: spec.proxyHeader }),
      probeEveryMs: spec.probeEveryMs,
      probeTimeoutMs: spec.probeTimeoutMs,
      onDrop: spec.onDrop,
      ...(spec.backendFrom === undefined ? {} : { backendFrom: spec.backendFrom }),
      ...(spec.reopen === undefined ? {} : { reopen: spec.reopen }),
      wantsLossDetails: spec.wantsLossDetails,
      engine: plan.engine.name,
      ...loadOf(spec, connections),
      ...(shares === null ? {} : { shares: shares[index] ?? [] }),
    };
  });
}

/** Tuples that sources are chosen for: those that rest meanwhile need some too. */
function tuplesFor(spec: RunSpec, wanted: number): number {
  return Math.ceil(wanted * tuplesPerConnection(spec));
}

/** How the load of one holder changes: its part of the closes and opens of a second, and its lives, are as its part of the connections. */
function loadOf(
  { stages, closeOrder, churn, connections: all }: RunSpec,
  connections: number,
): Pick<HolderSpec, 'stages' | 'closeOrder' | 'churn'> {
  const own = churn?.kind === 'rate' ? { ...churn, perSec: churn.perSec * (connections / all) } : churn;
  return {
    ...(stages === undefined ? {} : { stages }),
    ...(closeOrder === undefined ? {} : { closeOrder }),
    ...(own === undefined ? {} : { churn: own }),
  };
}
