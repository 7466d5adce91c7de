/** Tests a comparison as text, JSON and Markdown, with whatever labels it was given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { micromark } from 'micromark';
import { gfm, gfmHtml } from 'micromark-extension-gfm';
import { type Comparison, compareReports } from '../../src/judge/comparison.ts';
import { comparisonJson, comparisonMarkdown, renderComparison } from '../../src/report/comparison-text.ts';
import { hasOrder, INVISIBLE } from '../support/hostile-text.ts';
import { sampleReport } from './sample-report.ts';

function comparisonOf(before: string, after: string): Comparison {
  const run = (p99: number) => sampleReport({ connectMs: { ...sampleReport().connectMs, p99 } });
  return compareReports(
    [
      { label: before, reports: [run(10), run(10.2), run(9.9)] },
      { label: after, reports: [run(20), run(20.1), run(19.8)] },
    ],
    [{ text: 'connect_p99:10%', metric: 'connect_p99', limit: 10, isPercent: true }],
  );
}

test('the text has medians, change and noise, and its last line is the verdict', () => {
  const text = renderComparison(comparisonOf('before', 'after'));
  assert.match(text, /^after \(3 runs\) against before \(3 runs\), medians\n/);
  assert.match(text, /connect_p99 +10 ms +20 ms +\+100\.0 % +worse\n/);
  assert.match(text, /beyond noise: connect_p99 worse/);
  assert.match(text, /at most 5 % of/);
  assert.equal(text.trimEnd().split('\n').at(-1), 'FAIL connect_p99:10%');
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
});

test('the Markdown is a table, and a label is text in it', () => {
  const hostile = '<img src=x> | **b** [x](https://evil.example) @a\n::error::x';
  const html = micromark(comparisonMarkdown(comparisonOf(hostile, 'after')), {
    extensions: [gfm()],
    htmlExtensions: [gfmHtml()],
  });
  assert.match(html, /<table>[\s\S]*<td>connect_p99<\/td>/);
  assert.doesNotMatch(html, /<img|<a |<strong>/);
  const text = renderComparison(comparisonOf(hostile, '\u202e##[error]'));
  assert.doesNotMatch(text, INVISIBLE);
  assert.equal(hasOrder(text), false, text);
});

test('the JSON has all of it', () => {
  const comparison = comparisonOf('a', 'b');
  assert.deepEqual(JSON.parse(comparisonJson(comparison)), {
    schemaVersion: '1.0.0',
    ...JSON.parse(JSON.stringify(comparison)),
  });
});
