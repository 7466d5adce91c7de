/** Owns the proof that addresses are read, written and expanded exactly. Must never ask the host for an address. */
import assert from 'node:assert/strict';
import { BlockList, isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ADDRESSES_MAX,
  addressFromBigInt,
  addressRange,
  addressToBigInt,
  cidrContains,
  expandAddresses,
  type Family,
  isAddress,
  isLoopback,
  isPrivate,
  parseAddress,
  unmapV4,
} from '../../src/base/address.ts';
import { BenchError } from '../../src/base/errors.ts';

const v4 = fc.ipV4();
const v6 = fc.ipV6();

/** Fails unless it is refused as a bad address whose message and hint match. */
function assertRefused(run: () => unknown, message: RegExp, hint: RegExp = /\S/): void {
  assert.throws(run, (error) => {
    assert(error instanceof BenchError, `not a BenchError: ${error}`);
    assert.equal(error.code, 'bad-address');
    assert.match(error.message, message);
    assert.match(error.hint, hint);
    return true;
  });
}

test('an address is written as RFC 5952 wants it', () => {
  for (const [text, canonical] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['2001:DB8::0001', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:0:0:0:0:0:0:0', '1::'],
    ['::ffff:1.2.3.4', '::ffff:1.2.3.4'],
    ['::FFFF:0102:0304', '::ffff:1.2.3.4'],
    ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
  ] as const) {
    assert.equal(parseAddress(text).address, canonical);
  }
});

test('what is no address is refused', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4.5',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    'g::1',
  ]) {
    assert.equal(isAddress(text), false, text);
    assertRefused(() => parseAddress(text), /is not an IP address/, /192\.168/);
  }
  for (const text of [
    '1:2:3:4:5:6:7:8:9',
    '::1.2.3',
    '1.2.3.4::',
    '12345::',
    '[::1]',
    'localhost',
    '1:2:3:4::5:6:7:8',
  ]) {
    assert.equal(isAddress(text), false, text);
  }
  assertRefused(() => parseAddress('fe80::1%eth0'), /fe80::1%eth0/, /zone/);
});

test('Node and we agree on what an address is, and on which one it is', () => {
  const digits = fc.string({ unit: fc.constantFrom('0', '1', 'f', ':', '.', '25'), maxLength: 20 });
  fc.assert(
    fc.property(fc.oneof(v4, v6, digits), (text) => {
      assert.equal(isAddress(text), isIP(text) !== 0, text);
      if (!isAddress(text)) return;
      const parsed = parseAddress(text);
      assert.equal(parsed.family, isIP(text));
      const list = new BlockList();
      list.addAddress(text, parsed.family === 4 ? 'ipv4' : 'ipv6');
      assert(
        list.check(parsed.address, parsed.family === 4 ? 'ipv4' : 'ipv6'),
        `${text} became ${parsed.address}`,
      );
      assert.deepEqual(parseAddress(parsed.address), parsed, 'canonical text is stable');
    }),
    { numRuns: 500 },
  );
});

test('an address and its integer are the same thing', () => {
  const anyOf = (family: Family, max: bigint) =>
    fc.bigInt({ min: 0n, max }).map((value) => [family, value] as const);
  fc.assert(
    fc.property(fc.oneof(anyOf(4, 2n ** 32n - 1n), anyOf(6, 2n ** 128n - 1n)), ([family, value]) => {
      const text = addressFromBigInt(family, value);
      assert.equal(addressToBigInt(text), value);
      assert.equal(parseAddress(text).address, text);
    }),
  );
  assert.equal(addressToBigInt('1.0.0.1'), 16_777_217n);
  assert.throws(() => addressFromBigInt(4, 2n ** 32n), { name: 'AssertionError' });
  assertRefused(() => addressToBigInt('nowhere'), /nowhere/);
});

test('addresses, ranges and networks are written out in their order', () => {
  assert.deepEqual(expandAddresses([]), []);
  assert.deepEqual(expandAddresses(['10.0.0.7']), ['10.0.0.7']);
  assert.deepEqual(expandAddresses(['10.0.0.254-10.0.1.1']), [
    '10.0.0.254',
    '10.0.0.255',
    '10.0.1.0',
    '10.0.1.1',
  ]);
  assert.deepEqual(expandAddresses(['10.0.0.0/30']), ['10.0.0.1', '10.0.0.2']);
  assert.deepEqual(expandAddresses(['10.0.0.0/31']), ['10.0.0.0', '10.0.0.1']);
  assert.deepEqual(expandAddresses(['10.0.0.9/32']), ['10.0.0.9']);
  assert.deepEqual(expandAddresses(['fd00::/127', '::2 - ::3']), ['fd00::', 'fd00::1', '::2', '::3']);
  assert.deepEqual(expandAddresses(['10.0.0.3, 10.0.0.1', '::ffff:10.0.0.2']), [
    '10.0.0.3',
    '10.0.0.1',
    '10.0.0.2',
  ]);
  assert.equal(expandAddresses(['10.0.0.0/16']).length, 65_534);
  assert.equal(expandAddresses(['fd00::/112']).length, ADDRESSES_MAX);
});

