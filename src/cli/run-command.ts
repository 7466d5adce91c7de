/**
 * Owns the default command: from flags to a run, its display, its signals and its report.
 * Must never open a connection or decide a verdict.
 */
import { Run } from '../coordinator/run.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { ExitCode } from '../core/errors.ts';
import type { RunReport } from '../core/report.ts';
import { formatCount, parseDurationMs } from '../core/units.ts';
import { reportJson } from '../report/json.ts';
import { renderReport } from '../report/text.ts';
import { startSelfTarget } from '../serve/self-target.ts';
import type { ServeHandle } from '../serve/serve.ts';
import { type AgentsOptions, joinLine, readAgents } from './agents-options.ts';
import type { CommandContext } from './cli.ts';
import type { FlagValues } from './command-line.ts';
import { paintFor, tell } from './output.ts';
import { createDisplay, type ProgressDisplay } from './progress-display.ts';
import { publish, resultPlaces } from './result.ts';
import { effectiveOptions, type RunRequest, readRunRequest, resolveTargets, specOf } from './run-options.ts';

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
  const places = resultPlaces(values);
  if (!places.quiet) tell(effectiveOptions(request));
  const interrupts = new Interrupts(display);
  let report: RunReport;
  try {
    report = await runAgainst(context, request, agents, display, interrupts, places.quiet);
  } finally {
    interrupts.end();
    display.stop();
  }
  await publish(places, {
    text: renderReport(report, paintFor(places.textStream)),
    json: reportJson(report),
  });
  return report.exitCode as ExitCode;
}

function readDisplay(values: FlagValues): ProgressDisplay {
  const every = values.one('progress-every') ?? '5s';
  return createDisplay(
    process.stderr,
    {
      quiet: values.on('quiet'),
      periodic: !values.on('no-progress'),
      everyMs: parseDurationMs(every, values.origin('progress-every'), { minMs: 100 }),
    },
    process.env,
  );
}

/** Resolves names or starts the built-in target, runs, and stops what it started. */
async function runAgainst(
  context: CommandContext,
  request: RunRequest,
  agents: AgentsOptions,
  display: ProgressDisplay,
  interrupts: Interrupts,
  quiet: boolean,
): Promise<RunReport> {
  if (!request.targets.some((target) => target.self)) {
    const { endpoints, lines } = await resolveTargets(request.targets);
    if (!quiet) for (const line of lines) tell(line);
    return await runOn(context, request, agents, endpoints, display, interrupts);
  }
  const notices: string[] = [];
  const self = await startSelfTarget({
    connections: request.spec.connections,
    mode: request.spec.protocol === 'echo' ? 'echo' : 'hold',
    entryPath: context.entryPath,
    clock: context.clock,
    onNotice: (line) => notices.push(`the built-in target: ${line}`),
  });
  try {
    const endpoint: Endpoint = { address: self.address, port: self.port, family: 4 };
    const report = await runOn(context, request, agents, [endpoint], display, interrupts);
    return { ...report, notes: [...report.notes, ...notices, await selfNote(self)] };
  } finally {
    await self.stop();
  }
}

/** What the far side counted: the one number that is not ours. */
async function selfNote(self: ServeHandle): Promise<string> {
  const counts = await self.stop();
  return (
    `the built-in target accepted ${formatCount(counts.acceptedTotal)} connections and held ` +
    `${formatCount(counts.openMax)} at once`
  );
}

async function runOn(
  context: CommandContext,
  request: RunRequest,
  agents: AgentsOptions,
  endpoints: readonly Endpoint[],
  display: ProgressDisplay,
  interrupts: Interrupts,
): Promise<RunReport> {
  const run = new Run({
    spec: specOf(request, endpoints),
    targetText: request.targets.map((target) => target.text),
    entryPath: context.entryPath,
    toolVersion: context.toolVersion,
    clock: context.clock,
    ...agents,
    onListening: (bound) => {
      if (agents.remoteAgents === 0) return;
      display.note(`join with: ${joinLine(bound, agents.ssh?.advertise ?? null)}`);
    },
    onProgress: (progress) => display.show(progress),
    onNote: (line) => display.note(line),
  });
  const report = run.start();
  interrupts.attach(run);
  return await report;
}

/** The signals of a run: the first one ends it in order, the second one ends the process. */
class Interrupts {
  readonly #display: ProgressDisplay;
  #run: Run | null = null;
  #first: StopSignal | null = null;

  constructor(display: ProgressDisplay) {
    this.#display = display;
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
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
      this.#run?.interrupt(which);
      return;
    }
    this.#display.stop();
    // Agents, holders and the built-in target end by themselves when this process is gone.
    process.exit(which === 'SIGTERM' ? ExitCode.terminated : ExitCode.interrupted);
  };
}
