/** Tests `report` as the real command line runs them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { reportHtml } from '../../../src/report/html/page.ts';
import { renderReport } from '../../../src/report/text.ts';
import { sampleReport } from '../../report/sample-report.ts';
import { cliPath, inheritedEnvironment } from '../../support/run-cli.ts';
import { savedReports } from '../../support/saved-reports.ts';
import { HANG_MS } from '../../support/waiting.ts';

const { folder, series, saved } = savedReports();

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

  it('reads a report from stdin, and so does compare', () => {
    const report = sampleReport();
    const path = saved('first.json', report);
    const fed = (...args: string[]) =>
      spawnSync(process.execPath, [cliPath, ...args], {
        encoding: 'utf8',
        input: JSON.stringify(report),
        env: inheritedEnvironment(),
        timeout: 4 * HANG_MS,
      });
    const shown = fed('report', '-');
    assert.deepEqual([shown.status, shown.stdout], [0, renderReport(report)], shown.stderr);
    for (const args of [
      ['compare', path, '-'],
      ['compare', '--label', `a=${path}`, '--label', 'b=-'],
    ]) {
      const compared = fed(...args);
      assert.equal(compared.status, 0, compared.stderr);
      assert.match(compared.stdout, /held/);
    }
  });

  it('has the two forms of a run, the short one by itself on a terminal', async () => {
    const report = sampleReport();
    const path = saved('forms.json', report);
    const short = await series.run(['report', path, '--report', 'short']);
    assert.deepEqual([short.code, short.stdout], [0, renderReport(report, undefined, { form: 'short' })]);
    const full = await series.run(['report', path, '--text', '--report', 'full']);
    assert.deepEqual([full.code, full.stdout], [0, renderReport(report)]);
    assert.notEqual(short.stdout, full.stdout);
    const page = join(folder, 'forms.html');
    const both = await series.run(['report', path, '--html', page, '--text', '--report', 'short']);
    assert.equal(both.stdout, renderReport(report, undefined, { form: 'short', files: [page] }));
    // A real terminal, of 100 columns.
    const typed = `stty cols 100; exec ${process.execPath} ${cliPath} report ${path}`;
    const { status, stdout } = spawnSync('script', ['-qec', typed, '/dev/null'], {
      encoding: 'utf8',
      env: { ...inheritedEnvironment(), NO_COLOR: '1' },
      timeout: 4 * HANG_MS,
    });
    assert.equal(status, 0, stdout);
    assert.equal(
      stdout.replaceAll('\r\n', '\n'),
      renderReport(report, undefined, { form: 'short', columns: 100 }),
    );
    assert.equal((await series.run(['report', path, '--report', 'long'])).code, 2);
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
