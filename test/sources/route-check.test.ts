import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { ConnectTurns, checkRoutes, readSourceDevices } from '../../src/sources/route-check.ts';
import { until } from '../support/waiting.ts';

const PORTS = [{ from: 21_000, to: 21_099 }];

test('an accepted and a refused connect are answers; an address that is not ours is named', async () => {
  const server = createServer();
  const accepted: Socket[] = [];
  const errors: (string | undefined)[] = [];
  server.on('connection', (socket) => {
    accepted.push(socket);
    socket.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const endpoint = { address: '127.0.0.1', port, family: 4 as const };
  const nobody = { ...endpoint, port: 9 };
  const troubles = await checkRoutes(
    [
      { source: '127.0.0.2', endpoint },
      { source: '127.0.0.3', endpoint: nobody },
      { source: '198.51.100.7', endpoint },
    ],
    PORTS,
    1_000,
  );
  assert.deepEqual(troubles, [null, null, 'not an address of this host']);
  assert.equal(accepted.length, 1);
  // The far side sees a reset: no TIME_WAIT on either end.
  await until('the far side is closed', () => accepted[0]?.closed === true);
  assert.deepEqual(errors, ['ECONNRESET']);
  server.close();
});

test('connects come in turns at a rate, and not faster after a stand-still', async () => {
  // Time passes with each look, by 1 ms, and stands still for 5 s once.
  let looks = 0;
  const clock = { monotonicMs: () => ++looks + (looks > 300 ? 5_000 : 0), wallMs: () => 0 };
  const turns = new ConnectTurns(100, clock);
  const called: number[] = [];
  await Promise.all(
    Array.from({ length: 40 }, async () => {
      await turns.next();
      called.push(looks + (looks > 300 ? 5_000 : 0));
    }),
  );
  assert.equal(called.length, 40);
  for (const [index, at] of called.entries()) {
    const before = called[index - 3];
    if (before !== undefined) assert(at - before >= 20, `three within ${at - before} ms`);
  }
});

test('a port in use is passed over: the next one tells', async () => {
  const server = createServer();
  server.listen(21_099, '127.0.0.4');
  await once(server, 'listening');
  const nobody = { address: '127.0.0.1', port: 9, family: 4 as const };
  assert.deepEqual(await checkRoutes([{ source: '127.0.0.4', endpoint: nobody }], PORTS, 1_000), [null]);
  server.close();
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
