/**
 * Tests what is promised within a major version: a conversation that was recorded with an earlier version is understood
 * word by word, and so is one of a later version that says more.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeAgentMessage } from '../../src/control/message.ts';
import { isLater, later, recorded } from '../support/conversation.ts';
import { agentMessageIn, coordinatorMessageIn } from '../support/decoded.ts';

test('each message of the recorded conversation is taken, and nothing that the agent said is left out', () => {
  const lines = recorded('1.0');
  assert.deepEqual(new Set(lines.map(({ from }) => from)), new Set(['agent', 'coordinator']));
  for (const { from, message } of lines) {
    const text = JSON.stringify(message);
    const taken = from === 'agent' ? agentMessageIn(text) : coordinatorMessageIn(text);
    assert.equal(taken.type, message.type, JSON.stringify(taken));
    // What an agent takes of a spec is less than what was said: addresses stay at home.
    if (from === 'agent') contains(structuredClone(taken), message, message.type);
  }
});

/** Every field of what was said is in what was taken; this version may add fields of its own. */
function contains(taken: unknown, said: unknown, path: string): void {
  if (typeof said !== 'object' || said === null) {
    assert.equal(taken, said, path);
    return;
  }
  for (const [key, value] of Object.entries(said)) {
    contains((taken as Record<string, unknown>)[key], value, `${path}.${key}`);
  }
}

test('a later version that says more in every place is taken for what is known of it', () => {
  let fields = 0;
  for (const { from, message } of recorded('1.0')) {
    const text = JSON.stringify(later(message));
    fields += text.split('"laterField"').length - 1;
    const taken = from === 'agent' ? agentMessageIn(text) : coordinatorMessageIn(text);
    assert.equal(taken.type, message.type, JSON.stringify(taken));
    assert(!isLater(taken), 'what is not known is not kept');
  }
  assert(fields > 100, `${fields} fields were added`);
});

test('unknown words count as what says least: reasons as other with their name, a severity as a warning', () => {
  const stats = recorded('1.0').findLast(({ message }) => message.type === 'stats')?.message;
  const taken = agentMessageIn(JSON.stringify(later(stats!)));
  assert(taken.type === 'stats');
  assert.deepEqual({ ...taken.stats.failed }, { other: 2 });
  assert.deepEqual(
    Object.entries(taken.stats.troubles ?? {}).map(([detail, count]) => `${count} ${detail}`),
    ['2 failed for quantum-flux, a reason that this version does not know'],
  );
  const refuse = { type: 'refuse', findings: [] as object[] };
  const finding = { what: 'x', needed: 1, available: 0, unit: '', message: '', fix: null };
  refuse.findings.push({ ...finding, severity: 'hint' }, { ...finding, severity: 'refuse' });
  const refusal = agentMessageIn(JSON.stringify(refuse));
  assert(refusal.type === 'refuse');
  assert.deepEqual(
    refusal.findings.map(({ severity }) => severity),
    ['warn', 'refuse'],
  );
});

// PROTOCOL.md: memory-tables
test('many unknown reasons make few notes, and no count is lost', () => {
  const failed = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`reason-${index}`, 1]));
  const message = recorded('1.0').findLast((line) => line.message.type === 'stats')?.message;
  assert(message !== undefined && 'stats' in message && typeof message.stats === 'object');
  const taken = agentMessageIn(JSON.stringify({ ...message, stats: { ...message.stats, failed } }));
  assert(taken.type === 'stats');
  assert.deepEqual({ ...taken.stats.failed }, { other: 200 });
  const troubles = Object.values(taken.stats.troubles ?? {});
  assert.equal(troubles.length, 17);
  assert.equal(
    troubles.reduce((sum, each) => sum + each, 0),
    200,
  );
});

/** The last `type` of the recorded conversation with one field of it, such as `stats.bytesIn`, changed. */
function changed(type: string, path: string, value: unknown): string {
  const line = recorded('1.0').findLast(({ message }) => message.type === type);
  const message = structuredClone(line?.message) as unknown as Record<string, unknown>;
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const inner = keys.reduce((each, key) => each[key] as Record<string, unknown>, message);
  assert(last in inner, `${path} was recorded`);
  inner[last] = value;
  return JSON.stringify(message);
}

// PROTOCOL.md: counts-other
test('each number is taken at the end of its range and refused beyond it, and a count is whole', () => {
  const ranges: readonly (readonly [type: string, path: string, most: number, beyond: number])[] = [
    ...['attempted', 'established', 'closed', 'lossDetailsCut', 'reopened', 'synRetransmits'].map(
      (field) => ['stats', `stats.${field}`, 2 ** 43, 2 ** 43 + 1] as const,
    ),
    ...['bytesIn', 'bytesOut'].map((field) => ['stats', `stats.${field}`, 2 ** 50, 2 ** 50 + 1] as const),
    ['stats', 'sentAtMs', 1e12, 1.001e12],
    ['stats', 'stats.rampMs', 1e12, 1.001e12],
    ['stats', 'holders.0.loopLagMsMax', 1e12, 1.001e12],
    ['done', 'evidence.samples.tcp-sockets.max', 2 ** 53, 2 ** 54],
    ['hello', 'host.memoryBytes', 2 ** 50, 2 ** 54],
  ];
  for (const [type, path, most, beyond] of ranges) {
    assert.equal(agentMessageIn(changed(type, path, most)).type, type, `${path} ${most}`);
    for (const bad of [beyond, -(2 ** 54), 1e300, null, '5']) {
      assert.equal(agentMessageIn(changed(type, path, bad)).type, 'malformed', `${path} ${bad}`);
    }
    const isCount = most === 2 ** 43;
    if (isCount) assert.equal(agentMessageIn(changed(type, path, 0.5)).type, 'malformed', path);
  }
});

// PROTOCOL.md: memory-lists
test('64 notes and 256 findings are taken, and not one more; no line is longer than 4,096 characters', () => {
  const finding = { what: 'x', severity: 'warn', needed: 1, available: 1, unit: '', message: 'm', fix: null };
  const type = (path: string, value: unknown): string => agentMessageIn(changed('offer', path, value)).type;
  assert.equal(type('notes', Array(64).fill('n')), 'offer');
  assert.equal(type('notes', Array(65).fill('n')), 'malformed');
  assert.equal(type('findings', Array(256).fill(finding)), 'offer');
  assert.equal(type('findings', Array(257).fill(finding)), 'malformed');
  for (const [characters, taken] of [
    [4_096, 'offer'],
    [4_097, 'malformed'],
  ] as const) {
    assert.equal(type('notes', ['n'.repeat(characters)]), taken);
    assert.equal(type('findings', [{ ...finding, message: 'm'.repeat(characters) }]), taken);
  }
});

test('what came to a histogram keeps to the shape of one, and names none that there is not', () => {
  const stats = recorded('1.0').findLast(({ message }) => message.type === 'stats')?.message as
    | (object & { readonly stats?: object })
    | undefined;
  const said = (grown: unknown): string =>
    JSON.stringify({ ...stats, stats: { ...stats?.stats, probeUs: null, grown } });
  const taken = decodeAgentMessage(said({ probeUs: [7, 1], laterUs: [1, 1] }));
  assert(taken.type === 'message' && taken.message.type === 'stats');
  assert.deepEqual(taken.message.stats.grown, { probeUs: [7, 1] });
  for (const wrong of [{ probeUs: [7, 0] }, { probeUs: [7, 1, 7, 1] }, { probeUs: null }, null])
    assert.equal(decodeAgentMessage(said(wrong)).type, 'malformed', JSON.stringify(wrong));
});
