import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { RunEvent } from '../../src/run/run-event.ts';
import type { RunTerms } from '../../src/run/run-spec.ts';
import { step } from '../../src/run/run-state.ts';
import { initialRunState, type RunState } from '../../src/run/run-transition.ts';
import {
  done,
  type EventBody,
  join,
  offer,
  play,
  REFUSAL,
  ready,
  report,
  SPEC,
  snapshot,
  TERMS,
  types,
  UP_TO_RAMP,
} from './played-run.ts';
import { assertChangesSaid } from './run-changes.ts';
import { runSpec } from './run-spec-fixture.ts';

const REOPENING = runSpec({ ...SPEC, onDrop: 'reopen' });

describe('a run of two agents', () => {
  it('keeps the engine that was offered, unless an agent has decided anew when it is ready', () => {
    const offered = { name: 'uring', why: 'io_uring works here' };
    const anew = { name: 'epoll', why: 'io_uring: not permitted (kernel.io_uring_disabled is 2)' };
    const { state } = play(TERMS, [
      [0, join('a')],
      [1, join('b')],
      [2, { ...offer('a', 800), engine: offered } as EventBody],
      [3, { ...offer('b', 800), engine: offered } as EventBody],
      [4, { ...ready('a'), engine: anew } as EventBody],
      [5, ready('b')],
    ]);
    assert.deepEqual(
      [...state.agents.values()].map(({ engine }) => engine),
      [anew, offered],
    );
  });

  it('hands out the odd total exactly, and the rate and the pending cap with it', () => {
    const { commands } = play(TERMS, UP_TO_RAMP.slice(0, 4));
    const quotas = commands.filter((command) => command.type === 'send-quota');
    assert.deepEqual(
      quotas.map((quota) => quota.connections),
      [501, 500],
    );
    assert.equal(
      quotas.reduce((sum, quota) => sum + (quota.ratePerSec ?? 0), 0),
      500,
    );
    assert.equal(
      quotas.reduce((sum, quota) => sum + quota.pendingMax, 0),
      100,
    );
  });

  it('starts no agent before all are ready', () => {
    const almost = play(TERMS, UP_TO_RAMP.slice(0, 5));
    assert.ok(!types(almost.commands).includes('send-start'));
    const all = play(TERMS, UP_TO_RAMP);
    assert.equal(all.commands.filter((command) => command.type === 'send-start').length, 2);
    assert.equal(all.state.phase, 'ramping');
  });

  it('holds only when both have settled, for the whole hold time, and ends when both are done', () => {
    const { state, commands } = play(TERMS, [
      ...UP_TO_RAMP,
      [1_000, report('a', 501, true)],
      [1_500, report('b', 400, false)],
      [2_000, report('b', 500, true)],
      [11_900, { type: 'ticked' }],
    ]);
    assert.equal(state.phase, 'holding');
    assert.equal(commands.filter((command) => command.type === 'send-hold').length, 2);
    const drained = play(TERMS, [
      ...UP_TO_RAMP,
      [1_000, report('a', 501, true)],
      [2_000, report('b', 500, true)],
      [12_000, { type: 'ticked' }],
      [12_100, done('a')],
      [12_200, done('b')],
    ]);
    assert.deepEqual(drained.state.endReason, { type: 'held' });
    assert.equal(drained.state.phase, 'ended');
  });

  it('refuses with the arithmetic of each agent when all together offer too little', () => {
    const { state } = play(TERMS, [...UP_TO_RAMP.slice(0, 2), [2, offer('a', 500)], [3, offer('b', 500)]]);
    assert.equal(state.endReason?.type, 'refused');
    assert.match(
      state.endReason?.type === 'refused' ? state.endReason.findings[0]!.message : '',
      /1,001 connections.* 1,000: a 500 .*b 500/,
    );
  });

  it('goes on without a lost agent, and ends when both are lost', () => {
    const one = play(TERMS, [
      ...UP_TO_RAMP,
      [1_000, report('a', 501, true)],
      [1_100, { type: 'agent-left', agent: 'b' }],
    ]);
    assert.equal(one.state.phase, 'holding');
    const two = step(one.state, { type: 'agent-left', agent: 'a', atMs: 1_200 });
    assert.equal(two.state.phase, 'ended');
    assert.deepEqual(two.state.endReason, { type: 'agents-lost', lost: ['a', 'b'] });
  });

  // PROTOCOL.md: silence
  it('loses an agent that is silent for longer than its lease', () => {
    const { state } = play(TERMS, [
      ...UP_TO_RAMP,
      [15_000, report('a', 10, false)],
      [20_006, { type: 'ticked' }],
    ]);
    assert.deepEqual(
      [...state.agents.values()].map((agent) => agent.stage),
      ['running', 'lost'],
    );
  });

  // PROTOCOL.md: wait-agents
  it('names who is missing when the wait is over', () => {
    const { state } = play(TERMS, [
      [0, join('a')],
      [1, offer('a', 1_000)],
      [50_000, report('a', 0, true, 0)],
      [59_999, { type: 'ticked' }],
      [60_000, { type: 'ticked' }],
    ]);
    assert.deepEqual(state.endReason, { type: 'agents-missing', joined: ['a'], silent: [], expected: 2 });
  });

  // PROTOCOL.md: wait-ready
  it('names who is not ready when the time for that is over', () => {
    const { state } = play(TERMS, [
      ...UP_TO_RAMP.slice(0, 5),
      [20_000, report('a', 0, true)],
      [20_000, report('b', 0, true)],
      [30_002, { type: 'ticked' }],
    ]);
    assert.equal(state.phase, 'preparing');
    const late = step(state, { type: 'ticked', atMs: 30_003 });
    assert.deepEqual(late.state.endReason, { type: 'agents-not-ready', missing: ['b'] });
  });

  it('does not wait for those that can come no more, and names who came and said nothing', () => {
    const { state } = play(TERMS, [
      [0, join('a')],
      [1_000, { type: 'gathering-hopeless' }],
    ]);
    assert.deepEqual(state.endReason, { type: 'agents-missing', joined: [], silent: ['a'], expected: 2 });
    const late = play(TERMS, [...UP_TO_RAMP, [1_000, { type: 'gathering-hopeless' }]]);
    assert.equal(late.state.phase, 'ramping', 'afterwards it means nothing');
  });

  it('hands out no quota while one that came is cut off, and does when it is back', () => {
    const cut = play(TERMS, [
      ...UP_TO_RAMP.slice(0, 3),
      [3, { type: 'agent-cut', agent: 'a' }],
      [4, offer('b', 10_000)],
      [5, { type: 'ticked' }],
    ]);
    assert.equal(cut.state.phase, 'gathering');
    const back = step(cut.state, { type: 'agent-resumed', agent: 'a', atMs: 6 });
    assert.deepEqual(types(back.commands), ['send-resumed', 'send-quota', 'send-quota']);
  });

  it('gives the place of one that is cut off before the quotas to another, and lets go of one that stays away', () => {
    const cut: readonly (readonly [number, EventBody])[] = [
      ...UP_TO_RAMP.slice(0, 2),
      [2, { type: 'agent-cut', agent: 'a' }],
    ];
    const taken = play(TERMS, [...cut, [3, join('c')]]);
    assert.deepEqual(taken.changes.slice(-2), [
      { type: 'agent-turned-away', agent: 'a', reason: 'another agent has taken its place' },
      { type: 'agent-joined', agent: 'c' },
    ]);
    assert.deepEqual(taken.commands.at(-1), { type: 'send-spec', agent: 'c' });
    const away = play(TERMS, [...cut, [20_001, report('b', 0, true, 0)], [20_002, { type: 'ticked' }]]);
    assert.deepEqual([...away.state.agents.keys()], ['b']);
    const returned = play(TERMS, [...cut, [3, { type: 'agent-resumed', agent: 'a' }], [4, join('c')]]);
    assert.equal(returned.changes.at(-1)?.type, 'agent-turned-away');
  });

  it('gives no spec to an agent too many, and says why', () => {
    const { changes, commands, state } = play(TERMS, [...UP_TO_RAMP.slice(0, 2), [2, join('c')]]);
    assert.deepEqual(types(changes), ['agent-joined', 'agent-joined', 'agent-turned-away']);
    assert.deepEqual(types(commands), ['send-spec', 'send-spec']);
    assert.equal(state.agents.size, 2);
  });

  it('sends an agent that is back after a cut everything that it may have missed', () => {
    const { commands } = play(TERMS, [
      ...UP_TO_RAMP,
      [1_000, report('a', 501, true)],
      [2_000, report('b', 500, true)],
      [3_000, { type: 'agent-resumed', agent: 'b' }],
    ]);
    assert.deepEqual(types(commands.filter((each) => 'agent' in each && each.agent === 'b')).slice(-4), [
      'send-resumed',
      'send-quota',
      'send-start',
      'send-hold',
    ]);
  });
});

