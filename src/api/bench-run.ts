/**
 * Owns one run from what was asked to its report: the target that is ours, the names, the coordinator, and the end of all
 * of them. The command line and the library both go this way. Must never print, end the process or listen to signals.
 */
import { availableParallelism, release, totalmem } from 'node:os';
import { type Endpoint, formatEndpoint, type ProtocolName } from '../base/endpoint.ts';
import { BenchError, ExitCode, type Finding } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import { Run } from '../coordinator/run.ts';
import { type NotStarted, unstartedReport } from '../coordinator/run-facts.ts';
import type { Progress } from '../coordinator/run-progress.ts';
import type { RunOptions } from '../coordinator/run-settings.ts';
import type { TargetWitness } from '../coordinator/target-stats.ts';
import { ownPackage } from '../host/own-package.ts';
import { readTaskRoom } from '../host/proc-file.ts';
import type { RunAbout, RunReport } from '../judge/report.ts';
import { checkPlaces } from '../judge/requirement.ts';
import { processesFinding } from '../plan/cost.ts';
import type { ServeHandle } from '../serve/serve.ts';
import { selfRefusals, startSelfTarget } from '../serve/serve.ts';
import { systemClock } from '../time/timer.ts';
import { type AgentsOptions, joinLine, readAgents } from './agents-request.ts';
import { echoedCommand, type FlagValues, flagValue, shownUrl } from './flags/flags.ts';
import {
  type ResolvedTargets,
  type RunRequest,
  readRunRequest,
  resolveTargets,
  specOf,
} from './run-request.ts';
import { readWatch, type WatchRequest, watchOptions } from './watch-request.ts';

/** Everything that was asked for, checked, before anything of it is started. */
export interface RunJob {
  readonly request: RunRequest;
  readonly agents: AgentsOptions;
  readonly watch: WatchRequest;
  readonly tokenFile: string | null;
  /** what the report says of itself */
  readonly about: RunAbout;
}

/** Who hears of a run while it goes on. */
export interface RunHooks {
  /** ends the run in order; its reason `SIGTERM` is said in the report, any other is an interruption (`SIGINT`) */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
  /** one line for a person */
  readonly onNote: (line: string) => void;
  /** gets the report so far each minute; null: it goes nowhere */
  readonly onPartial: ((report: RunReport) => void) | null;
  /** at each tick and change of phase, with a function that makes the report so far; absent or null: not wanted */
  readonly onTick?: ((report: () => RunReport) => void) | null;
  /** gets what child processes write to stderr, line by line; null: they write to ours */
  readonly onChildLine: ((line: string) => void) | null;
}

/**
 * Reads and checks what a run is asked for.
 * @param environmentToken the token that the environment brought; empty: none
 * @throws BenchError exit 2 for what cannot be, 5 for a file that cannot be written
 */
export async function readRunJob(values: FlagValues, environmentToken: string): Promise<RunJob> {
  const request = readRunRequest(values);
  const agents = await readAgents(values, environmentToken);
  return {
    request,
    agents,
    watch: readWatch(values, request),
    tokenFile: flagValue(values, 'token-file'),
    about: aboutRun(values),
  };
}

function aboutRun(values: FlagValues): RunAbout {
  const host = {
    kernel: release(),
    node: process.version,
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
  };
  return { name: flagValue(values, 'name'), command: echoedCommand('run', values), host };
}

/**
 * Resolves names or starts the built-in target, runs, and stops what it started.
 * @returns the report, whatever the target did, also when the signal was aborted
 * @throws BenchError when no run was started
 */
export async function executeRun(job: RunJob, hooks: RunHooks): Promise<RunReport> {
  const { targets } = job.request;
  if (targets.some((target) => target.self)) return await runAgainstSelf(job, hooks);
  const resolved = await unlessAborted(resolveTargets(targets), hooks.signal);
  if (resolved === null) return unstarted(job, hooks, [], interruption(hooks.signal));
  for (const line of resolved.lines) hooks.onNote(line);
  return await runOn(job, hooks, resolved.endpoints, null);
}

