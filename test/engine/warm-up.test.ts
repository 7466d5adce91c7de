/** Tests the warm-up of a holder by what the kernel sees of it: meanwhile, and when it is over. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, test } from 'node:test';
import { WarmUp } from '../../src/engine/warm-up.ts';
import type { EngineName, HolderSpec } from '../../src/run/run-spec.ts';
import { systemClock } from '../../src/time/timer.ts';
import { settled, until } from '../support/waiting.ts';
import { specTo } from './engine-run.ts';

/** Nothing listens there, and nothing is sent there: the target is not known to the warm-up. */
const TARGET_PORT = 9;
const LISTEN = '0A';

const running = new Set<WarmUp>();

afterEach(() => {
  for (const one of running) one.end();
  running.clear();
});

function warmUp(spec: HolderSpec, done: () => void, isTracked = false): WarmUp {
  const made = new WarmUp(spec, systemClock, done, () => isTracked);
  running.add(made);
  made.begin();
  return made;
}

/** The sockets of addresses that only this process uses, from /proc/net/tcp: local address, remote port, state. */
function ownSockets(): { address: string; remotePort: number; state: string }[] {
  const suffix = `.${(process.pid >> 8) & 255}.${Math.max(1, process.pid & 255)}`;
  return readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/);
      const address = (local.slice(0, 8).match(/../g) ?? [])
        .reverse()
        .map((byte) => Number.parseInt(byte, 16))
        .join('.');
      if (!address.startsWith('127.2') || !address.endsWith(suffix)) return [];
      return [{ address, remotePort: Number.parseInt(remote.slice(9), 16), state }];
    });
}

/** Connects of this host so far (Tcp ActiveOpens in /proc/net/snmp). */
function activeOpens(): number {
  const [names = [], values = []] = readFileSync('/proc/net/snmp', 'latin1')
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  return Number(values[names.indexOf('ActiveOpens')]);
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;

describe('the warm-up of a holder', () => {
  for (const engine of ['epoll', 'uring'] as const satisfies EngineName[]) {
    test(`opens thousands with ${engine} and leaves neither a socket nor a descriptor`, async () => {
      const before = { descriptors: descriptors(), opens: activeOpens() };
      const spec = specTo(TARGET_PORT, 2_000, { engine });
      await settled('the warm-up', new Promise<void>((done) => warmUp(spec, done)));
      assert(activeOpens() - before.opens >= 6_000, `${activeOpens() - before.opens} connects`);
      for (const one of running) one.end();
      // What io_uring had, the kernel gives back in its own time.
      await until('all sockets are gone, and nothing rests', () => ownSockets().length === 0);
      await until('all descriptors are given back', () => descriptors() <= before.descriptors);
    });
  }

  test('is none for a holder of few connections', () => {
    let isDone = false;
    warmUp(specTo(TARGET_PORT, 1_999), () => {
      isDone = true;
    });
    assert.equal(isDone, true);
    assert.deepEqual(ownSockets(), []);
  });

  test('is none where the kernel tracks connections: they would stay in its table', () => {
    let isDone = false;
    warmUp(
      specTo(TARGET_PORT, 2_000),
      () => {
        isDone = true;
      },
      true,
    );
    assert.equal(isDone, true);
    assert.deepEqual(ownSockets(), []);
  });

  test('stays away from the addresses of the plan', () => {
    const made = warmUp(specTo(TARGET_PORT, 2_000), () => {});
    const [usual] = ownSockets().filter(({ state }) => state === LISTEN);
    made.end();
    assert(usual !== undefined, 'it listens');
    warmUp(specTo(TARGET_PORT, 2_000, { addresses: [usual.address] }), () => {});
    const listening = ownSockets().filter(({ state }) => state === LISTEN);
    assert.equal(listening.length, 1);
    assert.notEqual(listening[0]!.address, usual.address);
  });

  test('can be cut short: its connections are reset, so nothing rests, and nothing more comes', async () => {
    let isDone = false;
    const made = warmUp(specTo(TARGET_PORT, 2_000), () => {
      isDone = true;
    });
    await until('connections are open', () => ownSockets().length > 100);
    made.end();
    await until('all sockets are gone', () => ownSockets().length === 0);
    assert.equal(isDone, false);
  });
});