it('an agent that is back only when everything closes learns that the hold had begun', () => {
  const held = play(TERMS, [
    ...UP_TO_RAMP,
    [1_000, report('a', 501, true)],
    [2_000, report('b', 500, true)],
    [2_001, { type: 'agent-cut', agent: 'b' }],
    [12_000, { type: 'ticked' }],
    [12_100, { type: 'agent-resumed', agent: 'b' }],
  ]);
  assert.deepEqual(types(held.commands).slice(-3), ['send-resumed', 'send-hold', 'send-stop']);
  const early = play(TERMS, [
    ...UP_TO_RAMP,
    [100, { type: 'interrupted', signal: 'SIGINT' }],
    [200, { type: 'agent-resumed', agent: 'b' }],
  ]);
  assert.deepEqual(types(early.commands).slice(-2), ['send-resumed', 'send-stop']);
});

describe('the loss of an agent', () => {
  const afterLoss = (policy: RunTerms['onAgentLoss'], until: readonly (readonly [number, EventBody])[]) =>
    play({ ...TERMS, onAgentLoss: policy }, [
      ...UP_TO_RAMP,
      [1_000, report('a', 100, false)],
      [1_000, report('b', 300, false)],
      [2_000, { type: 'agent-left', agent: 'b' }],
      ...until,
    ]);

  it('ends the run under fail', () => {
    const { state } = afterLoss('fail', []);
    assert.equal(state.phase, 'draining');
    assert.deepEqual(state.endReason, { type: 'agents-lost', lost: ['b'] });
  });

  // PROTOCOL.md: violation-quota
  it('hands the quota to another under replace, only after lease and margin, and the total stays exact', () => {
    const early = afterLoss('replace', [
      [20_000, report('a', 501, true)],
      [20_999, { type: 'ticked' }],
    ]);
    assert.equal(early.commands.filter((command) => command.type === 'send-quota').length, 2);
    assert.equal(early.state.phase, 'ramping', 'the ramp waits for the quota to be handed over');
    const due = step(early.state, { type: 'ticked', atMs: 21_000 });
    assert.deepEqual(due.commands, [
      { type: 'send-quota', agent: 'a', connections: 1_001, ratePerSec: 500, pendingMax: 100 },
    ]);
    assert.deepEqual(
      [...due.state.agents.values()].map((agent) => agent.quota),
      [1_001, 0],
    );
    const old = step(due.state, { ...report('a', 501, true), atMs: 21_100 } as RunEvent);
    assert.equal(old.state.phase, 'ramping', 'a report of the old quota does not settle the new one');
    const all = step(old.state, { ...report('a', 1_001, true, 1_001), atMs: 22_000 } as RunEvent);
    assert.equal(all.state.phase, 'holding');
  });

  it('goes on without what no agent can take under replace', () => {
    const { state } = play({ ...TERMS, onAgentLoss: 'replace' }, [
      [0, join('a')],
      [1, join('b')],
      [2, offer('a', 501)],
      [3, offer('b', 500)],
      [4, ready('a')],
      [5, ready('b')],
      [1_000, report('a', 501, true)],
      [2_000, { type: 'agent-left', agent: 'b' }],
      [20_000, report('a', 501, true)],
      [22_000, { type: 'ticked' }],
    ]);
    assert.equal(state.phase, 'holding');
  });

  it('gives what no agent could take to an agent that comes later', () => {
    const { state, commands } = play({ ...TERMS, onAgentLoss: 'replace' }, [
      [0, join('a')],
      [1, join('b')],
      [2, offer('a', 501)],
      [3, offer('b', 500)],
      [4, ready('a')],
      [5, ready('b')],
      [1_000, report('a', 501, true)],
      [2_000, { type: 'agent-left', agent: 'b' }],
      [20_000, report('a', 501, true)],
      [22_000, { type: 'ticked' }],
      [22_100, join('c')],
      [22_200, offer('c', 200)],
      [22_300, ready('c')],
    ]);
    assert.deepEqual(
      [...state.agents].map(([id, agent]) => [id, agent.quota]),
      [
        ['a', 501],
        ['b', 300],
        ['c', 200],
      ],
    );
    assert.deepEqual(types(commands).slice(-3), ['send-quota', 'send-start', 'send-hold']);
  });

  it('lets a stalled ramp go on, when a quota is handed to another agent', () => {
    const { state, commands } = play({ ...TERMS, onAgentLoss: 'replace', stallMs: 5_000 }, [
      ...UP_TO_RAMP,
      [1_000, report('a', 100, false)],
      [1_000, report('b', 300, false)],
      [2_000, { type: 'agent-left', agent: 'b' }],
      [6_500, { type: 'ticked' }],
      [20_500, report('a', 100, false)],
      [21_000, { type: 'ticked' }],
    ]);
    assert.deepEqual(types(commands).slice(-2), ['send-stop-opening', 'send-quota']);
    assert.equal(state.stalled, false, 'it may stall again, and is then ended again');
  });

  // PROTOCOL.md: agents-lost
  it('lets a spare go that cannot take part, and keeps the others', () => {
    const { state, changes } = afterLoss('replace', [
      [3_000, join('c')],
      [3_100, { type: 'agent-refused', agent: 'c', findings: [REFUSAL] }],
    ]);
    assert.equal(state.phase, 'ramping');
    assert.deepEqual(changes.at(-1), {
      type: 'agent-turned-away',
      agent: 'c',
      reason: 'it cannot take part',
    });
  });

  // PROTOCOL.md: agents-more
  it('takes at most 1,000 agents more than expected, and the next one when one of them has left', () => {
    const names = Array.from({ length: 1_001 }, (_, index) => `spare-${index}`);
    const plan = { ...TERMS, onAgentLoss: 'replace' } as const;
    const spares = names.map((name) => [3_000, join(name)] as const);
    const full = play(plan, [...UP_TO_RAMP, ...spares]);
    assert.equal(full.state.agents.size, 1_002);
    assert.deepEqual(full.changes.at(-1), {
      type: 'agent-turned-away',
      agent: 'spare-1000',
      reason: 'the run has begun without it',
    });
    const left = step(full.state, { type: 'agent-left', agent: 'spare-7', atMs: 3_100 });
    const next = step(left.state, { type: 'agent-joined', agent: 'next', atMs: 3_200 });
    assert.deepEqual(next.commands, [{ type: 'send-spec', agent: 'next' }]);
    assert.equal(next.state.agents.size, 1_002);
  });

  // PROTOCOL.md: agents-lost
  it('keeps nothing of one without a quota that comes and is lost, however often', () => {
    let { state } = play({ ...TERMS, onAgentLoss: 'replace' }, UP_TO_RAMP);
    const before = state.agents;
    for (let times = 0; times < 3_000; times += 1) {
      const name = `c#${times}`;
      const hasOffered = times % 2 === 0 ? [offer(name, 5)] : [];
      for (const body of [join(name), ...hasOffered, { type: 'agent-left', agent: name } as const]) {
        const stepped = step(state, { ...body, atMs: 100 + times } as RunEvent);
        state = stepped.state;
        if (body.type === 'agent-left')
          assert.deepEqual(
            stepped.changes.map(({ type }) => type),
            ['agent-turned-away'],
            'the shell forgets it too',
          );
      }
    }
    assert.deepEqual([...state.agents], [...before]);
  });

  it('lets an agent that comes back as a new one take the quota over', () => {
    const { state, commands } = afterLoss('replace', [
      [3_000, join('b#3')],
      [3_100, offer('b#3', 10_000)],
      [20_000, report('a', 501, true)],
      [20_500, report('b#3', 0, true, 0)],
      [21_000, { type: 'ticked' }],
      [21_100, ready('b#3')],
    ]);
    assert.deepEqual(
      [...state.agents].map(([id, agent]) => [id, agent.stage, agent.quota]),
      [
        ['a', 'running', 751],
        ['b', 'lost', 0],
        ['b#3', 'running', 250],
      ],
    );
    assert.deepEqual(types(commands).slice(-3), ['send-quota', 'send-quota', 'send-start']);
  });
});

