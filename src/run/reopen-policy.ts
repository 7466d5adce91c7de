/**
 * Owns when a lost connection is opened again: how long it waits before each try, and how much of that is left to chance.
 * Must never keep a timer or draw a number: chance is an argument.
 */

/** How a lost connection comes back. Times in milliseconds. */
export interface ReopenPolicy {
  /** `immediate`: no wait before the first try; `fixed`: the same before each; `backoff`: twice as long after each that fails */
  readonly kind: 'immediate' | 'fixed' | 'backoff';
  /** before the first try; 0 with `immediate` */
  readonly firstMs: number;
  /** before any try, at most; the same as `firstMs` with `fixed` */
  readonly mostMs: number;
  /** the part of each wait that is left to chance, 0 to 1: with 1 it is anything from nothing to all of it */
  readonly jitter: number;
}

/** The longest wait that is taken. */
export const REOPEN_WAIT_MS_MAX = 24 * 3_600_000;

/** Nothing was asked for. */
export const IMMEDIATE: ReopenPolicy = { kind: 'immediate', firstMs: 0, mostMs: 0, jitter: 0 };

/** With `immediate`, a try that failed is repeated after so long. */
const AGAIN_MS = 1_000;
/** Above it a wait grows no more, whatever it began with. */
export const TRIES_MAX = 48;

/**
 * How long to wait before a try.
 * @param tries that have failed since the connection was lost, 0 to `TRIES_MAX`
 * @param chance 0 up to, not including, 1
 * @returns milliseconds, at least 0
 */
export function reopenWaitMs(
  { kind, firstMs, mostMs, jitter }: ReopenPolicy,
  tries: number,
  chance: number,
): number {
  const whole =
    kind === 'immediate'
      ? tries === 0
        ? 0
        : AGAIN_MS
      : kind === 'fixed'
        ? firstMs
        : Math.min(mostMs, firstMs * 2 ** tries);
  return whole * (1 - jitter * chance);
}
