import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeAgentMessage, decodeCoordinatorMessage, encodeMessage } from '../../src/control/codec.ts';
import { type AgentMessage, type CoordinatorMessage, MESSAGE_BYTES_MAX } from '../../src/control/message.ts';
import { emptyStats } from '../../src/stats/stats.ts';

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
    assert.deepEqual(structuredClone(decodeAgentMessage(encodeMessage(message))), message);
  });

  it('never throws and never lets unknown text through', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        assert.equal(decodeAgentMessage(text).type, 'malformed');
        assert.equal(decodeCoordinatorMessage(text).type, 'malformed');
      }),
      { numRuns: 3_000 },
    );
  });

  it('refuses a message with a field too few, or a number out of bounds', () => {
    const good: CoordinatorMessage = { type: 'quota', connections: 5, ratePerSec: null, pendingMax: 5 };
    assert.deepEqual(decodeCoordinatorMessage(JSON.stringify(good)), good);
    const { pendingMax: _, ...short } = good;
    for (const bad of [
      short,
      { ...good, connections: -1 },
      { ...good, connections: 1.5 },
      { ...good, connections: 1e300 },
      { ...good, ratePerSec: 'fast' },
    ]) {
      assert.equal(decodeCoordinatorMessage(JSON.stringify(bad)).type, 'malformed', JSON.stringify(bad));
    }
  });

  it('leaves out a field that it does not know, and takes a type that it does not know as unknown', () => {
    const good: CoordinatorMessage = { type: 'quota', connections: 5, ratePerSec: null, pendingMax: 5 };
    assert.deepEqual(decodeCoordinatorMessage(JSON.stringify({ ...good, extra: { a: 1 } })), good);
    assert.deepEqual(decodeAgentMessage('{"type":"ping","x":1}'), { type: 'unknown' });
    assert.deepEqual(decodeCoordinatorMessage('{"type":"pause"}'), { type: 'unknown' });
    for (const type of ['', 'Ping', '__proto__', 'a b', '\u001b[2J', 'x'.repeat(65), 5, null])
      assert.equal(decodeAgentMessage(JSON.stringify({ type })).type, 'malformed', String(type));
  });

  it('takes what only the other side may say as unknown: it acts on none of it', () => {
    assert.equal(decodeAgentMessage('{"type":"start"}').type, 'unknown');
    assert.equal(decodeCoordinatorMessage('{"type":"refuse","findings":[]}').type, 'unknown');
  });

  it('refuses text above the limit without parsing it', () => {
    const text = `"${'x'.repeat(MESSAGE_BYTES_MAX)}"`;
    assert.deepEqual(decodeAgentMessage(text), { type: 'malformed', problem: 'message too large' });
  });
});
