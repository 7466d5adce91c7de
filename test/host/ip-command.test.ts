import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunProgram } from '../../src/host/command.ts';
import {
  readAddressesNow,
  readGateway,
  readHostAddresses,
  readRoutes,
  readSourceDevices,
  runIpBatch,
} from '../../src/host/ip-command.ts';
import { FakeIp } from './fake-ip.ts';

type CommandResult = Awaited<ReturnType<RunProgram>>;

const saying =
  (more: Partial<CommandResult>): RunProgram =>
  () =>
    Promise.resolve({ code: 0, stdout: '', stderr: '', missing: false, truncated: false, ...more });

test('an address that is tentative, deprecated or a duplicate is not usable; other families are no addresses', async () => {
  const info = (local: string, more: object = {}) => ({ family: 'inet6', local, prefixlen: 64, ...more });
  const addr_info = [
    info('FD09:0::2'),
    info('fd09::3', { tentative: true }),
    info('fd09::4', { deprecated: true }),
    info('fd09::5', { dadfailed: true }),
    { family: 'link', local: '02:00:00:00:00:01' },
  ];
  const addresses = await readHostAddresses(
    saying({ stdout: JSON.stringify([{ ifname: 'eth0', addr_info }, { ifname: 'eth1' }]) }),
  );
  assert.deepEqual(
    addresses.map(({ address, usable }) => [address, usable]),
    [
      ['fd09::2', true],
      ['fd09::3', false],
      ['fd09::4', false],
      ['fd09::5', false],
    ],
  );
  assert.deepEqual(addresses[0], {
    address: 'fd09::2',
    family: 6,
    prefix: 64,
    device: 'eth0',
    scope: 'global',
    usable: true,
  });
});

test("a list that is cut off or no JSON is not believed: Node's own is taken", async () => {
  for (const result of [{ stdout: '[{', code: 0 }, { stdout: '[]', truncated: true }, { code: 1 }]) {
    const addresses = await readHostAddresses(saying(result));
    assert(addresses.some(({ address, device }) => address === '127.0.0.1' && device === 'lo'));
  }
});

test('routes come back in the order asked, with a target that has none, and one that is this host', async () => {
  const stdout = [
    '[{"dst":"10.9.0.1","dev":"eth0","prefsrc":"10.9.0.2"}]',
    '[{"type":"local","dst":"10.9.0.2","dev":"lo","prefsrc":"10.9.0.2"}]',
    'RTNETLINK answers: Network is unreachable',
  ].join('\n');
  const own = { family: 4 as const, prefix: 24, scope: 'global', usable: true };
  const routes = await readRoutes(
    ['10.9.0.2', '203.0.113.9', '10.9.0.1'],
    [{ ...own, address: '10.9.0.2', device: 'eth0' }],
    saying({ stdout, code: 1 }),
  );
  assert.deepEqual(routes, [
    { address: '10.9.0.2', device: 'lo', source: '10.9.0.2', local: true },
    { address: '203.0.113.9', device: null, source: null, local: false },
    { address: '10.9.0.1', device: 'eth0', source: '10.9.0.2', local: false },
  ]);
});

test('each error belongs to the command whose number follows it', async () => {
  const said =
    'Error: ipv4: Address already assigned.\nCommand failed -:1\nCannot find device "nodev"\nCommand failed -:2\n' +
    'RTNETLINK answers: Operation not permitted\nCommand failed -:12\n';
  const { errors } = await runIpBatch(saying({ code: 1, stderr: said }), ['addr add 1']);
  assert.deepEqual(
    [...errors],
    [
      [0, 'ipv4: Address already assigned.'],
      [1, 'Cannot find device "nodev"'],
      [11, 'Operation not permitted'],
    ],
  );
  const { errors: none } = await runIpBatch(saying({}), ['addr add 1']);
  assert.equal(none.size, 0);
});

