/** Tests the search for an idle timeout on connections of this process, with time that the test lets pass. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { type TestContext, test } from 'node:test';
import { BenchError } from '../../src/base/errors.ts';
import { findIdleTimeout } from '../../src/path/idle-finder.ts';

/**
 * An echo server that resets connections that were silent for longer than `forgetMs`, as a path that answers with RST, or closes
 * them, as a proxy does.
 */
async function forgetful(forgetMs: number, echoes = true, how: 'rst' | 'fin' = 'rst') {
  const server = net.createServer((socket) => {
    const forget = (): void => {
      if (how === 'rst') socket.resetAndDestroy();
      else socket.end();
    };
    let timer = setTimeout(forget, forgetMs);
    socket.on('error', () => {});
    socket.on('close', () => clearTimeout(timer));
    socket.on('data', (bytes) => {
      clearTimeout(timer);
      timer = setTimeout(forget, forgetMs);
      if (echoes) socket.write(bytes);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  return { server, endpoint: { address: '127.0.0.1', port, family: 4 as const } };
}

/** Lets fake time pass in small steps until `done` is; both ends live in this process, so a few turns of its loop deliver. */
async function passUntil<T>(t: TestContext, done: Promise<T>): Promise<T> {
  let isOver = false;
  const over = (): void => {
    isOver = true;
  };
  void done.then(over, over);
  for (let passedMs = 0; !isOver; passedMs += 10) {
    assert(passedMs < 60_000, 'a search ends within a minute of its own clock');
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(10);
  }
  return done;
}

test('the interval holds the time after which connections are forgotten', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, endpoint } = await forgetful(900);
  t.after(() => server.close());
  const lines: string[] = [];
  const search = findIdleTimeout({
    endpoint,
    bounds: { minMs: 100, maxMs: 5_000, precisionMs: 200, gapsMax: 8 },
    sourceAddress: null,
    onProgress: (line) => lines.push(line),
  });
  const found = await passUntil(t, search);
  assert.ok(found.aliveMs > 0 && found.aliveMs <= 900, JSON.stringify(found));
  assert.ok(found.forgottenMs !== null && found.forgottenMs >= 900, JSON.stringify(found));
  assert.ok(found.forgottenMs - found.aliveMs <= 200, JSON.stringify(found));
  assert.ok(
    lines.some((line) => /^round 1: 7 gaps/.test(line)),
    lines.join('\n'),
  );
  assert.ok(lines.some((line) => /forgotten/.test(line)));
});

test('a FIN and a RST are distinguished', { plan: 2 }, async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  for (const how of ['fin', 'rst'] as const) {
    const { server, endpoint } = await forgetful(900, true, how);
    const bounds = { minMs: 100, maxMs: 5_000, precisionMs: 400, gapsMax: 8 };
    const search = findIdleTimeout({ endpoint, bounds, sourceAddress: null, onProgress: () => {} });
    const { ended } = await passUntil(t, search);
    server.close();
    t.assert.equal(ended, how);
  }
});

test('a target that ends during the search has no idle timeout', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, endpoint } = await forgetful(900);
  const bounds = { minMs: 100, maxMs: 5_000, precisionMs: 200, gapsMax: 8 };
  let rounds = 0;
  const onProgress = (line: string): void => {
    if (line.startsWith('round') && ++rounds === 2) server.close();
  };
  const search = findIdleTimeout({ endpoint, bounds, sourceAddress: null, onProgress });
  await assert.rejects(passUntil(t, search), (error) => {
    assert(error instanceof BenchError);
    assert.match(error.message, /is dead: it takes no new connection any more: it ended during the search/);
    return true;
  });
});

test('a target that takes no connection is said to be dead', async () => {
  const { server, endpoint } = await forgetful(900);
  server.close();
  await once(server, 'close');
  const bounds = { minMs: 100, maxMs: 200, precisionMs: 100, gapsMax: 2 };
  await assert.rejects(
    findIdleTimeout({ endpoint, bounds, sourceAddress: null, onProgress: () => {} }),
    (error) => error instanceof BenchError && / is dead: it takes no connection/.test(error.message),
  );
});

test('a target that does not echo is not taken for a path that forgets', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, endpoint } = await forgetful(60_000, false);
  t.after(() => server.close());
  await assert.rejects(
    passUntil(
      t,
      findIdleTimeout({
        endpoint,
        bounds: { minMs: 100, maxMs: 200, precisionMs: 100, gapsMax: 2 },
        sourceAddress: null,
        onProgress: () => {},
      }),
    ),
    (error) => error instanceof BenchError && error.exitCode === 2 && /--mode echo/.test(error.hint ?? ''),
  );
});
