/**
 * Owns what the tests of the drivers share: far sides that count for themselves, and turning a driver until something is so.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { type Driver, DriverEvent, type DriverOptions } from '../../../src/engine/drivers/driver.ts';
import { EpollDriver } from '../../../src/engine/drivers/epoll-driver.ts';
import type { UringSizes } from '../../../src/engine/drivers/ring-set.ts';
import { sockAddr } from '../../../src/engine/drivers/sockaddr.ts';
import { UringDriver } from '../../../src/engine/drivers/uring-driver.ts';
import { probeUring } from '../../../src/engine/drivers/uring-probe.ts';
import { HANG_MS } from '../../support/waiting.ts';

/** Loopback addresses that no other process of the tests uses as its sources at the same time. */
export function ownSource(number: number): string {
  return `127.${140 + number}.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}`;
}

/** Why tests of io_uring are left out on this machine; false: they are not. */
export const URING_SKIP: string | false = ((): string | false => {
  const refusal = probeUring();
  return refusal === null ? false : `io_uring: ${refusal.text}`;
})();

/** Each driver with what makes it, and whether it can be tested here. */
export const DRIVERS: readonly {
  readonly name: Driver['name'];
  readonly skip: string | false;
  make(options: DriverOptions, sizes?: UringSizes): Driver;
}[] = [
  { name: 'epoll', skip: false, make: (options) => new EpollDriver(options) },
  { name: 'uring', skip: URING_SKIP, make: (options, sizes) => new UringDriver(options, sizes) },
];

/** What a slot was told, in words that can be compared. */
export interface Told {
  connected: number;
  failed: { step: number; errno: number } | null;
  bytes: Buffer;
  /** errno; null: not ended */
  ended: number | null;
  writable: number;
}

/** A driver with a record of all that it says. */
export class Watched {
  readonly driver: Driver;
  readonly told: Told[];
  /** what a test does when something happens, in the middle of a turn */
  onEvent: (slot: number, event: DriverEvent) => void = () => {};

  constructor(driver: Driver) {
    this.driver = driver;
    this.told = Array.from({ length: driver.capacity }, () => this.#nothing());
  }

  #nothing(): Told {
    return { connected: 0, failed: null, bytes: Buffer.alloc(0), ended: null, writable: 0 };
  }

  /** Forgets what a slot was told, for its next connection. */
  forget(slot: number): void {
    this.told[slot] = this.#nothing();
  }

  /** One turn, without Node's own loop. */
  turn(waitMs = 0): void {
    const { driver } = this;
    driver.turn(waitMs);
    for (let event = driver.next(); event !== DriverEvent.none; event = driver.next()) this.#note(event);
  }

  #note(event: DriverEvent): void {
    const { driver } = this;
    const { slot } = driver;
    const told = this.told[slot];
    assert(told !== undefined, `event ${event} for slot ${slot}`);
    assert(told.ended === null && told.failed === null, `event ${event} after the end of slot ${slot}`);
    if (event === DriverEvent.connected) told.connected++;
    else assert(event === DriverEvent.failed || told.connected === 1, `event ${event} before connected`);
    if (event === DriverEvent.failed) told.failed = { step: driver.step, errno: driver.value };
    if (event === DriverEvent.bytes)
      told.bytes = Buffer.concat([told.bytes, driver.bytes.subarray(0, driver.value)]);
    if (event === DriverEvent.ended) told.ended = driver.value;
    if (event === DriverEvent.writable) told.writable++;
    this.onEvent(slot, event);
  }

  /** Turns until something is so; Node's own loop, where the far sides live, runs in between. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    const beganMs = performance.now();
    while (!isSo()) {
      if (performance.now() - beganMs > HANG_MS) {
        const failed = this.told.filter((told) => told.failed !== null).map((told) => told.failed);
        throw new Error(`still not so: ${what}; opens that failed: ${JSON.stringify(failed)}`);
      }
      this.turn(1);
      await new Promise((resolve) => void setImmediate(resolve));
    }
  }

  /** Turns often enough for anything that is on its way to arrive: for what must not happen. */
  async settle(): Promise<void> {
    for (let turns = 0; turns < 50; turns++) {
      this.turn(1);
      await new Promise((resolve) => void setImmediate(resolve));
    }
  }
}

/** A far side in this process. */
export interface FarSide {
  readonly port: number;
  readonly server: Server;
  /** in the order of accepting */
  readonly sockets: Socket[];
  /** what came over one of them */
  received(socket: Socket): Buffer;
  receivedBytes(socket: Socket): number;
  /** sockets that have seen a FIN, and codes of errors, by socket */
  readonly ended: Set<Socket>;
  readonly errors: Map<Socket, string>;
}

/** Starts a far side that reads what comes and answers nothing; it is gone after the test. */
export async function farSide(t: TestContext, address = '127.0.0.1'): Promise<FarSide> {
  const sockets: Socket[] = [];
  const chunks = new Map<Socket, Buffer[]>();
  const ended = new Set<Socket>();
  const errors = new Map<Socket, string>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) => {
    sockets.push(socket);
    chunks.set(socket, []);
    socket.on('data', (chunk) => void chunks.get(socket)!.push(chunk as Buffer));
    socket.on('end', () => ended.add(socket));
    socket.on('error', (error: NodeJS.ErrnoException) => errors.set(socket, error.code ?? '?'));
  });
  server.listen({ port: 0, host: address, backlog: 4_096 });
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    server,
    sockets,
    received: (socket) => Buffer.concat(chunks.get(socket) ?? []),
    receivedBytes: (socket) => (chunks.get(socket) ?? []).reduce((sum, chunk) => sum + chunk.length, 0),
    ended,
    errors,
  };
}

/** Options for `capacity` slots from the first of our own addresses to `ports` of 127.0.0.1. */
export function optionsTo(
  ports: readonly number[],
  capacity: number,
  sources = [ownSource(0)],
): DriverOptions {
  return {
    capacity,
    sources: sources.map((address) => sockAddr(address, 0)),
    endpoints: ports.map((port) => sockAddr('127.0.0.1', port)),
  };
}
