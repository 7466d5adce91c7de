/**
 * Owns `c100k-bench path`: what the way to the target does to our addresses, ports and idle connections.
 * Must never judge it (path/path-verdict.ts) or open a connection itself.
 */

import { readAgents } from '../../api/agents-request.ts';
import { needNumber } from '../../api/bounds.ts';
import type { FlagValues } from '../../api/flags/flag-values.ts';
import { FLAGS } from '../../api/flags/flags.ts';
import { type RunRequest, readRunRequest, resolveTargets, specOf } from '../../api/run-request.ts';
import { type Endpoint, formatEndpoint } from '../../base/endpoint.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { parsePortRanges } from '../../base/tuple-space.ts';
import { Run } from '../../coordinator/run.ts';
import { PARTIAL_EVERY_MS } from '../../coordinator/run-watch.ts';
import type { RunReport } from '../../judge/report.ts';
import { withDefault } from '../../judge/requirement.ts';
import { findIdleTimeout } from '../../path/idle-finder.ts';
import { judgePath } from '../../path/path-verdict.ts';
import { PATH_SCHEMA_VERSION, type PathReport, renderPath } from '../../report/path-text.ts';
import type { CommandContext } from '../command-context.ts';
import { paintFor, tell } from '../output.ts';
import { publish, resultPlaces } from '../result.ts';

const IDLE_MIN_MS = 1_000;
/** the narrowest that timers and retransmits can tell */
const PRECISION_MS = 1_000;
const GAPS_MAX = 16;

/** What a run needs to be told and `path` has no flag for. */
const FIXED: Readonly<Record<string, string>> = {
  duration: '300ms',
  'connect-timeout': '4s',
};

/**
 * Looks at the path and says one sentence.
 * @returns 0 when the path was seen, 1 when the target told nothing
 * @throws BenchError on wrong flags, or when no run came about
 */
export async function pathCommand(context: CommandContext): Promise<ExitCode> {
  const { values } = context;
  // Before anything is opened, also where the other one counts.
  needNumber(values, 'samples');
  needNumber(values, 'idle-max');
  const request = readRunRequest(asRunValues(values));
  const places = resultPlaces(values);
  if (request.targets.some((target) => target.self)) {
    throw usageError(
      ErrorCode.badEndpoint,
      'there is no path to --target self',
      'start c100k-bench serve --mode whoami where the server is, and name that',
    );
  }
  const { endpoints } = await resolveTargets(request.targets);
  const report = values.on('find-idle-timeout')
    ? await idleReport(context, request, endpoints, places.quiet)
    : await seenReport(context, request, endpoints);
  const text = renderPath(report, paintFor(places.textStream));
  await publish(places, { text, json: `${JSON.stringify(report, null, 2)}\n` });
  return report.exitCode as ExitCode;
}

/** The flags of a run: ours, and for what we have none a fixed value or the default. */
function asRunValues(values: FlagValues): FlagValues {
  const isIdle = values.on('find-idle-timeout');
  const named = values.list('target').every((target) => /^whoami:\/\//i.test(target));
  const fixed: Readonly<Record<string, string | null>> = {
    ...FIXED,
    conns: values.one('samples'),
    probe: isIdle || named ? null : 'whoami',
  };
  const defaults = new Map(FLAGS.map((flag) => [flag.name, flag.default]));
  return {
    one: (name) => (name in fixed ? (fixed[name] ?? null) : (values.one(name) ?? defaults.get(name) ?? null)),
    list: (name) => values.list(name),
    on: (name) => values.on(name),
    isGiven: (name) => values.isGiven(name),
    origin: (name) => (name === 'conns' ? values.origin('samples') : values.origin(name)),
  };
}

async function seenReport(
  context: CommandContext,
  request: RunRequest,
  endpoints: readonly Endpoint[],
): Promise<PathReport> {
  const { values } = context;
  const samples = needNumber(values, 'samples');
  const viaPorts = values.one('via-ports');
  const run = await runFor(context, request, endpoints);
  const verdict =
    run.seen === null
      ? null
      : judgePath({ seen: run.seen, ports: viaPorts === null ? null : parsePortRanges(viaPorts) });
  if (run.verdict === 'refused') tell(`refused: ${run.reason}`);
  else if (run.connections.established < samples) tell(`${run.reason}`);
  return {
    ...common(context, request, endpoints),
    exitCode: run.verdict === 'refused' ? run.exitCode : verdict === null || verdict.told === 0 ? 1 : 0,
    samples,
    established: run.connections.established,
    verdict,
    seen: run.seen,
    idle: null,
  };
}

async function runFor(
  context: CommandContext,
  request: RunRequest,
  endpoints: readonly Endpoint[],
): Promise<RunReport> {
  const run = new Run({
    spec: specOf(request, endpoints),
    targetText: request.targets.map((target) => target.text),
    entryPath: context.entryPath,
    toolVersion: context.toolVersion,
    clock: context.clock,
    ...readAgents(asRunValues(context.values)),
    watch: {
      requirements: withDefault([]),
      abortEarly: false,
      targetWitness: null,
      onLosses: null,
      onPartial: null,
      partialEveryMs: PARTIAL_EVERY_MS,
    },
    onListening: () => {},
    onProgress: () => {},
    onNote: () => {},
  });
  const onSignal = (signal: NodeJS.Signals): void =>
    run.interrupt(signal === 'SIGTERM' ? 'SIGTERM' : 'SIGINT');
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  try {
    return await run.start();
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

async function idleReport(
  context: CommandContext,
  request: RunRequest,
  endpoints: readonly Endpoint[],
  quiet: boolean,
): Promise<PathReport> {
  const { values } = context;
  const endpoint = endpoints[0]!;
  const maxMs = needNumber(values, 'idle-max');
  const idle = await findIdleTimeout({
    endpoint,
    bounds: { minMs: IDLE_MIN_MS, maxMs, precisionMs: PRECISION_MS, gapsMax: GAPS_MAX },
    sourceAddress: request.spec.sources.addresses[0] ?? null,
    onProgress: (line) => {
      if (!quiet) tell(line);
    },
  });
  return {
    ...common(context, request, endpoints),
    exitCode: ExitCode.held,
    samples: 0,
    established: 0,
    verdict: null,
    seen: null,
    idle,
  };
}

function common(
  context: CommandContext,
  request: RunRequest,
  endpoints: readonly Endpoint[],
): Pick<PathReport, 'schemaVersion' | 'toolVersion' | 'target' | 'endpoints'> {
  return {
    schemaVersion: PATH_SCHEMA_VERSION,
    toolVersion: context.toolVersion,
    target: request.targets.map((target) => target.text),
    endpoints: endpoints.map(formatEndpoint),
  };
}
