/** Tests what a comparison finds: in recorded runs, and in reports made for the purpose. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { compareReports, type PairComparison, type Tolerance } from '../../src/judge/comparison.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { sampleReport } from '../report/sample-report.ts';
import { repositoryRoot } from '../support/run-cli.ts';

/** Runs against a target that answers after 500 ms, and after 550 ms, recorded in turns on a busy host. */
const recorded = JSON.parse(
  readFileSync(join(repositoryRoot, 'test', 'judge', 'recordings', 'comparison.json'), 'utf8'),
) as { readonly equal: readonly RunReport[]; readonly slower: readonly RunReport[] };

const RUNS_A_SIDE = 3;
const PAIRS = 10;

function comparedOf(
  base: readonly RunReport[],
  other: readonly RunReport[],
  tolerances: readonly Tolerance[] = [],
): PairComparison {
  const groups = [
    { label: 'a', reports: base },
    { label: 'b', reports: other },
  ];
  const [pair] = compareReports(groups, tolerances).pairs;
  assert.ok(pair !== undefined);
  return pair;
}

function foundIn(pair: PairComparison): string[] {
  return pair.changes
    .filter(({ isBeyondNoise }) => isBeyondNoise === true)
    .map(({ metric, direction }) => `${metric} ${direction}`);
}

const P50: Tolerance = { text: 'probe_p50:5%', metric: 'probe_p50', limit: 5, isPercent: true };

describe('recorded runs', () => {
  it('that are equal show nothing beyond noise, in ten pairs of three runs a side', () => {
    assert.ok(recorded.equal.length >= 2 * PAIRS * RUNS_A_SIDE, String(recorded.equal.length));
    const found = Array.from({ length: PAIRS }, (_, pair) => {
      const from = pair * 2 * RUNS_A_SIDE;
      const runs = recorded.equal.slice(from, from + 2 * RUNS_A_SIDE);
      // In turns: what else the host does changes slowly, and must not be on one side alone.
      const side = (which: number) => runs.filter((_, at) => at % 2 === which);
      return foundIn(comparedOf(side(0), side(1)));
    });
    assert.deepEqual(found.flat(), []);
  });

  it('that are 10 % slower are found by ranks alone, with six runs a side', () => {
    // Recorded in turns with the slower ones.
    const base = recorded.equal.slice(0, recorded.slower.length);
    assert.equal(base.length, 2 * RUNS_A_SIDE);
    assert.ok(foundIn(comparedOf(base, recorded.slower)).includes('probe_p50 worse'));
  });

  it('that are 10 % slower are found, and fail a tolerance of 5 %', () => {
    const base = recorded.equal.slice(0, RUNS_A_SIDE);
    const pair = comparedOf(base, recorded.slower.slice(0, RUNS_A_SIDE), [P50]);
    assert.ok(foundIn(pair).includes('probe_p50 worse'), JSON.stringify(pair.changes));
    assert.deepEqual(
      pair.tolerances.map(({ failed }) => failed),
      [true],
    );
    const percent = pair.changes.find(({ metric }) => metric === 'probe_p50')?.changePercent ?? 0;
    assert.ok(percent > 7 && percent < 13, String(percent));
    const back = comparedOf(recorded.slower.slice(0, RUNS_A_SIDE), base, [P50]);
    assert.ok(foundIn(back).includes('probe_p50 better'));
    assert.deepEqual(
      back.tolerances.map(({ failed }) => failed),
      [false],
    );
  });
});

function withP99(p99: number | null, change: Partial<RunReport> = {}): RunReport {
  return sampleReport({ connectMs: { ...sampleReport().connectMs, p99 }, ...change });
}

const P99 = (limit: number, isPercent = true): Tolerance => ({
  text: 't',
  metric: 'connect_p99',
  limit,
  isPercent,
});

describe('a comparison', () => {
  it('of one run a side says that noise is not known, and goes by the tolerance', () => {
    const pair = comparedOf([withP99(10)], [withP99(12)], [P99(10), P99(30), P99(1, false), P99(3, false)]);
    assert.deepEqual(
      pair.tolerances.map(({ failed }) => failed),
      [true, false, true, false],
    );
    assert.equal(pair.changes.find(({ metric }) => metric === 'connect_p99')?.isBeyondNoise, null);
    assert.match(pair.notes.join(), /cannot be said/);
  });

  it('of three runs a side fails nothing that is noise', () => {
    const pair = comparedOf(
      [10, 30, 11].map((ms) => withP99(ms)),
      [31, 12, 29].map((ms) => withP99(ms)),
      [P99(10)],
    );
    assert.deepEqual(pair.tolerances, [
      { text: 't', metric: 'connect_p99', failed: false, why: 'beyond its tolerance, but not beyond noise' },
    ]);
  });

  it('takes the median, of an even number too', () => {
    const pair = comparedOf(
      [1, 2, 50].map((ms) => withP99(ms)),
      [2, 4, 6, 400].map((ms) => withP99(ms)),
    );
    const change = pair.changes.find(({ metric }) => metric === 'connect_p99');
    assert.deepEqual([change?.base, change?.other, change?.changePercent], [2, 5, 150]);
  });

  it('fails what was named and not measured', () => {
    const pair = comparedOf([withP99(null)], [withP99(5)], [P99(10)]);
    assert.deepEqual(
      pair.tolerances.map(({ failed, why }) => [failed, why]),
      [[true, 'not measured on both sides']],
    );
  });

  it('knows that fewer held are worse and fewer lost are better', () => {
    const { connections } = sampleReport();
    const held = (count: number): RunReport =>
      sampleReport({ connections: { ...connections, held: count, dropped: { rst: 130_000 - count } } });
    const pair = comparedOf([held(130_000)], [held(100_000)]);
    const directions = Object.fromEntries(pair.changes.map(({ metric, direction }) => [metric, direction]));
    assert.deepEqual([directions.held, directions.dropped, directions.rate], ['worse', 'worse', 'same']);
    const few = [130_000, 130_000, 129_999].map(held);
    const many = [100_000, 100_100, 99_900].map(held);
    assert.deepEqual(foundIn(comparedOf(few, many)), ['held worse', 'dropped worse']);
    assert.deepEqual(foundIn(comparedOf(few, few)), []);
  });

  it('says what makes runs hard to compare', () => {
    const other = withP99(5, {
      verdict: 'incomplete',
      latencyTrustworthy: false,
      asked: { ...sampleReport().asked, connections: 5 },
    });
    const { notes } = comparedOf([withP99(5)], [other]);
    assert.match(
      notes.join('\n'),
      /what was asked differs.*\n.*incomplete or refused\n.*generator was limited/,
    );
  });
});