describe('agents that stop answering together', () => {
  it('are lost in one tick, and the run ends once', () => {
    const { state, changes } = play(TERMS, [...UP_TO_RAMP, [20_100, { type: 'ticked' }]]);
    assert.deepEqual(
      [...state.agents.values()].map((agent) => agent.stage),
      ['lost', 'lost'],
    );
    assert.deepEqual(types(changes).slice(-4), ['agent-lost', 'agent-lost', 'phase-changed', 'run-ended']);
  });
});

describe('a ramp', () => {
  it('that stands still for the stall time stops opening, once', () => {
    const { commands, state } = play(TERMS, [
      ...UP_TO_RAMP,
      [1_000, report('a', 100, false)],
      [15_000, report('b', 0, false)],
      [19_000, report('a', 100, false)],
      [21_001, { type: 'ticked' }],
      [22_001, { type: 'ticked' }],
    ]);
    assert.equal(commands.filter((command) => command.type === 'send-stop-opening').length, 2);
    assert.equal(state.stalled, true);
  });

  it('that opened nothing ends without a hold', () => {
    const { state, commands } = play(TERMS, [
      ...UP_TO_RAMP,
      [1_000, report('a', 0, true)],
      [1_001, report('b', 0, true)],
    ]);
    assert.equal(state.phase, 'draining');
    assert.equal(state.endReason?.type, 'nothing-open');
    assert.ok(!types(commands).includes('send-hold'));
  });

  it('that is interrupted drains, and a second interrupt ends immediately', () => {
    const once = play(TERMS, [...UP_TO_RAMP, [100, { type: 'interrupted', signal: 'SIGINT' }]]);
    assert.equal(once.state.phase, 'draining');
    assert.equal(once.commands.filter((command) => command.type === 'send-stop').length, 2);
    const twice = step(once.state, { type: 'interrupted', signal: 'SIGINT', atMs: 200 });
    assert.deepEqual(types(twice.changes), ['phase-changed', 'run-ended']);
    assert.deepEqual(twice.commands, []);
    assert.deepEqual(twice.state.endReason, { type: 'interrupted', signal: 'SIGINT' });
  });
});

