/** Tests addresses as the kernel takes them on what the kernel makes of them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressFromBigInt } from '../../../src/base/address.ts';
import { addressOf, portOf, setPort, sockAddr } from '../../../src/engine/drivers/sockaddr.ts';
import * as libc from '../../../src/engine/libc.ts';

function boundTo(address: string): { address: string; port: number } {
  const wanted = sockAddr(address, 0);
  const fd = libc.tcpSocket(wanted.family);
  assert.equal(libc.bind(fd, wanted.bytes, wanted.length), 0, address);
  const named = new Uint8Array(28);
  assert.equal(libc.getsockname(fd, named, new Int32Array([28])), 0);
  libc.close(fd);
  return { address: addressOf(named), port: portOf(named) };
}

test('the kernel reads an address as it was written', () => {
  for (const address of ['127.0.0.1', '127.1.2.3', '127.255.0.9']) {
    const bound = boundTo(address);
    assert.equal(bound.address, address);
    assert(bound.port > 0, 'and a port in the right byte order');
  }
});

test('any IPv4 and IPv6 address comes back as its canonical text', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 6 as const),
      fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }),
      (family, value) => {
        const address = addressFromBigInt(family, family === 4 ? value % 2n ** 32n : value);
        // The kernel's text for mapped addresses (::ffff:1.2.3.4) is never bound by us.
        fc.pre(!address.includes('.') || family === 4);
        assert.equal(addressOf(sockAddr(address, 1).bytes), address);
      },
    ),
  );
});

test('the port is written in place, in network byte order', () => {
  const address = sockAddr('127.0.0.1', 1);
  setPort(address, 0x1f90);
  assert.deepEqual([...address.bytes.subarray(2, 4)], [0x1f, 0x90]);
  assert.equal(portOf(address.bytes), 8_080);
});

test('a link-local address has the index of its device, and no other address has one', () => {
  const [index = 0] = readFileSync('/proc/net/if_inet6', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(' lo'))
    .map((line) => Number.parseInt(line.split(/\s+/)[1] ?? '', 16));
  const scopeOf = (address: string, zone?: string): number =>
    new DataView(sockAddr(address, 80, zone).bytes.buffer).getUint32(24, true);
  assert.equal(scopeOf('fe80::1', 'lo'), index === 0 ? libc.deviceIndex('lo') : index);
  assert.notEqual(scopeOf('febf::1', 'lo'), 0);
  assert.equal(scopeOf('fe80::1', 'no-such-device'), 0);
  assert.equal(scopeOf('fe80::1'), 0);
  assert.equal(scopeOf('fd00::1', 'lo'), 0);
  assert.equal(scopeOf('fec0::1', 'lo'), 0);
  assert.equal(addressOf(sockAddr('fe80::1', 80, 'lo').bytes), 'fe80::1');
});
