import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BenchError } from '../../src/base/errors.ts';
import { resolveHost } from '../../src/host/resolver.ts';

test('an IP literal returns itself, without brackets', async () => {
  assert.deepEqual(await resolveHost('127.0.0.1'), ['127.0.0.1']);
  assert.deepEqual(await resolveHost('[::1]'), ['::1']);
  assert.deepEqual(await resolveHost('2001:db8::7'), ['2001:db8::7']);
});

test('localhost resolves through the system to loopback addresses, each once', async () => {
  const addresses = await resolveHost('localhost');
  assert.ok(addresses.length >= 1);
  assert.equal(new Set(addresses).size, addresses.length);
  for (const address of addresses) assert.match(address, /^(127\.|::1$)/);
});

test('a name that does not resolve is a usage error with a command to check it', async () => {
  // .invalid never exists (RFC 6761).
  await assert.rejects(resolveHost('no-such-host.invalid'), (error: unknown) => {
    assert.ok(error instanceof BenchError);
    assert.equal(error.code, 'name-not-resolved');
    assert.equal(error.exitCode, 2);
    assert.match(error.message, /no-such-host\.invalid/);
    assert.match(error.hint, /getent ahosts no-such-host\.invalid/);
    assert.ok(error.cause instanceof Error);
    return true;
  });
});
