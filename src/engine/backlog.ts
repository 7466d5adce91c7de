/**
 * Owns how many connections are still to be begun: of the quota, and those that stand in for lost ones, with the time that
 * the latter wait after a failure. Must never begin one, or read a clock.
 */

/** A connection that could not be opened again is tried once more after so long. */
const REOPEN_AGAIN_MS = 1_000;

/** The backlog of one engine. No method allocates. */
export class Backlog {
  #size: number;
  /** of `#size`, those that stand in for lost ones */
  #reopenings = 0;
  /** further ones, which wait until `#againAtMs` */
  #waiting = 0;
  #againAtMs = 0;

  constructor(connections: number) {
    this.#size = connections;
  }

  /** Connections that were not begun; without those that wait for another try. */
  get size(): number {
    return this.#size;
  }

  /** Whether some of the quota were never begun. */
  get hasNew(): boolean {
    return this.#size > this.#reopenings;
  }

  /** One connection is begun. @returns whether it stands in for a lost one */
  take(): boolean {
    const isReopening = this.#reopenings === this.#size;
    if (isReopening) this.#reopenings--;
    this.#size--;
    return isReopening;
  }

  /** What `take` has returned last is not begun after all. */
  putBack(isReopening: boolean): void {
    this.#size++;
    if (isReopening) this.#reopenings++;
  }

  /**
   * `count` connections cannot be opened, those first that stand in for none.
   * @returns how many of them stood in for lost ones: `tryAgain` takes those
   */
  drop(count: number): number {
    this.#size -= count;
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

  /** Another connection is to stand in for one that was lost. */
  reopen(): void {
    this.#size++;
    this.#reopenings++;
  }

  /** `count` connections could not be opened again: they wait. */
  tryAgain(count: number, nowMs: number): void {
    if (this.#waiting === 0) this.#againAtMs = nowMs + REOPEN_AGAIN_MS;
    this.#waiting += count;
  }

  get hasWaiting(): boolean {
    return this.#waiting > 0;
  }

  /** When those that wait are tried again; Infinity: none waits. */
  get againAtMs(): number {
    return this.#waiting > 0 ? this.#againAtMs : Number.POSITIVE_INFINITY;
  }

  /** Those that have waited long enough are due again. */
  retryDue(nowMs: number): void {
    if (nowMs < this.#againAtMs) return;
    this.#size += this.#waiting;
    this.#reopenings += this.#waiting;
    this.#waiting = 0;
  }
}
