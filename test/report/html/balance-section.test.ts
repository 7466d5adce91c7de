/** Tests the page's section on back ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pageBody } from '../../../src/report/html/page.ts';
import { sampleReport } from '../sample-report.ts';

test('each back end has its row, over time too, and no name is markup', () => {
  const open = { '<b>x</b>': 3, two: 1 };
  const point = { atSec: 2, open };
  const balance = { start: point, end: point, ratioAtStart: 1.5, ratioAtEnd: 1.5, series: [point] };
  const { main } = pageBody(sampleReport({ balance }));
  assert.match(main, /id="balance"/);
  assert.match(main, /&lt;b&gt;x&lt;\/b&gt;/);
  assert.doesNotMatch(main, /<b>x/);
  assert.match(main, /1\.50 at its end/);
  assert.doesNotMatch(pageBody(sampleReport({ balance: null })).main, /id="balance"/);
});
