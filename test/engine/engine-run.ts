/**
 * Owns what the engine's tests share: running an engine in this process, and far sides that count for themselves.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../src/base/clock.ts';
import { portOf, sockAddr } from '../../src/engine/drivers/sockaddr.ts';
import { Engine } from '../../src/engine/engine.ts';
import * as libc from '../../src/engine/libc.ts';
import type { EngineName, HolderSpec } from '../../src/run/run-spec.ts';
import type { Stats } from '../../src/stats/stats.ts';
import { HANG_MS, settled } from '../support/waiting.ts';

const realClock: Clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };

/** A clock that stands still until the test moves it. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  /** how often it was looked at: a turn of the engine does, and is over when a test can look */
  looks = 0;

  monotonicMs(): number {
    this.looks++;
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
  }
}

/** A port that was free a moment ago, below the kernel's own range so that the kernel gives it to no socket meanwhile. */
let nextSourcePort = 1_100 + (process.pid % 200) * 150;

/** `count` neighbouring source ports that no other test of this process uses. */
export function sourcePorts(count: number): { from: number; to: number } {
  const from = nextSourcePort;
  nextSourcePort += count;
  if (nextSourcePort > 32_000) nextSourcePort = 1_100;
  return from + count > 32_767 ? sourcePorts(count) : { from, to: from + count - 1 };
}

/** A loopback address that no other process of the tests uses as its source at the same time. */
export const OWN_SOURCE = `127.77.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}`;

let engineOfTests: EngineName = 'epoll';

/** From now on `specTo` asks for this driver. */
export function useEngine(engine: EngineName): void {
  engineOfTests = engine;
}

/** A spec for `connections` from OWN_SOURCE to one endpoint, with slack of ten tuples. */
export function specTo(port: number, connections: number, over: Partial<HolderSpec> = {}): HolderSpec {
  const addresses = over.addresses ?? [OWN_SOURCE];
  const ports = over.ports ?? [sourcePorts(connections + 10)];
  const endpoints = over.endpoints ?? [{ address: '127.0.0.1', port, family: 4 as const }];
  const portCount = ports.reduce((sum, { from, to }) => sum + to - from + 1, 0);
  return {
    id: 'test/0',
    addresses,
    ports,
    endpoints,
    sliceFrom: 0,
    sliceTo: portCount * addresses.length * endpoints.length,
    connections,
    ratePerSec: null,
    pendingMax: 256,
    connectTimeoutMs: HANG_MS,
    close: 'rst',
    protocol: 'tcp',
    probeEveryMs: null,
    probeTimeoutMs: HANG_MS,
    engine: engineOfTests,
    ...over,
  };
}

const runs = new Set<EngineRun>();
const targets = new Set<Target>();

/** For afterEach: what a failed test has left behind would keep the process of the tests alive. */
export async function cleanUp(): Promise<void> {
  for (const run of runs) run.engine.end();
  runs.clear();
  for (const target of targets) await target.close();
}

/** One engine under test. */
export class EngineRun {
  readonly engine: Engine;
  readonly warnings: string[] = [];
  /** nothing is left to open */
  readonly opened: Promise<void>;
  /** and where probes run, each connection has answered one */
  readonly settled: Promise<void>;
  #open: () => void = () => {};
  #settle: () => void = () => {};

  /** @param clock the engine's; sockets, and how long a turn waits for them, stay real */
  constructor(spec: HolderSpec, clock: Clock = realClock) {
    this.opened = new Promise((resolve) => {
      this.#open = resolve;
    });
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.engine = new Engine(spec, clock, 0xabcd1234, {
      onOpened: () => this.#open(),
      onSettled: () => this.#settle(),
      onWarning: (message) => this.warnings.push(message),
    });
    runs.add(this);
  }

  /** Starts and waits until nothing is left to open. */
  async open(): Promise<Stats> {
    this.engine.start();
    await settled('the engine must open its quota', this.opened);
    return this.stats();
  }

