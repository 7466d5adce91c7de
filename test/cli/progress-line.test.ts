import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { logLine, terminalLines } from '../../src/cli/progress-line.ts';
import type { AgentProgress, Phase, Progress } from '../../src/stats/stats.ts';

function agent(change: Partial<AgentProgress> = {}): AgentProgress {
  return {
    name: 'local',
    quota: 130_000,
    open: 65_000,
    established: 65_000,
    pending: 512,
    failed: 12,
    dropped: 0,
    ratePerSec: 26_123,
    lost: false,
    ...change,
  };
}

function progress(phase: Phase, change: Partial<Progress> = {}): Progress {
  const total = agent({ name: 'total' });
  return {
    phase,
    elapsedMs: 3000,
    holdLeftMs: null,
    asked: 130_000,
    total,
    agents: [agent()],
    note: null,
    ...change,
  };
}

describe('a line of progress on a terminal', () => {
  it('tells open of asked, rate, pending, failed and phase on 80 columns', () => {
    const [line] = terminalLines([agent()], progress('ramping'), 80);
    assert.match(line ?? '', /^local +\[=+ +\] 65,000\/130,000 26\.1k\/s 512 pend 12 fail ramping$/);
  });

  it('tells the seconds that are left of the hold', () => {
    const [line] = terminalLines([agent()], progress('holding', { holdLeftMs: 12_300 }), 80);
    assert.match(line ?? '', /holding 13s$/);
  });

  it('gives up the least important numbers first, and the open of asked never', () => {
    const at = (width: number): string => terminalLines([agent()], progress('ramping'), width)[0] ?? '';
    assert.doesNotMatch(at(60), /pend/);
    assert.match(at(60), /26\.1k\/s/);
    assert.match(at(40), /65,000\/130,000/);
  });

  it('marks a lost agent', () => {
    const rows = terminalLines([agent(), agent({ name: 'far', lost: true })], progress('ramping'), 80);
    assert.match(rows[1] ?? '', /LOST$/);
  });

  it('fills its bar only when nothing is missing', () => {
    const bar = (open: number): string => terminalLines([agent({ open })], progress('ramping'), 80)[0] ?? '';
    assert.match(bar(129_999), /= \]/);
    assert.match(bar(130_000), /=\]/);
  });

  it('is always shorter than the terminal, and all lines of a picture have their columns in common', () => {
    const anyAgent = fc.record({
      name: fc.stringMatching(/^[a-z0-9.-]{1,60}$/),
      quota: fc.nat(100_000_000),
      open: fc.nat(100_000_000),
      established: fc.nat(100_000_000),
      pending: fc.nat(1_000_000),
      failed: fc.nat(100_000_000),
      dropped: fc.nat(100_000_000),
      ratePerSec: fc.double({ min: 0, max: 1e7, noNaN: true }),
      lost: fc.boolean(),
    });
    const phases = ['gathering', 'preparing', 'ramping', 'holding', 'draining', 'ended'] as const;
    const property = fc.property(
      fc.array(anyAgent, { minLength: 1, maxLength: 5 }),
      fc.constantFrom(...phases),
      fc.integer({ min: 2, max: 300 }),
      fc.nat(400_000_000),
      (agents, phase, width, holdLeftMs) => {
        const rows = terminalLines(agents, progress(phase, { holdLeftMs }), width);
        assert.equal(rows.length, agents.length);
        for (const row of rows) assert.ok(row.length < width, `${row.length} of ${width}: ${row}`);
        const bars = new Set(rows.map((row) => row.indexOf(']')));
        assert.equal(bars.size, 1);
      },
    );
    fc.assert(property, { numRuns: 300 });
  });
});

describe('a line of progress in a log', () => {
  it('tells everything in words', () => {
    assert.equal(
      logLine(progress('ramping')),
      '   3 s  ramping    65,000 of 130,000 open  26,123/s  512 pending  12 failed  0 dropped',
    );
    assert.equal(
      logLine(progress('holding', { holdLeftMs: 5000, agents: [agent({ lost: true })] })),
      '   3 s  holding    65,000 of 130,000 open  12 failed  0 dropped  5s left  1 agent lost',
    );
  });
});
