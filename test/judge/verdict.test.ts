/** Owns the proof that a run is judged by its counts: verdict, exit code, who ran out, and the sentence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ExitCode, type Finding } from '../../src/base/errors.ts';
import { DropReason, FailReason, isGeneratorDrop, isGeneratorFail } from '../../src/base/outcome.ts';
import type { RequirementResult } from '../../src/judge/requirement.ts';
import { judgeRun, type Verdict } from '../../src/judge/verdict.ts';
import { emptyStats, type Stats } from '../../src/stats/stats.ts';

function heldAll(passed: boolean): RequirementResult {
  return { requirement: 'held>=100%', metric: 'held', isDefault: true, passed, actual: 0, actualText: '0' };
}

type VerdictInput = Parameters<typeof judgeRun>[0];

/** A run of 2,000 of which everything was held, but for what is said. */
function judged(change: Partial<Omit<VerdictInput, 'stats'>> & { stats?: Partial<Stats> }): Verdict {
  const connections = change.connections ?? 2_000;
  const held = change.held ?? 2_000;
  return judgeRun({
    connections,
    held,
    provable: held,
    isChanging: false,
    requirements: [heldAll(held >= connections)],
    abortedFor: null,
    generatorLimits: [],
    diagnoses: [],
    interrupted: null,
    refusals: [],
    agentsLost: 0,
    withoutFinalCounts: [],
    kernelMismatch: false,
    targetProof: null,
    targetAddresses: 1,
    blindHolder: null,
    endedBeforeHold: false,
    ...change,
    stats: { ...emptyStats(), ...change.stats },
  });
}

const REFUSAL: Finding = {
  what: 'tuples',
  severity: 'refuse',
  needed: 130_000,
  available: 64_512,
  unit: 'tuples',
  message: 'needs 130,000 tuples, has 64,512',
  fix: '--source-ip 192.168.0.102-192.168.0.103',
};

test('everything held is a pass', () => {
  assert.deepEqual(judged({ connections: 130_000, held: 130_000 }), {
    verdict: 'pass',
    exitCode: 0,
    reason: '130,000 of 130,000 held',
    whoRanOut: null,
  });
});

test('a refusal comes before anything else', () => {
  const verdict = judged({ held: 0, refusals: [REFUSAL], interrupted: 'SIGINT', endedBeforeHold: true });
  assert.deepEqual(verdict, {
    verdict: 'refused',
    exitCode: 3,
    reason: 'needs 130,000 tuples, has 64,512',
    whoRanOut: 'generator',
  });
  assert.match(judged({ held: 0, refusals: [REFUSAL, REFUSAL, REFUSAL] }).reason, /\(and 2 more\)$/);
});

test('an interrupted run is incomplete, with the exit code of its signal', () => {
  const ramp = judged({
    held: 0,
    interrupted: 'SIGINT',
    endedBeforeHold: true,
    stats: { established: 1_234 },
  });
  assert.equal(ramp.verdict, 'incomplete');
  assert.equal(ramp.exitCode, 130);
  assert.equal(ramp.whoRanOut, null);
  assert.equal(
    ramp.reason,
    'interrupted by SIGINT before the hold began: 1,234 of 2,000 had been established',
  );
  const hold = judged({ interrupted: 'SIGTERM' });
  assert.equal(hold.verdict, 'incomplete');
  assert.equal(hold.exitCode, 143);
  assert.equal(hold.reason, 'interrupted by SIGTERM while holding: 2,000 of 2,000 held until then');
});

test('timeouts alone do not tell the target from the path, and the reason says so', () => {
  assert.deepEqual(judged({ held: 1_000, stats: { failed: { timeout: 1_000 } } }), {
    verdict: 'fail',
    exitCode: 1,
    reason: '1,000 of 2,000 held: 1,000 connects timed out; nothing tells target from path',
    whoRanOut: 'unknown',
  });
});

