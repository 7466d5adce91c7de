/** Owns the proof that one more connect says how it was answered, and that nothing is held or sent. */
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { lookAfter } from '../../src/agent/aftermath.ts';

import { until } from '../support/waiting.ts';

const MISSING = { code: null, stdout: '', stderr: '', missing: true, truncated: false };
const noProgram = () => Promise.resolve(MISSING);
const toHere = {
  isAnyRejected: false,
  fromOf: () => ({ address: '127.0.0.1', port: 0 }),
  mayConnect: () => true,
};

test('a listener takes it and gets no byte; a port without one refuses', async () => {
  const bytes: Buffer[] = [];
  const closed: Promise<unknown>[] = [];
  const server = createServer((socket: Socket) => {
    socket.on('data', (chunk) => bytes.push(chunk));
    socket.on('error', () => {});
    closed.push(new Promise((resolve) => socket.once('close', resolve)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const endpoint = { address: '127.0.0.1', port: address.port, family: 4 } as const;
  const name = `127.0.0.1:${address.port}`;
  const taken = await lookAfter(noProgram, [endpoint], toHere);
  assert.deepEqual(taken[name], {
    connect: 'taken',
    planConnect: 'taken',
    isRouted: false,
    isNeighbourThere: null,
  });
  await until('both connects are accepted', () => closed.length === 2);
  await Promise.all(closed);
  assert.deepEqual(bytes, []);
  await new Promise((resolve) => server.close(resolve));
  const refused = await lookAfter(noProgram, [endpoint], toHere);
  assert.equal(refused[name]?.connect, 'refused');
});

test('a host that may not connect opens nothing, and no further one once it may not', async (t) => {
  const opened: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    opened.push(socket);
  });
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const endpoint = { address: '127.0.0.1', port: address.port, family: 4 } as const;
  const none = { ...toHere, isAnyRejected: true, mayConnect: () => false };
  assert.deepEqual(Object.keys(await lookAfter(noProgram, [endpoint], none)), []);
  let asked = 0;
  // What a filter may reject is tried eight times, beside the one from the plan's own port.
  const three = { ...none, mayConnect: () => ++asked <= 3 };
  const looked = await lookAfter(noProgram, [endpoint], three);
  assert.equal(looked[`127.0.0.1:${address.port}`]?.connect, 'taken');
  // One that was opened before would have come before this one.
  await lookAfter(noProgram, [endpoint], { ...toHere, mayConnect: () => ++asked === 6 });
  await until('the last one is accepted', () => opened.length >= 4);
  assert.equal(opened.length, 4);
  assert.equal(asked, 6);
});

test('an endpoint of a family that the plan has no source of, and a ninth one, are not asked', async () => {
  const endpoint = { address: '::1', port: 9, family: 6 } as const;
  assert.deepEqual(
    Object.keys(await lookAfter(noProgram, [endpoint], { ...toHere, fromOf: () => null })),
    [],
  );
  const nine = Array.from(
    { length: 9 },
    (_, at) => ({ address: '127.0.0.1', port: at + 1, family: 4 }) as const,
  );
  const asked: number[] = [];
  const fromOf = ({ port }: { readonly port: number }) => {
    asked.push(port);
    return null;
  };
  await lookAfter(noProgram, nine, { ...toHere, fromOf });
  assert.deepEqual(asked, [1, 2, 3, 4, 5, 6, 7, 8]);
});
