/**
 * Owns numbers as people write them: counts, rates and durations from text, all of them (and bytes) back to text, and how a
 * flag and its value are written so that they can be typed (`--conns 130k`, `C100K_CONNS=130k`). Must never hold a default
 * value of a flag, or know which flags there are (api/).
 */
import { ErrorCode, usageError } from './errors.ts';

const MS_PER_SECOND = 1_000;
const MS_PER_MINUTE = 60_000;
const MS_PER_HOUR = 3_600_000;
const MS_PER_DAY = 86_400_000;

/** The longest duration that `parseDurationMs` accepts unless a caller says otherwise: 365 days. */
export const DURATION_MS_MAX = 365 * MS_PER_DAY;
/** The highest rate that `parseRate` accepts, per second. */
export const RATE_PER_SEC_MAX = 1_000_000_000;
/** Below this, `formatDuration` writes seconds alone: `90s` reads better than `1m30s`. */
const SECONDS_ALONE_BELOW_MS = 2 * MS_PER_MINUTE;

/** Bounds of a count, both included. */
interface CountBounds {
  /** default 1 */
  readonly min?: number;
  /** default `Number.MAX_SAFE_INTEGER` */
  readonly max?: number;
}

/** Bounds of a duration in milliseconds, both included. */
interface DurationBounds {
  /** default 0 */
  readonly minMs?: number;
  /** default `DURATION_MS_MAX` */
  readonly maxMs?: number;
}

const COUNT_PATTERN = /^(\d+(?:_\d+)*)(?:\.(\d+))?([km]?)$/i;
const EXPONENT_OF_SUFFIX: Readonly<Record<string, number>> = { '': 0, k: 3, m: 6 };

/**
 * Digits, fraction and suffix to a whole number, in text so that `1.1m` is exactly 1,100,000.
 * Returns null when the text is no count or the product is not a safe integer.
 */
function wholeNumberOf(text: string): number | null {
  const match = COUNT_PATTERN.exec(text);
  if (match === null) return null;
  const digits = (match[1] ?? '').replaceAll('_', '');
  const fraction = (match[2] ?? '').replace(/0+$/, '');
  const exponent = EXPONENT_OF_SUFFIX[(match[3] ?? '').toLowerCase()] ?? 0;
  if (fraction.length > exponent) return null;
  const value = Number(digits + fraction.padEnd(exponent, '0'));
  return Number.isSafeInteger(value) ? value : null;
}

/**
 * What the user most likely meant. Only what cannot change the number is taken away (a sign, separators, a word after
 * the number): from `1e5` without its letter 15 would be left.
 */
