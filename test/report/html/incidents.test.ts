/** Tests the page's section on incidents. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pageBody } from '../../../src/report/html/page.ts';
import { incidentOf, lastingIncident } from '../../support/incident.ts';
import { sampleReport } from '../sample-report.ts';

const mainOf = (...incidents: readonly ReturnType<typeof incidentOf>[]): string =>
  pageBody(sampleReport({ incidents })).main;

test('each incident has a row whose numbers name their fields, and a curve with its table', () => {
  const main = mainOf(incidentOf(), lastingIncident());
  assert.match(main, /data-path="incidents\.0\.backSec\.p99">4\.00 s</);
  assert.match(main, /data-path="incidents\.1\.backSec\.p50">1\.25 s</);
  assert.match(main, /not until the end/);
  assert.equal(main.match(/<path class="missing"/g)?.length, 2);
  assert.match(main, /id="table-incident-1"/);
  // From all missing at the top of the picture to none at its foot.
  assert.match(main, /d="M0 0L180 72L360 118\.8L540 119\.9L720 120"/);
});

test('without an incident there is no section', () => {
  assert.doesNotMatch(mainOf(), /id="incidents"/);
});
