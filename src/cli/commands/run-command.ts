/**
 * Owns the default command: from flags to a run, its display, its signals and its report.
 * Must never open a connection or decide a verdict.
 */

import { type AgentsOptions, joinLine, readAgents } from '../../api/agents-request.ts';
import { needNumber } from '../../api/bounds.ts';
import type { FlagValues } from '../../api/flags/flag-values.ts';
import { type RunRequest, readRunRequest, resolveTargets, specOf } from '../../api/run-request.ts';
import { readWatch, type WatchRequest, watchOptions } from '../../api/watch-request.ts';
import type { Endpoint, ProtocolName } from '../../base/endpoint.ts';
import { ExitCode } from '../../base/errors.ts';
import { formatCount } from '../../base/units.ts';
import { NeverRanError } from '../../coordinator/missing-agents.ts';
import { Run } from '../../coordinator/run.ts';
import { type NotStarted, unstartedReport } from '../../coordinator/run-facts.ts';
import type { RunOptions } from '../../coordinator/run-settings.ts';
import type { TargetWitness } from '../../coordinator/target-stats.ts';
import type { RunReport } from '../../judge/report.ts';
import { reportJson } from '../../report/json.ts';
import { renderReport } from '../../report/text.ts';
import { selfRefusals, startSelfTarget } from '../../serve/self-target.ts';
import type { ServeHandle } from '../../serve/serve.ts';
import type { CommandContext } from '../command-context.ts';
import { createDisplay, type ProgressDisplay } from '../display/progress-display.ts';
import { echoCommand, paintFor, tell } from '../output.ts';
import { ReportFiles } from '../report-files.ts';
import { publish, type ResultPlaces, resultPlaces } from '../result.ts';

type StopSignal = 'SIGINT' | 'SIGTERM';

/**
 * Runs, shows, reports.
 * @returns the exit code of the verdict
 * @throws BenchError on wrong input, when no run came about, or when a report could not be written
 */
export async function runCommand(context: CommandContext): Promise<ExitCode> {
  const { values } = context;
  const request = readRunRequest(values);
  const agents = readAgents(values);
  const display = readDisplay(values);
  const watch = readWatch(values, request);
  const places = resultPlaces(values);
  const files = new ReportFiles(values, process.env);
  // Before the first line: who sees that line and presses Ctrl-C must get a report.
  const interrupts = new Interrupts(display);
  if (!places.quiet) echoCommand('run', values);
  let report: RunReport;
  try {
    report = await runAgainst({ context, request, agents, display, interrupts, watch, places });
  } catch (error) {
    display.stop();
    // Nobody was there to run it, and that is what its report says.
    if (error instanceof NeverRanError) await deliver(error.report, places, files);
    throw error;
  } finally {
    interrupts.end();
    display.stop();
  }
  await deliver(report, places, files);
  watch.events?.check();
  return report.exitCode as ExitCode;
}

/** To every place where the report is wanted; one that fails keeps no other from it. */
async function deliver(report: RunReport, places: ResultPlaces, files: ReportFiles): Promise<void> {
  try {
    await publish(places, {
      text: renderReport(report, paintFor(places.textStream)),
      json: reportJson(report),
    });
  } finally {
    files.write(report);
  }
}

function readDisplay(values: FlagValues): ProgressDisplay {
  return createDisplay(
    process.stderr,
    {
      quiet: values.on('quiet'),
      periodic: !values.on('no-progress'),
      everyMs: needNumber(values, 'progress-every'),
    },
    process.env,
  );
}

/** Resolves names or starts the built-in target, runs, and stops what it started. */
async function runAgainst(parts: RunParts): Promise<RunReport> {
  const { request, places } = parts;
  if (!request.targets.some((target) => target.self)) {
    const { endpoints, lines } = await resolveTargets(request.targets);
    if (!places.quiet) for (const line of lines) tell(line);
    return await runOn(parts, endpoints, null);
  }
  return await runAgainstSelf(parts);
}

/** What stands for the built-in target before it listens: its port is not known yet. */
const SELF_ENDPOINT: Endpoint = { address: '127.0.0.1', port: 8000, family: 4 };

