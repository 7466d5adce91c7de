import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { test } from 'node:test';
import { untilClosed } from '../../src/host/closing-sockets.ts';

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
  const idleMs = await timed(() => untilClosed([SOURCE], 30_000));
  assert(idleMs < 10_000, `${idleMs} ms`);

  far.resume();
  client.end();
  await once(far, 'end');
  const limitMs = await timed(() => untilClosed([SOURCE], 300));
  assert(limitMs >= 300, `it gave up after ${limitMs} ms`);
  const otherMs = await timed(() => untilClosed(['127.66.3.2'], 30_000));
  assert(otherMs < 10_000, `${otherMs} ms`);

  let isClosed = false;
  const closed = untilClosed([SOURCE], 30_000).then(() => {
    isClosed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(isClosed, false, 'the far end has not answered');
  far.end();
  await closed;
});

async function timed(body: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await body();
  return performance.now() - beganMs;
}
