/** Owns the proof that a count of the kernel is no difference when the count of our holders moved past it meanwhile. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { countBesideHolders, KernelWatch, OwnTuples } from '../../src/agent/kernel-watch.ts';
import { FakeTime } from '../support/fake-time.ts';

/** What the holders say where their tuples are not known. */
const held = (open: number) => ({ open, tuples: null });

async function threeConnections(t: { after: (fn: () => void) => void }) {
  const server = createServer(() => {}).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const sockets: Socket[] = [];
  for (let index = 0; index < 3; index++) {
    const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.88' });
    await once(socket, 'connect');
    sockets.push(socket);
  }
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    sources: ['127.0.0.88'],
    ports: null,
    endpoints: [{ address: '127.0.0.1', port, family: 4 as const }],
    localPorts: sockets.map((socket) => socket.localPort ?? 0),
  };
}

test('of three connections from our source those count that are ours by their tuple; the others are given apart', async (t) => {
  const { endpoints, localPorts, ...query } = await threeConnections(t);
  const ports = localPorts.map((port) => ({ from: port, to: port }));
  const space = { addresses: ['127.0.0.7', '127.0.0.88'], ports, endpoints };
  // Two tuples for each port, that of our source second; the slices begin at 1 and at 5.
  const bitsOf = (...tuples: number[]): string =>
    Buffer.from([tuples.reduce((sum, tuple) => sum | (1 << tuple), 0)]).toString('base64');
  const tuples = new OwnTuples(space, [
    { from: 1, bits: bitsOf(0, 1) },
    { from: 5, bits: bitsOf(0) },
  ]);
  const counted = await countBesideHolders({ ...query, endpoints }, async () => ({ open: 2, tuples }));
  assert.deepEqual(counted, { established: 2, others: 1, openBefore: 2, open: 2, method: 'sock-diag' });
  // One of ours that is missing shows, whatever others have.
  const lacking = new OwnTuples(space, [{ from: 0, bits: bitsOf(1, 2) }]);
  const time = new FakeTime();
  const less = await countBesideHolders(
    { ...query, endpoints },
    async () => ({ open: 2, tuples: lacking }),
    time,
  );
  assert.deepEqual([less.established, less.others, less.open], [1, 2, 2]);
});

test('counts of the holders that fall while the kernel is asked enclose its count', async (t) => {
  const query = await threeConnections(t);
  const said = [5, 2];
  const counted = await countBesideHolders(query, async () => held(said.shift() ?? 99));
  assert.deepEqual([counted.established, counted.openBefore, counted.open], [3, 5, 2]);
});

test('while the last connections of a ramp are on their way, it is asked again until they are there', async (t) => {
  const query = await threeConnections(t);
  const said = [1, 3, 3, 3];
  const settling = async () => ({ ...held(said.shift() ?? 99), isSettling: true });
  const counted = await countBesideHolders(query, settling, new FakeTime());
  assert.deepEqual([counted.established, counted.openBefore, counted.open], [3, 3, 3]);
});

test('a difference is asked about for three seconds before it is believed', async (t) => {
  const query = await threeConnections(t);
  let asked = 0;
  const time = new FakeTime();
  const beganMs = time.now;
  const stubborn = async () => {
    asked += 1;
    return held(7);
  };
  const counted = await countBesideHolders(query, stubborn, time);
  assert.deepEqual([counted.established, counted.openBefore, counted.open], [3, 7, 7]);
  // Two counts of the holders for each of eleven counts.
  assert.deepEqual([time.now - beganMs, asked], [3_000, 22]);
});

test('a count that takes seconds is believed at once: there is an end to asking', async (t) => {
  const query = await threeConnections(t);
  const time = new FakeTime();
  let asked = 0;
  const slow = async () => {
    asked += 1;
    time.now += 2_000;
    return held(7);
  };
  const counted = await countBesideHolders(query, slow, time);
  assert.deepEqual([counted.open, asked], [7, 2]);
});

test('a difference that goes away by itself is none', async (t) => {
  const query = await threeConnections(t);
  const said = [7, 7, 3, 3];
  const counted = await countBesideHolders(query, async () => held(said.shift() ?? 99));
  assert.deepEqual([counted.established, counted.openBefore, counted.open], [3, 3, 3]);
});

test('the watch tells what this kernel counted since it began', async (t) => {
  const watch = new KernelWatch({
    ...{ endpoints: [], localEndpoints: [], sources: [], devices: [] },
    synLadderSec: [1],
  });
  watch.start();
  t.after(() => watch.stop());
  await threeConnections(t);
  const { counters, samples, synLadderSec } = watch.evidence();
  assert.ok((counters.ActiveOpens ?? 0) >= 3);
  assert.ok((samples['tcp-sockets']?.max ?? 0) > 0);
  assert.deepEqual(synLadderSec, [1]);
});