test('when ip ends on its way, every command counts as failed; no command runs no program', async () => {
  const killed = { code: null, stdout: '', stderr: '', missing: false, truncated: false };
  const { errors } = await runIpBatch(() => Promise.resolve(killed), ['addr add 1', 'addr add 2']);
  assert.deepEqual([...errors.keys()], [0, 1]);
  const nothing = await runIpBatch(() => assert.fail('nothing to run'), []);
  assert.equal(nothing.errors.size, 0);
});

test('the device of each source is read from one batch; a source without a route is absent', async () => {
  const stdout =
    '[{"dst":"10.9.0.1","from":"10.9.0.2","dev":"eth0","flags":[]}]\n[{"dst":"10.9.0.1","from":"10.8.0.2","dev":"eth1"}]\n';
  const asked: string[] = [];
  const devices = await readSourceDevices(
    (_file, _args, { input = '' }) => {
      asked.push(...input.trim().split('\n'));
      return Promise.resolve({ code: 1, stdout, stderr: '', missing: false, truncated: false });
    },
    ['10.9.0.2', '10.7.0.2', '10.8.0.2'],
    '10.9.0.1',
  );
  assert.deepEqual(asked, [
    'route get 10.9.0.1 from 10.9.0.2',
    'route get 10.9.0.1 from 10.7.0.2',
    'route get 10.9.0.1 from 10.8.0.2',
  ]);
  assert.deepEqual(Object.fromEntries(devices), { '10.9.0.2': 'eth0', '10.8.0.2': 'eth1' });
});

test('addresses are read with label, lifetime and the kind of their device', async () => {
  const ip = new FakeIp([
    { local: 'FD09:0::1', prefixlen: 64, device: 'eth0', validSec: null },
    { local: '10.1.0.1', prefixlen: 20, device: 'lo', label: 'lo:c100k', validSec: 7 },
  ]);
  const now = await readAddressesNow(ip.run);
  assert.deepEqual(now?.devices, ['lo', 'eth0']);
  assert.deepEqual(now?.addresses, [
    {
      address: '10.1.0.1',
      family: 4,
      prefix: 20,
      device: 'lo',
      scope: 'global',
      usable: true,
      label: 'lo:c100k',
      validSec: 7,
      isOnVirtualDevice: true,
    },
    {
      address: 'fd09::1',
      family: 6,
      prefix: 64,
      device: 'eth0',
      scope: 'global',
      usable: true,
      label: null,
      validSec: null,
      isOnVirtualDevice: false,
    },
  ]);
});

test('without ip nothing is known of addresses, and no source has a device', async () => {
  const ip = new FakeIp();
  ip.isMissing = true;
  assert.equal(await readAddressesNow(ip.run), null);
  assert.equal((await readSourceDevices(ip.run, ['10.9.0.2'], '10.9.0.1')).size, 0);
});

test('the next hop is that of the route; none is known without one, without ip, or on the same segment', async () => {
  const route = { dst: '203.0.113.1', gateway: '192.0.2.1', dev: 'eth0' };
  assert.equal(await readGateway(saying({ stdout: JSON.stringify([route]) }), '203.0.113.1'), '192.0.2.1');
  assert.equal(await readGateway(saying({ stdout: '[{"dst":"192.0.2.9"}]' }), '192.0.2.9'), null);
  assert.equal(await readGateway(saying({ code: 1 }), '203.0.113.1'), null);
  assert.equal(await readGateway(saying({ code: null, missing: true }), '203.0.113.1'), null);
});

test('what is of another kind than `ip` says it is as good as absent', async () => {
  const devices = [null, 7, { ifname: 3, addr_info: {} }, { ifname: 'eth0', flags: 'UP', addr_info: [null] }];
  assert.deepEqual(await readAddressesNow(saying({ stdout: JSON.stringify(devices) })), {
    addresses: [],
    devices: ['eth0'],
  });
  const routes = [
    { dst: 5, dev: ['eth0'] },
    { dst: '192.0.2.1', dev: {}, prefsrc: null, type: 1 },
  ];
  const stdout = `${JSON.stringify(routes)}\n`;
  assert.deepEqual(await readRoutes(['192.0.2.1'], [], saying({ stdout })), [
    { address: '192.0.2.1', device: null, source: null, local: false },
  ]);
});
