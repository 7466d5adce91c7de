/**
 * Owns the preflight of a run against the built-in target, before anything of either is forked: a target for more
 * connections than this host can have is refused in the time that it takes to read its limits.
 * Must never start a process (self-target.ts).
 */
import type { Finding } from '../base/finding.ts';
import { counted } from '../base/units.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { memoryFree } from '../plan/capacity.ts';
import { processesFinding } from '../plan/processes.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { prepareHost } from '../sources/preparation.ts';
import { workersFor, workersRefusal } from './worker-count.ts';

/** What a process gets where /proc does not say (getrlimit(2): the usual soft limit). */
const DESCRIPTORS_UNKNOWN = 1_024;

/**
 * Why the built-in target cannot be for so many connections on this host; empty: it can.
 * @param connections what it must be able to hold
 * @param holders processes that hold the other ends
 */
export function selfFindings(connections: number, holders: number, facts: HostFacts): readonly Finding[] {
  const refusal = workersRefusal(connections, null, {
    descriptorsPerProcess: facts.nofileHard ?? DESCRIPTORS_UNKNOWN,
    cores: facts.cpus,
    memoryFreeBytes: memoryFree(facts),
    nrOpen: facts.nrOpen,
    isOfRun: true,
  });
  if (refusal !== null) return [refusal];
  const workers = workersFor(connections, facts.nofileHard ?? DESCRIPTORS_UNKNOWN, facts.cpus);
  const tasks = processesFinding(
    workers + holders,
    `${counted(workers, 'worker')} of the target and ${counted(holders, 'holder')}, each`,
    facts.tasks,
  );
  return tasks.severity === 'refuse' ? [tasks] : [];
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
      ? [
          ...prepared.plan.findings,
          ...selfFindings(spec.connections, prepared.plan.holders, prepared.sourcing.facts),
        ]
      : prepared;
  return findings.filter((finding) => finding.severity === 'refuse');
}
