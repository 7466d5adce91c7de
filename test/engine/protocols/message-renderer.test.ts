/** Tests templates as bytes: every place, the same bytes for the same exchange, others for any other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readTemplate } from '../../../src/base/traffic-options.ts';
import { type MessageFacts, MessageRenderer } from '../../../src/engine/protocols/message-renderer.ts';

let sequence = 1;
const FACTS: MessageFacts = {
  agent: 'host7',
  source: (slot) => `10.0.0.${slot}`,
  port: () => 40_001,
  connection: (slot) => 4_000_000_000 + slot,
  sequence: () => sequence,
  timeMs: () => 1_795_773_600_123.75,
};

function renderer(text: string, salt = 7, hasGroups = false): MessageRenderer {
  const read = readTemplate(Buffer.from(text), { hasEscapes: true, hasGroups });
  assert('value' in read, JSON.stringify(read));
  return new MessageRenderer(read.value, FACTS, salt);
}

function rendered(
  of: MessageRenderer,
  slot: number,
  groups: readonly (string | undefined)[] | null = null,
): string {
  return Buffer.from(of.buffer.subarray(0, of.render(slot, groups))).toString('latin1');
}

test('every place says what is true of its slot', () => {
  sequence = 42;
  const all = renderer('{agent} {conn} {seq} {source} {port} {time}\\r\\n');
  assert.equal(rendered(all, 3), 'host7 4000000003 42 10.0.0.3 40001 1795773600123\r\n');
  sequence = 0;
  assert.equal(rendered(renderer('{seq}'), 1), '0');
  assert.equal(rendered(renderer('PONG $1.$2.$0', 7, true), 1, ['all', 'one', undefined]), 'PONG one..all');
});

test('random characters are the same for one exchange, and differ for connection, number, place and process', () => {
  sequence = 1;
  const two = renderer('{rand:16} {rand:16}');
  const [first = '', second = ''] = rendered(two, 1).split(' ');
  assert.match(first, /^[0-9a-f]{16}$/);
  assert.equal(rendered(two, 1), `${first} ${second}`);
  const seen = new Set([first, second, rendered(renderer('{rand:16} {rand:16}', 8), 1).slice(0, 16)]);
  for (let slot = 2; slot < 500; slot++) seen.add(rendered(two, slot).slice(0, 16));
  for (sequence = 2; sequence < 500; sequence++) seen.add(rendered(two, 1).slice(0, 16));
  assert.equal(seen.size, 3 + 498 + 498);
  assert.match(rendered(renderer('{rand:5}'), 1), /^[0-9a-f]{5}$/);
});

test('a message without places is written once, into the buffer that all share', () => {
  const fixed = renderer('0x00ff');
  const { buffer } = fixed;
  assert.equal(fixed.isBinary, true);
  assert.equal(rendered(fixed, 1), '\0\u00ff');
  assert.equal(rendered(fixed, 2), '\0\u00ff');
  assert.equal(fixed.buffer, buffer);
  assert.equal(buffer.length, 2);
});