test('each reason speaks against the party that it can be laid to', () => {
  const cases: [Partial<Stats>, string | null, RegExp][] = [
    [{ failed: { refused: 500 } }, 'target', /500 connects were refused$/],
    [{ failed: { reset: 500 } }, 'target', /reset/],
    [{ failed: { handshake: 500 } }, 'target', /handshakes failed/],
    [{ failed: { unreachable: 500 } }, 'path', /unreachable/],
    [{ failed: { descriptors: 500 } }, 'generator', /descriptor/],
    [{ failed: { 'source-exhausted': 500 } }, 'generator', /no free source port/],
    [{ failed: { prohibited: 500 } }, 'generator', /prohibited by this host/],
    [{ dropped: { fin: 500 } }, 'target', /500 were closed by the far side \(FIN\)/],
    [{ dropped: { rst: 500 } }, 'target', /500 were reset by the far side/],
    [{ dropped: { unreachable: 500 } }, 'path', /unreachable/],
    [{ dropped: { 'probe-timeout': 500 } }, 'unknown', /probes were not answered in time/],
    [{ dropped: { 'holder-lost': 500 } }, 'generator', /500 were lost with their holder process/],
    [{ dropped: { 'agent-lost': 500 } }, 'generator', /lost with their agent/],
    [{ unattempted: 500 }, 'generator', /500 were never attempted/],
  ];
  for (const [stats, whoRanOut, reason] of cases) {
    const verdict = judged({ held: 1_500, stats });
    assert.equal(verdict.whoRanOut, whoRanOut, JSON.stringify(stats));
    assert.match(verdict.reason, /^1,500 of 2,000 held: /);
    assert.match(verdict.reason, reason);
    assert.equal(verdict.verdict, whoRanOut === 'generator' ? 'incomplete' : 'fail');
    assert.equal(verdict.exitCode, whoRanOut === 'generator' ? 4 : 1);
  }
});

test('of generator and target the larger shortfall decides, and the reason names both', () => {
  const target = judged({ held: 1_000, stats: { failed: { refused: 900, descriptors: 100 } } });
  assert.equal(target.whoRanOut, 'target');
  assert.equal(target.exitCode, 1);
  assert.equal(
    target.reason,
    '1,000 of 2,000 held: 900 connects were refused; besides, 100 connects found no free descriptor on our side',
  );
  const generator = judged({
    held: 1_000,
    stats: { failed: { refused: 100 }, dropped: { 'holder-lost': 900 } },
  });
  assert.equal(generator.whoRanOut, 'generator');
  assert.equal(generator.exitCode, 4);
  assert.match(
    generator.reason,
    /900 were lost with their holder process; besides, 100 connects were refused$/,
  );
});

test('quota that was given up follows the larger counted cause', () => {
  const stalled = judged({ held: 1_000, stats: { failed: { timeout: 300 }, unattempted: 700 } });
  assert.equal(stalled.exitCode, 1);
  assert.equal(stalled.whoRanOut, 'unknown');
  assert.match(stalled.reason, /700 were never attempted, 300 connects timed out; nothing tells/);
  const lost = judged({
    held: 1_000,
    stats: { dropped: { 'holder-lost': 300 }, failed: { timeout: 1 }, unattempted: 699 },
  });
  assert.equal(lost.exitCode, 4);
});

test('a run of which nothing opened says that the hold never began', () => {
  const verdict = judged({ held: 0, endedBeforeHold: true, stats: { failed: { refused: 2_000 } } });
  assert.equal(
    verdict.reason,
    '0 of 2,000 held: the run ended before the hold began, 2,000 connects were refused',
  );
  assert.equal(verdict.exitCode, 1);
  const bare = judged({ held: 0, endedBeforeHold: true });
  assert.equal(bare.exitCode, 4);
  assert.equal(bare.reason, '0 of 2,000 held: the run ended before the hold began');
  const agents = judged({ held: 0, endedBeforeHold: true, agentsLost: 1 });
  assert.equal(agents.exitCode, 4);
  assert.match(agents.reason, /2,000 were lost with their agent/);
});

test('connections that were open but never answered are missing too', () => {
  const verdict = judged({ held: 1_200, stats: { openMin: 2_000 } });
  assert.equal(verdict.exitCode, 1);
  assert.equal(verdict.whoRanOut, 'unknown');
  assert.match(verdict.reason, /800 were open but did not answer/);
});

test('a kernel that counts otherwise takes the pass away', () => {
  const verdict = judged({ kernelMismatch: true });
  assert.equal(verdict.verdict, 'incomplete');
  assert.equal(verdict.exitCode, 4);
  assert.match(verdict.reason, /the kernel counted otherwise/);
});

test('one is written as one', () => {
  assert.match(judged({ held: 1_999, stats: { failed: { refused: 1 } } }).reason, /: 1 connect was refused$/);
});

