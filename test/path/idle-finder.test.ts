import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, it, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { BenchError } from '../../src/base/errors.ts';
import {
  findIdleTimeout,
  formatInterval,
  type IdleBounds,
  isRoundOver,
  NOTHING_KNOWN,
  nextGaps,
  withAnswers,
} from '../../src/path/idle-finder.ts';

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

test('a target that does not echo is told apart from a path that forgets', async (t) => {
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

const BOUNDS: IdleBounds = { minMs: 1_000, maxMs: 600_000, precisionMs: 1_000, gapsMax: 16 };

/** A search against a path that forgets after `expiryMs`: what it finds, its rounds, and how long it takes. */
function search(expiryMs: number, bounds: IdleBounds = BOUNDS) {
  let known = NOTHING_KNOWN;
  let rounds = 0;
  let waitedMs = 0;
  for (let gaps = nextGaps(known, bounds); gaps.length > 0; gaps = nextGaps(known, bounds)) {
    const answers: { gapMs: number; alive: boolean }[] = [];
    for (const gapMs of gaps) {
      if (isRoundOver(gaps, answers)) break;
      answers.push({ gapMs, alive: gapMs < expiryMs });
      if (isRoundOver(gaps, answers)) waitedMs += gapMs;
    }
    known = withAnswers(known, answers);
    rounds += 1;
    assert.ok(rounds < 10, 'the search ends');
  }
  return { known, rounds, waitedMs };
}

describe('the search for an idle timeout', () => {
  it('finds any timeout within its bounds, as narrow as it was told', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1_001, max: 600_000 }), (expiryMs) => {
        const { known } = search(expiryMs);
        assert.ok(known.forgottenMs !== null);
        assert.ok(known.aliveMs < expiryMs && expiryMs <= known.forgottenMs, JSON.stringify(known));
        assert.ok(known.forgottenMs - known.aliveMs <= BOUNDS.precisionMs, JSON.stringify(known));
      }),
    );
  });

  it('finds 20 s within 2 s, in less than a minute of waiting', () => {
    const { known, waitedMs } = search(20_000);
    assert.ok(known.aliveMs >= 18_000 && (known.forgottenMs ?? 0) <= 22_000, JSON.stringify(known));
    assert.ok(waitedMs < 60_000, `${waitedMs} ms`);
  });

  it('waits at most for a little more than three times the timeout', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2_000, max: 300_000 }), (expiryMs) => {
        assert.ok(search(expiryMs).waitedMs <= 4.5 * expiryMs + 4_000);
      }),
    );
  });

  it('says that nothing was forgotten when the longest gap lived', () => {
    const { known, rounds } = search(Infinity, { ...BOUNDS, maxMs: 30_000 });
    assert.deepEqual(known, { aliveMs: 30_000, forgottenMs: null });
    assert.equal(rounds, 1);
    assert.match(formatInterval(known), /still knew connections that were idle for 30s/);
  });

  it('says within when even the shortest gap was too long', () => {
    assert.match(formatInterval(search(500).known), /within 1s/);
  });

  it('does not believe a gap that lived longer than one that was forgotten', () => {
    const known = withAnswers(NOTHING_KNOWN, [
      { gapMs: 1_000, alive: true },
      { gapMs: 2_000, alive: false },
      { gapMs: 4_000, alive: true },
    ]);
    assert.deepEqual(known, { aliveMs: 1_000, forgottenMs: 2_000 });
  });

  it('ends a round at the first forgotten gap, but not before the shorter ones have answered', () => {
    const gaps = [1, 2, 3];
    assert.equal(isRoundOver(gaps, [{ gapMs: 2, alive: false }]), false);
    assert.equal(
      isRoundOver(gaps, [
        { gapMs: 2, alive: false },
        { gapMs: 1, alive: true },
      ]),
      true,
    );
    assert.equal(isRoundOver(gaps, [{ gapMs: 1, alive: true }]), false);
  });
});
