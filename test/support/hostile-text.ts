/**
 * Owns texts that try to do something where they are shown: move a cursor, end a line, give an order to a CI server, be
 * markup, turn the direction of writing. Must never decide what is safe.
 */
import fc from 'fast-check';
import type { RunReport } from '../../src/judge/report.ts';
import { sampleReport } from '../report/sample-report.ts';

/** What is known to have done harm somewhere. */
const PIECES = [
  '\u001b[2J',
  '\u001b]0;title\u0007',
  '\u009b31m',
  '\r',
  '\n',
  '\r\n::error title=x::forged',
  '::set-output name=a::b',
  '::add-mask::x',
  '##[error]forged',
  '##vso[task.complete]',
  '##teamcity[x]',
  '\u2028',
  '\u202e',
  '\u2066',
  '\u200b',
  '\ufeff',
  '\u0000',
  '\ud800',
  '\udc00',
  '\ufffe',
  '\u{e0041}',
  '<script>alert(1)</script>',
  '<img src=x onerror=y>',
  '<!--',
  '</details>',
  ']]>',
  '&amp;',
  '&#27;',
  '"',
  "'",
  '\\',
  '`',
  '```',
  '~~~',
  '|',
  '| a | b |',
  '[x](https://evil.example)',
  '![x](https://evil.example/y.png)',
  '<https://evil.example>',
  'https://evil.example',
  'www.evil.example',
  'a@evil.example',
  '# heading',
  '- item',
  '1. item',
  '> quote',
  '**bold**',
  '~~gone~~',
  '$(reboot)',
  '{a="b"}',
  '__proto__',
  'toString',
  ' ',
  'word',
] as const;

/** A text of such pieces. */
export const hostileText: fc.Arbitrary<string> = fc
  .array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: 'binary', maxLength: 4 })), { maxLength: 6 })
  .map((pieces) => pieces.join(''));

/** What is a word of a closed list, or a moment: a report cannot hold another. */
const FIXED = new Set([
  'startedAt',
  'endedAt',
  'verdict',
  'severity',
  'whoRanOut',
  'party',
  'proof',
  'when',
  'method',
  'metric',
  'protocol',
  'phase',
  'histogram',
  'onDrop',
  'schemaVersion',
]);

/** The sample with hostile texts in place of all others, keys of tables by reason included. */
export const hostileReport: fc.Arbitrary<RunReport> = fc
  .array(hostileText, { minLength: 8, maxLength: 8 })
  .map(reportWith);

/** The same with a harmless text everywhere. */
export const harmlessReport = (): RunReport => reportWith(['word']);

function reportWith(texts: readonly string[]): RunReport {
  let next = 0;
  const text = (): string => texts[next++ % texts.length] ?? '';
  const replaced = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') return FIXED.has(key) ? value : text();
    if (Array.isArray(value)) return value.map((each) => replaced(each, key));
    if (typeof value !== 'object' || value === null) return value;
    const isTable = [
      'failed',
      'dropped',
      'localSkips',
      'bySource',
      'byEndpoint',
      'troubles',
      'counters',
    ].includes(key);
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [
        isTable ? `${name}${text()}` : name,
        replaced(each, name),
      ]),
    );
  };
  const report = sampleReport({
    verdict: 'fail',
    requirements: [
      { requirement: 'r', metric: 'held', isDefault: false, passed: false, actual: 1, actualText: 't' },
    ],
  });
  return replaced(report, '') as RunReport;
}

/** A character that is not itself visible, line ends apart. */
export const INVISIBLE = /[^\n\P{Cc}]|[\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** Whether a CI server would take a line of these for an order (GitHub's runner trims it first). */
export function hasOrder(lines: string): boolean {
  return lines.split('\n').some((line) => /##\w*\[/.test(line) || /^::[\w-]+(?: .*)?::/.test(line.trim()));
}
