import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { measureScale, type ScaleOptions, type ScaleResult } from '../bench/coordinator-scale.ts';
import { aimFigures, scaleFigures } from '../bench/scale-figures.ts';

const STEADY_MS = 6_000;
/** 19 to 23 kB were measured; three histograms of 1,000 connections as lists would add 34 kB. */
const HEAP_BYTES_PER_AGENT_MAX = 40_000;

const OPTIONS: Omit<ScaleOptions, 'agents'> = {
  steadyMs: STEADY_MS,
  connectionsPerAgent: 1_000,
  holdersPerAgent: 2,
  clientProcesses: 3,
  isProbing: false,
  coordinatorNodeArguments: [],
};

/** The bounds mean something only when every agent spoke each second and the run was a whole one. */
function assertWhole(result: ScaleResult): void {
  assert.equal(result.verdict, 'pass');
  assert.equal(result.held, result.connections);
  assert.equal(result.done, result.agents);
  assert.deepEqual(result.cutOff, []);
  assert.deepEqual(result.lost, []);
  const expected = (result.agents * STEADY_MS) / 1_000;
  assert.ok(result.statsMessages >= 0.9 * expected, `${result.statsMessages} messages of ${expected}`);
  assert.ok(result.coresUsed > 0);
}

describe('the coordinator', () => {
  it('takes 2,000 agents that report each second, under one core and 500 MB, at no more a piece than 200', async (t) => {
    const few = await measureScale({ ...OPTIONS, agents: 200 });
    const many = await measureScale({ ...OPTIONS, agents: 2_000 });
    t.diagnostic(JSON.stringify([few, many]));
    assertWhole(few);
    assertWhole(many);
    const missed = scaleFigures(few, many).filter((figure) => !figure.ok);
    assert.deepEqual(missed, []);
  });

  it('keeps no more than 40 kB of heap for each of 500 agents whose probes are measured', async (t) => {
    const coordinatorNodeArguments = ['--expose-gc'];
    const result = await measureScale({
      ...OPTIONS,
      agents: 500,
      isProbing: true,
      coordinatorNodeArguments,
      waitAgentsMs: 120_000,
    });
    t.diagnostic(JSON.stringify(result));
    assert.equal(result.verdict, 'pass');
    const { heapBytesPerAgent } = result;
    assert(heapBytesPerAgent !== null && heapBytesPerAgent > 10_000, 'it was measured');
    assert(heapBytesPerAgent < HEAP_BYTES_PER_AGENT_MAX, `${heapBytesPerAgent} bytes`);
  });

  it('would miss every bound if it were slow, large or hasty: the bounds can fail', () => {
    const good: ScaleResult = {
      agents: 200,
      connections: 200_000,
      fullBytes: 13_000,
      statsBytes: 1_400,
      joinSeconds: 1,
      joinRetries: 0,
      coresUsed: 0.05,
      cpuMsPerAgentSecond: 0.2,
      cpuMsPerMessage: 0.2,
      residentBytesMax: 1e8,
      residentBytesMaxAtEnd: 1e8,
      heapBytesPerAgent: 5e4,
      statsMessages: 1_200,
      lagMs: { p50: 1, p99: 10, max: 20 },
      lost: [],
      cutOff: [],
      done: 200,
      verdict: 'pass',
      held: 200_000,
    };
    const bad: ScaleResult = {
      ...good,
      joinSeconds: 61,
      coresUsed: 1.1,
      cpuMsPerAgentSecond: 0.31,
      residentBytesMax: 5.1e8,
      lost: ['host-1'],
    };
    assert.ok(scaleFigures(good, good).every(({ ok }) => ok));
    assert.ok(scaleFigures(good, bad).every(({ ok }) => !ok));
    const more: ScaleResult = { ...good, agents: 2_200, residentBytesMax: 1.7e8, cpuMsPerMessage: 0.1 };
    const aims = aimFigures(good, more).map(({ value, ok }) => [Math.round(value), ok]);
    assert.deepEqual(aims, [
      [1, true],
      [443, true],
    ]);
    const wider = { ...more, residentBytesMax: 2e8, cpuMsPerMessage: 0.11 };
    assert.ok(aimFigures(good, wider).every(({ ok }) => !ok));
  });
});
