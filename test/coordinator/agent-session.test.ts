/** Tests who an agent is over cuts and returns: names, epochs, presence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ExitCode } from '../../src/base/errors.ts';
import type { Channel } from '../../src/control/channel.ts';
import type { CoordinatorMessage } from '../../src/control/message.ts';
import { agentToken, generateToken } from '../../src/control/token.ts';
import { AgentSessions, wrongClaim } from '../../src/coordinator/agent-session.ts';
import { type LedgerEntry, UNWATCHED } from '../../src/coordinator/run-watch.ts';
import { renderReport } from '../../src/report/text.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { handshake } from '../support/refused-clients.ts';
import { FAKE_AGENT_ENTRY } from './fake-agent.ts';
import { begun, besideHonest, type Lied, start } from './lied-to-run.ts';
import { holding, RawAgent } from './raw-agent.ts';

const channel: Channel<CoordinatorMessage> = { send: () => {}, bufferedBytes: 0, close: () => {} };
const add = (sessions: AgentSessions, name: string) =>
  sessions.add(name, { identity: 'master', secret: undefined }, channel);

test('each agent gets an epoch of its own, and the first of a name its name as id', () => {
  const sessions = new AgentSessions();
  const a = add(sessions, 'a');
  const b = add(sessions, 'b');
  assert.notEqual(a.epoch, b.epoch);
  assert.deepEqual([a.id, b.id], ['a', 'b']);
  assert.equal(sessions.get('a'), a);
  assert.deepEqual(sessions.all(), [a, b]);
});

test('an agent that comes back as a new one gets another id and epoch, and the old session stays', () => {
  const sessions = new AgentSessions();
  const before = add(sessions, 'a');
  before.channel = null;
  const after = add(sessions, 'a');
  assert.equal(after.name, 'a');
  assert.notEqual(after.id, before.id);
  assert(after.epoch > before.epoch);
  assert.equal(sessions.all().length, 2, 'the first is still part of the run');
  assert.deepEqual([sessions.get(before.id), sessions.get(after.id)], [before, after]);
});

test('a returning agent is found by its name and epoch together', () => {
  const sessions = new AgentSessions();
  const a = add(sessions, 'a');
  const b = add(sessions, 'b');
  assert.equal(sessions.resumable('a', a.epoch), a);
  assert.equal(sessions.resumable('a', b.epoch), undefined);
  assert.equal(sessions.resumable('c', a.epoch), undefined);
});

test('an agent is present while it has a channel', () => {
  const sessions = new AgentSessions();
  const a = add(sessions, 'a');
  assert.equal(sessions.isPresent('a'), true);
  a.channel = null;
  assert.equal(sessions.isPresent('a'), false);
  add(sessions, 'a');
  assert.equal(sessions.isPresent('a'), true, 'the second of this name is here');
});

// PROTOCOL.md: agents-lost
test('one that left before it got a quota is forgotten', () => {
  const sessions = new AgentSessions();
  const a = add(sessions, 'a');
  sessions.remove(a.id);
  assert.equal(sessions.get('a'), undefined);
  assert.equal(add(sessions, 'a').id, 'a', 'its name is free again');
});

test('an agent that is called what the id of another would be does not take its place', () => {
  const sessions = new AgentSessions();
  const first = add(sessions, 'a');
  const named = add(sessions, 'a#3');
  first.channel = null;
  const again = add(sessions, 'a');
  assert.equal(again.epoch, 3);
  assert.equal(new Set([first.id, named.id, again.id]).size, 3);
  assert.equal(sessions.get('a#3'), named);
});

test('agents of one name that are here together get numbers, and whoever has such a name gets another', () => {
  const sessions = new AgentSessions();
  assert.deepEqual(
    [1, 2, 3].map(() => add(sessions, 'vm').id),
    ['vm', 'vm-2', 'vm-3'],
  );
  const named = add(sessions, 'vm-2');
  assert.equal(named.id, 'vm-2-2');
  assert.equal(add(sessions, 'vm').id, 'vm-4');
  sessions.remove('vm-3');
  assert.equal(add(sessions, 'vm').id, 'vm-5', 'a number is not given twice in a run');
});

test('a token with a name is in use while its agent is here, the master token never', () => {
  const sessions = new AgentSessions();
  const { identity } = agentToken(generateToken(), { name: 'vm', expiresSec: null, targets: null });
  const session = sessions.add('vm', { identity, secret: undefined }, channel);
  add(sessions, 'other');
  assert.equal(sessions.isTokenInUse(identity), true);
  assert.equal(sessions.isTokenInUse('master'), false);
  session.channel = null;
  assert.equal(sessions.isTokenInUse(identity), false);
});

const HOLDER = {
  id: 'liar/1',
  pid: 1,
  alive: true,
  cpuUserMs: 1,
  cpuSystemMs: 1,
  residentBytes: 1,
  loopLagMsMax: 1,
  descriptorsUsed: 1,
  descriptorsMax: 1,
  tuplesUsed: 1,
  tuplesMax: 1,
  loopLagMsP99: 1,
  scheduleLagMsP99: 1,
  gcMs: 1,
  cpuWaitMs: null,
  ramp: { wallMs: 1, cpuMs: 1, waitMs: 1 },
  hold: { wallMs: 1, cpuMs: 1, waitMs: 1 },
};
const LOSS = {
  atMs: 1,
  holder: 'liar/1',
  source: '127.0.0.1:1',
  endpoint: '127.0.0.1:2',
  ageMs: 1,
  reason: 'rst',
  count: 1,
};

type Lie = (liar: RawAgent, epoch: number) => void;
const stats =
  (change: object, message: object = {}): Lie =>
  (liar, epoch) =>
    liar.stats(10, { ...holding(10), ...change }, { epoch, ...message });
const losses =
  (change: object): Lie =>
  (liar, epoch) =>
    liar.say({ type: 'losses', epoch, losses: [{ ...LOSS, ...change }] });

/** What each lie is, and the word by which it is named. */
const LIES: readonly (readonly [string, Lie, RegExp])[] = [
  // PROTOCOL.md: counts-held
  [
    'more held than it was given',
    stats({ established: 11, openMin: 11 }),
    /openMin: it speaks of 11, and was given 10/,
  ],
  ['more verified than it was given', stats({ established: 11, verified: 11 }), /verified/],
  // PROTOCOL.md: counts-established
  ['more open than established', stats({ established: 5 }), /no more open/],
  ['a quota that nobody gave', stats({}, { quota: 11 }), /quota: it speaks of 11, and was given 10/],
  ['a histogram of odd length', stats({ connectUs: [1, 2, 3] }), /connectUs/],
  ['a histogram beyond the scale', stats({ connectUs: [2 ** 20, 1] }), /connectUs/],
  ['a histogram that goes back', stats({ connectUs: [5, 1, 4, 1] }), /connectUs/],
  ['a reason called toString', stats({ failed: { toString: 5 } }), /failed/],
  [
    'a reason called __proto__',
    (liar, epoch) => liar.stats(10, { ...holding(10), failed: JSON.parse('{"__proto__":5}') }, { epoch }),
    /failed/,
  ],
  [
    'a number beyond all',
    (liar, epoch) => liar.say(`{"type":"stats","epoch":${epoch},"sentAtMs":1e999}`),
    /sentAtMs/,
  ],
  ['a time after all time', losses({ atMs: 1e300 }), /atMs/],
  ['a loss of nothing', losses({ count: 0 }), /count/],
  // PROTOCOL.md: own-holders
  ["another agent's holder in its health", stats({}, { holders: [{ ...HOLDER, id: 'honest/1' }] }), /holder/],
  ["another agent's holder in a loss", losses({ holder: 'honest/1' }), /holder/],
  [
    'a second hello',
    (liar) =>
      liar.say({
        type: 'hello',
        protocol: '1.0',
        name: 'liar',
        host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
        resume: null,
      }),
    /hello/,
  ],
  ['no JSON', (liar) => liar.say('{'), /JSON/],
];

