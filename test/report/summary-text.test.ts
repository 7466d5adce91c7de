/**
 * Tests the short report with recorded runs of real peers (test/cases/recordings, and those that are kept beside their frames): at every width it fits the terminal, nothing is cut,
 * and the verdict is its last line. Frames of some are kept as files; `UPDATE_FRAMES=1` writes them anew.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import type { Paint } from '../../src/report/layout.ts';
import { renderReport } from '../../src/report/text.ts';
import { verdictLine } from '../../src/report/verdict-text.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { sampleReport } from './sample-report.ts';

const RECORDINGS = join(repositoryRoot, 'test', 'cases', 'recordings');
const FRAMES = join(repositoryRoot, 'test', 'report', 'frames');
const WIDTHS = [60, 80, 120];
const ROWS = 24;

/** As a run of 35 s gave it: recordings have no times. */
const TIMES = { startedAt: '2026-11-26T20:00:00.000Z', endedAt: '2026-11-26T20:00:35.000Z' };

function recorded(name: string): RunReport | null {
  const text = readFileSync(join(RECORDINGS, `${name}.json`), 'utf8');
  return dated((JSON.parse(text) as { report: RunReport | null }).report);
}

/** A report beside the frames: a case that is recorded anew changes no frame. */
function kept(name: string): RunReport | null {
  return dated(JSON.parse(readFileSync(join(FRAMES, `${name}.json`), 'utf8')) as RunReport);
}

function dated(report: RunReport | null): RunReport | null {
  // A case without a run of ours has none.
  if (report?.connections === undefined) return null;
  const agents = report.agents.map((agent) => ({ ...agent, engine: agent.engine ?? null }));
  return { ...report, ...TIMES, agents, evidence: report.evidence ?? null };
}

const REPORTS: ReadonlyMap<string, RunReport> = new Map(
  readdirSync(RECORDINGS).flatMap((file) => {
    const name = file.replace(/\.json$/, '');
    const report = recorded(name);
    return report === null ? [] : [[name, report] as const];
  }),
);

const short = (report: RunReport, columns: number): string =>
  renderReport(report, undefined, { form: 'short', columns, files: ['run.json'] });

/** A report beside the frames whose run was recorded with them (test/support/record-progress.ts). */
function keptWhole(name: string): RunReport {
  return JSON.parse(readFileSync(join(FRAMES, `${name}.json`), 'utf8')) as RunReport;
}

const refused = keptWhole('refused');
const interrupted = keptWhole('interrupted');
/** One of each verdict, and those with the most to say. */
const SHOWN: Readonly<Record<string, RunReport | null>> = {
  pass: kept('agents-of-one-name'),
  'pass-kernel-only': kept('haproxy-maxconn-silent'),
  'fail-one-endpoint': kept('one-endpoint-drops'),
  'fail-killed': kept('haproxy-killed-in-hold'),
  // 130,000 over eight sources, as in the README.
  'pass-130k': keptWhole('readme'),
  'fail-unknown': kept('five-hundred-in-all'),
  'fail-ended-early': kept('all-dropped'),
  'fail-losses': kept('forty-percent-lost'),
  incomplete: kept('own-address-gone'),
  refused,
  interrupted,
};

for (const [name, report] of Object.entries(SHOWN))
  for (const columns of WIDTHS)
    test(`frame ${name} at ${columns} columns`, () => {
      assert(report !== null, `${name} is recorded`);
      const path = join(FRAMES, `${name}.${columns}.txt`);
      const frame = short(report, columns);
      if (process.env.UPDATE_FRAMES === '1') writeFileSync(path, frame);
      assert.equal(frame, readFileSync(path, 'utf8'), 'UPDATE_FRAMES=1 writes it anew');
      const lines = frame.trimEnd().split('\n');
      // With the shell's next prompt below it, all of it is on the terminal.
      assert(lines.length < ROWS, `${lines.length} rows`);
      for (const line of lines) assert(line.length < columns, line);
      assert.equal(lines.at(-1), verdictLine(report));
    });

/** Without spaces, so that where a text is wrapped does not count. */
const bare = (text: string): string => text.replace(/\s+/g, '');

