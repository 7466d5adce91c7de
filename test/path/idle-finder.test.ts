import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { BenchError } from '../../src/base/errors.ts';
import { findIdleTimeout } from '../../src/path/idle-finder.ts';

/** An echo server that destroys whoever was silent for longer than `forgetMs`, as a path that answers with RST. */
async function forgetful(forgetMs: number, echoes = true) {
  const server = net.createServer((socket) => {
    const forget = (): void => {
      socket.resetAndDestroy();
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

test('the interval holds the time after which connections are forgotten', async (t) => {
  const { server, endpoint } = await forgetful(900);
  t.after(() => server.close());
  const lines: string[] = [];
  const found = await findIdleTimeout({
    endpoint,
    bounds: { minMs: 100, maxMs: 5_000, precisionMs: 200, gapsMax: 8 },
    sourceAddress: null,
    onProgress: (line) => lines.push(line),
  });
  assert.ok(found.aliveMs >= 500 && found.aliveMs < 950, JSON.stringify(found));
  assert.ok(found.forgottenMs !== null && found.forgottenMs > 850, JSON.stringify(found));
  assert.ok(found.forgottenMs - found.aliveMs <= 250, JSON.stringify(found));
  assert.ok(
    lines.some((line) => /^round 1: 7 gaps/.test(line)),
    lines.join('\n'),
  );
  assert.ok(lines.some((line) => /forgotten/.test(line)));
});

test('a target that does not echo is told apart from a path that forgets', async (t) => {
  const { server, endpoint } = await forgetful(60_000, false);
  t.after(() => server.close());
  await assert.rejects(
    findIdleTimeout({
      endpoint,
      bounds: { minMs: 100, maxMs: 200, precisionMs: 100, gapsMax: 2 },
      sourceAddress: null,
      onProgress: () => {},
    }),
    (error) => error instanceof BenchError && error.exitCode === 2 && /--mode echo/.test(error.hint ?? ''),
  );
});