// PROTOCOL.md: violation
for (const [what, lie, named] of LIES) {
  test(`${what}: that agent is out, named, and the other one goes on`, async (t) => {
    const { liar, epoch, report, notes } = await besideHonest(t);
    lie(liar, epoch);
    const { code, reason } = await liar.ended;
    assert.equal(code, 1008, reason);
    const { verdict, exitCode, connections, notes: told, agents } = await report;
    assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.incomplete]);
    assert.deepEqual(
      agents.map(({ name, lost, held }) => [name, lost, held]),
      [
        ['honest', false, 10],
        ['liar', true, 0],
      ],
    );
    assert.equal(connections.held, 10);
    const line = [...told, ...notes].find((note) => note.startsWith('agent liar broke the protocol'));
    assert.match(line ?? '', named, notes.join('\n'));
  });
}

test('reasons, fields and messages of a later version are taken: counted as other, named in a note', async (t) => {
  const run = await start(t);
  const liar = await begun(t, run);
  liar.say({ type: 'temperature', celsius: 40 });
  const later = {
    ...holding(10),
    attempted: 15,
    failed: { 'quantum-flux': 3, constructor: 2 },
    localSkips: { 'port-shy': 4 },
    probesLate: 5,
  };
  liar.stats(10, later, {
    mood: 'good',
    kernel: [{ when: 'noon', method: 'ss', agent: 'liar', established: 1, openBefore: 1, open: 1 }],
  });
  await liar.hears('hold');
  liar.stats(10, later);
  await liar.hears('stop');
  liar.done(later, { holders: [{ ...HOLDER, colour: 'red' }] });
  const { verdict, connections, notes, kernel } = await run.report;
  assert.deepEqual({ ...connections.failed }, { other: 5 });
  assert.deepEqual({ ...connections.localSkips }, { other: 4 });
  assert.equal(connections.held, 10);
  assert.equal(verdict, 'pass', notes.join('\n'));
  assert.deepEqual(kernel.counts, []);
  for (const name of [
    '3 x failed for quantum-flux',
    '2 x failed for constructor',
    '4 x skipped for port-shy',
  ])
    assert(
      notes.some((note) => note.startsWith(name)),
      notes.join('\n'),
    );
});

