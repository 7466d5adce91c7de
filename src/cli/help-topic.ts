/**
 * Owns the topics of the help: sections of the manual, which is the one place where they are written, laid out for a terminal.
 * Must never say what the manual does not.
 */
import { wrapText } from '../report/layout.ts';

interface Topic {
  readonly name: string;
  /** headings in the manual */
  readonly headings: readonly string[];
}

/** In the order of the help. */
export const TOPICS: readonly Topic[] = [
  { name: 'exit-codes', headings: ['Exit codes'] },
  { name: 'reasons', headings: ['Reasons'] },
  { name: 'proof', headings: ['Proof'] },
  { name: 'metrics', headings: ['Requirements', 'Metrics'] },
  { name: 'endpoints', headings: ['Endpoints'] },
  { name: 'numbers', headings: ['Numbers'] },
  { name: 'sources', headings: ['Sources'] },
  { name: 'agents', headings: ['Agents'] },
  { name: 'run-file', headings: ['Run file'] },
  { name: 'environment', headings: ['Environment'] },
  { name: 'output', headings: ['Output'] },
  { name: 'errors', headings: ['Errors'] },
  { name: 'signals', headings: ['Signals'] },
];

/**
 * The lines of the manual below a heading and with it, up to the next one of the same or a higher level.
 * @throws Error when the manual has no such heading
 */
export function manualSection(manual: string, heading: string): string[] {
  const lines = manual.split('\n');
  const levelOf = (line: string): number => /^(#+) /.exec(line)?.[1]?.length ?? 0;
  const start = lines.findIndex((line) => levelOf(line) > 0 && line.replace(/^#+ /, '') === heading);
  if (start < 0) throw new Error(`the manual has no heading ${heading}`);
  const level = levelOf(lines[start] ?? '');
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => levelOf(line) > 0 && levelOf(line) <= level);
  return [lines[start] ?? '', ...rest.slice(0, end < 0 ? undefined : end)];
}

/** The cells of a row of a table; a bar behind a backslash is text. */
export function tableCells(row: string): string[] {
  return row
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => plainText(cell.trim().replaceAll('\\|', '|')));
}

/** Without marks: what is code, bold or a link is its text. */
function plainText(markdown: string): string {
  return markdown
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, '$1')
    .replaceAll(/\*\*([^*]+)\*\*/g, '$1')
    .replaceAll('`', '');
}

/** A topic, laid out. @param manual the manual's text */
export function topicText({ headings }: Topic, manual: string, width: number): string {
  const blocks = headings.map((heading) => laidOut(manualSection(manual, heading), width).join('\n').trim());
  return `${blocks.join('\n\n')}\n`;
}

function laidOut(lines: readonly string[], width: number): string[] {
  const out: string[] = [];
  let paragraph: string[] = [];
  let isCode = false;
  let head: readonly string[] = [];
  const flush = (): void => {
    if (paragraph.length > 0) out.push(...wrapText(plainText(paragraph.join(' ')), width));
    paragraph = [];
  };
  for (const [at, line] of lines.entries()) {
    if (line.startsWith('```')) {
      flush();
      isCode = !isCode;
    } else if (isCode) out.push(`  ${line}`);
    else if (line.startsWith('|')) {
      flush();
      if (!(lines[at - 1] ?? '').startsWith('|')) head = tableCells(line);
      else if (!/^\|[ |-]+\|$/.test(line)) out.push(...rowLines(tableCells(line), head, width));
    } else if (/^#+ /.test(line)) {
      flush();
      out.push(line.replace(/^#+ /, ''));
    } else if (/^(?:- |\d+\. )/.test(line)) {
      flush();
      paragraph.push(line);
    } else if (line.trim() === '') {
      flush();
      out.push('');
    } else paragraph.push(line.trim());
  }
  flush();
  return out;
}

/** Where the meaning of a row begins; a shorter term stands beside it. */
const ROW_INDENT = 6;

/** A row of a table: its first cell, and what it means, with the names of the cells between. */
function rowLines(
  [term = '', ...cells]: readonly string[],
  head: readonly string[],
  width: number,
): string[] {
  const last = cells.at(-1) ?? '';
  const between = cells.slice(0, -1).map((cell, at) => `${head[at + 1] ?? ''} ${cell}`);
  const said = between.length === 0 ? last : `${last} [${between.join(', ')}]`;
  const lines = wrapText(said, width - ROW_INDENT).map((line) => ' '.repeat(ROW_INDENT) + line);
  const first = `  ${term}`;
  if (first.length >= ROW_INDENT) return [first, ...lines];
  return [first.padEnd(ROW_INDENT) + (lines[0] ?? '').trimStart(), ...lines.slice(1)];
}
