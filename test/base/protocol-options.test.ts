/** Tests that what a protocol is given crosses the control channel whole, and within its bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS, type ProtocolOptions } from '../../src/base/protocol-options.ts';
import { decodeCoordinatorMessage } from '../../src/control/codec.ts';

function decoded(change: object): ReturnType<typeof decodeCoordinatorMessage> {
  const spec = {
    endpoints: [{ address: '127.0.0.1', port: 443, family: 4 }],
    protocol: 'wss',
    protocolOptions: { ...DEFAULT_PROTOCOL_OPTIONS, ...change },
    connections: 5,
    ratePerSec: null,
    pendingMax: 5,
    connectTimeoutMs: 1_000,
    holdMs: 1_000,
    close: 'rst',
    probeEveryMs: 1_000,
    probeTimeoutMs: 1_000,
    sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
    holders: null,
    onDrop: 'count',
    wantsLossDetails: false,
  };
  return decodeCoordinatorMessage(
    JSON.stringify({
      type: 'spec',
      runId: 'r',
      epoch: 1,
      spec,
      mayGrow: false,
      leaseMs: 30_000,
      quietMs: 10_000,
    }),
  );
}

const TLS = DEFAULT_PROTOCOL_OPTIONS.tls;

test('options arrive as they were sent', () => {
  const options: ProtocolOptions = {
    path: '/chat?x=1',
    host: 'server.example',
    hostHeader: '[::1]:8000',
    banner: '',
    message: 'grüß dich',
    httpStatus: 204,
    tls: { servername: 'a.example', ca: '-----BEGIN CERTIFICATE-----', isVerified: false },
  };
  const message = decoded(options);
  assert(message.type === 'spec', message.type);
  assert.deepEqual(message.spec.protocolOptions, options);
});

for (const [what, change] of [
  ['a path without its slash', { path: 'chat' }],
  ['a path that ends the request line', { path: '/ HTTP/1.1\r\nX: y' }],
  ['a path that is too long', { path: `/${'x'.repeat(2_048)}` }],
  ['a header in the Host field', { hostHeader: 'a\r\nX: y' }],
  ['a header in the host', { host: 'a\r\nX: y' }],
  ['a banner above 254 bytes', { banner: 'é'.repeat(128) }],
  ['an empty message', { message: '' }],
  ['a message above 4,096 bytes', { message: 'x'.repeat(4_097) }],
  ['an interim status', { httpStatus: 101 }],
  ['an address for SNI', { tls: { ...TLS, servername: '10.0.0.1' } }],
  ['a CA above 1 MiB', { tls: { ...TLS, ca: 'x'.repeat(1_048_577) } }],
] as const) {
  test(`${what} is refused`, () => {
    assert.equal(decoded(change).type, 'malformed');
  });
}

test('a key that is not known is left out', () => {
  const message = decoded({ tls: { ...TLS, key: 'secret' } });
  assert(message.type === 'spec', message.type);
  assert.deepEqual(message.spec.protocolOptions?.tls, TLS);
});
