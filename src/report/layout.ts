/**
 * Owns the layout of plain text: labelled lines, tables, findings of preflight, and wrapping within a given width.
 * Must never know what a run is, or judge a finding: its severity is given.
 */
import type { Finding } from '../base/errors.ts';
import type { Counts } from '../base/outcome.ts';
import { formatCount, formatDuration } from '../base/units.ts';

/** The width that every text for people keeps to, in characters. */
export const TEXT_WIDTH = 80;

/** How the text is coloured; the identity for plain text. */
export type Paint = (style: 'good' | 'bad' | 'warn' | 'dim' | 'bold', text: string) => string;

/** A `Paint` that leaves text alone. */
export const noPaint: Paint = (_style, text) => text;

/** The column at which the values of labelled lines begin. */
const LABEL_WIDTH = 13;

/** A space at which a line may end: not the one between a number and its unit. */
const BREAK = / (?!(?<=\d )(?:us|ms|s|min|h|%|kB|MB|GB|KiB|MiB|GiB)(?![\w%]))/;

/**
 * Breaks text at spaces so that no line is longer than `width`; a longer word stands alone on its line, and a number stays with its unit.
 * @param text one paragraph
 * @param width in characters, at least 1
 */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(BREAK)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  if (line !== '') lines.push(line);
  return lines;
}

/**
 * One labelled value, wrapped under itself: `label        value value`.
 * @param label at most 12 characters; may start with spaces
 * @param text the value
 */
export function labelled(label: string, text: string): string[] {
  const indent = ' '.repeat(LABEL_WIDTH);
  return wrapText(text, TEXT_WIDTH - LABEL_WIDTH).map((line, index) =>
    index === 0 ? label.padEnd(LABEL_WIDTH) + line : indent + line,
  );
}

/**
 * One labelled value made of pieces that are never broken: pieces that do not fit go to the next line.
 * @param label at most 12 characters
 * @param pieces such as `p50 0.4 ms`
 */
export function labelledPieces(label: string, pieces: readonly string[]): string[] {
  const width = TEXT_WIDTH - LABEL_WIDTH;
  const lines: string[] = [];
  let line = '';
  for (const piece of pieces) {
    if (line !== '' && line.length + 2 + piece.length > width) {
      lines.push(line);
      line = piece;
    } else {
      line = line === '' ? piece : `${line}  ${piece}`;
    }
  }
  lines.push(line);
  return lines.map((text, index) => (index === 0 ? label : '').padEnd(LABEL_WIDTH) + text);
}

/**
 * A bulleted paragraph.
 * @param bullet such as `-`
 * @param text one paragraph
 */
export function bulleted(bullet: string, text: string): string[] {
  const indent = ' '.repeat(bullet.length + 3);
  return wrapText(text, TEXT_WIDTH - indent.length).map((line, index) =>
    index === 0 ? `  ${bullet} ${line}` : indent + line,
  );
}

/**
 * A table: the first column to the left, the others to the right, two spaces between and in front.
 * It is as wide as its cells: see `narrowed`.
 * @param rows cells, the first row being the heads; all rows have the same number of cells
 */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return rows.map((row) => {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    });
    return `  ${cells.join('  ')}`.trimEnd();
  });
}

/**
 * Lines that are no longer than `width`: one that is longer goes on under itself, broken between words.
 * @param lines made for any width
 * @param whole texts that stay on one line
 */
export function narrowed(lines: readonly string[], width: number, whole: ReadonlySet<string>): string[] {
  return lines.flatMap((line) => {
    if (line.length <= width || whole.has(line.trim())) return [line];
    const own = /^ */.exec(line)?.[0].length ?? 0;
    const indent = own + 2;
    const [first = '', ...more] = wrapText(line.slice(own), width - indent);
    return [' '.repeat(own) + first, ...more.map((text) => ' '.repeat(indent) + text.trimStart())];
  });
}

/** `timeout 10`, `refused 2`: the most frequent first. */
export function countPieces(counts: Counts<string>): string[] {
  return Object.entries(counts)
    .filter((entry): entry is [string, number] => (entry[1] ?? 0) > 0)
    .sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]))
    .map(([reason, count]) => `${reason} ${formatCount(count)}`);
}

/**
 * A duration in seconds for a sentence: `30 s`, `0.42 s`, `1h30m`.
 * @param seconds 0 or more
 */
export function formatWholeSeconds(seconds: number): string {
  const rounded = seconds >= 10 ? Math.round(seconds) : Math.round(seconds * 100) / 100;
  return formatDuration(rounded * 1000).replace(/^([\d.]+)(m?s)$/, '$1 $2');
}

const BULLETS = { refuse: '✗', warn: '!', ok: '✓' } as const;

/**
 * One finding: its line with the arithmetic, and the command that fixes it.
 * @param finding what preflight found
 */
export function findingLines(finding: Finding): string[] {
  const lines = bulleted(BULLETS[finding.severity], finding.message);
  // A command is never wrapped: it must survive copy and paste.
  if (finding.fix !== null && finding.severity !== 'ok') lines.push(`      ${finding.fix}`);
  return lines;
}

/**
 * A headed block of the findings that need attention (`refuse` and `warn`); nothing when there are none.
 * @param findings all findings of a run
 */
export function attentionLines(findings: readonly Finding[]): string[] {
  const refused = findings.filter((finding) => finding.severity === 'refuse');
  const warned = findings.filter((finding) => finding.severity === 'warn');
  const lines: string[] = [];
  if (refused.length > 0) lines.push('', 'refused because', ...refused.flatMap(findingLines));
  if (warned.length > 0) lines.push('', 'warnings', ...warned.flatMap(findingLines));
  return lines;
}