  /** Moves the engine's clock and lets the engine look at it. */
  advance(clock: ManualClock, ms: number): void {
    clock.advance(ms);
    // Nothing is lost with no address, but a wait in the worker thread ends.
    this.engine.loseSources([]);
  }

  /** The engine's counts, which must add up whenever they are read. */
  stats(): Stats {
    const stats = this.engine.stats();
    const sum = (counts: Partial<Record<string, number>>): number =>
      Object.values(counts).reduce<number>((total, count) => total + (count ?? 0), 0);
    assert.equal(stats.attempted, stats.established + sum(stats.failed) + stats.pending, 'attempted adds up');
    assert.equal(stats.established, stats.open + sum(stats.dropped) + stats.closed, 'established adds up');
    assert.equal(sum(stats.openBySource), stats.open, 'open by source adds up');
    assert.equal(sum(stats.openByEndpoint), stats.open, 'open by endpoint adds up');
    return stats;
  }

  async stop(): Promise<Stats> {
    await settled('the engine must close', new Promise<void>((done) => this.engine.closeAll(done)));
    this.engine.end();
    return this.stats();
  }
}

/** A server written with node:net that keeps every socket it has accepted. */
export class Target {
  readonly server: Server;
  readonly sockets = new Set<Socket>();
  accepted = 0;
  /** error codes that sockets have ended with */
  readonly errors: string[] = [];
  ended = 0;

  private constructor(onSocket: (socket: Socket) => void) {
    this.server = createServer({ noDelay: true, allowHalfOpen: false }, (socket) => {
      this.accepted++;
      this.sockets.add(socket);
      socket.on('error', (error: NodeJS.ErrnoException) => this.errors.push(error.code ?? ''));
      socket.on('end', () => this.ended++);
      socket.on('close', () => this.sockets.delete(socket));
      onSocket(socket);
    });
  }

  /** @param host listens there, on a free port */
  static async listen(
    onSocket: (socket: Socket) => void = (socket) => socket.resume(),
    host = '127.0.0.1',
  ): Promise<Target> {
    const target = new Target(onSocket);
    await new Promise<void>((resolve, reject) => {
      target.server.once('error', reject);
      target.server.listen({ port: 0, host, backlog: 4_096 }, () => resolve());
    });
    targets.add(target);
    return target;
  }

  get port(): number {
    const address = this.server.address();
    assert(address !== null && typeof address === 'object');
    return address.port;
  }

  async close(): Promise<void> {
    if (!targets.delete(this)) return;
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

/** A listener that never accepts: its kernel completes `backlog + 1` handshakes and drops further SYNs. */
export function deafListener(backlog: number): {
  readonly fd: number;
  readonly port: number;
  close(): void;
} {
  const fd = libc.tcpSocket(libc.AF_INET);
  const address = sockAddr('127.0.0.1', 0);
  assert.equal(libc.bind(fd, address.bytes, address.length), 0);
  assert.equal(libc.listen(fd, backlog), 0);
  const named = new Uint8Array(28);
  assert.equal(libc.getsockname(fd, named, new Int32Array([28])), 0);
  return { fd, port: portOf(named), close: () => libc.close(fd) };
}

/** How many sockets with this state the kernel has towards `127.0.0.1:port` (or `[::1]:port`), on the client's side. */
export function kernelCount(state: string, port: number, source: string | null = null): number {
  // Not by the port alone: accepted sockets of another target may have a peer with that port.
  const filter = ['(', 'dst', '127.0.0.1', 'or', 'dst', '[::1]', ')', 'and', 'dport', '=', `:${port}`];
  // Another process may have had a target at that port a moment ago.
  if (source !== null) filter.push('and', 'src', source);
  const text = execFileSync('ss', ['-Htn', 'state', state, ...filter], { encoding: 'utf8' });
  return text.split('\n').filter((line) => line !== '').length;
}
