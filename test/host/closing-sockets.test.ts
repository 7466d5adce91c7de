import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { test } from 'node:test';
import { untilClosed } from '../../src/host/closing-sockets.ts';
import { FakeTime } from '../support/fake-time.ts';
import { HANG_MS, pause, settled } from '../support/waiting.ts';

const SOURCE = '127.66.3.1';

test('it waits while the far end has not closed its side, for these addresses only, and not for ever', async (t) => {
  const accepted: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket));
  server.listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect({ host: '127.0.0.1', port, localAddress: SOURCE });
  t.after(() => client.destroy());
  await once(client, 'connect');
  if (accepted.length === 0) await once(server, 'connection');
  const [far] = accepted;
  assert(far);
  // An open connection is not a closing one.
  await settled('an open connection is not waited for', untilClosed([SOURCE], 10 * HANG_MS));

  far.resume();
  client.end();
  await once(far, 'end');
  const limitMs = await timed(() => untilClosed([SOURCE], 300));
  assert(limitMs >= 300, `it gave up after ${limitMs} ms`);
  await settled('another address is not waited for', untilClosed(['127.66.3.2'], 10 * HANG_MS));

  let isClosed = false;
  const closed = untilClosed([SOURCE], 10 * HANG_MS).then(() => {
    isClosed = true;
  });
  await pause(300);
  assert.equal(isClosed, false, 'the far end has not answered');
  far.end();
  await settled('it is over when the far end closes', closed);
});

test('two seconds are two seconds, also where each look takes more than one', async () => {
  const waiting = new FakeTime();
  const limits: number[] = [];
  const count = async (_ours: ReadonlySet<string>, timeoutMs: number): Promise<number> => {
    limits.push(timeoutMs);
    waiting.now += Math.min(timeoutMs, 1_150);
    return 7;
  };
  const beganMs = waiting.now;
  await untilClosed([SOURCE], 2_000, { count, waiting });
  assert.equal(waiting.now - beganMs, 2_000);
  assert.deepEqual(limits, [2_000, 750], 'a look may take no longer than what is left');
});

test('it waits no longer where the kernel cannot be asked', async () => {
  const waiting = new FakeTime();
  await untilClosed([SOURCE], 2_000, { count: async () => null, waiting });
  assert.deepEqual(waiting.pauses, []);
});

async function timed(body: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await body();
  return performance.now() - beganMs;
}
