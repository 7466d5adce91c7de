/** Tests that an honest agent never says more than the schema takes, and that what is cut is counted. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../src/base/address.ts';
import type { Finding } from '../../src/base/errors.ts';
import { DropReason, FailReason, SkipReason } from '../../src/base/outcome.ts';
import { clampMessage } from '../../src/control/clamp-message.ts';
import {
  type AgentMessage,
  type AgentMessageOf,
  CONTROL_MESSAGE_BYTES_MAX,
  encodeMessage,
} from '../../src/control/message.ts';
import { NAME_CHARACTERS_MAX } from '../../src/control/schema-part.ts';
import { lossKey } from '../../src/stats/loss.ts';
import { emptyStats, newHolderHealth } from '../../src/stats/stats.ts';
import { agentMessageIn } from '../support/decoded.ts';

type WireStats = AgentMessageOf<'done'>['stats'];

const sum = (table: Readonly<Record<string, number>>): number =>
  Object.values(table).reduce((total, each) => total + each, 0);

/** What arrives; fails when the other side would call it a violation or drop it as too large. */
function arrived<Message extends AgentMessage>(message: Message): Message {
  const text = encodeMessage(clampMessage(message));
  const bytes = Buffer.byteLength(text);
  assert(bytes <= CONTROL_MESSAGE_BYTES_MAX, `${bytes} bytes`);
  const decoded = agentMessageIn(text);
  assert.equal(decoded.type, message.type, JSON.stringify(decoded).slice(0, 200));
  // Tables have no prototype, which deepEqual would call a difference.
  return structuredClone(decoded) as Message;
}

const refusal = (index: number, change: Partial<Finding> = {}): Finding => ({
  what: 'allow-target',
  severity: 'refuse',
  needed: null,
  available: null,
  unit: 'connections',
  message: `target ${index} is not allowed here`,
  fix: null,
  ...change,
});

const done = (change: Partial<AgentMessageOf<'done'>>): AgentMessageOf<'done'> => ({
  type: 'done',
  epoch: 1,
  stats: emptyStats() as unknown as WireStats,
  holders: [],
  kernel: [],
  evidence: null,
  notes: [],
  ...change,
});

const withTables = (tables: object): WireStats => ({ ...emptyStats(), ...tables }) as unknown as WireStats;

