/**
 * Owns what the texts of the flags of a load mean: how long it is held, its stages, how connections come and go. Must never know which flag a text
 * is of but for its name in a message.
 */
import { BenchError, ErrorCode, usageError } from '../../base/errors.ts';
import { flagWith, formatDuration, parseCount, parseDurationMs } from '../../base/units.ts';
import { type Churn, RunBound } from '../../run/run-spec.ts';
import type { Stage } from '../../run/schedule.ts';
import type { ValueType } from './flag.ts';
import { duration } from './value-types.ts';

const FOREVER = 'forever';

/**
 * Reads a part of a value: what is wrong with it is said with the whole that can be typed instead.
 * @param whole a value of the flag
 * @throws BenchError what `read` throws, with that hint
 */
export function partOf<T>(read: () => T, origin: string, whole: string): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    throw usageError(error.code, error.message, `type ${flagWith(origin, whole)}`);
  }
}

/** How long to hold: whole milliseconds, or 0 for a hold that only a signal ends. */
export const holdTime: ValueType<number> = {
  ...duration(0, RunBound.holdMs),
  parse: (text, origin) =>
    text.trim().toLowerCase() === FOREVER ? 0 : parseDurationMs(text, origin, { maxMs: RunBound.holdMs }),
  write: (ms) => (ms === 0 ? FOREVER : formatDuration(ms)),
};

/** `<time>:<count>`: that many connections are reached within that time. */
export const stage: ValueType<Stage> = {
  placeholder: 'TIME:COUNT',
  parse: (text, origin) => {
    const [time = '', number = '', ...more] = text.trim().split(':');
    if (time === '' || number === '' || more.length > 0) {
      throw usageError(
        ErrorCode.usage,
        `${origin} needs a time and a number, not "${text}"`,
        `type ${flagWith(origin, '2m:130k')}: 130,000 connections are reached within 2 minutes`,
      );
    }
    const read = (): Stage => ({
      durationMs: parseDurationMs(time, origin, { maxMs: RunBound.holdMs }),
      connections: parseCount(number, origin, { min: 0, max: RunBound.connections }),
    });
    return partOf(read, origin, '2m:130k');
  },
  write: ({ durationMs, connections }) => `${formatDuration(durationMs)}:${connections}`,
};

const UNIFORM = 'uniform:10s..2m';
const lifeBounds = { minMs: RunBound.lifeMsMin, maxMs: RunBound.holdMs };

/** How long each connection lives: a time, `exp:<mean>` or `uniform:<from>..<to>`. */
export const lifetime: ValueType<Exclude<Churn, { kind: 'rate' }>> = {
  placeholder: 'TIME',
  parse: (text, origin) => {
    const [, kind = 'fixed', times = ''] = /^(?:(exp|uniform):)?(.*)$/i.exec(text.trim()) ?? [];
    if (kind.toLowerCase() !== 'uniform') {
      const isExp = kind.toLowerCase() === 'exp';
      const ms = partOf(() => parseDurationMs(times, origin, lifeBounds), origin, isExp ? 'exp:60s' : '30s');
      return { kind: isExp ? 'exp' : 'fixed', ms };
    }
    const [from = '', to = '', ...more] = times.split('..');
    const readRange = (): number[] => [from, to].map((each) => parseDurationMs(each, origin, lifeBounds));
    const range = more.length > 0 ? [] : partOf(readRange, origin, UNIFORM);
    const [fromMs = 1, toMs = 0] = range;
    if (fromMs > toMs) {
      throw usageError(
        ErrorCode.badDuration,
        `${origin}: "${times}" is no range of times`,
        `type ${flagWith(origin, UNIFORM)}`,
      );
    }
    return { kind: 'uniform', fromMs, toMs };
  },
  write: (life) => {
    if (life.kind === 'uniform')
      return `uniform:${formatDuration(life.fromMs)}..${formatDuration(life.toMs)}`;
    return `${life.kind === 'exp' ? 'exp:' : ''}${formatDuration(life.ms)}`;
  },
};
