/**
 * Owns when each open connection is probed next. Must never send a probe or judge an answer.
 *
 * The moment that a probe is meant for stands in the table (`intendedAtMs`), so that its latency counts from there.
 */
import { FIRST_PROBE_WITHIN_MS } from '../run/run-spec.ts';
import type { ConnectionTable } from './connection-table.ts';
import type { TimerWheel } from './timer-wheel.ts';

/** The probes of one engine. No method allocates. */
export class ProbeSchedule {
  readonly everyMs: number;
  readonly #table: ConnectionTable;
  readonly #wheel: TimerWheel;

  /** @param everyMs between two probes of one connection; 0: none is ever due, and no method below may be called */
  constructor(everyMs: number, table: ConnectionTable, wheel: TimerWheel) {
    this.everyMs = everyMs;
    this.#table = table;
    this.#wheel = wheel;
  }

  /**
   * The first probe comes within FIRST_PROBE_WITHIN_MS, then one each period at the slot's own phase, so that all
   * slots together probe evenly: slots are as evenly spread over the period as they are over the table.
   * @param nowMs since the engine's start
   */
  first(slot: number, nowMs: number): void {
    const spreadMs = Math.min(this.everyMs, FIRST_PROBE_WITHIN_MS);
    // Multiples of the golden ratio spread any run of neighbouring slots evenly (equidistribution).
    const share = (slot * 0.618_033_988_749_894_9) % 1;
    this.#set(slot, nowMs + share * spreadMs);
  }

  /** The probe after the one that was just answered. @param nowMs since the engine's start */
  next(slot: number, nowMs: number): void {
    const { everyMs } = this;
    const phaseMs = (slot / this.#table.capacity) * everyMs;
    const lastMs = this.#table.intendedAtMs[slot]!;
    let dueMs = Math.floor((lastMs - phaseMs) / everyMs + 1) * everyMs + phaseMs;
    // An answer that took longer than a period has skipped probes; they are not sent in a burst afterwards.
    if (dueMs < nowMs - everyMs) {
      dueMs += Math.ceil((nowMs - everyMs - dueMs) / everyMs) * everyMs;
    }
    this.#set(slot, dueMs);
  }

  #set(slot: number, dueMs: number): void {
    const tick = Math.ceil(dueMs);
    this.#table.intendedAtMs[slot] = tick;
    this.#wheel.set(slot, tick);
  }
}
