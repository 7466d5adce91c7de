/**
 * Owns how many connections a run asks for at each moment: the line that its stages draw, the part of it that one holder has, and
 * the tuples that rest meanwhile. Must never read a clock: moments are milliseconds since the common start.
 *
 * Connections of a run are numbered from 0. One that is asked for is one of the first `targetOf(...)` of a fixed order, and each belongs to one
 * share: so shares sum exactly at every moment, and none falls while the line rises.
 */
import assert from 'node:assert/strict';

/** That many connections are reached, in a straight line, within that time. */
export interface Stage {
  readonly durationMs: number;
  readonly connections: number;
}

/** `[from, to)` of the connections of a run. */
export interface LoadShare {
  readonly from: number;
  readonly to: number;
}

/**
 * The number in the whole run of one of a holder's connections. Allocates nothing.
 * @param shares the holder's, disjoint
 * @param index among the holder's connections, from 0; below as many as the shares have
 */
export function connectionNumber(shares: readonly LoadShare[], index: number): number {
  let rest = index;
  for (const { from, to } of shares) {
    if (rest < to - from) return from + rest;
    rest -= to - from;
  }
  assert.fail('a connection of the shares');
}

/** The most that one run may have: each holder keeps the latencies of each. */
export const STAGES_MAX = 64;

/**
 * How long a tuple rests whose connection our FIN has closed: TIME_WAIT takes 60 s (TCP_TIMEWAIT_LEN in include/net/tcp.h), from the far side's
 * FIN on, and the kernel's timers of that length end up to 4.1 s late (LVL_GRAN in kernel/time/timer.c, at 1,000 ticks a second).
 */
export const TIME_WAIT_REST_MS = 65_000;

/** When a stage begins and ends, and how many are asked for at both. */
export interface StageSpan extends Stage {
  readonly fromMs: number;
  readonly toMs: number;
  readonly connectionsBefore: number;
  /** the number stays, and is not 0: what is held can be judged */
  readonly isFlat: boolean;
}

/** The stages on the run's own time. */
export function spansOf(stages: readonly Stage[]): readonly StageSpan[] {
  let fromMs = 0;
  let connectionsBefore = 0;
  return stages.map((stage) => {
    const { durationMs, connections } = stage;
    const isFlat = durationMs > 0 && connections > 0 && connections === connectionsBefore;
    const span = { ...stage, fromMs, toMs: fromMs + durationMs, connectionsBefore, isFlat };
    fromMs = span.toMs;
    connectionsBefore = connections;
    return span;
  });
}

/** The most connections that any stage asks for; each begins from 0. */
export function peakOf(stages: readonly Stage[]): number {
  return Math.max(0, ...stages.map(({ connections }) => connections));
}

/** How long all stages take, milliseconds. */
export function lengthMsOf(stages: readonly Stage[]): number {
  return stages.reduce((sum, { durationMs }) => sum + durationMs, 0);
}

/**
 * When the hold phase begins: with the first flat stage; where none is flat, with the second stage.
 * @returns milliseconds since the start; that of a single stage is its end
 */
export function holdFromMsOf(stages: readonly Stage[]): number {
  const spans = spansOf(stages);
  return (spans.find(({ isFlat }) => isFlat) ?? spans[1])?.fromMs ?? lengthMsOf(stages);
}

/**
 * Connections that the whole run asks for at a moment: whole, and exactly those of a stage at its end.
 * @param atMs since the start; before it none, after the last stage as many as that one
 */
export function targetOf(spans: readonly StageSpan[], atMs: number): number {
  for (const { fromMs, toMs, connectionsBefore, connections } of spans) {
    if (atMs >= toMs) continue;
    if (atMs <= fromMs) return connectionsBefore;
    const part = (atMs - fromMs) / (toMs - fromMs);
    return Math.round(connectionsBefore + (connections - connectionsBefore) * part);
  }
  return spans.at(-1)?.connections ?? 0;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** The golden section: its multiples lie the most evenly. */
const EVEN_STEP = (Math.sqrt(5) - 1) / 2;

/** Which connection follows which in the order: prime to their number, so that each comes once. */
function stepOf(peak: number): number {
  for (let step = Math.max(1, Math.round(peak * EVEN_STEP)); ; step--) if (gcd(peak, step) === 1) return step;
}

/**
 * The sum of floor((step * k + offset) / modulus) for k from 0 to count - 1, as a Euclidean algorithm counts lattice points below a line. All
 * numbers stay below 2^53 for a modulus up to RunBound.connections.
 */
function floorSum(count: number, modulus: number, step: number, offset: number): number {
  let sum = 0;
  let [n, m, a, b] = [count, modulus, step, offset];
  for (;;) {
    if (a >= m) {
      sum += ((n * (n - 1)) / 2) * Math.floor(a / m);
      a %= m;
    }
    if (b >= m) {
      sum += n * Math.floor(b / m);
      b %= m;
    }
    const top = a * n + b;
    if (top < m) return sum;
    n = Math.floor(top / m);
    b = top % m;
    const smaller = a;
    a = m;
    m = smaller;
  }
}

/** What one holder has of a run's stages. A method allocates nothing. */
export class ShareOfLine {
  readonly spans: readonly StageSpan[];
  readonly #shares: readonly LoadShare[];
  readonly #peak: number;
  readonly #step: number;

  /** @param shares disjoint, within the peak of the stages */
  constructor(stages: readonly Stage[], shares: readonly LoadShare[]) {
    this.spans = spansOf(stages);
    this.#shares = shares;
    this.#peak = peakOf(stages);
    this.#step = this.#peak === 0 ? 1 : stepOf(this.#peak);
    for (const { from, to } of shares)
      assert(from >= 0 && from <= to && to <= this.#peak, 'a share of the peak');
  }

  /** Of the first `total` connections those that belong to this share. */
  of(total: number): number {
    let sum = 0;
    for (const { from, to } of this.#shares) sum += this.#below(total, to) - this.#below(total, from);
    return sum;
  }

  /** @param atMs since the start of the run */
  at(atMs: number): number {
    return this.of(targetOf(this.spans, atMs));
  }

  /** Of the first `total` in the order those with a number below `end`. */
  #below(total: number, end: number): number {
    if (end === 0 || total === 0) return 0;
    const steps = floorSum(total, this.#peak, this.#step, 0);
    return total - (floorSum(total, this.#peak, this.#step, this.#peak - end) - steps);
  }
}

/**
 * Connections that one holder is to have open at a moment.
 * @param shares its connections of the run's, disjoint
 * @param atMs since the common start, by the holder's monotonic clock
 */
export function targetAt(stages: readonly Stage[], shares: readonly LoadShare[], atMs: number): number {
  return new ShareOfLine(stages, shares).at(atMs);
}

/**
 * Parts of shares, in order.
 * @param sizes counts; their sum is that of the shares
 */
export function cutShares(shares: readonly LoadShare[], sizes: readonly number[]): readonly LoadShare[][] {
  const rest = shares.map(({ from, to }) => ({ from, to }));
  return sizes.map((size) => {
    const part: LoadShare[] = [];
    let wanted = size;
    while (wanted > 0) {
      const first = rest[0];
      assert(first !== undefined, 'as many connections as the shares have');
      const taken = Math.min(wanted, first.to - first.from);
      if (taken > 0) part.push({ from: first.from, to: first.from + taken });
      first.from += taken;
      wanted -= taken;
      if (first.from === first.to) rest.shift();
    }
    return part;
  });
}
