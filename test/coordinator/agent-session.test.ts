/** Tests who an agent is over cuts and returns: names, epochs, presence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Channel } from '../../src/control/channel.ts';
import type { CoordinatorMessage } from '../../src/control/message.ts';
import { AgentSessions } from '../../src/coordinator/agent-session.ts';

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
