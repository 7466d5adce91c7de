/** Tests what is said of when lost connections come back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jitter, reopenAfter } from '../../../src/api/flags/reopen-types.ts';
import { BenchError } from '../../../src/base/errors.ts';

test('a policy is read with its units, and written so that it is read as the same', () => {
  for (const [text, kind, firstMs, mostMs] of [
    ['immediate', 'immediate', 0, 0],
    ['fixed:1s', 'fixed', 1_000, 1_000],
    ['fixed:250ms', 'fixed', 250, 250],
    ['backoff:1s..60s', 'backoff', 1_000, 60_000],
    ['backoff:1..1', 'backoff', 1_000, 1_000],
  ] as const) {
    const policy = reopenAfter.parse(text, '--reopen-after');
    assert.deepEqual({ ...policy, jitter: 0 }, { kind, firstMs, mostMs, jitter: 0 }, text);
    assert.deepEqual(reopenAfter.parse(reopenAfter.write(policy), '--reopen-after'), policy);
  }
});

test('what is wrong with a policy is said with what to type', () => {
  const errorOf = (text: string): { message: string; hint: string } => {
    try {
      reopenAfter.parse(text, '--reopen-after');
    } catch (error) {
      if (error instanceof BenchError) return error;
    }
    return { message: 'taken', hint: 'none' };
  };
  const hintOf = (text: string): string => errorOf(text).hint;
  assert.match(hintOf('backoff'), /--reopen-after=?\s?backoff:1s\.\.60s/);
  assert.match(hintOf('backoff:1m..1s'), /backoff:1s\.\.60s$/);
  // The bound, and a whole value: 1ms alone would be refused again.
  assert.match(errorOf('fixed:0').message, /at least 1ms/);
  assert.equal(hintOf('fixed:0'), 'type --reopen-after fixed:1s');
});

test('jitter is a percentage, with or without its sign', () => {
  for (const [text, part] of [
    ['0', 0],
    ['100%', 1],
    ['12.5 %', 0.125],
  ] as const) {
    assert.equal(jitter.parse(text, '--reopen-jitter'), part);
    assert.equal(jitter.parse(jitter.write(part), '--reopen-jitter'), part);
  }
});
