/**
 * Owns the order in which open connections were opened, as links between their slots. Must never know why one leaves, or touch a socket.
 */
const NONE = -1;

/** Slots in the order of their opening. No method allocates. */
export class OpenOrder {
  readonly #older: Int32Array;
  readonly #newer: Int32Array;
  readonly #isIn: Uint8Array;
  #oldest = NONE;
  #newest = NONE;

  /** @param capacity slots, at least 1 */
  constructor(capacity: number) {
    this.#older = new Int32Array(capacity).fill(NONE);
    this.#newer = new Int32Array(capacity).fill(NONE);
    this.#isIn = new Uint8Array(capacity);
  }

  /** The slot that was opened first; -1: none is open. */
  get oldest(): number {
    return this.#oldest;
  }

  /** The slot that was opened last; -1: none is open. */
  get newest(): number {
    return this.#newest;
  }

  /** The one that was opened next after a slot that is open; -1: none. */
  newerThan(slot: number): number {
    return this.#newer[slot]!;
  }

  /** A slot that is in no order yet has become open. */
  add(slot: number): void {
    this.#isIn[slot] = 1;
    this.#older[slot] = this.#newest;
    this.#newer[slot] = NONE;
    if (this.#newest === NONE) this.#oldest = slot;
    else this.#newer[this.#newest] = slot;
    this.#newest = slot;
  }

  /** A slot is not open any more; one that was not in the order stays out of it. */
  remove(slot: number): void {
    if (this.#isIn[slot] === 0) return;
    this.#isIn[slot] = 0;
    const older = this.#older[slot]!;
    const newer = this.#newer[slot]!;
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
  }
}