test('a holder that was blind for longer than a probe may take leaves a gap in the proof', () => {
  const verdict = judged({ blindHolder: { id: 'local/2', forMs: 7_300 } });
  assert.deepEqual([verdict.verdict, verdict.exitCode, verdict.whoRanOut], ['incomplete', 4, 'generator']);
  assert.match(
    verdict.reason,
    /2,000 of 2,000 held by our own count, but holder local\/2 stood still for 7\.3 s/,
  );
});

test('a pass needs everything held, and every other run has its own exit code and one sentence', () => {
  const count = fc.oneof(fc.constant(0), fc.nat(500));
  const inputs = fc.record({
    held: fc.nat(2_000),
    interrupted: fc.constantFrom(null, null, null, 'SIGINT' as const, 'SIGTERM' as const),
    refusals: fc.constantFrom([], [], [], [REFUSAL]),
    agentsLost: fc.nat(2),
    kernelMismatch: fc.boolean(),
    blindHolder: fc.constantFrom(null, null, { id: 'a/1', forMs: 9_000 }),
    endedBeforeHold: fc.boolean(),
    stats: fc.record({
      unattempted: count,
      openMin: fc.nat(2_000),
      failed: fc.dictionary(fc.constantFrom(...Object.values(FailReason)), count, { noNullPrototype: true }),
      dropped: fc.dictionary(fc.constantFrom(...Object.values(DropReason)), count, { noNullPrototype: true }),
    }),
  });
  fc.assert(
    fc.property(inputs, (input) => {
      const { verdict, exitCode, reason, whoRanOut } = judged(input);
      assert(reason !== '' && !reason.includes('\n') && !/undefined|NaN|: ?$|: [;,]/.test(reason), reason);
      const isWhole = input.held === 2_000 && input.interrupted === null && input.refusals.length === 0;
      assert.equal(verdict === 'pass', isWhole && !input.kernelMismatch && input.blindHolder === null);
      assert.equal(verdict === 'pass', exitCode === 0);
      assert.equal(verdict === 'fail', exitCode === 1);
      assert.equal(verdict === 'refused', exitCode === 3);
      if (exitCode === 1) assert(whoRanOut === 'target' || whoRanOut === 'path' || whoRanOut === 'unknown');
      if (exitCode === 4) assert.equal(whoRanOut, 'generator');
    }),
    { numRuns: 500 },
  );
});

test('a failure that only our own side can cause never fails the target', () => {
  for (const reason of Object.values(FailReason)) {
    const { exitCode } = judged({ held: 1_990, stats: { failed: { [reason]: 10 } } });
    assert.equal(exitCode, isGeneratorFail(reason) ? 4 : 1, reason);
  }
  for (const reason of Object.values(DropReason)) {
    const { exitCode } = judged({ held: 1_990, stats: { dropped: { [reason]: 10 } } });
    assert.equal(exitCode, isGeneratorDrop(reason) ? 4 : 1, reason);
  }
});

function result(requirement: string, metric: string, passed: boolean): RequirementResult {
  return { requirement, metric, isDefault: false, passed, actual: 1, actualText: '312 ms' };
}

test('a requirement on held decides instead of all being held', () => {
  const verdict = judged({
    held: 1_990,
    requirements: [result('held>=99%', 'held', true)],
    stats: { dropped: { rst: 10 } },
  });
  assert.deepEqual(
    [verdict.verdict, verdict.exitCode, verdict.reason],
    ['pass', 0, '1,990 of 2,000 held, as required (held>=99%)'],
  );
  const short = judged({
    held: 1_900,
    requirements: [result('held>=99%', 'held', false)],
    stats: { dropped: { rst: 100 } },
  });
  assert.deepEqual([short.verdict, short.exitCode, short.whoRanOut], ['fail', 1, 'target']);
});

test('a broken latency is a failure, but not when the generator was limited', () => {
  const requirements = [heldAll(true), result('connect_p99<250ms', 'connect_p99', false)];
  const fail = judged({ requirements });
  assert.deepEqual([fail.verdict, fail.exitCode], ['fail', 1]);
  assert.equal(fail.reason, 'required and not kept: connect_p99<250ms (was 312 ms)');
  const limited = judged({ requirements, generatorLimits: ['holder a/1 used 99 % of a core while ramping'] });
  assert.deepEqual([limited.verdict, limited.exitCode, limited.whoRanOut], ['incomplete', 4, 'generator']);
  assert.match(limited.reason, /generator limited: holder a\/1 used 99 %/);
});

