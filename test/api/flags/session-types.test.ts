/** Tests the texts of the flags of a session: what is taken, and how it is written back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alpnNames, clientId, mqttPassword, mqttUser, topic } from '../../../src/api/flags/session-types.ts';

test('names of files pass for user and password alone, and everything is written back as it was', () => {
  for (const [type, given] of [
    [clientId, 'a-{conn}'],
    [mqttUser, '@/file\n'],
    [mqttPassword, '@/file'],
    [topic, '$share/a/{conn}/#'],
  ] as const)
    assert.equal(type.write(type.parse(given, '--x')), given);
  for (const type of [clientId, topic]) assert.throws(() => type.parse('@a\nb', '--x'), /--x/);
});

test('names for ALPN are a list of different names, blanks beside the commas aside', () => {
  assert.deepEqual(alpnNames.parse('h2, http/1.1', '--alpn'), ['h2', 'http/1.1']);
  assert.equal(alpnNames.write(['a', 'b']), 'a,b');
  for (const bad of [
    '',
    'a,,b',
    'a,a',
    'a b',
    'ü',
    'x'.repeat(256),
    Array.from({ length: 17 }, (_, i) => i).join(),
  ])
    assert.throws(() => alpnNames.parse(bad, '--alpn'), /--alpn is a comma list/, bad);
});
