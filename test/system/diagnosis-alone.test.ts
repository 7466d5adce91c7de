/** Owns the proof that faults are named which the whole machine feels: nothing else may run beside them. */
import assert from 'node:assert/strict';
import { fault, names } from '../support/fault-test.ts';

fault('generator-limited', ({ report, result }) => {
  assert.equal(report.connections.held, 3_000, report.reason);
  assert.equal(result.code, 0);
  assert.match(report.reason, /3,000 of 3,000 held; generator limited: holder local\/1/);
  assert.match(result.stdout, /not trustworthy: generator limited/);
  assert.equal(report.latencyTrustworthy, false);
  assert.ok(report.generator.limits.length > 0);
});

fault('path-conntrack', (ran) => {
  assert.deepEqual(names(ran), ['path-conntrack']);
  assert.match(ran.report.reason, /1,500 of 1,500 entries/);
});