describe('an agent with very much to say', () => {
  it('is not cut off for its notes: the last line says how many there were', () => {
    const notes = Array.from({ length: 200 }, (_, index) => `alias ${index} could not be removed`);
    const { notes: told } = arrived(done({ notes }));
    assert.equal(told.length, 64);
    assert.equal(told[0], notes[0]);
    assert.equal(told.at(-1), 'and 137 more lines of this agent');
  });

  it('says a line that came twice once, and no number of lines that are not missing', () => {
    assert.deepEqual(arrived(done({ notes: ['a', 'b', 'a'] })).notes, ['a', 'b']);
    const full = Array.from({ length: 64 }, (_, index) => `line ${index}`);
    assert.deepEqual(arrived(done({ notes: full })).notes, full);
  });

  it('has the error text of a program cut, and its line breaks with it', () => {
    const [note] = arrived(done({ notes: [`ip said:\n${'x'.repeat(100_000)}`] })).notes;
    assert(note?.startsWith('ip said: xxx') && note.endsWith('x...'), note?.slice(0, 50));
  });

  it('refuses each of 5,000 targets within 256 findings, the refusals before the warnings', () => {
    const warnings = Array.from({ length: 300 }, (_, index) => refusal(index, { severity: 'warn' }));
    const refusals = Array.from({ length: 5_000 }, (_, index) => refusal(index));
    const { findings } = arrived({ type: 'refuse', findings: [...warnings, ...refusals] });
    assert.equal(findings.length, 256);
    assert(findings.every((finding) => finding.severity === 'refuse'));
    assert.match(findings.at(-1)?.message ?? '', /^and 5,045 more findings of this agent/);
  });

  it('keeps every lost connection when its table of losses is too long: reason by reason', () => {
    const droppedBy: Record<string, number> = {};
    for (let index = 0; index < 100_000; index++) {
      const reason = index % 2 === 0 ? DropReason.fin : DropReason.rst;
      droppedBy[lossKey(reason, `10.1.${index >> 8}.${index & 255}`, '10.0.0.1:80')] = 3;
    }
    const { stats } = arrived(done({ stats: withTables({ droppedBy }) }));
    assert.equal(sum(stats.droppedBy), 300_000);
    assert((stats.droppedBy['fin * *'] ?? 0) > 3 && (stats.droppedBy['rst * *'] ?? 0) > 3);
    assert(Object.keys(stats.droppedBy).length > 60_000, 'as many as fit keep their own line');
  });

  it('fits with the longest list of IPv6 sources, endpoints and losses at once', () => {
    const address = (index: number): string => `2001:db8:1234:5678:9abc:def0:1234:${index.toString(16)}`;
    const table = (key: (index: number) => string): Record<string, number> =>
      Object.fromEntries(Array.from({ length: 70_000 }, (_, index) => [key(index), 60_000]));
    const { stats } = arrived(
      done({
        stats: withTables({
          openBySource: table(address),
          openByEndpoint: table((index) => `[${address(index)}]:443`),
          droppedBy: table((index) => lossKey(DropReason.rst, address(index), `[${address(index)}]:443`)),
        }),
        holders: Array.from({ length: 1_500 }, (_, index) => newHolderHealth(`a/${index}`, index, 65_000)),
        notes: Array.from({ length: 500 }, (_, index) => `${index} ${'语'.repeat(9_000)}`),
      }),
    );
    for (const name of ['openBySource', 'openByEndpoint', 'droppedBy'] as const)
      assert.equal(sum(stats[name]), 70_000 * 60_000, name);
  });

  it('says how many sources and holders are not listed', () => {
    const sources = Array.from(
      { length: 65_600 },
      (_, index) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
    );
    const offer = arrived({
      type: 'offer',
      connectionsMax: 5,
      boundBy: 'tuples',
      findings: [],
      sources,
      notes: ['n'],
    });
    assert.equal(offer.sources.length, 65_536);
    assert.deepEqual(offer.notes, ['n', 'and 64 more source addresses of this agent are not listed']);
    const holders = Array.from({ length: 1_030 }, (_, index) => newHolderHealth(`a/${index}`, 1, 1));
    assert.deepEqual(arrived(done({ holders })).notes, ['and 6 more holders of this agent are not listed']);
  });

  it('may have the longest name: the ids of its holders are longer still', () => {
    const agent = 'n'.repeat(NAME_CHARACTERS_MAX);
    const holder = `${agent}/1024`;
    const loss = { atMs: 1, source: '*', endpoint: '*', ageMs: null, reason: DropReason.fin, count: 1 };
    assert.equal(arrived(done({ holders: [newHolderHealth(holder, 1, 1)] })).holders[0]?.id, holder);
    const losses = arrived({ type: 'losses', epoch: 1, losses: [{ ...loss, holder }] });
    assert.equal(losses.losses[0]?.holder, holder);
  });
});

const reading = fc.oneof(fc.double(), fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -1, -0.5));
const words = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ maxLength: 9_000 }),
  fc.constant('"\\\u0000\ud800'.repeat(3_000)),
);
const manyWords = fc.array(words, { maxLength: 400, size: 'max' });
const table = fc.dictionary(words, fc.nat(), { maxKeys: 400, size: 'max' });
const finding: fc.Arbitrary<Finding> = fc.record({
  what: words,
  severity: fc.constantFrom('refuse', 'warn', 'ok'),
  needed: fc.option(reading),
  available: fc.option(reading),
  unit: words,
  message: words,
  fix: fc.option(words),
});
const findings = fc.array(finding, { maxLength: 400, size: 'max' });
// As our own code writes addresses.
const ip = fc.oneof(fc.ipV4(), fc.ipV6()).map((address) => parseAddress(address).address);
const load = fc.record({ wallMs: reading, cpuMs: reading, waitMs: reading });
const holder = fc.record({
  id: fc.constant('a/1'),
  pid: reading,
  alive: fc.boolean(),
  cpuUserMs: reading,
  cpuSystemMs: reading,
  cpuWaitMs: fc.option(reading),
  residentBytes: reading,
  loopLagMsMax: reading,
  holdLagMsMax: reading,
  loopLagMsP99: reading,
  scheduleLagMsP99: reading,
  scheduleShiftMs: reading,
  scheduleShiftMsMax: reading,
  gcMs: reading,
  descriptorsUsed: reading,
  descriptorsMax: reading,
  tuplesUsed: reading,
  tuplesMax: reading,
  ramp: load,
  hold: load,
});
const reasons = (list: Readonly<Record<string, string>>) =>
  fc.dictionary(fc.constantFrom(...Object.values(list)), fc.nat());
