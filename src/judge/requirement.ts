/**
 * Owns `--require`: the text `<metric> <op> <value>` as a value, whether it holds, and whether it still can.
 * Must never know where a number comes from (metric.ts).
 */
import assert from 'node:assert/strict';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { formatCount, formatMs, formatRate, parseCount, parseRate } from '../base/units.ts';
import { emptyStats } from '../stats/stats.ts';
import {
  METRICS,
  type MetricFacts,
  type MetricKind,
  type MetricRange,
  metricRange,
  metricValue,
} from './metric.ts';

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

function bad(text: string, what: string, hint: string): BenchError {
  return usageError(ErrorCode.badRequirement, `--require "${text}": ${what}`, hint);
}

const EXAMPLES: Readonly<Record<MetricKind, readonly [example: string, words: string]>> = {
  connections: ['129900, 129.9k or 99.9%', 'a number of connections, or a percentage of those asked for'],
  count: ['100 or 1k', 'a number'],
  latency: ['250ms, 1.5s or 800us', 'a time with its unit'],
  rate: ['5000/s or 5k/s', 'connections per second'],
  seconds: ['60 or 60s', 'seconds'],
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
  const match = /^\s*([A-Za-z][A-Za-z0-9_.-]*)(%?)\s*(>=|<=|==|!=|=>|=<|=|>|<)\s*([^<>=!\s].*?)\s*$/.exec(
    text,
  );
  if (match === null) {
    throw bad(text, 'a requirement is a metric, a comparison and a value', "type --require 'held>=99.9%'");
  }
  const [, typed = '', percent = '', sign = '', value = ''] = match;
  const metric = typed.toLowerCase().replaceAll('-', '_');
  const kind = METRICS[metric];
  if (kind === undefined) {
    const near = nearest(metric, Object.keys(METRICS));
    throw bad(
      text,
      `there is no metric "${typed}"`,
      near === null
        ? `the metrics are ${Object.keys(METRICS).join(', ')}`
        : `did you mean --require '${near}${percent}${sign}${value}'?`,
    );
  }
  const operator = OPERATORS.find((one) => one === sign);
  if (operator === undefined) {
    const meant = { '=>': '>=', '=<': '<=', '=': '==' }[sign] ?? '>=';
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

/** The requirements of a run: one on `held` stands in for the default, any other comes on top of it. */
export function withDefault(requirements: readonly Requirement[]): readonly Requirement[] {
  return requirements.some(({ metric }) => metric === 'held') ? requirements : [HELD_ALL, ...requirements];
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
function thresholdOf(requirement: Requirement, asked: number): number {
  // Multiplied first: 99.9 percent of 130,000 is then exactly 129,870.
  return requirement.isPercent
    ? Math.round(requirement.threshold * asked * 1e4) / 1e6
    : requirement.threshold;
}

/** Judges a requirement by the numbers as they are; what was never measured does not hold. */
export function judgeRequirement(requirement: Requirement, facts: MetricFacts): RequirementResult {
  const { metric, operator, text: written, isDefault } = requirement;
  const value = metricValue(metric, facts);
  const kind = METRICS[metric];
  assert(kind !== undefined, 'a requirement that was parsed has a metric');
  return {
    requirement: written,
    metric,
    isDefault,
    passed: value !== null && compare(value, operator, thresholdOf(requirement, facts.asked)),
    actual: value !== null && kind === 'latency' ? value / 1_000 : value,
    actualText: valueText(kind, value, requirement, facts.asked),
  };
}

function valueText(kind: MetricKind, value: number | null, requirement: Requirement, asked: number): string {
  if (value === null) return 'nothing was measured';
  switch (kind) {
    case 'connections': {
      const share = requirement.isPercent ? ` (${Math.floor((value / asked) * 1e5) / 1e3} %)` : '';
      return formatCount(value) + share;
    }
    case 'count':
      return formatCount(value);
    case 'latency':
      return formatMs(value / 1_000);
    case 'rate':
      return formatRate(value);
    case 'seconds':
      return `${Math.round(value * 100) / 100} s`;
  }
}

/** Whether a requirement fails whatever happens from now on. */
export function isBroken(requirement: Requirement, facts: MetricFacts): boolean {
  const range = metricRange(requirement.metric, facts);
  if (range === null) return true;
  const { low, high } = range;
  const threshold = thresholdOf(requirement, facts.asked);
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
 * @returns null: the requirement can be kept
 */
export function hopelessRange(
  requirement: Requirement,
  asked: number,
  canReopen: boolean,
): MetricRange | null {
  const facts: MetricFacts = {
    asked,
    phase: 'ramping',
    stats: emptyStats(),
    held: 0,
    rampSeconds: 0,
    holdSeconds: 0,
    canReopen,
  };
  return isBroken(requirement, facts) ? metricRange(requirement.metric, facts) : null;
}
