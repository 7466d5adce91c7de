/** Tests reading reports of this version, of older and of newer ones, and of what is none. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readReport } from '../../src/api/read-report.ts';
import { BenchError } from '../../src/base/errors.ts';
import { reportHtml } from '../../src/report/html/page.ts';
import { renderReport } from '../../src/report/text.ts';
import { sampleReport } from '../report/sample-report.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-read-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function written(text: string): string {
  const path = join(folder, 'report.json');
  writeFileSync(path, text);
  return path;
}

describe('a report from a file', () => {
  it('is the report that was written', () => {
    assert.deepEqual(readReport(written(JSON.stringify(sampleReport()))), sampleReport());
  });

  it('of an older version has what it lacks as not known, and can be shown', () => {
    const { evidence: _evidence, overTime: _overTime, about: _about, agents, ...rest } = sampleReport();
    const older = agents.map(({ engine: _engine, holders, ...agent }) => ({
      ...agent,
      holders: holders.map(
        ({ holdLagMsMax: _lag, scheduleShiftMs: _shift, scheduleShiftMsMax: _most, ...holder }) => holder,
      ),
    }));
    const report = readReport(written(JSON.stringify({ ...rest, agents: older, schemaVersion: '1.0.0' })));
    assert.deepEqual([report.evidence, report.overTime, report.about], [null, null, null]);
    assert.equal(report.agents[0]?.holders[0]?.holdLagMsMax, 0);
    assert.match(renderReport(report), /^PASS/m);
    assert.match(reportHtml(report), /PASS/);
  });

  it('of a newer version is read without what is not known', () => {
    const newer = { ...sampleReport(), schemaVersion: '1.99.0', surprise: { any: 1 } };
    assert.deepEqual(readReport(written(JSON.stringify(newer))), {
      ...sampleReport(),
      schemaVersion: '1.99.0',
    });
  });

  for (const [what, text] of [
    ['no JSON', '{'],
    ['nothing', ''],
    ['an array', '[]'],
    ['null', 'null'],
    ['a plan', '{"wouldStart": true}'],
    ['another major version', JSON.stringify({ ...sampleReport(), schemaVersion: '2.0.0' })],
    ['a count that is none', JSON.stringify({ ...sampleReport(), timeline: [{ atSec: 'x' }] })],
  ] as const) {
    it(`that is ${what} is refused in one line`, () => {
      assert.throws(
        () => readReport(written(text)),
        (error) =>
          error instanceof BenchError &&
          error.exitCode === 2 &&
          /is not a report of c100k-bench/.test(error.message),
      );
    });
  }

  it('that is not there is refused', () => {
    assert.throws(() => readReport(join(folder, 'missing')), /ENOENT/);
  });
});
