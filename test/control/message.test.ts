import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  type AgentMessage,
  CONTROL_MESSAGE_BYTES_MAX,
  type CoordinatorMessage,
  encodeMessage,
  needsOf,
} from '../../src/control/message.ts';
import type { SharedSpec } from '../../src/run/run-spec.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { agentMessageIn, coordinatorMessageIn } from '../support/decoded.ts';
import { honestSpec } from '../support/lying-coordinator.ts';

function decoded(change: object): ReturnType<typeof agentMessageIn> {
  const message = {
    type: 'stats',
    epoch: 1,
    sentAtMs: 0,
    quota: 5,
    stats: { ...emptyStats(), ...change },
    holders: [],
    settled: false,
    kernel: [],
  };
  return agentMessageIn(JSON.stringify(message));
}

describe('the long parts of a stats message', () => {
  it('are taken as they are, and may be left out where nothing changed', () => {
    const good = {
      connectUs: [1, 2, 3, 4],
      connectFromIntendedUs: null,
      probeUs: [],
      failed: { refused: 3 },
      openBySource: { '10.0.0.1': 5 },
    };
    const message = decoded(good);
    assert(message.type === 'stats');
    assert.deepEqual(structuredClone(message.stats), { ...emptyStats(), ...good });
  });

  for (const [what, change] of [
    ['a negative count', { connectUs: [1, -1] }],
    ['a fraction', { connectUs: [1, 0.5] }],
    ['a number that is no safe integer', { connectUs: [1, 2 ** 53] }],
    ['a text for a number', { connectUs: [1, '2'] }],
    ['a list inside', { probeUs: [[1]] }],
    ['an object for a list', { probeUs: { length: 1 } }],
    ['more entries than there are', { probeUs: Array(100_001).fill(1) }],
    ['a list for counts', { failed: [1, 2] }],
    ['null for counts', { failed: null }],
    ['a negative count by reason', { dropped: { rst: -1 } }],
    ['a key that is too long', { failed: { ['x'.repeat(65)]: 1 } }],
    ['a key that is the prototype', JSON.parse('{"failed":{"__proto__":1}}') as object],
    ['too many reasons', { failed: Object.fromEntries(Array.from({ length: 257 }, (_, i) => [`r${i}`, 1])) }],
    [
      'too many sources',
      { openBySource: Object.fromEntries(Array.from({ length: 65_537 }, (_, i) => [i, 1])) },
    ],
  ] as const) {
    it(`are refused with ${what}`, () => {
      assert.equal(decoded(change).type, 'malformed');
    });
  }
});

describe('the codec', () => {
  it('brings a stats message through unchanged', () => {
    const message = {
      type: 'stats',
      epoch: 1,
      sentAtMs: 12.5,
      quota: 5,
      stats: { ...emptyStats(), failed: { refused: 3 }, connectUs: [5, 1] },
      holders: [],
      settled: false,
      kernel: [],
    } as unknown as AgentMessage;
    assert.deepEqual(structuredClone(agentMessageIn(encodeMessage(message))), message);
  });

  it('what an older agent would leave out of a spec is named by its flags', () => {
    const { spec } = honestSpec(8_000);
    const needs = (reopen: SharedSpec['reopen']) =>
      needsOf({ ...spec, onDrop: 'reopen', ...(reopen === undefined ? {} : { reopen }) });
    assert.equal(needs(undefined), null);
    const fixed = { kind: 'fixed' as const, firstMs: 1, mostMs: 1, jitter: 0 };
    assert.deepEqual(needs(fixed), { minor: 2, words: '--reopen-after' });
    assert.equal(needs({ ...fixed, kind: 'immediate' }), null, 'as every agent does');
    assert.deepEqual(needs({ ...fixed, jitter: 1 }), {
      minor: 2,
      words: '--reopen-after and --reopen-jitter',
    });
    assert.deepEqual(needsOf({ ...spec, proxyHeader: { version: 'v1', clients: null } }), {
      minor: 2,
      words: '--proxy-protocol',
    });
    const zoned = { address: 'fe80::1', port: 80, family: 6 as const, zone: 'eth0' };
    assert.deepEqual(needsOf({ ...spec, endpoints: [zoned] }), { minor: 2, words: '--target with a zone' });
  });

  it('never throws and never lets unknown text through', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        assert.equal(agentMessageIn(text).type, 'malformed');
        assert.equal(coordinatorMessageIn(text).type, 'malformed');
      }),
      { numRuns: 3_000 },
    );
  });

  it('refuses a message with a field too few, or a number out of bounds', () => {
    const good: CoordinatorMessage = { type: 'quota', connections: 5, ratePerSec: null, pendingMax: 5 };
    assert.deepEqual(coordinatorMessageIn(JSON.stringify(good)), good);
    const { pendingMax: _, ...short } = good;
    for (const bad of [
      short,
      { ...good, connections: -1 },
      { ...good, connections: 1.5 },
      { ...good, connections: 1e300 },
      { ...good, ratePerSec: 'fast' },
    ]) {
      assert.equal(coordinatorMessageIn(JSON.stringify(bad)).type, 'malformed', JSON.stringify(bad));
    }
  });

  it('leaves out a field that it does not know, and takes a type that it does not know as unknown', () => {
    const good: CoordinatorMessage = { type: 'quota', connections: 5, ratePerSec: null, pendingMax: 5 };
    assert.deepEqual(coordinatorMessageIn(JSON.stringify({ ...good, extra: { a: 1 } })), good);
    assert.deepEqual(agentMessageIn('{"type":"ping","x":1}'), { type: 'unknown' });
    assert.deepEqual(coordinatorMessageIn('{"type":"pause"}'), { type: 'unknown' });
    for (const type of ['', 'Ping', '__proto__', 'a b', '\u001b[2J', 'x'.repeat(65), 5, null])
      assert.equal(agentMessageIn(JSON.stringify({ type })).type, 'malformed', String(type));
  });

  it('takes what only the other side may say as unknown: it acts on none of it', () => {
    assert.equal(agentMessageIn('{"type":"start"}').type, 'unknown');
    assert.equal(coordinatorMessageIn('{"type":"refuse","findings":[]}').type, 'unknown');
  });

  it('refuses text above the limit without parsing it', () => {
    const text = `"${'x'.repeat(CONTROL_MESSAGE_BYTES_MAX)}"`;
    assert.deepEqual(agentMessageIn(text), { type: 'malformed', problem: 'message too large' });
  });
});
