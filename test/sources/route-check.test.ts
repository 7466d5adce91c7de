/** Tests what the network says of one source: connects from loopback addresses of this host, and answers of arping as it prints them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { addressRange } from '../../src/base/address.ts';
import type { RunProgram } from '../../src/host/command.ts';
import { hostAlias } from '../../src/run/alias.ts';
import {
  type ConnectLeave,
  ConnectTurns,
  checkRoutes,
  findDuplicates,
  portsAtEnd,
} from '../../src/sources/route-check.ts';
import { until } from '../support/waiting.ts';

type CommandResult = Awaited<ReturnType<RunProgram>>;

const LAST = portsAtEnd([{ from: 21_000, to: 21_099 }], 'last');

test('the ports that are tried are the outermost of the plan, over its ranges', () => {
  const ranges = [
    { from: 1_024, to: 1_025 },
    { from: 61_000, to: 61_009 },
    { from: 40_000, to: 40_000 },
  ];
  assert.deepEqual(portsAtEnd(ranges, 'first'), [1_024, 1_025, 61_000, 61_001]);
  assert.deepEqual(portsAtEnd(ranges, 'last'), [40_000, 61_009, 61_008, 61_007]);
  assert.deepEqual(portsAtEnd([], 'last'), []);
});

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
  const closed = { ...endpoint, port: 9 };
  const problems = await checkRoutes(
    [
      { source: '127.0.0.2', endpoint, ports: LAST },
      { source: '127.0.0.3', endpoint: closed, ports: LAST },
      { source: '198.51.100.7', endpoint, ports: LAST },
    ],
    1_000,
  );
  assert.deepEqual(problems, [null, null, 'not an address of this host']);
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
  const turns = new ConnectTurns(100, { clock });
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

test('without leave a connect waits, and what must never come is not waited for', async () => {
  const server = createServer();
  let accepted = 0;
  server.on('connection', (socket) => {
    accepted += 1;
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = { address: '127.0.0.1', port: (server.address() as AddressInfo).port, family: 4 as const };
  const tries = [1, 2, 3].map((last) => ({ source: `127.0.0.${last}`, endpoint, ports: [0] }));
  let leave: ConnectLeave = 'later';
  let asked = 0;
  const turns = new ConnectTurns(Number.POSITIVE_INFINITY, {
    mayConnect: () => {
      asked += 1;
      return leave;
    },
  });
  const problems = checkRoutes(tries, 1_000, turns);
  await until('it has asked again', () => asked >= 3);
  assert.equal(accepted, 0);
  leave = 'now';
  assert.deepEqual(await problems, [null, null, null]);
  await until('all three are accepted', () => accepted === 3);
  leave = 'later';
  const given = checkRoutes(tries, 1_000, turns);
  leave = 'never';
  const why = 'not asked: the run is over here';
  assert.deepEqual(await given, [why, why, why]);
  assert.equal(accepted, 3);
  server.close();
});

test('a port in use is passed over: the next one is tried', async () => {
  const server = createServer();
  server.listen(21_099, '127.0.0.4');
  await once(server, 'listening');
  const closed = { address: '127.0.0.1', port: 9, family: 4 as const };
  assert.deepEqual(await checkRoutes([{ source: '127.0.0.4', endpoint: closed, ports: LAST }], 1_000), [
    null,
  ]);
  server.close();
});

const QUIET: CommandResult = { code: 0, stdout: '', stderr: '', missing: false, truncated: false };
/** What arping of iputils prints. */
const REPLY = 'Unicast reply from 10.9.0.101 [0E:1F:00:AA:BB:CC] 0.6ms\nReceived 1 response(s)\n';

function segment(answers: Readonly<Record<string, Partial<CommandResult>>>) {
  const asked: string[] = [];
  const run: RunProgram = (file, args) => {
    asked.push([file, ...args].join(' '));
    return Promise.resolve({ ...QUIET, ...answers[args.at(-1) ?? ''] });
  };
  return { asked, run };
}

test('an address that another host answers for is named with its hardware address; a silent one is free', async () => {
  const { asked, run } = segment({ '10.9.0.101': { code: 1, stdout: REPLY } });
  const aliases = ['10.9.0.101', '10.9.0.102'].map((address) => hostAlias(address, 'eth0'));
  assert.deepEqual(await findDuplicates(run, aliases), [
    { address: '10.9.0.101', device: 'eth0', owner: '0e:1f:00:aa:bb:cc' },
  ]);
  assert.deepEqual(asked, [
    'arping -D -I eth0 -c 1 -w 1 10.9.0.101',
    'arping -D -I eth0 -c 1 -w 1 10.9.0.102',
  ]);
});

test('an arping that is missing, or that may not listen, reports no duplicate', async () => {
  const alias = [hostAlias('10.9.0.101', 'eth0')];
  const missing = segment({ '10.9.0.101': { code: null, missing: true } });
  assert.deepEqual(await findDuplicates(missing.run, alias), []);
  const forbidden = segment({ '10.9.0.101': { code: 2, stderr: 'arping: socket: Operation not permitted' } });
  assert.deepEqual(await findDuplicates(forbidden.run, alias), []);
});

test('only IPv4 addresses on devices with neighbours are asked for, and at most 128', async () => {
  const { asked, run } = segment({});
  const others = [hostAlias('fd09::5', 'eth0'), hostAlias('10.1.0.0', 'lo')];
  const many = addressRange('10.9.0.10', 200).map((address) => hostAlias(address, 'eth0'));
  await findDuplicates(run, [...others, ...many]);
  assert.equal(asked.length, 128);
  assert(asked.every((line) => / eth0 .* 10\.9\.0\.\d+$/.test(line)));
});
