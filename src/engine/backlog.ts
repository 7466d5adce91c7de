/**
 * Owns how many connections are due to be begun: of the quota, and those that stand in for lost ones, with how often each of
 * the latter was tried. Must never begin one, or read a clock: what still waits is not here (opener.ts).
 */
import assert from 'node:assert/strict';
import { TRIES_MAX } from '../run/reopen-policy.ts';

/** What `take` says of one that stands in for none. */
const NEW = -1;

/** The backlog of one engine. No method allocates. */
export class Backlog {
  #new: number;
  /** those that stand in for lost ones, by how many tries of theirs have failed */
  readonly #again = new Float64Array(TRIES_MAX + 1);
  #reopenings = 0;

  constructor(connections: number) {
    this.#new = connections;
  }

  /** Connections that are due. */
  get size(): number {
    return this.#new + this.#reopenings;
  }

  /** Whether some of the quota were never begun. */
  get hasNew(): boolean {
    return this.#new > 0;
  }

  /** Of those that are due, those that stand in for no lost one. */
  get fresh(): number {
    return this.#new;
  }

  /** So many more connections are asked for. */
  grow(count: number): void {
    this.#new += count;
  }

  /**
   * One connection is begun, those first that stand in for none, then those that were tried most often.
   * @returns how many tries of it have failed; -1: it stands in for no other
   */
  take(): number {
    if (this.#new > 0) {
      this.#new--;
      return NEW;
    }
    assert(this.#reopenings > 0, 'something is due');
    let tries = TRIES_MAX;
    while (this.#again[tries] === 0) tries--;
    this.#again[tries]!--;
    this.#reopenings--;
    return tries;
  }

  /** What `take` has returned is not begun after all. */
  putBack(tries: number): void {
    if (tries === NEW) this.#new++;
    else this.reopen(tries);
  }

  /** Drops everything. @returns connections of the quota that were never begun, stand-ins not counted */
  clear(): number {
    const unattempted = this.#new;
    this.#new = 0;
    this.#again.fill(0);
    this.#reopenings = 0;
    return unattempted;
  }

  /** Another connection is to stand in for one that was lost. @param tries of it that have failed, 0 to `TRIES_MAX` */
  reopen(tries: number): void {
    this.#again[tries]!++;
    this.#reopenings++;
  }
}