test('a generator beyond its bounds that held everything passes, and says so', () => {
  const verdict = judged({ generatorLimits: ['a', 'b'] });
  assert.equal(verdict.verdict, 'pass');
  assert.equal(
    verdict.reason,
    "2,000 of 2,000 held; generator limited: a (and 1 more), so latencies are not the target's",
  );
});

test('evidence names the party where counts cannot, and its sentence is in the reason', () => {
  const diagnosis = {
    party: 'path',
    what: 'path-ports',
    count: 1_000,
    message: 'the path ends at 1,000',
    next: 'x',
  } as const;
  const verdict = judged({ held: 1_000, stats: { failed: { timeout: 1_000 } }, diagnoses: [diagnosis] });
  assert.deepEqual([verdict.whoRanOut, verdict.exitCode], ['path', 1]);
  assert.equal(verdict.reason, '1,000 of 2,000 held: 1,000 connects timed out; the path ends at 1,000');
});

test('a run that was ended early says for what', () => {
  const requirements = [heldAll(false), result('connect_max<1ms', 'connect_max', false)];
  const verdict = judged({ held: 0, endedBeforeHold: true, requirements, abortedFor: 'connect_max<1ms' });
  assert.deepEqual([verdict.verdict, verdict.exitCode], ['fail', 1]);
  assert.match(verdict.reason, /^ended early because connect_max<1ms could no longer hold/);
});

test('a lost agent makes a run incomplete, also when few enough were asked for, unless all were held', () => {
  const few = judged({ held: 1_500, agentsLost: 1, requirements: [] });
  assert.deepEqual([few.verdict, few.exitCode, few.whoRanOut], ['incomplete', 4, 'generator']);
  assert.match(few.reason, /1,500 of 2,000 held, which is enough, but an agent was lost/);
  const replaced = judged({ held: 2_000, agentsLost: 1 });
  assert.deepEqual([replaced.verdict, replaced.exitCode], ['pass', 0]);
});

test('a run that was ended early never passes, even if all was well', () => {
  const verdict = judged({ held: 2_000, abortedFor: 'held>=1' });
  assert.deepEqual([verdict.verdict, verdict.exitCode], ['incomplete', 4]);
});

test('an agent without its final counts proves nothing of what it says it held: incomplete, exit 4', () => {
  const { verdict, exitCode, reason } = judged({ withoutFinalCounts: ['a', 'b', 'c'] });
  assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.incomplete]);
  assert.match(reason, /held, but agent a and 2 more never sent its final counts/);
});

test('where no requirement was judged, less than everything is no pass', () => {
  const { verdict } = judged({ requirements: [], held: 0 });
  assert.notEqual(verdict, 'pass');
});

test('a proof that was asked for and did not come is no pass; one that came during the hold is', () => {
  const source = 'http://10.0.0.1:8001/';
  const silent = judged({ targetProof: { source, targets: 1, open: null, problem: 'ECONNREFUSED' } });
  assert.deepEqual(silent, {
    verdict: 'fail',
    exitCode: 1,
    reason: `2,000 of 2,000 held by our own count, but the target was to report its own (${source}) and did not during the hold: ECONNREFUSED`,
    whoRanOut: 'unknown',
  });
  const other = judged({ targetProof: { source, targets: 1, open: 1_999, problem: null } });
  assert.deepEqual([other.verdict, other.exitCode, other.whoRanOut], ['fail', 1, 'unknown']);
  assert.match(other.reason, /reported no more than 1,999 open connections$/);
  assert.equal(
    judged({ targetProof: { source, targets: 1, open: 2_000, problem: 'ETIMEDOUT' } }).verdict,
    'pass',
  );
  assert.equal(
    judged({ held: 1_000, targetProof: { source, targets: 1, open: null, problem: null } }).exitCode,
    4,
  );
  const one = { source, targets: 1, open: 1_000, problem: null };
  assert.match(
    judged({ targetProof: one, targetAddresses: 2 }).reason,
    /reported no more than 1,000 open connections; 1 of 2 target addresses were asked: type --target-stats for each target$/,
  );
  assert.doesNotMatch(
    judged({ targetProof: { ...one, targets: 2 }, targetAddresses: 2 }).reason,
    /were asked/,
  );
});
