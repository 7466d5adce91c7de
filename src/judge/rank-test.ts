/**
 * Owns whether two groups of runs differ beyond their noise: the exact rank test of Mann and Whitney, what stands in for it
 * where so few runs cannot decide, and the correction for looking at several metrics. Must never assume more than it says.
 */

/** How often, at most, any of the metrics looked at is called changed when nothing has changed. */
export const ERROR_RATE = 0.05;
/** Below this many runs a side nothing is said of noise. */
export const RUNS_MIN = 3;
/** Runs of both sides together that are counted exactly; the first ones are taken. */
const EXACT_RUNS_MAX = 60;

/** Two-sided p of the exact rank test, ties counted as half. @returns 0 to 1 */
function rankTestP(a: readonly number[], b: readonly number[]): number {
  const { u, ways } = rankCounts(a, b);
  const total = ways.reduce((sum, count) => sum + count, 0);
  const middle = (ways.length - 1) / 2;
  const distance = Math.abs(u - middle);
  const beyond = ways.reduce(
    (sum, count, at) => (Math.abs(at - middle) >= distance - 1e-9 ? sum + count : sum),
    0,
  );
  return Math.min(1, beyond / total);
}

/** U of the first group, and how many orders of the runs give each U when there is no difference. */
function rankCounts(a: readonly number[], b: readonly number[]): { u: number; ways: number[] } {
  let u = 0;
  for (const x of a) for (const y of b) u += x > y ? 1 : x === y ? 0.5 : 0;
  const [n, m] = [a.length, b.length];
  // ways[i][u] for i of the first group: the largest run is of one group or of the other.
  let table: number[][] = Array.from({ length: m + 1 }, () => [1]);
  for (let i = 1; i <= n; i++) {
    const next: number[][] = [[1]];
    for (let j = 1; j <= m; j++) {
      const own = table[j] ?? [];
      const other = next[j - 1] ?? [];
      next.push(Array.from({ length: i * j + 1 }, (_, at) => (own[at - j] ?? 0) + (other[at] ?? 0)));
    }
    table = next;
  }
  return { u, ways: table[m] ?? [1] };
}

/** The smallest p that so many runs can have. */
function smallestP(n: number, m: number): number {
  let orders = 1;
  for (let k = 1; k <= Math.min(n, m); k++) orders = (orders * (n + m - k + 1)) / k;
  return Math.min(1, 2 / orders);
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function varianceOf(values: readonly number[]): number {
  const mean = meanOf(values);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
}

/** How finely a metric is known at best, as a variance for a mean: runs that are equal by chance have none of their own. */
type VarianceFloor = (mean: number) => number;

/** Two-sided p of Welch's t test. */
function welchP(a: readonly number[], b: readonly number[], floor: VarianceFloor): number {
  const pooled = meanOf([...a, ...b]);
  const [partA, partB] = [a, b].map(
    (values) => Math.max(varianceOf(values), floor(pooled)) / values.length,
  ) as [number, number];
  const difference = Math.abs(meanOf(a) - meanOf(b));
  const variance = partA + partB;
  if (variance === 0) return difference === 0 ? 1 : 0;
  const freedom = variance ** 2 / (partA ** 2 / (a.length - 1) + partB ** 2 / (b.length - 1));
  const t = difference / Math.sqrt(variance);
  return incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5);
}

/** The regularised incomplete beta function, by its continued fraction (Lentz). @param x 0 to 1 */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x));
  let [c, d] = [1, 1 / (1 - ((a + b) * x) / (a + 1))];
  let sum = d;
  for (let m = 1; m < 300; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d);
    c = 1 + even / c;
    sum *= c * d;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d);
    c = 1 + odd / c;
    const step = c * d;
    sum *= step;
    if (Math.abs(step - 1) < 1e-12) break;
  }
  return (front * sum) / a;
}

/** Stirling's series, after shifting the argument up. @param x above 0 */
function logGamma(x: number): number {
  let shift = 0;
  let at = x;
  for (; at < 12; at++) shift -= Math.log(at);
  const square = at * at;
  const series = (1 / 12 - (1 / 360 - 1 / 1_260 / square) / square) / at;
  return shift + (at - 0.5) * Math.log(at) - at + 0.5 * Math.log(2 * Math.PI) + series;
}

/** One metric of both groups. */
export interface TestedMetric {
  readonly base: readonly number[];
  readonly other: readonly number[];
  readonly floor: VarianceFloor;
}

/**
 * Which metrics differ beyond noise, when all of them are looked at together (Holm). Where so few runs cannot reach the
 * error rate by ranks alone, each run of one side must be beyond each of the other, and Welch's t test decides.
 * @param metrics each with at least `RUNS_MIN` runs a side
 */
export function beyondNoise(metrics: readonly TestedMetric[]): readonly boolean[] {
  const values = metrics.map((metric) => pOf(metric, metrics.length));
  const order = values.map((_, at) => at).toSorted((x, y) => (values[x] ?? 1) - (values[y] ?? 1));
  const found = new Set<number>();
  for (const [rank, at] of order.entries()) {
    if ((values[at] ?? 1) * (metrics.length - rank) > ERROR_RATE) break;
    found.add(at);
  }
  return metrics.map((_, at) => found.has(at));
}

function pOf({ base, other, floor }: TestedMetric, metrics: number): number {
  const [a, b] = [base.slice(0, EXACT_RUNS_MAX / 2), other.slice(0, EXACT_RUNS_MAX / 2)];
  const p = rankTestP(a, b);
  const smallest = smallestP(a.length, b.length);
  if (smallest * metrics <= ERROR_RATE) return p;
  return p <= smallest + 1e-12 ? welchP(a, b, floor) : 1;
}