test('what cannot be expanded is refused before anything is built, with a hint', () => {
  assertRefused(
    () => expandAddresses(['10.0.0.9-10.0.0.2']),
    /ends before it starts/,
    /10\.0\.0\.2-10\.0\.0\.9/,
  );
  assertRefused(() => expandAddresses(['10.0.0.1-::1']), /mixes IPv4 and IPv6/);
  assertRefused(() => expandAddresses(['10.0.0.1-9']), /whole address/, /10\.0\.0\.1-10\.0\.0\.9$/);
  assertRefused(() => expandAddresses(['10.0.0.0/15']), /131,070; at most 65,536/);
  assertRefused(() => expandAddresses(['::/0']), /at most 65,536/);
  assertRefused(() => expandAddresses(['10.0.0.0/16', '10.1.0.1-10.1.0.3']), /65,537/);
  assertRefused(() => expandAddresses(['10.0.0.1-10.0.0.3', '10.0.0.2']), /10\.0\.0\.2 is named twice/);
  assertRefused(() => expandAddresses(['10.0.0.1', '::ffff:10.0.0.1']), /named twice/);
  assertRefused(
    () => expandAddresses(['192.168.0.102/24']),
    /inside a network/,
    /192\.168\.0\.102 .*192\.168\.0\.0\/24/,
  );
  assertRefused(() => expandAddresses(['10.0.0.0/33']), /prefix length/);
  assertRefused(() => expandAddresses(['fd00::/129']), /prefix length/);
  assertRefused(() => expandAddresses(['10.0.0.0/']), /prefix length/);
  assertRefused(() => expandAddresses(['10.0.0.0/8/8']), /prefix length/);
  assertRefused(() => expandAddresses(['10.0.0.1,']), /missing/);
  assertRefused(() => expandAddresses(['eth0']), /"eth0" is not an IP address/);
  assertRefused(() => expandAddresses(['1.1.1.1-1.1.1.2-1.1.1.3']), /not a range/);
});

test('Node and we agree on which addresses a network holds', () => {
  const network = fc.oneof(
    fc.tuple(v4, v4, fc.integer({ min: 0, max: 32 })),
    fc.tuple(v6, v6, fc.integer({ min: 0, max: 128 })),
  );
  const nearby = fc
    .tuple(v4, fc.integer({ min: 0, max: 32 }), fc.integer({ min: 0, max: 255 }))
    .map(([net, bits, last]) => [net, net.replace(/\d+$/, String(last)), bits] as const);
  fc.assert(
    fc.property(fc.oneof(network, nearby), ([net, address, bits]) => {
      if (unmapV4(net) !== parseAddress(net).address) return;
      const family = isIP(net) === 4 ? 'ipv4' : 'ipv6';
      const list = new BlockList();
      list.addSubnet(net, bits, family);
      assert.equal(
        cidrContains(`${net}/${bits}`, address),
        list.check(address, family),
        `${address} in ${net}/${bits}`,
      );
    }),
    { numRuns: 500 },
  );
});

test('an IPv4 address inside IPv6 is the same address', () => {
  assert.equal(unmapV4('::ffff:1.2.3.4'), '1.2.3.4');
  assert.equal(unmapV4('::FFFF:7f00:1'), '127.0.0.1');
  assert.equal(unmapV4('::1'), '::1');
  assert(cidrContains('10.0.0.0/8', '::ffff:10.1.2.3'));
  assert(cidrContains('::ffff:10.0.0.0/104', '10.1.2.3'));
  assert(!cidrContains('::/0', '10.1.2.3'), 'a rule for IPv6 says nothing about IPv4');
});

test('loopback and private addresses are known, with their borders', () => {
  for (const address of ['127.0.0.1', '127.255.255.255', '::1', '::ffff:127.0.0.2'])
    assert(isLoopback(address), address);
  for (const address of ['126.255.255.255', '128.0.0.0', '::2', '::', '0.0.0.0'])
    assert(!isLoopback(address), address);
  for (const address of ['10.0.0.0', '172.16.0.1', '172.31.255.255', '192.168.0.102', '100.64.0.1']) {
    assert(isPrivate(address), address);
  }
  for (const address of ['100.127.255.255', 'fd00::1', 'fc00::', '::ffff:10.0.0.1']) {
    assert(isPrivate(address), address);
  }
  for (const address of [
    '11.0.0.0',
    '172.32.0.0',
    '100.128.0.0',
    '8.8.8.8',
    '2001:db8::1',
    'fe00::1',
    '169.254.1.1',
    'fe80::1',
    '::ffff:169.254.1.1',
    '127.0.0.1',
  ]) {
    assert(!isPrivate(address), address);
  }
});

test('consecutive addresses cross the borders of their bytes', () => {
  assert.deepEqual(addressRange('127.0.0.254', 3), ['127.0.0.254', '127.0.0.255', '127.0.1.0']);
  assert.deepEqual(addressRange('::fffe', 3), ['::fffe', '::ffff', '::1:0']);
  assert.deepEqual(addressRange('127.0.0.2', 0), []);
  assert.throws(() => addressRange('255.255.255.255', 2), { name: 'AssertionError' });
});