/** The preflight comes before the first worker: a target that this host cannot have is not begun. */
async function runAgainstSelf(parts: RunParts): Promise<RunReport> {
  const { context, request, interrupts } = parts;
  const findings = await selfRefusals(specOf(request, [SELF_ENDPOINT]));
  const unstarted = (why: NotStarted): RunReport =>
    unstartedReport(optionsOf(parts, [SELF_ENDPOINT], null), why);
  if (interrupts.first !== null) return unstarted({ type: 'interrupted', signal: interrupts.first });
  if (findings.length > 0) return unstarted({ type: 'refused', findings });
  const notices: string[] = [];
  let self: ServeHandle;
  try {
    self = await startSelfTarget({
      connections: request.spec.connections,
      mode: selfModeOf(request.spec.protocol),
      entryPath: context.entryPath,
      clock: context.clock,
      onNotice: (line) => notices.push(`the built-in target: ${line}`),
      signal: interrupts.signal,
    });
  } catch (error) {
    // The run still owes its report.
    if (interrupts.first !== null) return unstarted({ type: 'interrupted', signal: interrupts.first });
    throw error;
  }
  try {
    const endpoint: Endpoint = { address: self.address, port: self.port, family: 4 };
    const report = await runOn(parts, [endpoint], {
      source: 'self',
      targets: 1,
      isRequired: false,
      ask: async () => ({ counts: await self.counts() }),
    });
    return { ...report, notes: [...report.notes, ...notices, await selfNote(self)] };
  } finally {
    await self.stop();
  }
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

/** Everything that a run is made of before its target is known. */
interface RunParts {
  readonly context: CommandContext;
  readonly request: RunRequest;
  readonly agents: AgentsOptions;
  readonly display: ProgressDisplay;
  readonly interrupts: Interrupts;
  readonly watch: WatchRequest;
  readonly places: ResultPlaces;
}

/** The report so far goes where the last one will go, so that a crash leaves it there. */
function partialTo(
  { jsonFile }: ResultPlaces,
  display: ProgressDisplay,
): ((report: RunReport) => void) | null {
  if (jsonFile === null || !jsonFile.isReplaceable) return null;
  return (report) => {
    try {
      jsonFile.write(reportJson(report));
    } catch (error) {
      display.note(`the report so far: ${(error as Error).message}`);
    }
  };
}

/** What the run is started with. */
function optionsOf(
  { context, request, agents, display, watch, places }: RunParts,
  endpoints: readonly Endpoint[],
  selfWitness: TargetWitness | null,
): RunOptions {
  return {
    spec: specOf(request, endpoints),
    targetText: request.targets.map((target) => target.text),
    entryPath: context.entryPath,
    toolVersion: context.toolVersion,
    clock: context.clock,
    ...agents,
    watch: watchOptions(watch, selfWitness, partialTo(places, display)),
    onListening: (bound) => {
      // Agents that ssh starts need no line.
      if (agents.remoteAgents === (agents.ssh?.hosts.length ?? 0)) return;
      const { values } = context;
      display.note(`join with: ${joinLine(bound, values.one('advertise'), values.one('token-file'))}`);
    },
    onProgress: (progress) => display.show(progress),
    onNote: (line) => display.note(line),
  };
}

async function runOn(
  parts: RunParts,
  endpoints: readonly Endpoint[],
  selfWitness: TargetWitness | null,
): Promise<RunReport> {
  const run = new Run(optionsOf(parts, endpoints, selfWitness));
  const report = run.start();
  parts.interrupts.attach(run);
  return await report;
}

/** The signals of a run: the first one ends it in order, the second one ends the process. */
class Interrupts {
  readonly #display: ProgressDisplay;
  #run: Run | null = null;
  #first: StopSignal | null = null;
  readonly #abort = new AbortController();

  constructor(display: ProgressDisplay) {
    this.#display = display;
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
  }

  /** The signal that came first; null: none yet. */
  get first(): StopSignal | null {
    return this.#first;
  }

  /** Aborted by the first signal: for what is begun before there is a run. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** From now on signals reach the run; one that came before it existed is passed on at once. */
  attach(run: Run): void {
    this.#run = run;
    if (this.#first !== null) run.interrupt(this.#first);
  }

  end(): void {
    process.off('SIGINT', this.#onSignal);
    process.off('SIGTERM', this.#onSignal);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const which: StopSignal = signal === 'SIGTERM' ? 'SIGTERM' : 'SIGINT';
    if (this.#first === null) {
      this.#first = which;
      this.#display.note(`${which}: closing; once more ends at once`);
      this.#abort.abort();
      this.#run?.interrupt(which);
      return;
    }
    this.#display.stop();
    // Agents, holders and the built-in target end by themselves when this process is gone.
    process.exit(which === 'SIGTERM' ? ExitCode.terminated : ExitCode.interrupted);
  };
}
