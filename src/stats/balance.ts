/**
 * Owns how connections are spread over back ends, as it was over time: in bounded memory, because two points become one where there are too
 * many. Must never hold a share of connections whose back end is not known.
 */

/** Open connections by back end at one moment. */
interface BalancePoint {
  /** seconds since the start of the ramp */
  readonly atSec: number;
  readonly open: Readonly<Record<string, number>>;
}

/** How connections are spread. */
export interface Balance {
  /** when the hold began, and when it ended; null: it has not */
  readonly start: BalancePoint | null;
  readonly end: BalancePoint | null;
  /** the highest number of one back end over the mean of all, at these moments; null: nothing is known of any */
  readonly ratioAtStart: number | null;
  readonly ratioAtEnd: number | null;
  readonly series: readonly BalancePoint[];
}

const POINTS_MAX = 120;

/**
 * The highest number of one back end over the mean of all that were ever seen: 1 is even.
 * @returns null: none has any
 */
export function balanceRatio(open: Readonly<Record<string, number>> | undefined): number | null {
  const counts = Object.values(open ?? {});
  const sum = counts.reduce((total, count) => total + count, 0);
  return sum === 0 ? null : (Math.max(...counts) * counts.length) / sum;
}

/** The series of one run. */
export class BalanceLog {
  #points: BalancePoint[] = [];
  #stepSec = 0.5;
  #start: BalancePoint | null = null;
  #end: BalancePoint | null = null;

  /** @param isHolding the last of these points is the end of the hold, the first its beginning */
  add(open: Readonly<Record<string, number>>, atMs: number, isHolding: boolean): void {
    const point = { atSec: Math.round(atMs) / 1_000, open: { ...open } };
    if (isHolding) {
      this.#start ??= point;
      this.#end = point;
    }
    const last = this.#points.at(-1);
    if (last !== undefined && point.atSec - last.atSec < this.#stepSec) return;
    this.#points.push(point);
    if (this.#points.length <= POINTS_MAX) return;
    this.#points = this.#points.filter((_, at) => at % 2 === 0);
    this.#stepSec *= 2;
  }

  /** null: nothing was reported of any back end. */
  value(): Balance | null {
    if (this.#points.length === 0) return null;
    return {
      start: this.#start,
      end: this.#end,
      ratioAtStart: balanceRatio(this.#start?.open),
      ratioAtEnd: balanceRatio(this.#end?.open),
      series: this.#points,
    };
  }
}
