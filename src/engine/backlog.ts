/**
 * Owns how many connections of the quota are still to be opened, how many of them stand in for lost ones, and how many
 * of them the pace lets through by now. Must never open one, count one in the books, or read a clock.
 *
 * Those that stand in for lost ones (`--on-drop reopen`) come after all others. All times are milliseconds since the
 * engine's start.
 */
import { connectsAllowed, intendedAtMs } from './pacer.ts';

/** A connection that could not be opened again is tried once more after so long. */
const REOPEN_AGAIN_MS = 1_000;

/** The backlog of one engine. No method allocates. */
export class Backlog {
  readonly #ratePerSec: number | null;
  #size: number;
  /** connects that the pacer has let through */
  #paced = 0;
  /** of `#size`, those that stand in for lost ones */
  #reopenings = 0;
  /** further ones, which wait until `#againAtMs` */
  #waiting = 0;
  #againAtMs = 0;

  /** @param ratePerSec at least 0; null: no limit */
  constructor(connections: number, ratePerSec: number | null) {
    this.#size = connections;
    this.#ratePerSec = ratePerSec;
  }

  /** Connections that were not begun; without those that wait for another try. */
  get size(): number {
    return this.#size;
  }

  /** Connects that the pacer has let through. */
  get paced(): number {
    return this.#paced;
  }

  /** How many connects the pacer lets through until now; Infinity without a rate. */
  allowed(nowMs: number): number {
    return connectsAllowed(nowMs, this.#ratePerSec);
  }

  /** When the next connect should be called, never after `calledAtMs`, at which it is. */
  intendedAtMs(calledAtMs: number): number {
    return intendedAtMs(this.#paced, this.#ratePerSec, calledAtMs);
  }

  /** When the pacer lets the next connect through; Infinity: never. */
  get nextAtMs(): number {
    const rate = this.#ratePerSec;
    if (rate === 0) return Number.POSITIVE_INFINITY;
    return rate === null ? 0 : (this.#paced * 1_000) / rate;
  }

  /** One connection is begun. @returns whether it stands in for a lost one */
  take(): boolean {
    const isReopening = this.#reopenings === this.#size;
    if (isReopening) this.#reopenings--;
    this.#size--;
    this.#paced++;
    return isReopening;
  }

  /**
   * `count` connections cannot be opened, those first that stand in for none.
   * @returns how many of them stood in for lost ones: `tryAgain` takes those
   */
  drop(count: number): number {
    this.#size -= count;
    this.#paced += count;
    const reopenings = Math.max(0, this.#reopenings - this.#size);
    this.#reopenings -= reopenings;
    return reopenings;
  }

  /** Drops everything. @returns connections of the quota that were never begun, stand-ins not counted */
  clear(): number {
    const unattempted = this.#size - this.#reopenings;
    this.#size = 0;
    this.#reopenings = 0;
    this.#waiting = 0;
    return unattempted;
  }

  /** A loss is made good at the run's rate; what the pacer has saved up since the ramp is not spent on it. */
  reopen(nowMs: number): void {
    if (this.#size === 0) {
      const allowed = this.allowed(nowMs);
      if (Number.isFinite(allowed)) this.#paced = Math.max(this.#paced, allowed - 1);
    }
    this.#size++;
    this.#reopenings++;
  }

  /** `count` connections could not be opened again: they wait. */
  tryAgain(count: number, nowMs: number): void {
    if (this.#waiting === 0) this.#againAtMs = nowMs + REOPEN_AGAIN_MS;
    this.#waiting += count;
  }

  /** When those that wait are tried again; Infinity: none waits. */
  get againAtMs(): number {
    return this.#waiting > 0 ? this.#againAtMs : Number.POSITIVE_INFINITY;
  }

  /** Those that have waited long enough are due again. */
  retryDue(nowMs: number): void {
    if (nowMs < this.#againAtMs) return;
    for (; this.#waiting > 0; this.#waiting--) this.reopen(nowMs);
  }
}
