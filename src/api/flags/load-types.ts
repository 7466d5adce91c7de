/**
 * Owns what the texts of the flags of a load mean: how long it is held, its stages, how connections come and go. Must never know which flag a text
 * is of but for its name in a message.
 */
import { ErrorCode, usageError } from '../../base/errors.ts';
import { flagWith, formatDuration, parseCount, parseDurationMs } from '../../base/units.ts';
import { type Churn, RunBound } from '../../run/run-spec.ts';
import type { Stage } from '../../run/schedule.ts';
import type { ValueType } from './flag.ts';
import { duration } from './value-types.ts';

const FOREVER = 'forever';

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
    return {
      durationMs: parseDurationMs(time, origin, { maxMs: RunBound.holdMs }),
      connections: parseCount(number, origin, { min: 0, max: RunBound.connections }),
    };
  },
  write: ({ durationMs, connections }) => `${formatDuration(durationMs)}:${connections}`,
};

const lifeBounds = { minMs: RunBound.lifeMsMin, maxMs: RunBound.holdMs };

/** How long each connection lives: a time, `exp:<mean>` or `uniform:<from>..<to>`. */
export const lifetime: ValueType<Exclude<Churn, { kind: 'rate' }>> = {
  placeholder: 'TIME',
  parse: (text, origin) => {
    const [, kind = 'fixed', times = ''] = /^(?:(exp|uniform):)?(.*)$/i.exec(text.trim()) ?? [];
    if (kind.toLowerCase() !== 'uniform') {
      const ms = parseDurationMs(times, origin, lifeBounds);
      return { kind: kind.toLowerCase() === 'exp' ? 'exp' : 'fixed', ms };
    }
    const [from = '', to = '', ...more] = times.split('..');
    const range = more.length > 0 ? [] : [from, to].map((each) => parseDurationMs(each, origin, lifeBounds));
    const [fromMs = 1, toMs = 0] = range;
    if (fromMs > toMs) {
      throw usageError(
        ErrorCode.badDuration,
        `${origin}: "${times}" is no range of times`,
        `type ${flagWith(origin, 'uniform:10s..2m')}`,
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
