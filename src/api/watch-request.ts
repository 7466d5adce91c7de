/**
 * Owns what a run is watched for: requirements, the ledger of losses, what the target says of itself. Flags in, checked
 * values out. Must never judge.
 */

import { isVerifying } from '../base/endpoint.ts';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { counted, formatCount } from '../base/units.ts';
import { PARTIAL_EVERY_MS, type RunWatchOptions } from '../coordinator/run-watch.ts';
import { httpWitness, type TargetWitness } from '../coordinator/target-stats.ts';
import { needsAnswers, needsMessages, needsProbes, recoveryPart } from '../judge/metric.ts';
import type { RunReport } from '../judge/report.ts';
import {
  checkStages,
  hopelessRange,
  REQUIREMENTS_MAX,
  type Requirement,
  withDefault,
} from '../judge/requirement.ts';
import { isChanging, namesBackends } from '../run/run-spec.ts';
import { spansOf } from '../run/schedule.ts';
import { type FlagValues, flagValue, flagValues } from './flags/flags.ts';
import { EventsFile } from './report-file.ts';
import type { RunRequest } from './run-request.ts';

/** Each is asked once a second. */
const TARGETS_ASKED_MAX = 256;

/** What was asked for, before the run. */
export interface WatchRequest {
  readonly requirements: readonly Requirement[];
  readonly abortEarly: boolean;
  /** null: the target is not asked, unless it is ours */
  readonly witness: TargetWitness | null;
  readonly events: EventsFile | null;
}

/**
 * Reads and checks `--require`, `--abort-early`, `--target-stats` and `--events`.
 * @throws BenchError exit 2 for what cannot be, 5 for a file that cannot be written
 */
export function readWatch(values: FlagValues, request: RunRequest): WatchRequest {
  const requirements = readRequirements(values, request);
  const urls = readUrls(values);
  const events = flagValue(values, 'events');
  return {
    requirements,
    abortEarly: values.on('abort-early'),
    witness: urls.length === 0 ? null : httpWitness(urls),
    events: events === null ? null : new EventsFile(events),
  };
}

function readRequirements(values: FlagValues, { spec }: RunRequest): readonly Requirement[] {
  const requirements = flagValues(values, 'require');
  if (requirements.length > REQUIREMENTS_MAX) {
    throw usageError(
      ErrorCode.badRequirement,
      `${requirements.length} requirements; at most ${REQUIREMENTS_MAX} are possible`,
      'leave some out',
    );
  }
  for (const requirement of requirements) checkMeasured(requirement, spec);
  const isSending = (spec.protocolOptions?.traffic?.send ?? null) !== null;
  return withDefault(requirements, isSending && spec.probeEveryMs !== null);
}

/** A requirement that nothing can measure, or that no run of this size can keep, is a slip. */
function checkMeasured(requirement: Requirement, spec: RunRequest['spec']): void {
  const bad = (what: string, hint: string): BenchError =>
    usageError(ErrorCode.badRequirement, `--require "${requirement.text}": ${what}`, hint);
  const isSending = (spec.protocolOptions?.traffic?.send ?? null) !== null;
  if (needsMessages(requirement.metric) && !isSending)
    throw bad('no message is sent', 'add --send with what each connection is to send');
  if (needsAnswers(requirement.metric) && spec.probeEveryMs === null)
    throw bad('no message is answered', 'add --expect with what the answer begins with');
  if (needsProbes(requirement.metric) && spec.probeEveryMs === null) {
    throw bad(
      'without probes nothing is measured',
      'use a target that answers, such as echo://host:port, and --probe-every 10s',
    );
  }
  if (requirement.metric === 'verified' && !isVerifying(spec.protocol, spec.protocolOptions)) {
    throw bad(
      `nothing verifies a silent ${spec.protocol}:// connection`,
      'use a target that answers, such as echo://host:port, or --expect-banner any when it speaks first, or --first-message and --expect',
    );
  }
  if (recoveryPart(requirement.metric) !== null && spec.onDrop !== 'reopen') {
    throw bad('lost connections do not come back, they are only counted', 'add --on-drop reopen');
  }
  if (requirement.metric === 'balance' && !namesBackends(spec))
    throw bad('no back end is looked for', 'add --backend-from, such as --backend-from header:X-Served-By');
  checkStages([requirement], spansOf(spec.stages ?? []));
  const range = hopelessRange(requirement, spec.connections, spec.onDrop === 'reopen', isChanging(spec));
  if (range === null) return;
  const most = Number.isFinite(range.high) ? ` to ${formatCount(range.high)}` : ' or more';
  throw bad(
    `no run of ${counted(spec.connections, 'connection')} can keep it`,
    `${requirement.metric} is ${formatCount(range.low)}${most}: give a value that it can have`,
  );
}

/** A target that was asked twice would be counted twice. */
function readUrls(values: FlagValues): readonly URL[] {
  const urls = flagValues(values, 'target-stats').flat();
  const flag = values.origin('target-stats');
  const known = new Set<string>();
  for (const { href } of urls) {
    if (known.has(href))
      throw usageError(ErrorCode.usage, `${flag}: ${href} is given twice`, 'name each target once');
    known.add(href);
  }
  if (urls.length > TARGETS_ASKED_MAX) {
    throw usageError(
      ErrorCode.usage,
      `${flag}: ${urls.length} addresses; at most ${TARGETS_ASKED_MAX} are possible`,
      'leave the proof to the connections themselves: echo:// or ws://',
    );
  }
  return urls;
}

/**
 * The run's watch.
 * @param selfWitness the built-in target, where it is ours
 * @param onPartial gets the report so far each minute; null: it goes nowhere
 */
export function watchOptions(
  request: WatchRequest,
  selfWitness: TargetWitness | null,
  onPartial: ((report: RunReport) => void) | null,
): RunWatchOptions {
  const { requirements, abortEarly, events } = request;
  return {
    requirements,
    abortEarly,
    targetWitness: request.witness ?? selfWitness,
    onLosses: events === null ? null : (entries) => events.append(entries),
    onPartial,
    partialEveryMs: PARTIAL_EVERY_MS,
  };
}