/** What names resolve to; null as soon as the signal is aborted, because a lookup cannot be ended. */
async function unlessAborted(
  resolving: Promise<ResolvedTargets>,
  signal: AbortSignal,
): Promise<ResolvedTargets | null> {
  let onAbort: () => void = () => {};
  const aborted = new Promise<null>((resolve) => {
    onAbort = () => resolve(null);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([aborted, resolving]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Two signals of the system are known to reports; an abort without a name is an interruption. */
function interruption({ reason }: AbortSignal): Extract<NotStarted, { type: 'interrupted' }> {
  return { type: 'interrupted', signal: reason === 'SIGTERM' ? 'SIGTERM' : 'SIGINT' };
}

/** What stands for the built-in target before it listens: its port is not known yet. */
const SELF_ENDPOINT: Endpoint = { address: '127.0.0.1', port: 8000, family: 4 };

/** The preflight comes before the first worker: a target that this host cannot have is not begun. */
async function runAgainstSelf(job: RunJob, hooks: RunHooks): Promise<RunReport> {
  const { spec } = job.request;
  const { signal, onChildLine } = hooks;
  const findings = await selfRefusals(specOf(job.request, [SELF_ENDPOINT]));
  if (signal.aborted) return unstarted(job, hooks, [SELF_ENDPOINT], interruption(signal));
  if (findings.length > 0) return unstarted(job, hooks, [SELF_ENDPOINT], { type: 'refused', findings });
  const notices: string[] = [];
  let self: ServeHandle;
  try {
    self = await startSelfTarget({
      connections: spec.connections,
      mode: selfModeOf(spec.protocol),
      ...(spec.engine === undefined ? {} : { engine: spec.engine }),
      entryPath: ownPackage().entryPath,
      clock: systemClock,
      onNotice: (line) => notices.push(`the built-in target: ${line}`),
      onChildLine,
      signal,
    });
  } catch (error) {
    // The run still owes its report.
    if (signal.aborted) return unstarted(job, hooks, [SELF_ENDPOINT], interruption(signal));
    if (!(error instanceof BenchError) || error.exitCode !== ExitCode.refused) throw error;
    const findings = [targetFinding(error)];
    return unstarted(job, hooks, [SELF_ENDPOINT], { type: 'refused', findings });
  }
  try {
    const endpoint: Endpoint = { address: self.address, port: self.port, family: 4 };
    const witness: TargetWitness = {
      source: 'self',
      targets: 1,
      isRequired: false,
      ask: async () => ({ counts: await self.counts() }),
    };
    // Its workers end while the report is made.
    const report = await runOn(job, hooks, [endpoint], witness, () => void self.stop().catch(() => {}));
    return { ...report, notes: [...report.notes, ...notices, await selfNote(self)] };
  } finally {
    await self.stop();
  }
}

/** The built-in target could not start, although this host has room for it. */
function targetFinding({ message, hint }: BenchError): Finding {
  return {
    what: 'target',
    severity: 'refuse',
    needed: null,
    available: null,
    unit: '',
    message: `the built-in target: ${message}`,
    fix: hint,
  };
}

/** Endpoints refuse other protocols for `self` (base/endpoint.ts). */
function selfModeOf(protocol: ProtocolName): 'hold' | 'echo' | 'whoami' {
  return protocol === 'echo' || protocol === 'whoami' ? protocol : 'hold';
}

/** What the far side counted: the one number that is not ours. */
async function selfNote(self: ServeHandle): Promise<string> {
  const counts = await self.stop();
  return (
    `the built-in target accepted ${formatCount(counts.acceptedTotal)} connections and held ` +
    `${formatCount(counts.openMax)} at once`
  );
}

function unstarted(job: RunJob, hooks: RunHooks, endpoints: readonly Endpoint[], why: NotStarted): RunReport {
  return unstartedReport(optionsOf(job, hooks, endpoints, null), why);
}

/** What the coordinator is started with. */
function optionsOf(
  { request, agents, watch, tokenFile, about }: RunJob,
  hooks: RunHooks,
  endpoints: readonly Endpoint[],
  selfWitness: TargetWitness | null,
): RunOptions {
  const { version, entryPath } = ownPackage();
  return {
    spec: specOf(request, endpoints),
    targetText: request.targets.map((target) => shownUrl(target.text)),
    entryPath,
    toolVersion: version,
    about,
    clock: systemClock,
    ...agents,
    watch: watchOptions(watch, selfWitness, hooks.onPartial),
    onListening: (bound) => {
      // Agents that ssh starts need no line.
      if (agents.remoteAgents === (agents.ssh?.hosts.length ?? 0)) return;
      hooks.onNote(`join with: ${joinLine(bound, agents.advertise, tokenFile)}`);
    },
    onProgress: hooks.onProgress,
    onNote: hooks.onNote,
    onTick: hooks.onTick ?? undefined,
    onChildLine: hooks.onChildLine,
  };
}

async function runOn(
  job: RunJob,
  hooks: RunHooks,
  endpoints: readonly Endpoint[],
  selfWitness: TargetWitness | null,
  onFinished?: () => void,
): Promise<RunReport> {
  const { signal } = hooks;
  checkPlaces(job.watch.requirements, endpoints.map(formatEndpoint));
  const tasks = processesFinding(1, '1 holder', readTaskRoom({ procRoot: '/proc', sysRoot: '/sys' }));
  // Node aborts where it may not start its threads: an agent that has no room for them could say nothing.
  if (job.agents.hasLocalAgent && tasks.severity === 'refuse')
    return unstarted(job, hooks, endpoints, { type: 'refused', findings: [tasks] });
  const run = new Run({ ...optionsOf(job, hooks, endpoints, selfWitness), onFinished });
  const onAbort = (): void => run.interrupt(interruption(signal).signal);
  const report = run.start();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await report;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
