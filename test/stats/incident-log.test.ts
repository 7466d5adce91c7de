/** Tests incidents: where one begins and ends, how long its parts took, and that parts of agents add up on the run's time. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Incident, IncidentLog } from '../../src/stats/incident-log.ts';
import { QUARTER_MS } from '../../src/stats/loss.ts';

/** Counts by quarter of one agent; they are cumulative, as an agent reports them. */
class Agent {
  readonly #lists = new Map<string, Map<number, number>>();
  readonly log: IncidentLog;
  readonly name: string;
  readonly laterMs: number;

  constructor(log: IncidentLog, name = 'a', laterMs = 0) {
    this.log = log;
    this.name = name;
    this.laterMs = laterMs;
  }

  count(kind: 'lost' | 'calls' | 'back' | 'refused' | 'failed', quarter: number, count: number): this {
    const list = this.#lists.get(kind) ?? new Map<number, number>();
    this.#lists.set(kind, list.set(quarter, (list.get(quarter) ?? 0) + count));
    return this;
  }

  report(nowMs: number): void {
    const listOf = (kind: string): number[] =>
      [...(this.#lists.get(kind) ?? [])].toSorted(([a], [b]) => a - b).flat();
    const returns = {
      calls: listOf('calls'),
      back: listOf('back'),
      refused: listOf('refused'),
      failed: listOf('failed'),
    };
    this.log.take(this.name, listOf('lost'), returns, this.laterMs, nowMs);
  }
}

const SECOND = 1_000 / QUARTER_MS;
/** So many are kept. */
const INCIDENTS_MAX = 64;

function levelUntil(log: IncidentLog, fromSec: number, toSec: number, open: number): void {
  for (let sec = fromSec; sec <= toSec; sec++) log.level(open, sec * 1_000);
}

function only(log: IncidentLog): Incident {
  const incidents = log.incidents();
  assert.equal(incidents.length, 1);
  return incidents[0]!;
}

describe('an incident', () => {
  it('has its curve, its percentiles, the highest rates and what failed on the way', () => {
    const log = new IncidentLog();
    const agent = new Agent(log);
    levelUntil(log, 0, 10, 1_000);
    const at = 10 * SECOND;
    agent.count('lost', at, 600).count('lost', at + 1, 400);
    agent.count('refused', at + 2, 30).count('failed', at + 3, 3);
    // 1,000 come back: 500 in the second second, 400 in the third, 90, 9 and 1 in those after.
    for (const [after, count] of [
      [4, 500],
      [8, 400],
      [12, 90],
      [16, 9],
      [20, 1],
    ] as const)
      agent.count('back', at + after, count).count('calls', at + after, count);
    agent.count('calls', at + 5, 50);
    agent.report(16_000);
    levelUntil(log, 11, 16, 1_000);
    const incident = only(log);
    assert.equal(incident.atSec, 10);
    assert.deepEqual([incident.openBefore, incident.missingMax, incident.lost], [1_000, 1_000, 1_000]);
    assert.deepEqual(incident.backSec, { p50: 1.25, p90: 2.25, p99: 3.25, p999: 4.25, all: 5.25 });
    assert.deepEqual([incident.hasEnded, incident.missing, incident.lastedSec], [true, 0, 5.25]);
    assert.deepEqual([incident.connectsPerSecMax, incident.backPerSecMax], [550, 500]);
    assert.deepEqual([incident.refused, incident.failed], [30, 3]);
    assert.equal(incident.curve.bucketMs, 250);
    assert.deepEqual(incident.curve.missing.slice(0, 6), [600, 1_000, 1_000, 1_000, 500, 500]);
    assert.equal(incident.curve.connects[5], 50);
  });

  it('begins at 1 % of what was open within a second, and not below', () => {
    for (const [lost, quarters, is] of [
      [10, 1, true],
      [9, 1, false],
      [5, 2, true],
      [2, 4, false],
      [5, 6, true],
      [1, 40, false],
    ] as const) {
      const log = new IncidentLog();
      const agent = new Agent(log);
      levelUntil(log, 0, 5, 1_000);
      for (let each = 0; each < quarters; each++) agent.count('lost', 20 + each, lost);
      agent.report(20_000);
      assert.equal(log.incidents().length, is ? 1 : 0, `${lost} in each of ${quarters} quarters`);
    }
  });

  it('that has not ended says so, and lasts until now', () => {
    const log = new IncidentLog();
    const agent = new Agent(log);
    levelUntil(log, 0, 5, 100);
    agent.count('lost', 20, 100).count('back', 24, 60).report(6_000);
    levelUntil(log, 6, 30, 60);
    const incident = only(log);
    assert.deepEqual([incident.hasEnded, incident.missing, incident.lastedSec], [false, 40, 25.25]);
    assert.deepEqual(incident.backSec, { p50: 1.25, p90: null, p99: null, p999: null, all: null });
  });

  it('is over only when what came back stays: what is lost again takes its time with it', () => {
    const log = new IncidentLog();
    const agent = new Agent(log);
    levelUntil(log, 0, 5, 100);
    agent.count('lost', 20, 100).count('back', 21, 100).count('lost', 24, 80).count('back', 30, 80);
    agent.report(8_000);
    levelUntil(log, 6, 12, 100);
    const incident = only(log);
    assert.deepEqual([incident.lost, incident.missingMax], [180, 100]);
    assert.deepEqual(incident.backSec, { p50: 2.75, p90: 2.75, p99: 2.75, p999: 2.75, all: 2.75 });
  });

  it('in which all came back within the same quarter took that long', () => {
    const log = new IncidentLog();
    levelUntil(log, 0, 5, 100);
    new Agent(log).count('lost', 20, 100).count('back', 20, 100).report(6_000);
    levelUntil(log, 6, 7, 100);
    const incident = only(log);
    assert.deepEqual([incident.missingMax, incident.backSec.p50, incident.backSec.all], [100, 0.25, 0.25]);
  });
});

describe('a second drop', () => {
  const twice = (missing: number, apartSec: number): Incident[] => {
    const log = new IncidentLog();
    const agent = new Agent(log);
    levelUntil(log, 0, 5, 1_000);
    agent
      .count('lost', 20, 1_000)
      .count('back', 22, 1_000 - missing)
      .report(7_000);
    levelUntil(log, 6, 5 + apartSec, 1_000 - missing);
    agent.count('lost', 20 + apartSec * SECOND, 500).count('back', 21 + apartSec * SECOND, 500);
    agent.report(6_000 + apartSec * 1_000);
    levelUntil(log, 6 + apartSec, 8 + apartSec, 1_000 - missing);
    return log.incidents();
  };

  it('is an incident of its own when the first is over', () => {
    const [first, second] = twice(0, 20);
    assert.deepEqual([first?.missingMax, first?.backSec.all], [1_000, 0.75]);
    assert.deepEqual([second?.missingMax, second?.atSec, second?.backSec.all], [500, 25, 0.5]);
  });

  it('also where a few of the first never come back, which are its own', () => {
    const [first, second] = twice(3, 20);
    assert.deepEqual([first?.missing, first?.hasEnded, first?.backSec.p99], [3, false, 0.75]);
    assert.deepEqual([second?.missing, second?.hasEnded, second?.openBefore], [0, true, 997]);
  });

  it('belongs to the first while that lasts', () => {
    assert.equal(twice(100, 20).length, 1);
    assert.equal(twice(0, 3).length, 1);
  });
});

describe('over several agents', () => {
  it('a drop is found that none of them sees for itself, by the time of the run', () => {
    const log = new IncidentLog();
    levelUntil(log, 0, 9, 1_000);
    // One began two seconds later than the run: its quarter 30 is the run's quarter 38.
    const agents = [new Agent(log, 'a'), new Agent(log, 'b', 2_000)];
    agents[0]!.count('lost', 38, 5).count('back', 42, 5).report(12_000);
    agents[1]!.count('lost', 30, 5).report(12_000);
    agents[1]!.count('back', 38, 5).report(13_000);
    levelUntil(log, 10, 13, 1_000);
    const incident = only(log);
    assert.deepEqual([incident.atSec, incident.lost], [9.5, 10]);
    assert.deepEqual([incident.backSec.p50, incident.backSec.all], [1.25, 2.25]);
  });

  it('the order of reports, and how often each is repeated, make no difference', () => {
    const event = fc.record({
      agent: fc.nat(2),
      kind: fc.constantFrom('lost' as const, 'back' as const, 'calls' as const, 'refused' as const),
      quarter: fc.integer({ min: 20, max: 50 }),
      count: fc.integer({ min: 1, max: 50 }),
    });
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 40 }), fc.nat(), (events, seed) => {
        const through = (isLate: boolean): Incident[] => {
          const log = new IncidentLog();
          levelUntil(log, 0, 4, 1_000);
          const agents = ['a', 'b', 'c'].map((name) => new Agent(log, name));
          agents[0]!.count('lost', 19, 100);
          agents[0]!.report(13_000);
          for (const { agent, kind, quarter, count } of events) {
            agents[agent]!.count(kind, quarter, count);
            if (!isLate) agents[(agent + seed) % 3]!.report(13_000);
          }
          for (const agent of isLate ? agents.toReversed() : agents) agent.report(13_000);
          for (const agent of agents) agent.report(13_000);
          levelUntil(log, 13, 14, 1_000);
          return log.incidents();
        };
        assert.deepEqual(through(false), through(true));
      }),
      { numRuns: 200 },
    );
  });

  it('the largest number of incidents, and a long one, keep their bounds', () => {
    const log = new IncidentLog();
    const agent = new Agent(log);
    levelUntil(log, 0, 5, 100);
    for (let each = 0; each < INCIDENTS_MAX + 6; each++) {
      const sec = 5 + each * 60;
      agent
        .count('lost', sec * SECOND, 50)
        .count('back', sec * SECOND + 2, each === INCIDENTS_MAX - 1 ? 49 : 50);
      agent.report(sec * 1_000 + 2_000);
      levelUntil(log, sec + 1, sec + 60, 100);
    }
    const incidents = log.incidents();
    assert.equal(incidents.length, INCIDENTS_MAX);
    const { curve, hasEnded, lastedSec } = incidents.at(-1)!;
    assert.equal(hasEnded, false);
    assert(curve.missing.length <= 240 && curve.missing.length === curve.connects.length);
    const spanMs = curve.missing.length * curve.bucketMs;
    assert(
      spanMs >= lastedSec * 1_000 && spanMs < lastedSec * 1_000 + curve.bucketMs,
      `${spanMs} of ${lastedSec} s`,
    );
  });
});
