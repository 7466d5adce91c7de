/** Tests what a report says of messages, in each of its formats, and that the schema of the report knows them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { junitXml } from '../../src/report/formats.ts';
import { prometheusText } from '../../src/report/metrics-text.ts';
import { renderReport } from '../../src/report/text.ts';
import { messagePieces, verdictLine } from '../../src/report/verdict-text.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { sampleReport } from './sample-report.ts';

const MESSAGES = {
  everyMs: 1_000,
  areAnswered: true,
  sent: 600_100,
  ratePerSec: 19_999.6,
  answered: 600_000,
  wrong: 60,
  late: 7,
  missing: 40,
};

test('the verdict is one line', () => {
  assert.equal(verdictLine(sampleReport()), 'PASS held 130,000 of 130,000 for 30 s');
});

test('messages are counted in the text, in JUnit and in metrics', () => {
  const report = sampleReport({ messages: MESSAGES });
  const words = 'sent 600,100, answered 600,000, wrong 60, late 7, missing 40, 20,000/s while holding';
  assert.equal(messagePieces(report).join(', '), words);
  assert.match(renderReport(report).replace(/\s+/g, ' '), /messages sent 600,100 answered 600,000 wrong 60/);
  assert(junitXml(report).includes(`messages: ${words}`));
  const metrics = prometheusText(report);
  for (const [state, value] of Object.entries({
    sent: 600_100,
    answered: 600_000,
    wrong: 60,
    late: 7,
    missing: 40,
  }))
    assert(metrics.includes(`\nc100k_messages{state="${state}"} ${value}\n`), state);
  assert(metrics.includes('\nc100k_messages_per_second 19999.6\n'));
  assert.deepEqual(schemaErrors(report), []);
});

test('without an answer only what was sent is said, and without messages nothing', () => {
  const silent = sampleReport({ messages: { ...MESSAGES, areAnswered: false } });
  assert.deepEqual(messagePieces(silent), ['sent 600,100', 'no answer asked for', '20,000/s while holding']);
  assert(!prometheusText(silent).includes('state="wrong"'));
  assert.deepEqual(messagePieces(sampleReport({ messages: null })), []);
  assert(!prometheusText(sampleReport()).includes('c100k_messages'));
});
