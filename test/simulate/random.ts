/** Owns chance: every decision of a simulation comes from one seed. Must never ask another source. */

/** Numbers from a seed (sfc32, of PractRand). */
export class Random {
  #a: number;
  #b: number;
  #c = 0x9e3779b9;
  #counter = 1;

  /** @param stream another one of the same seed is independent: what one decides does not move the other */
  constructor(seed: number, stream = 0) {
    this.#a = seed | 0;
    this.#b = Math.imul(stream + 1, 0x85ebca6b) ^ Math.floor(seed / 2 ** 32);
    for (let turn = 0; turn < 12; turn += 1) this.next();
  }

  /** 0 to below 1. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return (sum >>> 0) / 2 ** 32;
  }

  /** A whole number; both ends are possible. */
  whole(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  isLucky(share: number): boolean {
    return this.next() < share;
  }

  /** One of some; there is at least one. */
  of<Thing>(things: readonly [Thing, ...Thing[]]): Thing {
    return things[this.whole(0, things.length - 1)] ?? things[0];
  }
}
