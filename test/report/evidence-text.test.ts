/** Tests what a person reads of the evidence: where, the worst first, and what the target said, as a quotation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evidenceLines } from '../../src/report/evidence-text.ts';
import { renderReport } from '../../src/report/text.ts';
import { evidenceOf } from '../support/sample-evidence.ts';
import { sampleReport } from './sample-report.ts';

const good = (asked: number) => ({ asked, established: asked, failed: {}, dropped: {} });

test('one endpoint is no place to tell from another; of two the worse comes first, with its reasons', () => {
  const evidence = evidenceOf(1);
  assert(!evidenceLines(evidence).some((line) => line.includes('established')));
  const two = { ...evidence, byEndpoint: { 'a:1': good(9), ...evidence.byEndpoint } };
  const [head = '', worse = '', better = ''] = evidenceLines(two);
  assert.match(head, /endpoint +asked +established +failed +dropped/);
  assert.match(worse, /10\.0\.9\.9:80 +10 +6 +2 refused 1, \.\.\. +2 fin/);
  assert.match(better, /a:1 +9 +9 +0 +0/);
});

test('a run without a failure or a loss says nothing of places', () => {
  const evidence = { ...evidenceOf(1), byEndpoint: { 'a:1': good(9), 'b:1': good(9) } };
  assert(!evidenceLines(evidence).some((line) => line.includes('a:1')));
});

test('many places are cut, and how many more there were is said', () => {
  const rows = Array.from(
    { length: 20 },
    (_, at) => [`s${at}`, { ...good(9), failed: { refused: at } }] as const,
  );
  const lines = evidenceLines({ ...evidenceOf(1), bySourceOutcome: Object.fromEntries(rows) });
  assert.equal(lines.filter((line) => /^ {2}s\d/.test(line)).length, 8);
  assert.match(lines[1] ?? '', /s19 +9 +9 +19 refused/);
  assert(lines.some((line) => line.includes('and 12 more')));
});

test('what the target said is quoted with its number; a report without evidence has no such line', () => {
  const text = renderReport(sampleReport({ evidence: evidenceOf(3) }));
  assert.match(text, /target said/);
  assert.match(text, /- 3 x "-ERR max"/);
  assert.match(text, /- 3 x something else/);
  assert.deepEqual(evidenceLines(null), []);
});

test('a quotation that is an order to a CI server is none any more', () => {
  const evidence = evidenceOf(1);
  const texts = [{ text: '##vso[task.complete]', first: 1, last: 0 }];
  const text = renderReport(sampleReport({ evidence: { ...evidence, said: { texts, other: 0 } } }));
  assert(!text.includes('##vso['));
});
