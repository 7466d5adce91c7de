/**
 * Owns one measured figure beside its bound, and the median. Must never measure.
 */

/** One line of the result. */
export interface Figure {
  /** stable name */
  readonly name: string;
  /** what it says, for a person */
  readonly meaning: string;
  readonly value: number;
  readonly unit: string;
  readonly bound: number;
  /** whether the value must not be below or not above its bound */
  readonly boundIs: 'at-least' | 'at-most';
  readonly ok: boolean;
  /** what the value was worked out from */
  readonly samples: readonly number[];
}

/** A figure judged against its bound. */
export function figure(parts: Omit<Figure, 'ok'>): Figure {
  const ok = parts.boundIs === 'at-least' ? parts.value >= parts.bound : parts.value <= parts.bound;
  return { ...parts, ok };
}

/** The middle value; of an even number the lower middle one. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

/** One line for a person. */
export function formatFigure(measured: Figure): string {
  const sign = measured.boundIs === 'at-least' ? '>=' : '<=';
  const value = `${Number(measured.value.toPrecision(4))} ${measured.unit}`.trim();
  const bound = `${sign} ${measured.bound} ${measured.unit}`.trim();
  return `${measured.ok ? 'ok  ' : 'MISS'} ${measured.name.padEnd(28)} ${value.padEnd(18)} ${bound.padEnd(18)} ${measured.meaning}`;
}
