import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import * as libc from '../../src/engine/libc.ts';
import { runProgram } from '../../src/host/command.ts';
import { FarSideWatch } from '../../src/host/far-side.ts';
import { dumpSockets } from '../../src/host/sock-diag.ts';
import { deafListener } from '../engine/engine-run.ts';

const refused = async (): Promise<boolean> => false;

/** Both ways of asking must agree on real sockets. */
const WAYS = [
  ['sock_diag', dumpSockets],
  ['ss', refused],
] as const;

const endpointOf = (port: number) => ({ address: '127.0.0.1', port, family: 4 as const });

async function connected(port: number, localAddress: string, count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect({ port, host: '127.0.0.1', localAddress }));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  return sockets;
}

for (const [way, dump] of WAYS) {
  test(`${way}: connections that no process has accepted wait; those of other sources are not ours`, async (t) => {
    const listener = deafListener(64);
    const endpoint = endpointOf(listener.port);
    const sockets = [
      ...(await connected(endpoint.port, '127.0.0.91', 5)),
      ...(await connected(endpoint.port, '127.0.0.92', 3)),
    ];
    const accepted = [0, 1].map(() => libc.accept(listener.fd, new Uint8Array(28), new Int32Array([28])));
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      for (const each of accepted) libc.close(each);
      listener.close();
    });
    const watch = new FarSideWatch([endpoint], ['127.0.0.91', '127.0.0.92'], runProgram, dump);
    await watch.lookAtConnections();
    const seen = watch.facts()[`127.0.0.1:${endpoint.port}`];
    assert.deepEqual([seen?.waitingLast, seen?.takenLast, seen?.halfOpenMax], [6, 2, 0]);
    assert.deepEqual([seen?.isQueueFull, seen?.isOwnerGone], [false, false]);
    assert.equal(seen?.descriptorsMax, libc.descriptorsMax());
    assert(Math.abs((seen?.descriptorsUsed ?? 0) - readdirSync('/proc/self/fd').length) < 20);
    const ofOne = new FarSideWatch([endpoint], ['127.0.0.92'], runProgram, dump);
    await ofOne.lookAtConnections();
    const own = ofOne.facts()[`127.0.0.1:${endpoint.port}`];
    assert.equal((own?.waitingLast ?? 0) + (own?.takenLast ?? 0), 3);
  });

  test(`${way}: a queue with more than its backlog is full`, async (t) => {
    const listener = deafListener(1);
    const endpoint = endpointOf(listener.port);
    const sockets = await connected(endpoint.port, '127.0.0.93', 1);
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      listener.close();
    });
    const watch = new FarSideWatch([endpoint], ['127.0.0.93'], runProgram, dump);
    await watch.lookAtListeners();
    const name = `127.0.0.1:${endpoint.port}`;
    assert.equal(watch.facts()[name]?.isQueueFull, false);
    sockets.push(...(await connected(endpoint.port, '127.0.0.93', 1)));
    // Whose it is was found at the first look, by ss; this is the second.
    await watch.lookAtListeners();
    assert.equal(watch.facts()[name]?.isQueueFull, true);
  });
}

test('what waits at one look alone is on its way to the process: two in turn are a queue', async (t) => {
  const listener = deafListener(64);
  const endpoint = endpointOf(listener.port);
  const sockets = await connected(endpoint.port, '127.0.0.94', 5);
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  const watch = new FarSideWatch([endpoint], ['127.0.0.94'], runProgram, dumpSockets);
  const queued = async (): Promise<number | undefined> => {
    await watch.lookAtListeners();
    return watch.facts()[`127.0.0.1:${endpoint.port}`]?.queuedMax;
  };
  assert.equal(await queued(), 0);
  assert.equal(await queued(), 5);
  sockets.push(...(await connected(endpoint.port, '127.0.0.94', 3)));
  assert.equal(await queued(), 5);
  assert.equal(await queued(), 8);
  for (let left = 8; left > 0; left--)
    libc.close(libc.accept(listener.fd, new Uint8Array(28), new Int32Array([28])));
  assert.equal(await queued(), 8, 'the most');
});

test('a listener whose process has ended is gone, and what never listened here is not spoken of', async (t) => {
  const script = `require('net').createServer(() => {}).listen(0, '127.0.0.1', function () { console.log(this.address().port) })`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const endpoint = endpointOf(Number(line.toString()));
  const watch = new FarSideWatch([endpoint, endpointOf(1)], ['127.0.0.94']);
  await watch.lookAtListeners();
  const name = `127.0.0.1:${endpoint.port}`;
  assert.equal(watch.facts()[name]?.isOwnerGone, false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(watch.facts()[name]?.isOwnerGone, true);
  assert.deepEqual(Object.keys(watch.facts()), [name]);
});

test('without ss nothing is known, and a listener of every address is found', async () => {
  const missing = new FarSideWatch([endpointOf(7)], [], async () => ({
    ...{ code: null, stdout: '', stderr: '', missing: true, truncated: false },
  }));
  await missing.lookAtListeners();
  assert.deepEqual(missing.facts(), {});
  const server = createServer(() => {}).listen(0, '::');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const watch = new FarSideWatch([endpointOf(port)], []);
  await watch.lookAtListeners();
  server.close();
  assert.deepEqual(Object.keys(watch.facts()), [`127.0.0.1:${port}`]);
});

test('the processes of listeners are asked for until they are known, and then no more: each such look reads every descriptor', async () => {
  const asked: string[] = [];
  const results = [1, 0, 0];
  const watch = new FarSideWatch(
    [{ address: '127.0.0.1', port: 8_000, family: 4 }],
    ['127.0.0.1'],
    async (_program, [columns = '']) => {
      asked.push(columns);
      const stdout = `LISTEN 0 511 127.0.0.1:8000 0.0.0.0:* users:(("node",pid=${process.pid},fd=19))\n`;
      return { code: results[asked.length - 1] ?? 0, stdout, stderr: '', missing: false, truncated: false };
    },
    refused,
  );
  for (let look = 0; look < 3; look++) await watch.lookAtListeners();
  assert.deepEqual(asked, ['-Htnlmp', '-Htnlmp', '-Htnlm']);
  const { descriptorsUsed } = watch.facts()['127.0.0.1:8000'] ?? {};
  assert((descriptorsUsed ?? 0) > 3, `${descriptorsUsed} descriptors of this process`);
});
