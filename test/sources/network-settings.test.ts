import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readNetworkSettings } from '../../src/sources/network-settings.ts';
import { fakeKernel } from '../host/fake-kernel.ts';

const CONF = 'proc/sys/net/ipv4/conf';

test('the larger of the setting for all devices and of the device itself counts', (t) => {
  const kernel = fakeKernel({
    'proc/sys/net/ipv4/neigh/default/gc_thresh3': '4096\n',
    [`${CONF}/all/rp_filter`]: '1\n',
    [`${CONF}/eth0/rp_filter`]: '0\n',
    [`${CONF}/eth1/rp_filter`]: '2\n',
    [`${CONF}/all/promote_secondaries`]: '0\n',
    [`${CONF}/eth0/promote_secondaries`]: '0\n',
    [`${CONF}/eth1/promote_secondaries`]: '1\n',
  });
  t.after(() => kernel.remove());
  assert.deepEqual(readNetworkSettings(['eth0', 'eth1'], kernel.procRoot), {
    neighboursMax: 4_096,
    rpFilter: { eth0: 1, eth1: 2 },
    promoteSecondaries: { eth0: 0, eth1: 1 },
  });
});

test('what cannot be read is not made up: a device without settings is absent, the table has no size', (t) => {
  const kernel = fakeKernel({ [`${CONF}/all/rp_filter`]: '1\n' });
  t.after(() => kernel.remove());
  assert.deepEqual(readNetworkSettings(['gone0'], kernel.procRoot), {
    neighboursMax: null,
    rpFilter: {},
    promoteSecondaries: {},
  });
});
