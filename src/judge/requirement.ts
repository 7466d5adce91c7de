/**
 * Owns `--require`: the text `<metric> <op> <value>` as a value, whether it holds, and whether it still can.
 * Must never know where a number comes from (metric.ts).
 */
import assert from 'node:assert/strict';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { formatCount, formatMs, formatRate, parseCount, parseRate } from '../base/units.ts';
import type { StageSpan } from '../run/schedule.ts';
import { emptyStats } from '../stats/stats.ts';
import {
  askedOf,
  METRICS,
  type MetricFacts,
  type MetricKind,
  type MetricRange,
  metricKind,
  metricRange,
  metricValue,
  narrowedMetric,
  PLACE_METRICS,
  placesOf,
  REASONS_OF,
  recoveryPart,
} from './metric.ts';
import { STAGE_METRICS, stageSpan } from './stage-metrics.ts';

/** Longest first, so that `>=` is not read as `>`. */
const OPERATORS = ['>=', '<=', '==', '!=', '>', '<'] as const;
type Operator = (typeof OPERATORS)[number];

export interface Requirement {
  /** as typed, blanks removed */
  readonly text: string;
  readonly metric: string;
  readonly operator: Operator;
  /** in the metric's own unit; with `isPercent` in percent of the connections that were asked for */
  readonly threshold: number;
  readonly isPercent: boolean;
  /** not typed: everything asked for must be held */
  readonly isDefault: boolean;
}

/** How one requirement came out. */
export interface RequirementResult {
  readonly requirement: string;
  readonly metric: string;
  readonly isDefault: boolean;
  readonly passed: boolean;
  /** in connections, counts, milliseconds, connections per second or seconds; null: nothing was measured */
  readonly actual: number | null;
  /** with its unit, for a person */
  readonly actualText: string;
}

/** The most that one run may have. */
export const REQUIREMENTS_MAX = 64;

/** What a run must do unless the user says otherwise. */
export const HELD_ALL: Requirement = {
  text: 'held>=100%',
  metric: 'held',
  operator: '>=',
  threshold: 100,
  isPercent: true,
  isDefault: true,
};

/** What a run whose messages are answered must do as well. */
const ANSWERED_RIGHTLY: Requirement = {
  text: 'messages_wrong==0',
  metric: 'messages_wrong',
  operator: '==',
  threshold: 0,
  isPercent: false,
  isDefault: true,
};

function bad(text: string, what: string, hint: string): BenchError {
  return usageError(ErrorCode.badRequirement, `--require "${text}": ${what}`, hint);
}

const EXAMPLES: Readonly<Record<MetricKind, readonly [example: string, words: string]>> = {
  connections: ['129900, 129.9k or 99.9%', 'a number of connections, or a percentage of those asked for'],
  count: ['100 or 1k', 'a number'],
  latency: ['250ms, 1.5s or 800us', 'a time with its unit'],
  rate: ['5000/s or 5k/s', 'a number per second'],
  seconds: ['60 or 60s', 'seconds'],
  ratio: ['1.2', 'a number with or without a fraction'],
};

/**
 * Reads one requirement.
 * @param text such as `held>=129900`, `held >= 99.9%`, `connect_p99<250ms`, `rate>=5k/s`
 * @param nearest the known word nearest to a mistyped one, or null
 * @throws BenchError `bad-requirement`, exit 2, with what to type instead
 */
