/** Tests what is said of incidents in text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { incidentPieces } from '../../src/report/incident-text.ts';
import { incidentOf, lastingIncident } from '../support/incident.ts';
import { sampleReport } from './sample-report.ts';

const { asked } = sampleReport();
const piecesOf = (...incidents: readonly ReturnType<typeof incidentOf>[]) =>
  incidentPieces(sampleReport({ incidents, asked: { ...asked, onDrop: 'reopen' } }));

test('an incident is said with its times, its rates and its curve', () => {
  assert.deepEqual(piecesOf(incidentOf()), [
    [
      'at 12.3 s 1,000 of 1,000 lost',
      'back: 50 % 1.25 s, 90 % 2.50 s, 99 % 4.00 s, 99.9 % 5.50 s, all 8.00 s',
      'connects up to 640/s',
      'refused 21',
      'failed otherwise 2',
      'open ▅▇▇█',
    ],
  ]);
});

test('one that has not ended says so, and nothing is said of what is not back', () => {
  const [pieces = []] = piecesOf(lastingIncident());
  assert.equal(pieces[1], 'back: 50 % 1.25 s');
  assert.equal(pieces[2], 'not ended: 200 missing after 5.00 s');
});

test('further ones are counted; none is said where lost connections are only counted', () => {
  const six = Array.from({ length: 6 }, () => incidentOf());
  assert.deepEqual(piecesOf(...six).at(-1), ['and 2 more in the JSON report']);
  assert.deepEqual(incidentPieces(sampleReport({ incidents: six })), []);
  assert.deepEqual(incidentPieces(sampleReport({ incidents: null })), []);
});
