import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { reportJson } from '../../src/report/json.ts';
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
