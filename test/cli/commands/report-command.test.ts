/** Tests `report` as the real command line runs them. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { RunReport } from '../../../src/judge/report.ts';
import { reportHtml } from '../../../src/report/html/page.ts';
import { renderReport } from '../../../src/report/text.ts';
import { sampleReport } from '../../report/sample-report.ts';
import { CliSeries } from '../../support/cli-series.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-report-'));
const series = new CliSeries();
after(async () => {
  await series.close();
  rmSync(folder, { recursive: true, force: true });
});

function saved(name: string, report: RunReport): string {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify(report));
  return path;
}

describe('report', () => {
  it('prints the text, writes the page, or both', async () => {
    const path = saved('run.json', sampleReport({ verdict: 'fail', exitCode: 1 }));
    const report = sampleReport({ verdict: 'fail', exitCode: 1 });
    const alone = await series.run(['report', path]);
    assert.deepEqual([alone.code, alone.stdout], [0, renderReport(report)]);
    const page = join(folder, 'run.html');
    const html = await series.run(['report', path, '--html', page]);
    assert.deepEqual([html.code, html.stdout], [0, '']);
    assert.equal(readFileSync(page, 'utf8'), reportHtml(report));
    const both = await series.run(['report', path, '--html', page, '--text']);
    assert.equal(both.stdout, renderReport(report));
  });

  it('refuses what is no report, and a page that cannot be written', async () => {
    const none = await series.run(['report', join(folder, 'none.json')]);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /none\.json is not a report/);
    const path = saved('run.json', sampleReport());
    const nowhere = await series.run(['report', path, '--html', join(folder, 'no', 'where.html')]);
    assert.equal(nowhere.code, 5);
    assert.equal((await series.run(['report'])).code, 2);
  });
});