function meantCount(text: string): string | null {
  const trimmed = text.trim();
  if (/^\+?\d+(?:\.\d+)?e\+?\d{1,2}$/i.test(trimmed)) {
    const value = Number(trimmed);
    return Number.isSafeInteger(value) ? String(value) : null;
  }
  const parts = /^[+-]?(\d{1,3}(?:[,' ]\d{3})+|[\d_]+(?:\.\d+)?)([km]?)(?:[^\w.,]\D*)?$/i.exec(trimmed);
  if (parts === null) return null;
  return `${(parts[1] ?? '').replaceAll(/[,' ]/g, '_')}${parts[2] ?? ''}`;
}

function countHint(text: string, flag: string, min: number, max: number): string {
  const meant = meantCount(text);
  const value = meant === null ? null : wholeNumberOf(meant);
  if (meant !== null && value !== null && value >= min && value <= max)
    return `type ${flagWith(flag, meant)}`;
  const examples = ['130k', '1m', '130_000'].filter((example) => {
    const count = wholeNumberOf(example) ?? 0;
    return count >= min && count <= max;
  });
  const shown = examples.length > 0 ? examples : [String(value !== null && value > max ? max : min)];
  return `type a whole number, such as ${shown.map((one) => flagWith(flag, one)).join(' or ')}`;
}

/**
 * Reads a count: `130000`, `130_000`, `130k` (thousand), `1m` (million), `1.5k`.
 * @param text as typed
 * @param flag the flag that it belongs to, with its dashes, for the message
 * @param bounds both included
 * @returns a safe integer within the bounds
 * @throws BenchError `bad-number`, exit code 2
 */
export function parseCount(text: string, flag: string, bounds: CountBounds = {}): number {
  const min = bounds.min ?? 1;
  const max = bounds.max ?? Number.MAX_SAFE_INTEGER;
  const value = wholeNumberOf(text.trim());
  const hint = (): string => countHint(text, flag, min, max);
  if (value === null) {
    throw usageError(ErrorCode.badNumber, `${flag} needs a whole number, not "${text}"`, hint());
  }
  if (value < min) {
    throw usageError(
      ErrorCode.badNumber,
      `${flag} must be at least ${formatCount(min)}, not ${text}`,
      hint(),
    );
  }
  if (value > max) {
    throw usageError(ErrorCode.badNumber, `${flag} must be at most ${formatCount(max)}, not ${text}`, hint());
  }
  return value;
}

const RATE_PATTERN = /^(\d+(?:_\d+)*(?:\.\d+)?)([km]?)(?:\/([smh]))?$/i;
const SECONDS_OF_UNIT: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600 };

/**
 * Reads a rate: `5000` and `5k/s` per second, `300/m` per minute, `10/h` per hour. Before the slash `k` is a
 * thousand and `m` a million; after it `m` is a minute.
 * @param text as typed
 * @param flag the flag that it belongs to, with its dashes
 * @returns a number per second, above 0, at most `RATE_PER_SEC_MAX`, with fraction
 * @throws BenchError `bad-rate`, exit code 2
 */
export function parseRate(text: string, flag: string): number {
  const match = RATE_PATTERN.exec(text.trim());
  if (match === null) {
    throw usageError(
      ErrorCode.badRate,
      `${flag} needs a rate, not "${text}"`,
      `type ${flagWith(flag, '5k/s')} or ${flagWith(flag, '300/m')} (per second s, minute m, hour h)`,
    );
  }
  const number = Number((match[1] ?? '').replaceAll('_', ''));
  const factor = 10 ** (EXPONENT_OF_SUFFIX[(match[2] ?? '').toLowerCase()] ?? 0);
  const perSec = (number * factor) / (SECONDS_OF_UNIT[(match[3] ?? 's').toLowerCase()] ?? 1);
  if (!(perSec > 0)) {
    throw usageError(
      ErrorCode.badRate,
      `${flag} must be above 0, not ${text}`,
      `${flagAway(flag)} to open as fast as the target accepts, or type ${flagWith(flag, '5k/s')}`,
    );
  }
  if (perSec > RATE_PER_SEC_MAX) {
    throw usageError(
      ErrorCode.badRate,
      `${flag} must be at most ${formatRate(RATE_PER_SEC_MAX)}, not ${text}`,
      `${flagAway(flag)} to open as fast as the target accepts`,
    );
  }
  return perSec;
}

const MS_OF_UNIT: Readonly<Record<string, number>> = {
  d: MS_PER_DAY,
  h: MS_PER_HOUR,
  m: MS_PER_MINUTE,
  s: MS_PER_SECOND,
  ms: 1,
};
const NUMBER = String.raw`(\d+(?:_\d+)*(?:\.\d+)?)`;
const DURATION_PATTERN = new RegExp(
  `^(?:${NUMBER}d)?(?:${NUMBER}h)?(?:${NUMBER}m)?(?:${NUMBER}s)?(?:${NUMBER}ms)?$`,
  'i',
);
const DURATION_UNITS = ['d', 'h', 'm', 's', 'ms'] as const;
const PLAIN_SECONDS_PATTERN = new RegExp(`^${NUMBER}$`);

/** Milliseconds with fraction, or null when the text is no duration. */
function durationMsOf(text: string): number | null {
  const plain = PLAIN_SECONDS_PATTERN.exec(text);
  if (plain !== null) return Number((plain[1] ?? '').replaceAll('_', '')) * MS_PER_SECOND;
  const match = text === '' ? null : DURATION_PATTERN.exec(text);
  if (match === null) return null;
  let totalMs = 0;
  for (const [index, unit] of DURATION_UNITS.entries()) {
    const part = match[index + 1];
    if (part !== undefined) totalMs += Number(part.replaceAll('_', '')) * (MS_OF_UNIT[unit] ?? 0);
  }
  return totalMs;
}

/**
 * Reads a duration: `90s`, `1h30m`, `500ms`, `2d`, `1.5s`; a plain number is seconds; `m` is minutes.
 * @param text as typed
 * @param flag the flag that it belongs to, with its dashes
 * @param bounds both included
 * @returns whole milliseconds within the bounds
 * @throws BenchError `bad-duration`, exit code 2
 */
export function parseDurationMs(text: string, flag: string, bounds: DurationBounds = {}): number {
  const minMs = bounds.minMs ?? 0;
  const maxMs = bounds.maxMs ?? DURATION_MS_MAX;
  const exactMs = durationMsOf(text.trim());
  const roundedMs = exactMs === null ? 0 : Math.round(exactMs);
  if (exactMs === null || Math.abs(exactMs - roundedMs) > 1e-3) {
    const what = exactMs === null ? `needs a duration, not "${text}"` : `is exact to 1ms, not ${text}`;
    throw usageError(
      ErrorCode.badDuration,
      `${flag} ${what}`,
      `type ${['90s', '1h30m', '500ms'].map((one) => flagWith(flag, one)).join(' or ')} (a plain number is seconds)`,
    );
  }
  if (roundedMs < minMs) {
    const least = formatDuration(minMs);
    throw usageError(
      ErrorCode.badDuration,
      `${flag} must be at least ${least}, not ${text}`,
      `type ${flagWith(flag, least)}`,
    );
  }
  if (roundedMs > maxMs) {
    const most = formatDuration(maxMs);
    throw usageError(
      ErrorCode.badDuration,
      `${flag} must be at most ${most}, not ${text}`,
      `type ${flagWith(flag, most)}`,
    );
  }
  return roundedMs;
}

/**
 * A count with commas: 130000 is `130,000`. A fraction is rounded.
 * @param count any finite number
 */
export function formatCount(count: number): string {
  const rounded = Math.round(count);
  const digits = String(Math.abs(rounded)).replace(/\B(?=(\d{3})+$)/g, ',');
  return rounded < 0 ? `-${digits}` : digits;
}

/**
 * A count with what it counts: `1 port`, `1,234 ports`.
 * @param many what more than one, or none, are called; absent: `one` with an s
 */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** A number with at most `places` decimals and no zeros at the end. */
function trimmed(value: number, places: number): string {
  const text = value.toFixed(places);
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/**
 * A duration that `parseDurationMs` reads back exactly: `500ms`, `60s`, `90s`, `2m30s`, `1h30m`, `2d`, `0s`.
 * @param ms milliseconds, at least 0; a fraction is rounded
 */
export function formatDuration(ms: number): string {
  let leftMs = Math.max(0, Math.round(ms));
  if (leftMs > 0 && leftMs < MS_PER_SECOND) return `${leftMs}ms`;
  if (leftMs < SECONDS_ALONE_BELOW_MS) return `${trimmed(leftMs / MS_PER_SECOND, 3)}s`;
  let text = '';
  for (const [unit, unitMs] of [
    ['d', MS_PER_DAY],
    ['h', MS_PER_HOUR],
    ['m', MS_PER_MINUTE],
  ] as const) {
    const count = Math.floor(leftMs / unitMs);
    if (count > 0) text += `${count}${unit}`;
    leftMs -= count * unitMs;
  }
  return leftMs > 0 ? `${text}${trimmed(leftMs / MS_PER_SECOND, 3)}s` : text;
}

/**
 * A rate: `5,000/s`; below 100 with up to two decimals: `0.5/s`.
 * @param ratePerSec at least 0; null is `no limit`
 */
export function formatRate(ratePerSec: number | null): string {
  if (ratePerSec === null) return 'no limit';
  return ratePerSec < 100 ? `${trimmed(ratePerSec, 2)}/s` : `${formatCount(ratePerSec)}/s`;
}

/**
 * Bytes with a binary unit: `512 B`, `1.5 KiB`, `52 MiB`.
 * @param bytes at least 0
 */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;
  let value = bytes;
  let index = 0;
  while (value >= 1023.95 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${trimmed(value, index === 0 ? 0 : 1)} ${units[index]}`;
}

/**
 * A latency in milliseconds with about three digits: `0.042 ms`, `12.3 ms`, `1,204 ms`.
 * @param ms at least 0; null (nothing was measured) is `-`
 */
export function formatMs(ms: number | null): string {
  if (ms === null) return '-';
  if (ms >= 99.95) return `${formatCount(ms)} ms`;
  return `${trimmed(ms, ms >= 9.995 ? 1 : ms >= 0.9995 ? 2 : 3)} ms`;
}

/** How a value of a run file was given: its place, then its name. */
const IN_FILE = /:\d+:\d+: ([a-z][a-z0-9-]*)$/;

/**
 * A flag with its value, as a hint says it.
 * @param flag how the value was given: `--conns`, the environment variable `C100K_CONNS`, or `soak.yaml:3:8: conns`
 * @param value what to type
 */
export function flagWith(flag: string, value: string): string {
  const name = IN_FILE.exec(flag)?.[1];
  if (name !== undefined) return `${name}: ${value}`;
  return flag.startsWith('-') ? `${flag} ${value}` : `${flag}=${value}`;
}

/**
 * How to go without a flag.
 * @param flag how the value was given: `--rate`, the environment variable `C100K_RATE`, or `soak.yaml:3:8: rate`
 */
export function flagAway(flag: string): string {
  const name = IN_FILE.exec(flag)?.[1];
  if (name !== undefined) return `leave ${name} out`;
  return flag.startsWith('-') ? `leave ${flag} out` : `unset ${flag}`;
}
