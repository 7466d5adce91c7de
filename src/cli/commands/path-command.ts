/**
 * Owns `c100k-bench path`: what the way to the target does to our addresses, ports and idle connections.
 * Must never judge it (path/path-verdict.ts) or open a connection itself.
 */

import assert from 'node:assert/strict';
import { executeRun, type RunJob, readRunJob } from '../../api/bench-run.ts';
import { type FlagValues, flagValue, shownUrl } from '../../api/flags/flags.ts';
import { resolveTargets } from '../../api/run-request.ts';
import { environmentToken } from '../../api/token-source.ts';
import { isLoopback } from '../../base/address.ts';
import { addressPart, formatEndpoint } from '../../base/endpoint.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { raisePriority } from '../../host/command.ts';
import { ownPackage } from '../../host/own-package.ts';
import type { RunReport } from '../../judge/report.ts';
import { findIdleTimeout } from '../../path/idle-finder.ts';
import { judgePath } from '../../path/path-verdict.ts';
import { PATH_SCHEMA_VERSION, type PathReport, renderPath } from '../../report/plan-text.ts';
import type { CommandContext } from '../command-line.ts';
import { paintFor, publish, resultPlaces, tell } from '../output.ts';

const IDLE_MIN_MS = 1_000;
/** the narrowest that timers and retransmits resolve */
const PRECISION_MS = 1_000;
const GAPS_MAX = 16;

/** What a run needs and `path` has no flag for. */
const FIXED: Readonly<Record<string, string>> = {
  duration: '300ms',
  'connect-timeout': '4s',
};

/**
 * Looks at the path and says one sentence.
 * @returns 0 when the path was seen, 1 when the target reported nothing
 * @throws BenchError on wrong flags, or when no run was started
 */
export async function pathCommand({ values }: CommandContext): Promise<ExitCode> {
  // Before anything is opened, also where the other one counts.
  flagValue(values, 'samples');
  flagValue(values, 'idle-max');
  flagValue(values, 'via-ports');
  const job = await readRunJob(asRunValues(values), environmentToken());
  raisePriority();
  const places = resultPlaces(values);
  if (job.request.targets.some((target) => target.self)) {
    throw usageError(
      ErrorCode.badEndpoint,
      'there is no path to --target self',
      'start c100k-bench serve --mode whoami where the server is, and name that',
    );
  }
  const report = values.on('find-idle-timeout')
    ? await idleReport(values, job, places.quiet)
    : await seenReport(values, job);
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
  return {
    one: (name) => (name in fixed ? (fixed[name] ?? null) : values.one(name)),
    list: (name) => values.list(name),
    on: (name) => values.on(name),
    isGiven: (name) => values.isGiven(name),
    origin: (name) => (name === 'conns' ? values.origin('samples') : values.origin(name)),
  };
}

async function seenReport(values: FlagValues, job: RunJob): Promise<PathReport> {
  const samples = flagValue(values, 'samples');
  const run = await runOf(job);
  const ports = flagValue(values, 'via-ports');
  const isHere = run.kernel.hosts.length > 0 && run.kernel.hosts.every(isAllLocal(run.asked.endpoints));
  const failure = run.connections.established > 0 ? null : (run.diagnoses[0]?.message ?? run.reason);
  const verdict =
    run.seen === null ? null : judgePath({ seen: run.seen, ports, isLoopback: isHere, failure });
  if (run.verdict === 'refused') tell(`refused: ${run.reason}`);
  else if (run.connections.established < samples) tell(`${run.reason}`);
  return {
    ...common(job, run.asked.endpoints),
    exitCode: run.verdict === 'refused' ? run.exitCode : verdict === null || verdict.told === 0 ? 1 : 0,
    samples,
    established: run.connections.established,
    verdict,
    seen: run.seen,
    idle: null,
  };
}

/** Whether each endpoint is an address of that host: loopback, or one of which it has the listener. */
function isAllLocal(endpoints: readonly string[]): (host: RunReport['kernel']['hosts'][number]) => boolean {
  return ({ farSide = {} }) => endpoints.every((one) => one in farSide || isLoopback(addressPart(one)));
}

async function runOf(job: RunJob): Promise<RunReport> {
  const abort = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => abort.abort(signal);
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  try {
    return await executeRun(job, {
      signal: abort.signal,
      onProgress: () => {},
      onNote: () => {},
      onPartial: null,
      onChildLine: null,
    });
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

async function idleReport(values: FlagValues, job: RunJob, quiet: boolean): Promise<PathReport> {
  const { endpoints } = await resolveTargets(job.request.targets);
  const [endpoint] = endpoints;
  assert(endpoint !== undefined, 'a target has an endpoint');
  const maxMs = flagValue(values, 'idle-max');
  const idle = await findIdleTimeout({
    endpoint,
    bounds: { minMs: IDLE_MIN_MS, maxMs, precisionMs: PRECISION_MS, gapsMax: GAPS_MAX },
    sourceAddress: job.request.spec.sources.addresses[0] ?? null,
    onProgress: (line) => {
      if (!quiet) tell(line);
    },
  });
  return {
    ...common(job, endpoints.map(formatEndpoint)),
    exitCode: ExitCode.held,
    samples: 0,
    established: 0,
    verdict: null,
    seen: null,
    idle,
  };
}

function common(
  { request }: RunJob,
  endpoints: readonly string[],
): Pick<PathReport, 'schemaVersion' | 'toolVersion' | 'target' | 'endpoints'> {
  return {
    schemaVersion: PATH_SCHEMA_VERSION,
    toolVersion: ownPackage().version,
    target: request.targets.map((target) => shownUrl(target.text)),
    endpoints,
  };
}
