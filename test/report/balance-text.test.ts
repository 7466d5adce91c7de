/** Tests what is said of back ends in text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { balancePieces } from '../../src/report/balance-text.ts';
import { renderReport } from '../../src/report/text.ts';
import { sampleReport } from './sample-report.ts';

test('back ends are listed with the largest first, what is not known, and the ratios', () => {
  const report = sampleReport();
  const { connections } = report;
  assert.deepEqual(balancePieces({ ...report, connections: { ...connections, open: 130_007 } }), [
    'two 97,500',
    'one 32,500',
    'not known 7',
    'highest over mean 1.00 at the start of the hold, 1.50 at its end',
  ]);
  assert.match(renderReport(report), /back ends +two 97,500/);
  assert.doesNotMatch(renderReport({ ...report, balance: null }), /back ends/);
});

test('of many the largest are named, and those without a count of their own are others', () => {
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`b${at}`, at]));
  const end = { atSec: 9, open: { ...many, ' others': 500 } };
  const balance = { start: null, end, ratioAtStart: null, ratioAtEnd: 2, series: [end] };
  const pieces = balancePieces(sampleReport({ balance }));
  assert.equal(pieces[0], 'others 500');
  assert.equal(pieces[8], 'and 13 more');
});

test('back ends with as many are listed by name, in whatever order they were counted', () => {
  for (const open of [
    { two: 150, one: 150, all: 9 },
    { all: 9, one: 150, two: 150 },
  ]) {
    const end = { atSec: 9, open };
    const balance = { start: null, end, ratioAtStart: null, ratioAtEnd: 1, series: [end] };
    assert.deepEqual(balancePieces(sampleReport({ balance })).slice(0, 3), ['one 150', 'two 150', 'all 9']);
  }
});
