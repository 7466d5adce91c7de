/**
 * Owns reading reports from files: checked against the published schema, what an older version did not write filled in.
 * Must never trust one: it may come from anywhere, and from a newer version.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { ownPackage } from '../host/own-package.ts';
import type { AgentReport, RunReport } from '../judge/report.ts';
import type { HolderHealth } from '../stats/stats.ts';
import { NO_LOAD } from '../stats/stats.ts';

/** A report with everything in it has some megabytes. */
const FILE_BYTES_MAX = 128 * 1024 * 1024;

/** Where a report may come from that is no file: `--label after=-` says the one, the command line makes the other of a word `-`. */
const STDIN: ReadonlySet<string> = new Set(['-', '/dev/stdin']);

let validator: ValidateFunction | null = null;

/** A later version may have written more: what is not known is left out. */
function validate(): ValidateFunction {
  if (validator !== null) return validator;
  const schema = join(dirname(dirname(ownPackage().entryPath)), 'docs', 'report.schema.json');
  const ajv = new Ajv2020({ removeAdditional: true, strict: false, validateFormats: false });
  validator = ajv.compile(JSON.parse(readFileSync(schema, 'utf8')) as object);
  return validator;
}

/** What fields of a later version were not yet in a report of 1.0. */
type Older<Whole, Added extends keyof Whole> = Omit<Whole, Added> & Partial<Pick<Whole, Added>>;
type OlderHolder = Older<
  HolderHealth,
  'holdLagMsMax' | 'scheduleShiftMs' | 'scheduleShiftMsMax' | 'ramp' | 'hold'
>;
type OlderAgent = Older<Omit<AgentReport, 'holders'>, 'engine'> & {
  readonly holders: readonly OlderHolder[];
};
type OlderReport = Older<
  Omit<RunReport, 'agents'>,
  'evidence' | 'balance' | 'incidents' | 'overTime' | 'about' | 'load'
> & {
  readonly agents: readonly OlderAgent[];
};

function holderOf(holder: OlderHolder): HolderHealth {
  const none = { holdLagMsMax: 0, scheduleShiftMs: 0, scheduleShiftMsMax: 0, ramp: NO_LOAD, hold: NO_LOAD };
  return { ...none, ...holder };
}

function completed(report: OlderReport): RunReport {
  return {
    ...report,
    evidence: report.evidence ?? null,
    balance: report.balance ?? null,
    incidents: report.incidents ?? null,
    overTime: report.overTime ?? null,
    about: report.about ?? null,
    load: report.load ?? null,
    agents: report.agents.map((agent) => ({
      ...agent,
      engine: agent.engine ?? null,
      holders: agent.holders.map(holderOf),
    })),
  };
}

/**
 * Reads a report.
 * @param path as typed; `-` is stdin, which can be read once
 * @throws BenchError exit 2 when it cannot be read or is no report
 */
export function readReport(path: string): RunReport {
  const report = parsed(path);
  const check = validate();
  if (check(report)) return completed(report as OlderReport);
  const [first] = check.errors ?? [];
  throw noReport(path, `${first?.instancePath || 'it'} ${first?.message ?? ''}`.trim());
}

function parsed(path: string): unknown {
  try {
    // A stdin that is a socket cannot be opened again.
    const file = STDIN.has(path) ? 0 : path;
    const size = file === 0 ? 0 : statSync(file).size;
    if (size > FILE_BYTES_MAX) throw new Error('it is too large for a report');
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw noReport(path, (error as Error).message);
  }
}

function noReport(path: string, why: string): BenchError {
  return usageError(
    ErrorCode.usage,
    `${path} is not a report of c100k-bench: ${why}`,
    'give a file that --json has written',
  );
}
