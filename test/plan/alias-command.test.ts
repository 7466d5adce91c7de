import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressRange } from '../../src/base/address.ts';
import { addAddressesCommand, addressesAfter, sourceIpFlag } from '../../src/plan/alias-command.ts';

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

test('more addresses follow the highest one, and end with the family', () => {
  assert.deepEqual(addressesAfter(['10.0.0.9', '10.0.0.3'], 2), ['10.0.0.10', '10.0.0.11']);
  assert.deepEqual(addressesAfter(['fd00::9', '10.0.0.3'], 1), ['fd00::a']);
  assert.deepEqual(addressesAfter(['255.255.255.254'], 5), ['255.255.255.255']);
});

test('the flag names a run as a range, and scattered addresses one by one', () => {
  assert.equal(sourceIpFlag(['10.0.0.2']), '--source-ip 10.0.0.2');
  assert.equal(sourceIpFlag(['10.0.0.2', '10.0.0.3', '10.0.0.4']), '--source-ip 10.0.0.2-10.0.0.4');
  assert.equal(sourceIpFlag(['10.0.0.2', '10.0.0.4']), '--source-ip 10.0.0.2 --source-ip 10.0.0.4');
});
