/**
 * Tests the live view with what real runs showed of themselves (test/support/record-progress.ts records it): at every width each
 * phase fits the terminal, nothing is cut, and the line of a log carries the same facts. Frames are kept as files;
 * `UPDATE_FRAMES=1` writes them anew.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { LiveView, logLine, viewSize } from '../../src/cli/live-view.ts';
import type { AgentProgress, Progress } from '../../src/coordinator/run-progress.ts';
import { noPaint, type Paint } from '../../src/report/layout.ts';
import { repositoryRoot } from '../support/run-cli.ts';

const FRAMES = join(repositoryRoot, 'test', 'cli', 'frames');
const WIDTHS = [60, 80, 120];
const ROWS = 24;

function recorded(name: string): readonly Progress[] {
  return JSON.parse(readFileSync(join(FRAMES, `${name}.json`), 'utf8')) as readonly Progress[];
}

const RUNS: Readonly<Record<string, readonly Progress[]>> = {
  alone: recorded('alone'),
  losses: recorded('losses'),
  agents: recorded('agents'),
};

/** What stands on a terminal of this size after the last of these snapshots. */
function shown(snapshots: readonly Progress[], columns: number, rows = ROWS, paint = noPaint): string[] {
  return laidOut(snapshots, viewSize({ columns, rows }), paint);
}

function laidOut(
  snapshots: readonly Progress[],
  size: ReturnType<typeof viewSize>,
  paint = noPaint,
): string[] {
  const view = new LiveView();
  for (const snapshot of snapshots) view.add(snapshot);
  return view.lines(size, paint).map(({ painted }) => painted);
}

/** The snapshots up to the last one of a phase. */
function upTo(run: readonly Progress[], phase: Progress['phase']): readonly Progress[] {
  const last = run.findLastIndex((progress) => progress.phase === phase);
  return last < 0 ? [] : run.slice(0, last + 1);
}

const PHASES = ['gathering', 'preparing', 'ramping', 'holding', 'draining'] as const;

for (const [name, run] of Object.entries(RUNS))
  for (const columns of WIDTHS)
    test(`frames of the run ${name} at ${columns} columns`, () => {
      const frames = PHASES.flatMap((phase) => {
        const lines = shown(upTo(run, phase), columns);
        assert(lines.length > 0 && lines.length < ROWS, `${phase}: ${lines.length} rows`);
        // And room for the ^C that the terminal echoes behind the last line.
        for (const line of lines) assert(line.length + 2 < columns, `${phase}: ${line}`);
        return [`== ${phase}`, ...lines];
      });
      const path = join(FRAMES, `${name}.${columns}.txt`);
      const text = `${frames.join('\n')}\n`;
      if (process.env.UPDATE_FRAMES === '1') writeFileSync(path, text);
      assert.equal(text, readFileSync(path, 'utf8'), 'UPDATE_FRAMES=1 writes it anew');
    });

test('the lines of a log of these runs are as they were recorded', () => {
  const lines = Object.entries(RUNS).flatMap(([name, run]) => [
    `== ${name}`,
    ...PHASES.flatMap((phase) => upTo(run, phase).slice(-1)).map((progress) => logLine(progress, noPaint)),
  ]);
  const path = join(FRAMES, 'log.txt');
  const text = `${lines.join('\n')}\n`;
  if (process.env.UPDATE_FRAMES === '1') writeFileSync(path, text);
  assert.equal(text, readFileSync(path, 'utf8'), 'UPDATE_FRAMES=1 writes it anew');
});

/** Without what is only layout: spaces, bars, charts, and the words that lead a line. */
function facts(text: string): Set<string> {
  return new Set(text.match(/\d[\d,.]*\d|\d/g) ?? []);
}

