/**
 * Owns what the texts of flags mean that say when a lost connection comes back. Must never know whether one does.
 */
import { ErrorCode, usageError } from '../../base/errors.ts';
import { flagWith, formatDuration, parseDurationMs } from '../../base/units.ts';
import { IMMEDIATE, REOPEN_WAIT_MS_MAX, type ReopenPolicy } from '../../run/reopen-policy.ts';
import type { ValueType } from './flag.ts';
import { partOf } from './load-types.ts';

type Wait = Omit<ReopenPolicy, 'jitter'>;

/** A wait of nothing is `immediate`. */
const WAIT_MS_MIN = 1;
/** Samples for hints. */
const FIXED = 'fixed:1s';
const BACKOFF = 'backoff:1s..60s';

/** `immediate`, `fixed:1s` or `backoff:1s..60s`. */
export const reopenAfter: ValueType<Wait> = {
  placeholder: 'WHEN',
  parse: (text, origin) => {
    const given = text.trim();
    if (given === 'immediate') return IMMEDIATE;
    const waitMs = (part: string, whole: string): number =>
      partOf(
        () => parseDurationMs(part, origin, { minMs: WAIT_MS_MIN, maxMs: REOPEN_WAIT_MS_MAX }),
        origin,
        whole,
      );
    const [, fixed] = /^fixed:(.+)$/.exec(given) ?? [];
    if (fixed !== undefined) {
      const firstMs = waitMs(fixed, FIXED);
      return { kind: 'fixed', firstMs, mostMs: firstMs };
    }
    const [, first, most] = /^backoff:(.+?)\.\.(.+)$/.exec(given) ?? [];
    const hint = `type ${['immediate', FIXED, BACKOFF].map((one) => flagWith(origin, one)).join(' or ')}`;
    if (first === undefined || most === undefined)
      throw usageError(ErrorCode.usage, `${origin}: "${text}" is not known`, hint);
    const [firstMs, mostMs] = [waitMs(first, BACKOFF), waitMs(most, BACKOFF)];
    if (firstMs <= mostMs) return { kind: 'backoff', firstMs, mostMs };
    const turned = `backoff:${formatDuration(mostMs)}..${formatDuration(firstMs)}`;
    throw usageError(
      ErrorCode.badDuration,
      `${origin}: the first wait of ${given} is longer than the longest`,
      `type ${flagWith(origin, turned)}`,
    );
  },
  write: ({ kind, firstMs, mostMs }) => {
    if (kind === 'immediate') return kind;
    const first = `${kind}:${formatDuration(firstMs)}`;
    return kind === 'fixed' ? first : `${first}..${formatDuration(mostMs)}`;
  },
};

/** `0%` to `100%`, as a part of one. */
export const jitter: ValueType<number> = {
  placeholder: 'PERCENT',
  parse: (text, origin) => {
    const [, digits] = /^(\d{1,3}(?:\.\d{1,3})?)\s*%?$/.exec(text.trim()) ?? [];
    if (digits !== undefined && Number(digits) <= 100) return Number(digits) / 100;
    throw usageError(
      ErrorCode.badNumber,
      `${origin} is a percentage from 0% to 100%, not "${text}"`,
      `type ${flagWith(origin, '50%')}`,
    );
  },
  write: (part) => `${Math.round(part * 1e5) / 1e3}%`,
};
