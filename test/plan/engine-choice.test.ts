/** Tests which engine a host takes, with the reason that a person reads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseEngine, connectionsToTry, mayUseUring, uringFinding } from '../../src/plan/engine-choice.ts';

const REFUSAL = 'not permitted (seccomp: the container runtime or the service manager filters it)';
const SHAPE = { engine: 'uring', endsHere: 2, holdersAsked: null, cpus: 4, pendingMax: 1_000 } as const;

test('auto takes io_uring where it was tried and works, and says why it does not take it', () => {
  const auto = { protocol: 'tcp' } as const;
  assert.deepEqual(chooseEngine(auto, { uringRefusal: null }), { name: 'uring', why: 'io_uring works here' });
  assert.deepEqual(chooseEngine(auto, { uringRefusal: REFUSAL }), {
    name: 'epoll',
    why: `io_uring: ${REFUSAL}`,
  });
  assert.equal(chooseEngine(auto, {}).name, 'epoll', 'what was not tried is not taken');
  assert.deepEqual(chooseEngine({ ...auto, engine: 'auto' }, {}), chooseEngine(auto, {}));
});

test('what was asked for is taken, but TLS always has epoll', () => {
  assert.equal(chooseEngine({ engine: 'epoll', protocol: 'echo' }, { uringRefusal: null }).name, 'epoll');
  assert.equal(chooseEngine({ engine: 'uring', protocol: 'echo' }, { uringRefusal: REFUSAL }).name, 'uring');
  for (const protocol of ['tls', 'wss', 'https'] as const) {
    for (const engine of ['auto', 'uring', 'epoll'] as const) {
      assert.equal(chooseEngine({ engine, protocol }, { uringRefusal: null }).name, 'epoll');
      assert.equal(mayUseUring({ engine, protocol }), false, 'nothing is tried for nothing');
    }
  }
  assert.equal(mayUseUring({ engine: 'epoll', protocol: 'tcp' }), false);
  assert.equal(mayUseUring({ protocol: 'ws' }), true);
});

test('io_uring that was asked for and is refused names the reason, and what to type instead', () => {
  const shape = { ...SHAPE, perHolder: 0 };
  const finding = uringFinding({ wanted: 10, available: 0, shape, facts: { uringRefusal: REFUSAL } });
  assert.equal(finding.severity, 'refuse');
  assert(finding.message.endsWith(`io_uring: ${REFUSAL}`), finding.message);
  assert.match(finding.fix ?? '', /--engine auto/);
});

test('connections of io_uring need no descriptors, and as many holders as there are cores beside the target', () => {
  const shape = { ...SHAPE, perHolder: 1 << 24 };
  const facts = { uringRefusal: null };
  const fits = uringFinding({ wanted: 1_000_000, available: 1e9, shape, facts });
  assert.deepEqual([fits.severity, fits.fix], ['ok', null]);
  assert.match(fits.message, /3 holders$/);
  const tooMany = { ...shape, holdersAsked: 1 };
  const cannot = uringFinding({ wanted: 2e7, available: 1 << 24, shape: tooMany, facts });
  assert.equal(cannot.severity, 'refuse');
  assert.match(cannot.message, /needs 20,000,000 connections in 1 holder, at most 16,777,216/);
});

test('rings are tried for all connections that memory has room for, and for no more', () => {
  const memoryAvailableBytes = 4 * 1024 ** 3;
  assert.equal(connectionsToTry(1_000_000, { memoryAvailableBytes }), 1_000_000);
  // 4 GiB of 3.7 kB each: asking for a hundred million makes no more rings than that.
  assert.equal(connectionsToTry(100_000_000, { memoryAvailableBytes }), 1_160_801);
  assert.equal(connectionsToTry(100_000_000, { memoryAvailableBytes: null }), 100_000_000);
});
