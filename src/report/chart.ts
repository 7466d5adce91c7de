/** Owns a chart of numbers over time in characters, an eighth of a row fine. Must never know what the numbers are of. */
import type { TimelinePoint } from '../judge/report.ts';

const BLOCKS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;
const ROW_STEPS = BLOCKS.length;

/** The lowest number open in each of so many equal parts of the time; what was open before counts where a part has no point. */
export function openOverTime(
  timeline: readonly Pick<TimelinePoint, 'atSec' | 'open'>[],
  parts: number,
): number[] {
  const endSec = timeline.at(-1)?.atSec ?? 0;
  const lowest = Array.from({ length: parts }, () => Number.POSITIVE_INFINITY);
  for (const { atSec, open } of timeline) {
    const part = endSec === 0 ? 0 : Math.min(parts - 1, Math.floor((atSec / endSec) * parts));
    lowest[part] = Math.min(lowest[part] ?? open, open);
  }
  let before = 0;
  return lowest.map((open) => {
    if (Number.isFinite(open)) before = open;
    return before;
  });
}

/** One row of a chart of so many: rows below the value are full, the one at its height is a part. */
export function chartRow(values: readonly number[], most: number, row: number, rows: number): string {
  return values
    .map((value) => {
      const ratio = most <= 0 ? 0 : Math.min(1, Math.max(0, value / most));
      // Full only when nothing is missing, and never empty when something is there.
      const steps =
        ratio === 1 ? rows * ROW_STEPS : Math.min(rows * ROW_STEPS - 1, Math.ceil(ratio * rows * ROW_STEPS));
      const here = steps - (rows - 1 - row) * ROW_STEPS;
      if (here <= 0) return ' ';
      return BLOCKS[Math.min(ROW_STEPS, here) - 1] ?? ' ';
    })
    .join('');
}
