import assert from 'node:assert/strict';
import { it } from 'node:test';
import { addressGroup } from '../../src/control/gate.ts';

it('counts an IPv4 address by itself, however it is written, and IPv6 by its /64', () => {
  assert.equal(addressGroup('10.0.0.1'), '10.0.0.1');
  assert.equal(addressGroup('::ffff:10.0.0.1'), '10.0.0.1');
  assert.equal(addressGroup('2001:db8:1:2:3:4:5:6'), addressGroup('2001:db8:1:2::1'));
  assert.notEqual(addressGroup('2001:db8:1:2::1'), addressGroup('2001:db8:1:3::1'));
  assert.equal(addressGroup('2001:db8::1'), addressGroup('2001:db8::ffff:1'));
  assert.equal(addressGroup('fe80::1%eth0'), addressGroup('fe80::2%eth1'));
  assert.notEqual(addressGroup('::1'), addressGroup('2001:db8::1'));
});