test('every recorded run fits 24 rows at 60, 80 and 120 columns, and ends with its verdict', () => {
  assert(REPORTS.size > 80, `${REPORTS.size} recordings`);
  for (const [name, report] of REPORTS)
    for (const columns of WIDTHS) {
      const lines = short(report, columns).trimEnd().split('\n');
      assert(lines.length < ROWS, `${name} at ${columns}: ${lines.length} rows`);
      for (const line of lines) assert(line.length < columns, `${name} at ${columns}: ${line}`);
      assert.equal(lines.at(-1), verdictLine(report), name);
    }
});

test('causes and their next commands are whole, each once; where not all fit, the largest are, and the others are counted', () => {
  let withRest = 0;
  for (const [name, report] of REPORTS)
    for (const columns of WIDTHS) {
      const text = bare(short(report, columns));
      if (report.verdict === 'pass') continue;
      const rest = Number(
        /and(\d+)morecauses?,of[\d,]+connections?:--reportfullshowsall/.exec(text)?.[1] ?? 0,
      );
      const largest = report.diagnoses.toSorted((a, b) => b.count - a.count);
      const shownCauses = largest.slice(0, largest.length - rest);
      if (rest > 0) {
        withRest += 1;
        assert(shownCauses.length > 0, `${name} at ${columns}`);
        assert(columns < 120, `${name}: at ${columns} columns all fit`);
      }
      for (const { message, next } of shownCauses) {
        assert.equal(text.split(bare(message)).length, 2, `${name} at ${columns}: ${message}`);
        assert(text.includes(bare(`next: ${next}`)), `${name} at ${columns}: ${next}`);
      }
    }
  assert(withRest < 8, `${withRest} have more causes than fit`);
});

test('the full form has the verdict as its last line too, and fits its width', () => {
  for (const [name, report] of REPORTS)
    for (const columns of [60, 80]) {
      const lines = renderReport(report, undefined, { columns }).trimEnd().split('\n');
      assert.equal(lines.at(-1), verdictLine(report), name);
      const commands = new Set(report.findings.map(({ fix }) => fix));
      for (const line of lines) {
        const isWhole = commands.has(line.trim()) || !line.trim().includes(' ');
        assert(line.length <= columns || isWhole, `${name} at ${columns}: ${line}`);
      }
    }
});

test('what is long is wrapped, never cut', () => {
  const asked = { ...sampleReport().asked, target: [`echo://${'a'.repeat(40)}.example:8000`] };
  const notes = Array.from({ length: 30 }, (_, index) => `note ${index} ${'word '.repeat(30)}`);
  const text = short(sampleReport({ asked, notes }), 60);
  assert(bare(text).includes(asked.target[0] ?? 'none'), text);
  assert(text.includes('--report full shows all'), text);
  assert.doesNotMatch(text, /[~…]/);
  assert(text.trimEnd().split('\n').length < ROWS);
});

test('the verdict is green, red, or yellow where its person has ended it; labels are dim', () => {
  const paint: Paint = (style, text) => `<${style}>${text}</${style}>`;
  const last = (report: RunReport): string =>
    renderReport(report, paint, { form: 'short' }).trimEnd().split('\n').at(-1) ?? '';
  assert.match(last(sampleReport()), /^<bold><good>PASS .*<\/good><\/bold>$/);
  assert.match(last(refused), /^<bold><bad>REFUSED/);
  assert.match(last(interrupted), /^<bold><warn>INCOMPLETE/);
  assert.doesNotMatch(renderReport(interrupted, paint).split('\n').slice(-2).join('\n'), /<bad>/);
  assert.match(renderReport(sampleReport(), paint, { form: 'short' }), /<dim>target {5}<\/dim>/);
});

test('the sample of the README, in both languages, is what the tool makes of the recorded run', () => {
  const report = JSON.parse(readFileSync(join(FRAMES, 'readme.json'), 'utf8')) as RunReport;
  const text = renderReport(report, undefined, { form: 'short' });
  assert.equal(report.agents[0]?.engine?.name, 'uring');
  for (const name of ['README.md', 'README.zh-CN.md']) {
    const readme = readFileSync(join(repositoryRoot, name), 'utf8');
    const sample = /^```\n\$ (c100k-bench .*)\n([\s\S]*?)^```$/m.exec(readme);
    assert.equal(sample?.[2], text, name);
    assert.ok(report.about?.command.startsWith(sample?.[1] ?? 'none'), name);
  }
});