// PROTOCOL.md: refuse
test('a refusal without a reason is a refusal: exit 3, and never a pass', async (t) => {
  for (const findings of [
    [],
    [
      {
        what: 'x',
        severity: 'ok',
        needed: null,
        available: null,
        unit: '',
        message: 'all is well',
        fix: null,
      },
    ],
  ]) {
    const run = await start(t);
    const liar = await RawAgent.join(run.port, run.token);
    t.after(() => liar.leave());
    await liar.hears('spec');
    liar.say({ type: 'refuse', findings });
    await liar.hears('stop');
    liar.done({}, { epoch: 1 });
    const { verdict, exitCode, reason } = await run.report;
    assert.deepEqual([verdict, exitCode], ['refused', ExitCode.refused]);
    assert.match(reason, /agent liar refuses to take part, and does not say why/);
  }
});

// PROTOCOL.md: pass, wait-done
test('without the final counts there is no pass, the run ends, and the report names who is missing', async (t) => {
  const run = await start(t, { drainMs: 700 });
  const liar = await begun(t, run);
  liar.stats(10, holding(10));
  await liar.hears('hold');
  liar.stats(10, holding(10));
  await liar.hears('stop');
  // It still talks, so its lease never ends.
  const beat = setInterval(() => liar.stats(10, holding(10)), 200);
  t.after(() => clearInterval(beat));
  const { verdict, exitCode, reason, notes } = await run.report;
  clearInterval(beat);
  assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.incomplete]);
  assert.match(reason, /10 of 10 held, but agent liar never sent its final counts/);
  assert(
    notes.some((note) => note.startsWith('no final counts came from liar')),
    notes.join('\n'),
  );
});

