/** Tests that the texts of requests and messages say what to type instead, and are written back as they were. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  answer,
  clients,
  expectation,
  header,
  message,
  subprotocol,
} from '../../../src/api/flags/request-types.ts';
import { BenchError } from '../../../src/base/errors.ts';

test('what is right is written back as it was typed', () => {
  assert.equal(message.write(message.parse('a {seq}\\r\\n', '--send')), 'a {seq}\\r\\n');
  assert.equal(message.parse('@file', '--send'), '@file');
  assert.equal(expectation.parse('/^[SN]/', '--expect'), '/^[SN]/');
  assert.equal(answer.parse('2=3', '--answer'), '2=3');
  assert.equal(header.write(header.parse('A:  b ', '--header')), 'A: b');
  assert.equal(subprotocol.parse('mqtt', '--ws-protocol'), 'mqtt');
});

test('what is wrong names its flag, and what to type', () => {
  for (const [parse, text, hint] of [
    [message.parse, '{con}', /^type --send /],
    [expectation.parse, '/(/', /^type --send '\+PONG'/],
    [answer.parse, '2', /^type --send '2=3'/],
  ] as const) {
    assert.throws(
      () => parse(text, '--send'),
      (error) => error instanceof BenchError && error.exitCode === 2 && hint.test(error.hint),
      text,
    );
  }
});

test('texts are read and written back, and what cannot be is refused with the name of its flag', () => {
  assert.deepEqual(header.parse('A:  b ', '--header'), { name: 'A', value: 'b' });
  assert.equal(header.parse('@file name', '--header'), 'file name');
  assert.equal(subprotocol.parse('mqtt', '--ws-protocol'), 'mqtt');
  assert.equal(clients.parse(' 10.0.0.0/8 ', '--proxy-source'), '10.0.0.0/8');
  for (const [type, given] of [
    [header, 'A: b'],
    [header, '@x'],
    [subprotocol, 'chat.v2'],
    [clients, '2001:db8::/64'],
  ] as const) {
    assert.equal((type.write as (value: unknown) => string)(type.parse(given, '--x')), given);
  }
  // A place in a run file has blanks, and its file may have some too.
  for (const origin of ['--header', 'my files/soak.yaml:3:8: header']) {
    assert.throws(
      () => header.parse('no colon', origin),
      (error: Error & { hint?: string }) => {
        assert.ok(error.message.startsWith(origin), error.message);
        assert.match(error.hint ?? '', /^type (?:--header '|header: ')Authorization/);
        return true;
      },
    );
  }
  assert.throws(
    () => clients.parse('10.0.0.0/99', '--proxy-source'),
    /^BenchError: --proxy-source: "10\.0\.0\.0\/99"/,
  );
});
