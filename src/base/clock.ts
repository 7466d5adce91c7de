/**
 * Owns time as an argument: the interface that pure code and engines take instead of reading a clock.
 * Must never read a clock itself (host/system-clock.ts does).
 */
export interface Clock {
  /** milliseconds with fraction, never goes back, not affected by clock steps, the same for all processes of one host */
  monotonicMs(): number;
  /** milliseconds since the epoch, for people only */
  wallMs(): number;
}