test('what the terminal says of a hold or a ramp, the line of a log says too', () => {
  for (const run of Object.values(RUNS))
    for (const [at, progress] of run.entries()) {
      if (progress.phase !== 'ramping' && progress.phase !== 'holding') continue;
      // The time in the phase is the terminal's; a log has the time of the run in each line.
      const [, ...lines] = shown(run.slice(0, at + 1), 120);
      const said = lines.filter((line) => !line.startsWith('over time') && !/^\S+ +\[/.test(line));
      const inLog = facts(logLine(progress, noPaint));
      const wanted = facts(said.join('\n'));
      const missing = [...wanted].filter((number) => !inLog.has(number));
      assert.deepEqual(missing, [], `${said.join('\n')}\n${logLine(progress, noPaint)}`);
    }
});

function last(run: readonly Progress[] | undefined, phase: Progress['phase']): Progress {
  const progress = upTo(run ?? [], phase).at(-1);
  assert(progress !== undefined);
  return progress;
}

const HOLD = last(RUNS.losses, 'holding');

test('the phase has its time, what is left, and the chart one column a second', () => {
  const ramp = upTo(RUNS.alone ?? [], 'ramping');
  const lines = shown(ramp, 80);
  assert.match(lines[0] ?? '', /^ramping {4}\d+s \(\d+s in all\), about \d+s left$/);
  const chart = lines.find((line) => line.startsWith('over time'))?.slice(11) ?? '';
  const seconds = ramp.filter(({ phase }) => phase === 'ramping').length;
  assert(Math.abs(chart.length - seconds) <= 1, `${chart.length} columns for ${seconds} s`);
  assert.match(shown([{ ...HOLD, holdLeftMs: 3_599_001 }], 80)[0] ?? '', /, 60m00s left$/);
  assert.match(shown([{ ...HOLD, holdLeftMs: 800_000_000 }], 80)[0] ?? '', /, 9d06h left$/);
});

test('a chart of a long run takes one line and has the lowest of each part', () => {
  const view = new LiveView();
  for (let second = 0; second < 20_000; second++) {
    const open = second === 9_001 ? 0 : 1_000;
    const total = { ...HOLD.total, open, quota: 1_000 };
    view.add({ ...HOLD, asked: 1_000, elapsedMs: second * 1_000, total });
  }
  const lines = view.lines({ columns: 80, rows: ROWS }, noPaint).map(({ plain }) => plain);
  const chart = lines.find((line) => line.startsWith('over time'))?.slice(11) ?? '';
  assert.match(chart, /^█{28,33} █+$/);
  assert.equal(chart.length, 69);
});

test('a single agent is the total and has no line; several have one each, those in need first', () => {
  const [agent] = HOLD.agents;
  assert(agent !== undefined);
  const naming = (progress: Progress): string[] =>
    shown([progress], 80).filter((line) => /^a\d+ /.test(line) || line.startsWith('and '));
  const many = (count: number): AgentProgress[] =>
    Array.from({ length: count }, (_, at) => ({ ...agent, name: `a${at}`, lost: at === 29 }));
  assert.deepEqual(
    shown([HOLD], 80).filter((line) => line.startsWith(agent.name)),
    [],
  );
  assert.equal(naming({ ...HOLD, agents: many(2) }).length, 2);
  const shownOf30 = naming({ ...HOLD, agents: many(30) });
  assert.match(shownOf30[0] ?? '', /^a29 .*LOST$/);
  assert.match(shownOf30.at(-1) ?? '', /^and \d+ more agents$/);
});

test('a target that does not answer is said; one that is not asked is not', () => {
  const proof = (target: Progress['target']): string =>
    shown([{ ...HOLD, target }], 80).find((line) => line.startsWith('proof')) ?? '';
  assert.match(proof({ open: 1_234 }), /the target counts 1,234$/);
  assert.match(proof({ open: null }), /the target does not say$/);
  assert.doesNotMatch(proof(null), /target/);
});

test('colours mean something: labels dim, losses bad, and nothing else', () => {
  const paint: Paint = (style, text) => `<${style}>${text}</${style}>`;
  const lines = shown([HOLD], 80, ROWS, paint);
  assert(
    lines.some((line) => /^<dim>lost +<\/dim><bad>/.test(line)),
    lines.join('\n'),
  );
  assert(
    lines.some((line) => /^<dim>open +<\/dim>\[/.test(line)),
    lines.join('\n'),
  );
  assert.match(logLine(HOLD, paint), /<bad>500 failed: refused 500<\/bad>/);
});

const counts = fc.nat(100_000_000);
const anyAgent = fc.record({
  name: fc.stringMatching(/^[a-z0-9.-]{1,63}$/),
  quota: counts,
  open: counts,
  established: counts,
  pending: fc.nat(1_000_000),
  failed: counts,
  dropped: counts,
  ratePerSec: fc.double({ min: 0, max: 1e7, noNaN: true }),
  lost: fc.boolean(),
  isAwaited: fc.boolean(),
});
const reasons = (names: readonly string[]) =>
  fc.record(Object.fromEntries(names.map((name) => [name, counts])));
const anyProgress = fc.record({
  phase: fc.constantFrom(...PHASES, 'ended' as const),
  elapsedMs: fc.nat(400_000_000),
  phaseMs: fc.nat(400_000_000),
  holdLeftMs: fc.option(fc.nat(400_000_000)),
  leftMs: fc.option(fc.nat(400_000_000)),
  asked: counts,
  total: anyAgent,
  agents: fc.array(anyAgent, { maxLength: 40 }),
  verified: fc.option(counts),
  target: fc.option(fc.record({ open: fc.option(counts) })),
  failedBy: reasons(['refused', 'timeout', 'unreachable', 'source-exhausted', 'handshake']),
  droppedBy: reasons(['rst', 'fin', 'probe-timeout', 'probe-mismatch']),
  probeP99Ms: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })),
  cpuCores: fc.option(fc.double({ min: 0, max: 256, noNaN: true })),
  note: fc.constant(null),
});

test('whatever a run says, no line is wider than the terminal and no number is cut', () => {
  const property = fc.property(
    fc.array(anyProgress, { minLength: 1, maxLength: 4 }),
    fc.integer({ min: 1, max: 300 }),
    (snapshots, columns) => {
      const lines = laidOut(snapshots, { columns, rows: 1_000 });
      for (const line of lines) assert(line.length <= columns, `${line.length} of ${columns}: ${line}`);
      const progress = snapshots.at(-1);
      assert(progress !== undefined);
      const text = lines.join('\n');
      if (columns < 40 || !['ramping', 'holding', 'draining'].includes(progress.phase)) return;
      for (const [reason, count] of Object.entries(progress.failedBy))
        if (count > 0) assert(text.includes(`${reason} ${count.toLocaleString('en')}`), text);
      if (progress.verified !== null) assert(text.includes(progress.verified.toLocaleString('en')), text);
    },
  );
  fc.assert(property, { numRuns: 300 });
});
