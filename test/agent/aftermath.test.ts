/** Owns the proof that one more connect says how it was answered, and that nothing is held or sent. */
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { lookAfter } from '../../src/agent/aftermath.ts';

import { until } from '../support/waiting.ts';

const MISSING = { code: null, stdout: '', stderr: '', missing: true, truncated: false };
const noProgram = () => Promise.resolve(MISSING);
const fromHere = () => ({ address: '127.0.0.1', port: 0 });

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
  const taken = await lookAfter(noProgram, [endpoint], false, fromHere);
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
  const refused = await lookAfter(noProgram, [endpoint], false, fromHere);
  assert.equal(refused[name]?.connect, 'refused');
});

test('an endpoint of a family that the plan has no source of, and a ninth one, are not asked', async () => {
  const endpoint = { address: '::1', port: 9, family: 6 } as const;
  assert.deepEqual(Object.keys(await lookAfter(noProgram, [endpoint], false, () => null)), []);
  const nine = Array.from(
    { length: 9 },
    (_, at) => ({ address: '127.0.0.1', port: at + 1, family: 4 }) as const,
  );
  const asked: number[] = [];
  await lookAfter(noProgram, nine, false, ({ port }) => {
    asked.push(port);
    return null;
  });
  assert.deepEqual(asked, [1, 2, 3, 4, 5, 6, 7, 8]);
});
