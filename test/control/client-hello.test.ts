import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { it } from 'node:test';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { CLIENT_HELLO_BYTES_MAX, isBoundBy, readClientHello } from '../../src/control/client-hello.ts';
import { CLIENT_TLS } from '../../src/control/token.ts';

const KEY = Buffer.alloc(32, 7);
const IDENTITY = 'agent:["a",null,null]';

/** What Node's own TLS says first. */
async function recorded(isKeyed: boolean): Promise<Buffer> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const psk = isKeyed ? { pskCallback: () => ({ psk: KEY, identity: IDENTITY }) } : {};
  const client = connect({ ...CLIENT_TLS, host: '127.0.0.1', port, ...psk });
  client.on('error', () => {});
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  client.destroy();
  server.close();
  return bytes;
}

it("reads the key that Node's client offers, and tells the right key from every other", async () => {
  const hello = readClientHello(await recorded(true));
  assert.equal(hello.type, 'keyed');
  assert.ok(hello.type === 'keyed' && hello.identity === IDENTITY);
  assert.equal(isBoundBy(hello, KEY), true);
  assert.equal(isBoundBy(hello, Buffer.alloc(32, 8)), false);
});

it('calls a client without a key keyless', async () => {
  assert.equal(readClientHello(await recorded(false)).type, 'keyless');
});

it('is patient with every beginning of a good one, and takes no changed one for proved', async () => {
  const bytes = await recorded(true);
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(readClientHello(bytes.subarray(0, length)).type, 'partial', `${length} bytes`);
  }
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    const hello = readClientHello(changed);
    // The header of the record is no part of what is bound: the two bytes of its version alone may differ.
    if (hello.type === 'keyed') assert.ok(at === 2 || !isBoundBy(hello, KEY), `byte ${at}`);
  }
});

it('never throws, and wants no more than its bound, whatever the bytes', async () => {
  const good = await recorded(true);
  const noise = fc.uint8Array({ maxLength: 3_000 }).map((bytes) => Buffer.from(bytes));
  const header = fc.nat(CLIENT_HELLO_BYTES_MAX).map((size) => Buffer.from([22, 3, 1, size >> 8, size & 255]));
  const changed = fc
    .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 8 })
    .map((changes) => {
      const bytes = Buffer.from(good);
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  const mixed = fc.tuple(header, noise).map((parts) => Buffer.concat(parts));
  fc.assert(
    fc.property(fc.oneof(noise, mixed, changed), (bytes) => {
      assert.ok(['partial', 'noise', 'keyless', 'keyed'].includes(readClientHello(bytes).type));
    }),
    { numRuns: 5_000 },
  );
  const full = Buffer.concat([Buffer.from([22, 3, 1, 0xff, 0xff]), Buffer.alloc(CLIENT_HELLO_BYTES_MAX)]);
  assert.equal(readClientHello(full).type, 'noise');
});