describe('a refusal by one agent', () => {
  it('stops all before anything is opened', () => {
    const { state, commands } = play(TERMS, [
      ...UP_TO_RAMP.slice(0, 4),
      [5, { type: 'agent-refused', agent: 'b', findings: [REFUSAL] }],
    ]);
    assert.equal(state.endReason?.type, 'refused');
    assert.ok(!types(commands).includes('send-start'));
    assert.equal(commands.filter((command) => command.type === 'send-stop').length, 2);
  });

  it('that comes while everything closes does not make it last longer', () => {
    const { state } = play(TERMS, [
      ...UP_TO_RAMP.slice(0, 4),
      [5, { type: 'agent-refused', agent: 'b', findings: [REFUSAL] }],
      [19_000, { type: 'agent-refused', agent: 'a', findings: [REFUSAL] }],
      [19_001, report('b', 0, true)],
      [20_006, { type: 'ticked' }],
    ]);
    assert.equal(state.phase, 'ended');
    assert.equal(state.endReason?.type === 'refused' && state.endReason.agent, 'b');
  });
});

describe('any history of events', () => {
  const agentName = fc.constantFrom('a', 'b', 'c');
  const eventBody: fc.Arbitrary<EventBody> = fc.oneof(
    agentName.map(join),
    fc
      .tuple(agentName, fc.integer({ min: 0, max: 2_000 }))
      .map(([agent, capacity]) => offer(agent, capacity)),
    agentName.map(ready),
    fc
      .tuple(agentName, fc.integer({ min: 0, max: 1_001 }), fc.boolean())
      .map(([agent, open, settled]) => report(agent, open, settled)),
    agentName.map((agent): EventBody => ({ type: 'agent-cut', agent })),
    agentName.map((agent): EventBody => ({ type: 'agent-resumed', agent })),
    agentName.map((agent): EventBody => ({ type: 'agent-left', agent })),
    agentName.map(done),
    agentName.map((agent): EventBody => ({ type: 'agent-refused', agent, findings: [REFUSAL] })),
    fc.constant<EventBody>({ type: 'ticked' }),
    fc.constant<EventBody>({ type: 'gathering-hopeless' }),
    fc.constant<EventBody>({ type: 'interrupted', signal: 'SIGTERM' }),
  );
  const policy = fc.constantFrom<RunTerms['onAgentLoss']>('fail', 'continue', 'replace');
  const history = fc.array(fc.tuple(fc.integer({ min: 0, max: 15_000 }), eventBody), { maxLength: 60 });

  it('never ends without a reason, never hands out more than the total, and ends once', () => {
    fc.assert(
      fc.property(
        history,
        fc.integer({ min: 1, max: 3 }),
        policy,
        fc.boolean(),
        (steps, agentsExpected, onAgentLoss, orderly) => {
          const terms = { ...TERMS, agentsExpected, onAgentLoss };
          let state: RunState = initialRunState(SPEC, terms, 0);
          let atMs = 0;
          let finished = 0;
          // Half of the histories begin in order, so that the later phases are reached often.
          const opening: readonly EventBody[] =
            orderly && agentsExpected === 2 ? UP_TO_RAMP.map(([, body]) => body) : [];
          const all = [...opening.map((body) => [1, body] as const), ...steps];
          for (const [delayMs, body] of all) {
            atMs += delayMs;
            const stepped = step(state, { ...body, atMs } as RunEvent);
            const handedOut = [...stepped.state.agents.values()].reduce((sum, agent) => sum + agent.quota, 0);
            assert.ok(handedOut === 0 || handedOut <= SPEC.connections);
            for (const agent of stepped.state.agents.values())
              assert.ok(agent.quota <= Math.max(agent.capacity, 0));
            finished += stepped.changes.filter((change) => change.type === 'run-ended').length;
            assertChangesSaid(state, stepped.state, stepped.changes);
            if (stepped.state.phase === 'ended') assert.notEqual(stepped.state.endReason, null);
            if (state.phase === 'ended') assert.deepEqual(stepped, { state, changes: [], commands: [] });
            state = stepped.state;
          }
          assert.equal(finished, state.phase === 'ended' ? 1 : 0);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('comes to an end when time goes on and no agent speaks', () => {
    fc.assert(
      fc.property(history, policy, (steps, onAgentLoss) => {
        let state: RunState = initialRunState(SPEC, { ...TERMS, onAgentLoss }, 0);
        let atMs = 0;
        for (const [delayMs, body] of steps) {
          atMs += delayMs;
          state = step(state, { ...body, atMs } as RunEvent).state;
        }
        for (let tick = 0; tick < 200; tick++) {
          atMs += 1_000;
          state = step(state, { type: 'ticked', atMs }).state;
        }
        assert.equal(state.phase, 'ended');
      }),
      { numRuns: 500 },
    );
  });
});

describe('a requirement that can no longer hold', () => {
  const broken = { type: 'requirement-broken', requirement: 'held>=5' } as const;

  it('ends a run that ramps or holds, with itself as the reason', () => {
    const { state, commands } = play(TERMS, [...UP_TO_RAMP, [10, broken]]);
    assert.equal(state.phase, 'draining');
    assert.deepEqual(state.endReason, { type: 'requirement-broken', requirement: 'held>=5' });
    assert.equal(commands.filter(({ type }) => type === 'send-stop').length, 2);
  });

  it('changes nothing before the start', () => {
    const early = play(TERMS, [...UP_TO_RAMP.slice(0, 3), [4, broken]]);
    assert.equal(early.state.phase, 'gathering');
    assert.equal(early.state.endReason, null);
  });
});

describe('a hold in which everything is lost for a moment', () => {
  const settled = (agent: string, open: number): EventBody => ({
    type: 'agent-reported',
    agent,
    quota: agent === 'a' ? 501 : 500,
    settled: true,
    snapshot: snapshot(open, 500),
  });
  const events = (...more: (readonly [number, EventBody])[]) => [
    ...UP_TO_RAMP,
    [10, settled('a', 500)] as const,
    [11, settled('b', 500)] as const,
    ...more,
  ];

  it('is over when nothing is opened again, and goes on when lost connections are', () => {
    const gone = events([20, settled('a', 0)], [21, settled('b', 0)]);
    assert.equal(play(TERMS, gone).state.endReason?.type, 'nothing-open');
    assert.equal(play(TERMS, gone, REOPENING).state.phase, 'holding');
  });

  it('never begins when nothing was opened, whatever the policy', () => {
    const nothing = [...UP_TO_RAMP, [10, settled('a', 0)], [11, settled('b', 0)]] as const;
    assert.equal(play(TERMS, nothing, REOPENING).state.endReason?.type, 'nothing-open');
  });
});