// PROTOCOL.md: own-session
test("no client takes over another agent's session with another token", async (t) => {
  const run = await start(t);
  const own = agentToken(run.token, { name: 'victim', expiresSec: null, targets: null });
  const victim = await begun(t, { ...run, token: own }, { name: 'victim' });
  const { runId, epoch } = (await victim.hears('spec')) as unknown as { runId: string; epoch: number };
  const thief = await RawAgent.join(run.port, run.token, { name: 'victim', resume: { runId, epoch } });
  const { code, reason } = await thief.ended;
  assert.deepEqual([code, reason], [1008, 'agent victim joined with another token']);
  assert.deepEqual(thief.heard, []);
  victim.stats(10, holding(10));
  await victim.hears('hold');
  victim.stats(10, holding(10));
  await victim.hears('stop');
  victim.done(holding(10));
  assert.equal((await run.report).verdict, 'pass');
});

const SECRET = 'a'.repeat(22);

/** An agent that holds all of its share, in contact or back, lets the run end with a pass. */
async function holdsOn(run: Lied, agent: RawAgent): Promise<void> {
  agent.stats(10, holding(10));
  await agent.hears('hold');
  agent.stats(10, holding(10));
  await agent.hears('stop');
  agent.done(holding(10));
  assert.equal((await run.report).verdict, 'pass');
}

// PROTOCOL.md: own-session
test("with the same token no client takes over another agent's session: its secret is asked for", async (t) => {
  const run = await start(t);
  const victim = await begun(t, run, { name: 'victim', secret: SECRET });
  const { runId, epoch } = (await victim.hears('spec')) as unknown as { runId: string; epoch: number };
  const resume = { runId, epoch };
  for (const secret of [undefined, 'b'.repeat(22), `${SECRET}a`]) {
    const thief = await RawAgent.join(run.port, run.token, { name: 'victim', resume, secret });
    const { code, reason } = await thief.ended;
    assert.deepEqual([code, reason], [1008, 'agent victim has a secret, which this is not']);
    assert.deepEqual(thief.heard, []);
  }
  const back = await RawAgent.join(run.port, run.token, { name: 'victim', resume, secret: SECRET });
  t.after(() => back.leave());
  await back.hears('resumed');
  await holdsOn(run, back);
});

test('an agent of 1.0 has no secret: it comes back with a token of its own, and not with the master token', async (t) => {
  const shared = await start(t);
  const victim = await begun(t, shared, { name: 'victim' });
  const { runId, epoch } = (await victim.hears('spec')) as unknown as { runId: string; epoch: number };
  for (const secret of [undefined, SECRET]) {
    const hello = { name: 'victim', resume: { runId, epoch }, secret };
    const thief = await RawAgent.join(shared.port, shared.token, hello);
    const { code, reason } = await thief.ended;
    assert.equal(code, 1008);
    assert.equal(reason, 'agent victim joined with the master token and without a secret');
  }
  await holdsOn(shared, victim);

  const run = await start(t);
  const own = agentToken(run.token, { name: 'old', expiresSec: null, targets: null });
  const old = await begun(t, { ...run, token: own }, { name: 'old' });
  const spec = (await old.hears('spec')) as unknown as { runId: string; epoch: number };
  const resume = { runId: spec.runId, epoch: spec.epoch };
  const back = await RawAgent.join(run.port, own, { name: 'old', resume });
  t.after(() => back.leave());
  await back.hears('resumed');
  await holdsOn(run, back);
});

