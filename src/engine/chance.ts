/**
 * Owns numbers drawn at random where nothing may be allocated. Must never be used for a secret.
 */
/** Draws numbers without allocating: xorshift32 (Marsaglia, "Xorshift RNGs", 2003), which is good enough to spread waits. */
export class Chance {
  readonly #state = new Uint32Array(1);

  constructor(seed: number) {
    this.#state[0] = seed;
    // 0 stays 0.
    if (this.#state[0] === 0) this.#state[0] = 1;
  }

  /** 0 up to, not including, 1. */
  next(): number {
    let bits = this.#state[0]!;
    bits ^= bits << 13;
    bits ^= bits >>> 17;
    bits ^= bits << 5;
    this.#state[0] = bits;
    return this.#state[0]! / 2 ** 32;
  }
}