const stats = fc
  .record({
    failed: reasons(FailReason),
    dropped: reasons(DropReason),
    localSkips: reasons(SkipReason),
    droppedBy: table,
    openBySource: table,
    openByEndpoint: table,
    troubles: table,
    rampMs: reading,
    ciphers: table,
    bySource: table,
    byEndpoint: table,
  })
  .map(({ ciphers, bySource, byEndpoint, ...tables }) =>
    withTables({
      ...tables,
      tls: { sessions: 0, resumed: 0, unverified: 0, handshakeUs: [], ciphers },
      seen: {
        sourceKept: 0,
        sourceChanged: 0,
        portKept: 0,
        portChanged: 0,
        portMin: null,
        portMax: null,
        bySource,
        byEndpoint,
      },
    }),
  );
const kernelCount = fc.record({
  agent: fc.constant('a'),
  when: fc.constantFrom('ramp-end' as const, 'hold-end' as const),
  established: fc.option(fc.nat()),
  openBefore: fc.nat(),
  open: fc.nat(),
  method: fc.constantFrom('ss' as const, 'none' as const),
});
const counted = { stats, holders: fc.array(holder), kernel: fc.array(kernelCount, { maxLength: 20 }) };
const evidence = fc.record({
  counters: fc.dictionary(words, reading, { maxKeys: 100, size: 'max' }),
  samples: fc.dictionary(
    words,
    fc.record({ min: reading, max: reading, last: reading, limit: fc.option(reading) }),
    {
      maxKeys: 100,
      size: 'max',
    },
  ),
  synLadderSec: fc.array(reading, { maxLength: 50 }),
  hasLocalEndpoint: fc.boolean(),
});
const plan = { findings, sources: fc.array(ip), notes: manyWords };

/** Anything that code without a bug can put into a message: texts, lists, tables and readings of any size. */
const message = fc.oneof(
  fc.record({
    type: fc.constant('hello' as const),
    protocol: fc.constant('1.0'),
    name: fc.constant('a'),
    host: fc.record({ hostname: words, cpus: fc.nat(), memoryBytes: fc.nat(), kernel: words, node: words }),
    resume: fc.constant(null),
  }),
  fc.record({ type: fc.constant('offer' as const), connectionsMax: fc.nat(), boundBy: words, ...plan }),
  fc.record({ type: fc.constant('ready' as const), holders: fc.nat(), ...plan }),
  fc.record({ type: fc.constant('refuse' as const), findings }),
  fc.record({
    type: fc.constant('stats' as const),
    epoch: fc.nat(),
    sentAtMs: reading,
    quota: fc.nat(),
    settled: fc.boolean(),
    ...counted,
  }),
  fc.record({
    type: fc.constant('losses' as const),
    epoch: fc.nat(),
    losses: fc.array(
      fc.record({
        atMs: reading,
        holder: fc.constant('a/1'),
        source: words,
        endpoint: words,
        ageMs: fc.option(reading),
        reason: fc.constantFrom(...Object.values(DropReason)),
        count: fc.integer({ min: 1 }),
      }),
      { maxLength: 1_200, size: 'max' },
    ),
  }),
  fc.record({
    type: fc.constant('done' as const),
    epoch: fc.nat(),
    evidence: fc.option(evidence),
    notes: manyWords,
    ...counted,
  }),
) as unknown as fc.Arbitrary<AgentMessage>;

describe('whatever an honest agent says', () => {
  it('passes its own schema and size, and clamping it twice changes nothing', () => {
    fc.assert(
      fc.property(message, (said) => {
        const heard = arrived(said);
        assert.deepEqual(JSON.parse(encodeMessage(clampMessage(heard))), heard);
      }),
      { numRuns: 80, endOnFailure: true },
    );
  });

  it('loses no count in any table', () => {
    const names = ['failed', 'dropped', 'localSkips', 'droppedBy', 'openBySource', 'openByEndpoint'] as const;
    fc.assert(
      fc.property(stats, (said) => {
        const { stats: heard } = arrived(done({ stats: said }));
        for (const name of names) assert.equal(sum(heard[name]), sum(said[name]), name);
        assert.equal(sum(heard.troubles ?? {}), sum(said.troubles ?? {}));
      }),
      { numRuns: 20, endOnFailure: true },
    );
  });

  it('arrives unchanged when it is short', () => {
    const short = done({
      stats: withTables({ failed: { refused: 2 }, openBySource: { '10.0.0.1': 5 } }),
      holders: [newHolderHealth('a/1', 7, 3)],
      notes: ['one', 'two'],
    });
    assert.deepEqual(arrived(short), short);
  });
});
