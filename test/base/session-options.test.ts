/** Tests which texts MQTT takes as templates, topic filters and passwords. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  differsByConnection,
  keepAliveProbeMs,
  passwordProblem,
  templateProblem,
  topicProblem,
} from '../../src/base/session-options.ts';

test('a template knows the agent and the connection, and nothing else', () => {
  for (const good of ['a', '{conn}', 'dev-{agent}-{conn}', 'ünïcode', '{"json":1}', 'x'.repeat(1_024)])
    assert.equal(templateProblem(good), null, good);
  for (const bad of ['', '{seq}', '{CONN}', 'a\0b', 'a\nb', '\ud800', 'x'.repeat(1_025), 'ü'.repeat(600)])
    assert.notEqual(templateProblem(bad), null, JSON.stringify(bad));
  assert.match(templateProblem('{seq}') ?? '', /not \{seq\}/);
  assert.deepEqual(['{conn}', '{agent}'].map(differsByConnection), [true, false]);
});

test('wildcards of a topic filter stand alone in their level, # at its end', () => {
  for (const good of ['a/b', '+/b/+', '#', 'a/#', '$share/g/a/+', 'd/{conn}/#', '/'])
    assert.equal(topicProblem(good), null, good);
  for (const bad of ['', 'a#', 'a/#/b', 'a+/b', '#/', 'a/{seq}'])
    assert.notEqual(topicProblem(bad), null, bad);
});

test('a password is any text with a length', () => {
  assert.equal(passwordProblem('{conn}\n\0'), null);
  assert.notEqual(passwordProblem(''), null);
  assert.notEqual(passwordProblem('x'.repeat(16_385)), null);
});

test('a session is probed well within its keep alive', () => {
  assert.equal(keepAliveProbeMs(60), 45_000);
});