export function parseRequirement(
  text: string,
  nearest: (typed: string, known: readonly string[]) => string | null = () => null,
): Requirement {
  // By itself it asks for more than kernels can prove.
  if (/^\s*verified\s*$/i.test(text)) return parseRequirement('verified>=100%', nearest);
  // The value does not begin with a comparison: `held>==5` is a slip, and not five of something.
  const match =
    /^\s*((?:(?:endpoint|source|stage)\[.+?\]\.)?[A-Za-z][A-Za-z0-9_.-]*(?:\[[A-Za-z-]*\])?)(%?)\s*(>=|<=|==|!=|=>|=<|=|>|<)\s*([^<>=!\s].*?)\s*$/i.exec(
      text,
    );
  if (match === null) {
    throw bad(text, 'a requirement is a metric, a comparison and a value', "type --require 'held>=99.9%'");
  }
  const [, typed = '', percent = '', sign = '', value = ''] = match;
  const metric = canonical(typed);
  const kind = metricKind(metric);
  if (kind === null) throw unknownMetric(text, typed, metric, `${percent}${sign}${value}`, nearest);
  // One sign of equality is meant like two: nothing is ever set here.
  const operator = OPERATORS.find((one) => one === (sign === '=' ? '==' : sign));
  if (operator === undefined) {
    const meant = sign === '=<' ? '<=' : '>=';
    throw bad(text, `"${sign}" is no comparison`, `did you mean --require '${metric}${meant}${value}'?`);
  }
  const isPercent = percent === '%' || value.endsWith('%');
  const number = isPercent ? value.replace(/\s*%$/, '') : value;
  if (isPercent && kind !== 'connections') {
    throw bad(
      text,
      `${metric} is no share of the connections`,
      `type --require '${metric}${operator}${example(kind)}'`,
    );
  }
  const threshold = isPercent ? percentOf(number) : typedValue(kind, number);
  if (threshold === null) {
    throw bad(
      text,
      `"${value}" is not ${EXAMPLES[kind][1]}`,
      `type --require '${metric}${operator}${example(kind)}' (${EXAMPLES[kind][0]})`,
    );
  }
  return {
    text: `${metric}${operator}${value.replace(/\s+/g, '')}${percent}`,
    metric,
    operator,
    threshold,
    isPercent,
    isDefault: false,
  };
}

