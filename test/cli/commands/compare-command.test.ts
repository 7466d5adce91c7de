/** Tests `compare` as the real command line runs them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { sampleReport } from '../../report/sample-report.ts';
import { savedReports } from '../../support/saved-reports.ts';

const { folder, series, saved } = savedReports();

describe('compare', () => {
  const run = (name: string, p99: number, label: string | null = null): string => {
    const about = { ...sampleReport().about!, name: label };
    return saved(name, sampleReport({ about, connectMs: { ...sampleReport().connectMs, p99 } }));
  };

  it('compares two files, and fails where a named metric got worse', async () => {
    const [a, b] = [run('a.json', 10), run('b.json', 15)];
    const shown = await series.run(['compare', a, b]);
    assert.equal(shown.code, 0, shown.stderr);
    assert.match(shown.stdout, /connect_p99 +10 ms +15 ms +\+50\.0 %/);
    const failed = await series.run(['compare', a, b, '--fail-on', 'connect_p99:20%']);
    assert.equal(failed.code, 1);
    assert.match(failed.stdout, /\nFAIL connect_p99:20%\n$/);
    assert.equal((await series.run(['compare', b, a, '--fail-on', 'connect_p99:20%'])).code, 0);
  });

  it('groups by label, and by the name of each run, and writes JSON and Markdown', async () => {
    const before = [1, 2, 3].map((at) => run(`x${at}.json`, 10 + at / 10, 'old'));
    const later = [1, 2, 3].map((at) => run(`y${at}.json`, 20 + at / 10, 'new'));
    const byLabel = ['--label', `v1=${before.join(',')}`, '--label', `v2=${later.join(',')}`];
    const markdown = join(folder, 'c.md');
    const labelled = await series.run(['compare', ...byLabel, '--json', '-', '--markdown', markdown]);
    const [pair] = (
      JSON.parse(labelled.stdout) as {
        pairs: { base: string; baseRuns: number; changes: { metric: string; isBeyondNoise: boolean }[] }[];
      }
    ).pairs;
    assert.deepEqual([pair?.base, pair?.baseRuns], ['v1', 3]);
    assert.equal(pair?.changes.find(({ metric }) => metric === 'connect_p99')?.isBeyondNoise, true);
    assert.match(readFileSync(markdown, 'utf8'), /\| connect\\_p99 \| 10\\\.2 ms \| 20\\\.2 ms \|/);
    const byName = await series.run(['compare', ...before, ...later]);
    assert.match(byName.stdout, /^new \(3 runs\) against old \(3 runs\)/);
  });

  it('refuses what cannot be grouped, a metric that there is not, and one file', async () => {
    const [a, b] = [run('a.json', 10), run('b.json', 15)];
    for (const [args, says] of [
      [[a], /two or more groups/],
      [[a, b, a], /two or more groups/],
      [['--label', `x=${a}`, b], /has no label/],
      [['--label', a], /is not a name and files/],
      [[a, b, '--fail-on', 'conect_p99:5%'], /connect_p99:10%/],
      [[a, b, '--fail-on', 'held:5ms'], /is not a metric and a tolerance/],
    ] as const) {
      const { code, stderr } = await series.run(['compare', ...args]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, says);
    }
  });
});
