import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { reportJson } from '../../src/report/json.ts';
import { hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { sampleReport } from './sample-report.ts';

describe('the report as JSON', () => {
  it('keeps every field and ends in a line break', () => {
    const report = sampleReport();
    const text = reportJson(report);
    assert.ok(text.endsWith('}\n'));
    assert.deepEqual(JSON.parse(text), report);
  });

  it('is what docs/report.schema.json describes', () => {
    assert.deepEqual(schemaErrors(JSON.parse(reportJson(sampleReport()))), []);
  });

  it('would not pass with a field too many, a field too few, an unknown reason or a negative count', () => {
    const report = JSON.parse(reportJson(sampleReport())) as Record<string, Record<string, unknown>>;
    assert.notDeepEqual(schemaErrors({ ...report, surprise: 1 }), []);
    const { ramp: _, ...fewer } = report;
    assert.notDeepEqual(schemaErrors(fewer), []);
    const connections = report.connections ?? {};
    assert.notDeepEqual(
      schemaErrors({ ...report, connections: { ...connections, failed: { bored: 1 } } }),
      [],
    );
    assert.notDeepEqual(schemaErrors({ ...report, connections: { ...connections, open: -1 } }), []);
  });
});

// PROTOCOL.md: text-formats
test('whatever another process has said, the JSON can be shown, and says the same', () => {
  fc.assert(
    fc.property(hostileReport, (report) => {
      const json = reportJson(report);
      assert.doesNotMatch(json, INVISIBLE);
      assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(report)));
    }),
    { numRuns: 100 },
  );
});
