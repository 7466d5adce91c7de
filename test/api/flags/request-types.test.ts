/** Tests that the texts of requests and messages say what to type instead, and are written back as they were. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, expectation, header, message, subprotocol } from '../../../src/api/flags/request-types.ts';
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
