/**
 * Owns the preflight of a run against the built-in target, before anything of either is forked: a target for more
 * connections than this host can have is refused in the time that it takes to read its limits.
 * Must never start a process (self-target.ts).
 */
import type { Finding } from '../base/finding.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { memoryFree } from '../plan/capacity.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { prepareHost } from '../sources/preparation.ts';
import { workersRefusal } from './worker-count.ts';

/** What a process gets where /proc does not say (getrlimit(2): the usual soft limit). */
const DESCRIPTORS_UNKNOWN = 1_024;

/**
 * Why the built-in target cannot be for so many connections on this host; empty: it can.
 * @param connections what it must be able to hold
 */
export function selfFindings(connections: number, facts: HostFacts): readonly Finding[] {
  const refusal = workersRefusal(connections, null, {
    descriptorsPerProcess: facts.nofileHard ?? DESCRIPTORS_UNKNOWN,
    cores: facts.cpus,
    memoryFreeBytes: memoryFree(facts),
    nrOpen: facts.nrOpen,
    isOfRun: true,
  });
  return refusal === null ? [] : [refusal];
}

/**
 * Everything that refuses a run whose target is the built-in one.
 * @param spec its endpoint may have any port: the target is not there yet
 * @returns empty when the run may start
 */
export async function selfRefusals(spec: RunSpec): Promise<readonly Finding[]> {
  const prepared = await prepareHost(spec, spec.connections);
  const findings =
    'plan' in prepared
      ? [...prepared.plan.findings, ...selfFindings(spec.connections, prepared.sourcing.facts)]
      : prepared;
  return findings.filter((finding) => finding.severity === 'refuse');
}
