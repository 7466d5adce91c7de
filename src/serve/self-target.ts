/**
 * Owns `--target self`: the built-in target on a free loopback port, for one run, and its preflight: a target for more
 * connections than this host can have is refused before a process is forked. Must never outlive the process that started
 * it: its workers end when their IPC channel closes, however that process ends.
 *
 * The workers are children of the caller, without a process between: one process less to start and to lose. They
 * have process groups of their own, so Ctrl-C in the terminal reaches the caller alone, and it stops the target
 * after the holders have drained.
 */
import type { Clock } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import { counted } from '../base/units.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { memoryFree } from '../plan/capacity.ts';
import { processesFinding } from '../plan/cost.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { prepareHost } from '../sources/preparation.ts';
import { type ServeHandle, serveTarget } from './serve.ts';
import type { ServeMode } from './serve-counts.ts';
import { workersFor, workersRefusal } from './worker-count.ts';

/** Exactly this address: the generator's loopback sources begin at 127.0.0.2, so no port of theirs can clash. */
const SELF_ADDRESS = '127.0.0.1';

interface SelfTargetOptions {
  /** how many connections the run will open, at least 1 */
  readonly connections: number;
  /** `echo` when the run's protocol needs answers */
  readonly mode: ServeMode;
  /** the script to fork; with the argument `serve-worker` it must call `runServeWorker` (worker.ts) */
  readonly entryPath: string;
  readonly clock: Clock;
  /** called with what a person should know, one line each: a lost worker, descriptors used up */
  readonly onNotice?: (line: string) => void;
  /** gets what workers write to stderr, line by line; absent or null: they write to ours */
  readonly onChildLine?: ((line: string) => void) | null;
  /** ends the start */
  readonly signal?: AbortSignal;
}

/**
 * Starts the built-in target for one run; returns once it listens.
 * @throws BenchError `serve-failed`, exit 3
 */
export function startSelfTarget(options: SelfTargetOptions): Promise<ServeHandle> {
  const { connections, ...rest } = options;
  return serveTarget({ ...rest, host: SELF_ADDRESS, port: 0, workers: null, connectionsMax: connections });
}

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
