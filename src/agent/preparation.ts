/**
 * Owns what an agent finds out about its host before anything is opened: facts, sources, plan, findings.
 * Must never open a connection to the target.
 */
import { type HostPlan, planHost } from '../core/host-plan.ts';
import { BenchError } from '../core/errors.ts';
import type { Finding } from '../core/finding.ts';
import { splitEvenly, splitPending, splitRate } from '../core/quota.ts';
import type { HolderSpec, RunSpec } from '../core/run-spec.ts';
import { slicesOf } from '../core/tuple-space.ts';
import { gatherHostFacts } from '../host/facts.ts';
import { chooseSources } from '../host/source-addresses.ts';

/** What this host can do for `wanted` connections of a run. */
export interface Preparation {
  readonly plan: HostPlan;
  readonly notes: readonly string[];
}

/** Turns a refusal by exception into a finding, so that it crosses the control channel like the others. */
export function findingOf(error: BenchError): Finding {
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
 * Gathers facts and plans.
 * @param wanted connections that this host is to hold
 * @returns the plan, or the findings that make one impossible
 */
export async function prepareHost(spec: RunSpec, wanted: number): Promise<Preparation | readonly Finding[]> {
  try {
    const facts = await gatherHostFacts(spec.endpoints);
    const { addresses, notes } = await chooseSources(spec.sources, spec.endpoints, facts, wanted);
    const plan = planHost({ spec, wanted, facts, addresses });
    return { plan, notes: [...notes, ...plan.notes] };
  } catch (error) {
    if (error instanceof BenchError) return [findingOf(error)];
    throw error;
  }
}

/**
 * Splits an agent's quota over its holders: disjoint slices, quotas that sum to the whole.
 * @param share connections, rate and pending cap of this agent
 */
export function holderSpecs(
  agent: string,
  spec: RunSpec,
  plan: HostPlan,
  share: { connections: number; ratePerSec: number | null; pendingMax: number },
): HolderSpec[] {
  const quotas = splitEvenly(share.connections, plan.holders);
  const rates = splitRate(share.ratePerSec, quotas);
  const pendings = splitPending(share.pendingMax, quotas);
  const slices = slicesOf(plan.tuples, quotas);
  return quotas.map((connections, index) => ({
    id: `${agent}/${index + 1}`,
    addresses: plan.addresses,
    ports: plan.ports,
    endpoints: spec.endpoints,
    sliceFrom: slices[index]!.from,
    sliceTo: slices[index]!.to,
    connections,
    ratePerSec: rates[index]!,
    pendingMax: pendings[index]!,
    connectTimeoutMs: spec.connectTimeoutMs,
    close: spec.close,
    protocol: spec.protocol,
    probeEveryMs: spec.probeEveryMs,
    probeTimeoutMs: spec.probeTimeoutMs,
  }));
}
