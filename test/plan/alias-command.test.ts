import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressRange, expandAddresses } from '../../src/base/address.ts';
import {
  addAddressesCommand,
  askForAddresses,
  loopbackAfter,
  sourceIpFlag,
} from '../../src/plan/alias-command.ts';

test('addresses are added one host at a time: /32, and /128 without duplicate address detection', () => {
  assert.equal(addAddressesCommand(['10.0.0.2'], 'eth0'), 'ip addr add 10.0.0.2/32 dev eth0');
  assert.equal(addAddressesCommand(['fd00::2'], 'eth0'), 'ip addr add fd00::2/128 dev eth0 nodad');
});

test('many addresses become a loop that a shell can run', () => {
  assert.equal(
    addAddressesCommand(addressRange('10.0.0.2', 50), 'eth0'),
    'for i in $(seq 2 51); do ip addr add 10.0.0.$i/32 dev eth0; done',
  );
  const scattered = Array.from({ length: 9 }, (_, index) => `10.0.${index}.1`);
  assert.equal(
    addAddressesCommand(scattered, 'eth0'),
    `for a in ${scattered.join(' ')}; do ip addr add $a/32 dev eth0; done`,
  );
});

test('free addresses are asked for by names in capitals, never by an address', () => {
  const two = askForAddresses(['10.0.0.9', '10.0.0.3'], 2, 4, 'eth0');
  assert.equal(two.flag, '--source-ip 10.0.0.9 --source-ip 10.0.0.3 --source-ip FREE_1 --source-ip FREE_2');
  assert.equal(two.byHand, 'ip addr add FREE_1/32 dev eth0 && ip addr add FREE_2/32 dev eth0');
  assert.equal(two.request, 'for FREE_1, FREE_2 put IPv4 addresses that no other host has');
  const one = askForAddresses([], 1, 6, null);
  assert.equal(one.flag, '--source-ip FREE_1');
  assert.equal(one.byHand, 'ip addr add FREE_1/128 dev DEVICE nodad');
  assert.equal(one.request, 'for FREE_1 put an IPv6 address that no other host has');
  const many = askForAddresses(['10.0.0.9'], 300, 4, 'eth0');
  assert.equal(many.flag, '--source-ip 10.0.0.9 --source-ip FREE_FIRST-FREE_LAST');
  assert.match(many.request, /a range of 300 IPv4 addresses/);
});

test('a name that was typed as it is, is refused as no address', () => {
  for (const name of ['FREE_1', 'FREE_FIRST-FREE_LAST']) {
    assert.throws(() => expandAddresses([name]), /FREE_/);
  }
});

test('of 127.0.0.0/8 all is ours: more of it is named, and never its broadcast address', () => {
  assert.deepEqual(loopbackAfter(['127.0.0.9', '127.0.0.3'], 2), ['127.0.0.10', '127.0.0.11']);
  assert.deepEqual(loopbackAfter(['127.255.255.253', '127.0.0.2'], 3), [
    '127.255.255.254',
    '127.0.0.3',
    '127.0.0.4',
  ]);
});

test('the flag names a run as a range, and scattered addresses one by one', () => {
  assert.equal(sourceIpFlag(['10.0.0.2']), '--source-ip 10.0.0.2');
  assert.equal(sourceIpFlag(['10.0.0.2', '10.0.0.3', '10.0.0.4']), '--source-ip 10.0.0.2-10.0.0.4');
  assert.equal(sourceIpFlag(['10.0.0.2', '10.0.0.4']), '--source-ip 10.0.0.2 --source-ip 10.0.0.4');
});