test('whoever has the master token cannot make the token of the local agent', async (t) => {
  const run = await start(t, { hasLocalAgent: true, remoteAgents: 1, entryPath: FAKE_AGENT_ENTRY });
  // Ended by us, as a run that nobody joined.
  run.report.catch(() => {});
  const made = agentToken(run.token, { name: 'local', expiresSec: null, targets: null });
  await assert.rejects(handshake(run.port, made), /alert decrypt error/);
  const named = await RawAgent.join(run.port, run.token, { name: 'local' });
  assert.equal((await named.ended).code, 1008);
});

// PROTOCOL.md: own-kernel, once
test('what was agreed on does not change after it, and the kernel count of an agent bears its own name', async (t) => {
  const run = await start(t);
  const liar = await begun(t, run);
  liar.offer(5_000, { boundBy: 'nothing', sources: ['8.8.8.8'] });
  liar.ready({ sources: ['8.8.4.4'] });
  liar.stats(10, holding(10));
  await liar.hears('hold');
  liar.stats(10, holding(10));
  await liar.hears('stop');
  const count = {
    agent: 'somebody',
    when: 'hold-end',
    established: 10,
    openBefore: 10,
    open: 10,
    method: 'ss',
  };
  liar.done(holding(10), { kernel: [count] });
  const { agents, kernel } = await run.report;
  assert.deepEqual(
    [agents[0]?.capacity, agents[0]?.boundBy, agents[0]?.sources],
    [10, 'tuples', ['127.0.0.1']],
  );
  assert.equal(kernel.counts[0]?.agent, 'liar');
});

// PROTOCOL.md: events
test('losses beyond what an agent can lose fill no disk: they are left out, and the report counts them', async (t) => {
  const entries: LedgerEntry[] = [];
  const watch = { ...UNWATCHED, onLosses: (more: readonly LedgerEntry[]) => void entries.push(...more) };
  const run = await start(t, { watch });
  const liar = await begun(t, run);
  for (let message = 0; message < 20; message++) {
    liar.say({ type: 'losses', epoch: 1, losses: Array.from({ length: 1_000 }, () => LOSS) });
  }
  const lost = { ...holding(10), open: 0, openMin: 0, dropped: { rst: 10 } };
  liar.stats(10, lost);
  await liar.hears('stop');
  liar.done(lost);
  const { losses: told } = await run.report;
  assert.equal(entries.length, 10);
  assert.equal(told.detailsCut, 0);
});

// PROTOCOL.md: text
test('control characters, orders to a CI server and turned text in what an agent says reach no reader', async (t) => {
  const nasty = '\u001b[2J\r\n::error title=x::forged\u202e\u0000\u009b31m\ud800';
  const run = await start(t);
  const liar = await RawAgent.join(run.port, run.token, {
    host: { hostname: nasty, cpus: 1, memoryBytes: 1, kernel: nasty, node: 'v20' },
  });
  t.after(() => liar.leave());
  await liar.hears('spec');
  const finding = {
    what: nasty,
    severity: 'warn',
    needed: 1,
    available: 2,
    unit: nasty,
    message: nasty,
    fix: nasty,
  };
  liar.offer(10, { boundBy: nasty, findings: [finding], notes: [nasty] });
  await liar.hears('quota');
  liar.ready({ notes: [nasty] });
  await liar.hears('start');
  const told = { ...holding(10), troubles: { [nasty]: 3 } };
  liar.stats(10, told);
  await liar.hears('hold');
  liar.stats(10, told);
  await liar.hears('stop');
  liar.done(told, { notes: [nasty] });
  const report = await run.report;
  const text = JSON.stringify(report) + renderReport(report) + run.notes.join('\n');
  assert(text.includes('forged'), 'the words themselves are there');
  // JSON.stringify writes an escape for what is left of these.
  assert.doesNotMatch(text, /\\u|\\r|\\n|\p{Cf}|\p{Cs}|[\u0080-\u009f]/u);
  assert.doesNotMatch(renderReport(report), /^\s*::/m);
});

