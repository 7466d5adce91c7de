import assert from 'node:assert/strict';
import { it } from 'node:test';
import { formatToken, generateToken, parseToken } from '../../src/control/token.ts';
import { BenchError } from '../../src/core/errors.ts';

it('a token survives its text form, surrounding white space included', () => {
  const token = generateToken('host-7');
  assert.deepEqual(parseToken(`  ${formatToken(token)}\n`), token);
});

it('two tokens never share a key', () => {
  assert.notDeepEqual(generateToken('a').key, generateToken('a').key);
});

it('a text that is not a token is refused without repeating it', () => {
  for (const text of ['', 'secret-password', 'c100k1.YQ.AAAA', `${formatToken(generateToken('a'))}.more`]) {
    assert.throws(
      () => parseToken(text),
      (error) => {
        assert.ok(error instanceof BenchError);
        assert.equal(error.exitCode, 2);
        assert.ok(text === '' || !`${error.message}${error.hint}`.includes(text));
        return true;
      },
    );
  }
});
