/** Tests what is asked when the ramp and the hold are over: each connection once more, before the kernel is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Holding, Running } from '../../src/agent/agent-phase.ts';
import type { HolderPool } from '../../src/agent/holder-pool.ts';
import { countHoldEnd, countRampEnd } from '../../src/agent/phase-end.ts';
import type { KernelCount } from '../../src/host/kernel-evidence.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

function agentWith(probeEveryMs: number | null, areAllAsked = true) {
  const log: string[] = [];
  const holders: Pick<HolderPool, 'size' | 'checkFinally' | 'freshReport' | 'stats' | 'openTuples'> = {
    size: 1,
    checkFinally: async (which) => {
      log.push(`asked at ${which}`);
      return areAllAsked;
    },
    freshReport: async () => {
      log.push('counted');
    },
    stats: emptyStats,
    openTuples: () => [],
  };
  const watch = { phaseEnds: async () => void log.push('far side') };
  const phase = (name: 'running' | 'holding') =>
    ({
      name,
      holders,
      watch,
      prepared: { plan: { addresses: ['127.0.0.2'], ports: [] } },
    }) as object as Running & Holding;
  const kernel: KernelCount[] = [];
  const notes: string[] = [];
  const endpoints = [{ address: '127.0.0.1', port: 1, family: 4 as const }];
  const counted = { agent: 'a', spec: { ...runSpec(), endpoints, probeEveryMs }, kernel, notes };
  return { log, phase, kernel, notes, counted };
}

test('after a hold each connection is asked, and then the kernel', async () => {
  const { log, phase, kernel, notes, counted } = agentWith(10_000);
  await countHoldEnd(phase('holding'), true, counted);
  assert.deepEqual([log[0], log[1], log.at(-1)], ['asked at holdEnd', 'counted', 'far side']);
  assert.deepEqual(
    kernel.map(({ agent, when, established }) => [agent, when, established]),
    [['a', 'hold-end', 0]],
  );
  assert.deepEqual(notes, []);
});

test('a hold that ended early, and a ramp that never became one, ask no connection', async () => {
  for (const [name, isHeld] of [
    ['holding', false],
    ['running', true],
  ] as const) {
    const { log, phase, kernel, counted } = agentWith(null);
    await countHoldEnd(phase(name), isHeld, counted);
    assert(!log.includes('asked at holdEnd'), name);
    assert.equal(kernel.length, 1);
  }
});

test('holders that did not ask all of theirs in time are reported', async () => {
  const { phase, notes, counted } = agentWith(10_000, false);
  await countHoldEnd(phase('holding'), true, counted);
  assert.match(notes[0] ?? '', /agent a could not ask each of its connections once more within \d+/);
});

test('after the ramp only those are asked that no probe asks', async () => {
  for (const [probeEveryMs, isAsked] of [
    [null, true],
    [10_000, false],
  ] as const) {
    const { log, phase, kernel, counted } = agentWith(probeEveryMs);
    await countRampEnd(phase('running'), counted);
    assert.equal(log.includes('asked at rampEnd'), isAsked);
    assert.equal(kernel[0]?.when, 'ramp-end');
  }
});