/** Small letters, and `_` for `-` but in places and reasons, whose names have it. */
function canonical(typed: string): string {
  const [, place = '', name = '', reason = ''] =
    /^((?:endpoint|source|stage)\[.+\]\.)?([^[]*)(\[.*\])?$/i.exec(typed) ?? [];
  return `${place.toLowerCase()}${name.toLowerCase().replaceAll('-', '_')}${reason.toLowerCase()}`;
}

type Nearest = (typed: string, known: readonly string[]) => string | null;

/** What there is instead: a reason, a metric that a place has, or any metric. */
function unknownMetric(
  text: string,
  typed: string,
  metric: string,
  rest: string,
  nearest: Nearest,
): BenchError {
  const { place = null, name = metric, reason = null } = narrowedMetric(metric) ?? {};
  const before = place === null ? '' : `${place.kind}[${place.name}].`;
  const [wrong, known, write, what] =
    reason !== null && REASONS_OF[name] !== undefined
      ? ([reason, REASONS_OF[name], (one: string) => `${before}${name}[${one}]`, 'reasons'] as const)
      : ([
          name,
          place === null
            ? Object.keys(METRICS)
            : place.kind === 'stage'
              ? Object.keys(STAGE_METRICS)
              : PLACE_METRICS,
          (one: string) => `${before}${one}`,
          place === null ? 'metrics' : `metrics of one ${place.kind}`,
        ] as const);
  const near = nearest(wrong, known);
  return bad(
    text,
    what === 'reasons' ? `${name} has no reason "${reason}"` : `there is no metric "${typed}"`,
    near === null || near === wrong
      ? `the ${what} are ${known.join(', ')}`
      : `did you mean --require '${write(near)}${rest}'?`,
  );
}

/**
 * Refuses a requirement on an endpoint that the run does not have.
 * @param endpoints of the run, `address:port`
 * @throws BenchError `bad-requirement`, exit 2, with those that there are
 */
export function checkPlaces(requirements: readonly Requirement[], endpoints: readonly string[]): void {
  const known = new Set(endpoints);
  for (const { text, metric } of requirements) {
    const place = narrowedMetric(metric)?.place;
    if (place?.kind !== 'endpoint' || known.has(place.name)) continue;
    const shown = endpoints.slice(0, PLACES_SHOWN_MAX).join(', ');
    const more =
      endpoints.length > PLACES_SHOWN_MAX ? ` and ${endpoints.length - PLACES_SHOWN_MAX} more` : '';
    throw bad(text, `the run has no endpoint ${place.name}`, `its endpoints are ${shown}${more}`);
  }
}

/**
 * Refuses a requirement on a stage that the run does not have, or on what a stage holds that is not flat.
 * @param stages of the run; empty: it has none
 * @throws BenchError `bad-requirement`, exit 2, with those that there are
 */
export function checkStages(requirements: readonly Requirement[], stages: readonly StageSpan[]): void {
  const flat = stages.flatMap(({ isFlat }, index) => (isFlat ? [index + 1] : []));
  for (const { text, metric } of requirements) {
    const { place = null, name = '' } = narrowedMetric(metric) ?? {};
    if (place?.kind !== 'stage') continue;
    const span = stageSpan(place.name, stages);
    if (span === null) {
      throw bad(
        text,
        `the run has no stage ${place.name}`,
        stages.length === 0 ? 'give stages with --stage 2m:130k' : `its stages are 1 to ${stages.length}`,
      );
    }
    if ((name !== 'held' && name !== 'reach_seconds') || span.isFlat) continue;
    throw bad(
      text,
      `stage ${place.name} is not flat, and ${name} is judged where the number stays`,
      flat.length === 0
        ? `type --require 'stage[${place.name}].open>=99.9%', which is what is open at its end`
        : `the flat stages are ${flat.join(', ')}`,
    );
  }
}

/** Endpoints, or sources, named in one line. */
const PLACES_SHOWN_MAX = 8;

function example(kind: MetricKind): string {
  return EXAMPLES[kind][0].split(/,? or |, /)[0] ?? '';
}

function percentOf(text: string): number | null {
  return /^\d{1,3}(\.\d{1,6})?$/.test(text) && Number(text) <= 100 ? Number(text) : null;
}

const US_PER_UNIT: Readonly<Record<string, number>> = { us: 1, ms: 1_000, s: 1_000_000, m: 60_000_000 };

/** In the unit that `metricValue` speaks; null: it is none. */
function typedValue(kind: MetricKind, text: string): number | null {
  const [, digits = '', unit = ''] = /^(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]{0,2})$/i.exec(text) ?? [];
  switch (kind) {
    case 'connections':
    case 'count':
      return attempt(() => parseCount(text, '--require', { min: 0 }));
    case 'rate':
      return attempt(() => parseRate(text, '--require'));
    case 'ratio':
      return digits === '' || unit !== '' ? null : Number(digits);
    case 'latency': {
      const usPerUnit = US_PER_UNIT[unit.toLowerCase()];
      return digits === '' || usPerUnit === undefined ? null : Number(digits) * usPerUnit;
    }
    case 'seconds': {
      const usPerUnit = unit === '' ? US_PER_UNIT.s : US_PER_UNIT[unit.toLowerCase()];
      return digits === '' || usPerUnit === undefined ? null : (Number(digits) * usPerUnit) / 1_000_000;
    }
  }
}

function attempt(parse: () => number): number | null {
  try {
    return parse();
  } catch {
    return null;
  }
}

/**
 * The requirements of a run: one on `held` stands in for the default, any other comes on top of it.
 * @param checksAnswers messages are sent and answered: then no answer may be wrong, unless a requirement says otherwise
 */
export function withDefault(
  requirements: readonly Requirement[],
  checksAnswers = false,
): readonly Requirement[] {
  const defaults = checksAnswers ? [HELD_ALL, ANSWERED_RIGHTLY] : [HELD_ALL];
  const missing = defaults.filter((each) => requirements.every(({ metric }) => metric !== each.metric));
  return [...missing, ...requirements];
}

function compare(value: number, operator: Operator, threshold: number): boolean {
  switch (operator) {
    case '>=':
      return value >= threshold;
    case '<=':
      return value <= threshold;
    case '>':
      return value > threshold;
    case '<':
      return value < threshold;
    case '==':
      return value === threshold;
    case '!=':
      return value !== threshold;
  }
}

/** The threshold in the metric's own unit. A percentage of connections need not be a whole number. */
function thresholdOf(requirement: Requirement, facts: MetricFacts): number {
  const asked = askedOf(requirement.metric, facts) ?? 0;
  // Multiplied first: 99.9 percent of 130,000 is then exactly 129,870.
  return requirement.isPercent
    ? Math.round(requirement.threshold * asked * 1e4) / 1e6
    : requirement.threshold;
}

