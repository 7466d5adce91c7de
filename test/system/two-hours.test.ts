/**
 * Owns the proof that two hours of stages, of connections that come and go, and of losses that come back leave nothing behind in a holder or in a
 * coordinator: they are lived through in a minute, on a clock that is moved.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { URING_SKIP } from '../engine/drivers/driver-harness.ts';
import { type Size, TWO_HOURS_ENTRY } from '../support/two-hours-entry.ts';

const TIMEOUT_MS = 600_000;
/** Minutes between which growth is looked for, each the middle one of three samples; code is compiled and buffers have their size by then. */
const FROM_MINUTES = [30, 40, 50];
const TO_MINUTES = [100, 110, 120];
/**
 * What the 70 minutes between may leave in the heap: a hundred bytes for each report of three agents, which are 1.26 MB, are more. Each of 48 stages
 * keeps its latencies until the end, and each incident its curve; there are at most 64 of both.
 */
const HEAP_GROWTH_MAX = 800_000;
const RESIDENT_GROWTH_MAX = 24_000_000;

const ENVIRONMENT = { ...process.env, NODE_OPTIONS: '--max-semi-space-size=1' };

function started(t: TestContext, ...args: string[]): ChildProcess {
  const child = fork(TWO_HOURS_ENTRY, args, { execArgv: [], env: ENVIRONMENT });
  t.after(() => {
    child.kill('SIGKILL');
  });
  return child;
}

/** Lives through it. @param onReset called whenever connections are to be lost */
async function lived(child: ChildProcess, onReset: () => void): Promise<Size[]> {
  const sizes: Size[] = [];
  child.on('message', (message) => {
    if (message === 'reset') onReset();
    else sizes.push(message as Size);
  });
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  return sizes;
}

function assertFlat(t: TestContext, sizes: readonly Size[], passedMin: number): void {
  assert.equal(sizes.at(-1)?.atMinute, 120);
  const growth = (of: (size: Size) => number): number => {
    const middle = (minutes: readonly number[]): number =>
      sizes
        .filter(({ atMinute }) => minutes.includes(atMinute))
        .map(of)
        .sort((a, b) => a - b)[1] ?? Number.NaN;
    return middle(TO_MINUTES) - middle(FROM_MINUTES);
  };
  t.diagnostic(`heap ${sizes.map(({ heapBytes }) => (heapBytes / 1e6).toFixed(2)).join(', ')} MB`);
  t.diagnostic(
    `resident ${sizes.map(({ residentBytes }) => (residentBytes / 1e6).toFixed(0)).join(', ')} MB`,
  );
  const passed = sizes.at(-1)?.passed ?? 0;
  assert(passed >= passedMin, `${passed} have come and gone`);
  const heap = growth(({ heapBytes }) => heapBytes);
  assert(heap <= HEAP_GROWTH_MAX, `the heap grew by ${heap} bytes`);
  const resident = growth(({ residentBytes }) => residentBytes);
  assert(resident <= RESIDENT_GROWTH_MAX, `the resident size grew by ${resident} bytes`);
  assert.equal(
    growth(({ descriptors }) => descriptors),
    0,
    'descriptors',
  );
}

for (const engine of ['epoll', 'uring'] as const) {
  test(`a holder, ${engine}: 48 stages, 5 connections a second that come and go, 12 losses of many at once`, {
    skip: engine === 'uring' ? URING_SKIP : false,
    timeout: TIMEOUT_MS,
  }, async (t) => {
    const target = started(t, 'target');
    const [port] = await once(target, 'message');
    const sizes = await lived(started(t, engine, String(port)), () => target.send(30));
    // A clock that jumps by seconds leaves out turns that are late by more than one.
    assertFlat(t, sizes, 5_000);
  });
}

test('a coordinator: what three agents say each second, each loss of it, the timeline, the page and the metrics', {
  timeout: TIMEOUT_MS,
}, async (t) => {
  const sizes = await lived(started(t, 'coordinator'), () => assert.fail('nothing is to be lost'));
  assertFlat(t, sizes, 7_200 * 3);
});
