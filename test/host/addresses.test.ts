import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readHostAddresses, readRoutes } from '../../src/host/addresses.ts';
import type { CommandResult, RunCommand } from '../../src/host/command.ts';

const saying =
  (more: Partial<CommandResult>): RunCommand =>
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