// PROTOCOL.md: text-name
test('a name with control characters is refused', async (t) => {
  const run = await start(t, { waitAgentsMs: 1_000 });
  const liar = await RawAgent.join(run.port, run.token, { name: 'x\u001b[2J' });
  assert.equal((await liar.ended).code, 1008);
  await assert.rejects(run.report, /1 agent\(s\) expected, none came/);
});

const number = fc.constantFrom(0, 1, 9, 10, 11, 2 ** 36, 2 ** 43);
const table = fc.dictionary(
  fc.constantFrom('rst', 'fin', 'other', 'refused', 'constructor', 'quantum-flux', 'agent-lost'),
  number,
);
const anyStats = fc.record({
  established: fc.constantFrom(10, 10, 2 ** 43),
  attempted: number,
  open: fc.constantFrom(0, 9, 10, 10),
  openAtHold: fc.constantFrom(0, 10),
  openMin: fc.constantFrom(0, 9, 10, 10, 11),
  verified: fc.constantFrom(0, 10),
  pending: fc.constantFrom(0, 10),
  unattempted: fc.constantFrom(0, 10),
  closed: number,
  failed: table,
  dropped: table,
  youngDrops: number,
  bytesIn: number,
  connectUs: fc.constantFrom([], [0, 1], [5, 2 ** 43, 600, 1]),
  recentLosses: fc.constantFrom([], [0, 5], [0, 2 ** 43, 3, 1], [3_999_999_999, 1]),
  rampMs: fc.constantFrom(0, 1e-9, 1e12),
});
const saying = fc.oneof(
  { weight: 5, arbitrary: fc.record({ say: fc.constant('stats' as const), stats: anyStats }) },
  { weight: 1, arbitrary: fc.record({ say: fc.constant('done' as const), stats: anyStats }) },
  { weight: 1, arbitrary: fc.constant({ say: 'offer' as const, stats: {} }) },
  { weight: 1, arbitrary: fc.constant({ say: 'refuse' as const, stats: {} }) },
);

test('whatever an agent says that passes the schema: there is a report, and no pass without all held and the final counts', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(saying, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      async (sayings, endsWell) => {
        const run = await start(t, {
          spec: runSpec({ connections: 10, holdMs: 30 }),
          lease: { quietMs: 100, leaseMs: 200, marginMs: 50 },
          drainMs: 200,
        });
        const liar = await begun(t, run);
        let hasDone = false;
        for (const { say, stats: said } of sayings) {
          if (say === 'stats') liar.stats(10, said);
          else if (say === 'offer') liar.offer(5_000);
          else if (say === 'refuse') liar.say({ type: 'refuse', findings: [] });
          else liar.done(said);
          hasDone ||= say === 'done';
        }
        if (endsWell) {
          await Promise.race([liar.hears('stop'), liar.ended, run.report]);
          liar.done(holding(10));
          hasDone = true;
        }
        const report = await run.report;
        liar.leave();
        assert.equal(typeof renderReport(report), 'string');
        if (report.verdict !== 'pass') return;
        assert.equal(report.connections.held, 10);
        assert(hasDone);
      },
    ),
    { numRuns: 15, endOnFailure: true },
  );
});

// PROTOCOL.md: counts-held
test('each count of connections is taken up to the quota, and refused by its name beyond it', () => {
  const fields = [
    ...(['open', 'openAtHold', 'openMin', 'verified', 'verifiedMin'] as const),
    ...(['verifiedInHold', 'pending', 'unattempted'] as const),
  ];
  const claimant = { name: 'ada', quota: 10 };
  for (const field of fields) {
    const said = (count: number) => {
      const message = { epoch: 1, sentAtMs: 1, quota: 10, holders: [], settled: true, kernel: [] };
      const stats = { ...emptyStats(), established: 100, [field]: count };
      return wrongClaim({ type: 'stats', ...message, stats }, claimant);
    };
    assert.equal(said(10), null, field);
    assert.equal(said(11), `${field}: it speaks of 11, and was given 10`);
  }
});