/** Judges a requirement by the numbers as they are; what was never measured does not hold. */
export function judgeRequirement(requirement: Requirement, facts: MetricFacts): RequirementResult {
  const { metric, operator, text: written, isDefault } = requirement;
  const value = metricValue(metric, facts);
  const kind = metricKind(metric);
  assert(kind !== null, 'a requirement that was parsed has a metric');
  return {
    requirement: written,
    metric,
    isDefault,
    passed: value !== null && compare(value, operator, thresholdOf(requirement, facts)),
    actual:
      value !== null && kind === 'latency'
        ? value / 1_000
        : value === Number.POSITIVE_INFINITY
          ? null
          : value,
    actualText: value === null ? unmeasuredText(metric, facts) : valueText(kind, value, requirement, facts),
  };
}

/** Why there is no value. */
function unmeasuredText(metric: string, { stats, incidents }: MetricFacts): string {
  if (recoveryPart(metric) !== null)
    return incidents === null
      ? 'not known: an agent of an earlier version does not report it'
      : 'no incident: never was 1 % lost within a second';
  const place = narrowedMetric(metric)?.place ?? null;
  const known = place === null ? [] : placesOf(place.kind, stats);
  if (place === null || known.length === 0 || known.includes(place.name)) return 'nothing was measured';
  const shown = known.slice(0, PLACES_SHOWN_MAX).join(', ');
  const more = known.length > PLACES_SHOWN_MAX ? ` and ${known.length - PLACES_SHOWN_MAX} more` : '';
  return `nothing was measured: the ${place.kind}s are ${shown}${more}`;
}

function valueText(kind: MetricKind, value: number, requirement: Requirement, facts: MetricFacts): string {
  switch (kind) {
    case 'connections': {
      const asked = Math.max(1, askedOf(requirement.metric, facts) ?? 1);
      const share = requirement.isPercent ? ` (${Math.floor((value / asked) * 1e5) / 1e3} %)` : '';
      return formatCount(value) + share;
    }
    case 'count':
      return formatCount(value);
    case 'ratio':
      return String(Math.round(value * 1e3) / 1e3);
    case 'latency':
      return formatMs(value / 1_000);
    case 'rate':
      return formatRate(value);
    case 'seconds':
      if (value === Number.POSITIVE_INFINITY) return 'not until the end';
      return `${Math.round(value * 100) / 100} s`;
  }
}

/** Whether a requirement fails whatever happens from now on. */
export function isBroken(requirement: Requirement, facts: MetricFacts): boolean {
  const range = metricRange(requirement.metric, facts);
  if (range === null) return true;
  const { low, high } = range;
  // What a place is asked for is known when the ramp is over.
  const isOfPlace = requirement.isPercent && (narrowedMetric(requirement.metric)?.place ?? null) !== null;
  if (isOfPlace && facts.phase === 'ramping') return false;
  const threshold = thresholdOf(requirement, facts);
  switch (requirement.operator) {
    case '>=':
    case '>':
      return !compare(high, requirement.operator, threshold);
    case '<=':
    case '<':
      return !compare(low, requirement.operator, threshold);
    case '==':
      return threshold < low || threshold > high;
    case '!=':
      return low === high && low === threshold;
  }
}

/**
 * What a metric can become at all, where no run of this size can keep a requirement on it; known before the run begins.
 * @param asked connections that are asked for
 * @param canReopen lost connections are opened again
 * @param isChanging connections are closed and opened while the run goes on
 * @returns null: the requirement can be kept
 */
export function hopelessRange(
  requirement: Requirement,
  asked: number,
  canReopen: boolean,
  isChanging: boolean,
): MetricRange | null {
  const facts: MetricFacts = {
    asked,
    phase: 'ramping',
    stats: emptyStats(),
    held: 0,
    rampSeconds: 0,
    holdSeconds: 0,
    canReopen,
    incidents: [],
    isChanging,
    stages: [],
  };
  return isBroken(requirement, facts) ? metricRange(requirement.metric, facts) : null;
}
