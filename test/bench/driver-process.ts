/**
 * Owns one driver in a process of its own: it opens connections to an echo target as fast as it can, lets each say a word
 * and hear it, holds them for a second, closes them, and prints what each of that cost. Must never judge it.
 *
 *   node driver-process.js uring|epoll PORT CONNECTIONS SOURCE_ADDRESS PENDING_MAX
 */
import assert from 'node:assert/strict';
import { type Driver, DriverEvent, type DriverOptions } from '../../src/engine/drivers/driver.ts';
import { EpollDriver } from '../../src/engine/drivers/epoll-driver.ts';
import { sockAddr } from '../../src/engine/drivers/sockaddr.ts';
import { UringDriver } from '../../src/engine/drivers/uring-driver.ts';
import { reserveDescriptors } from '../../src/engine/libc.ts';

const OPENS_PER_TURN = 128;
const CLOSES_PER_TURN = 512;
const SENDS_PER_TURN = 512;
const FIRST_PORT = 1_024;
const PORTS = 31_000;
/** Opened and closed first, so that the code is compiled: a holder does so before it says that it is ready. */
const WARM_CONNECTIONS = 2_000;
const WARM_ECHOES = 2;
const HOLD_MS = 1_000;
const WORD = Buffer.from('sixteen bytes...');

/** What one stretch of work took. */
interface Cost {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** Takes the time and the CPU of what runs until `isDone`, turn by turn, with Node's own loop in between. */
function measure(turn: () => boolean): Promise<Cost> {
  const beganMs = performance.now();
  const before = process.cpuUsage();
  return new Promise((resolve) => {
    const next = (): void => {
      if (!turn()) {
        setImmediate(next);
        return;
      }
      const cpu = process.cpuUsage(before);
      resolve({
        seconds: (performance.now() - beganMs) / 1_000,
        cpuSeconds: (cpu.user + cpu.system) / 1e6,
      });
    };
    next();
  });
}

class Load {
  readonly #driver: Driver;
  readonly #pendingMax: number;
  #tuple = 0;
  open = 0;
  skipped = 0;
  answers = 0;

  constructor(driver: Driver, pendingMax: number) {
    this.#driver = driver;
    this.#pendingMax = pendingMax;
  }

  #dial(slot: number): void {
    const tuple = this.#tuple++;
    const begun = this.#driver.open(slot, Math.floor(tuple / PORTS), FIRST_PORT + (tuple % PORTS), 0);
    assert(begun, 'there is room for all');
  }

  /** All events of one turn. */
  turn(waitMs: number): void {
    const driver = this.#driver;
    driver.turn(waitMs);
    for (let event = driver.next(); event !== DriverEvent.none; event = driver.next()) {
      if (event === DriverEvent.connected) this.open++;
      else if (event === DriverEvent.bytes) this.answers += driver.value / WORD.length;
      else {
        assert.equal(event, DriverEvent.failed, 'nothing ends');
        // A port on which a process listens: the next one.
        this.skipped++;
        const { slot } = driver;
        driver.close(slot, 'fin');
        this.#dial(slot);
      }
    }
  }

  openAll(count: number): Promise<Cost> {
    let started = 0;
    return measure(() => {
      const isFull = started === count || started - this.open >= this.#pendingMax;
      this.turn(isFull ? 5 : 0);
      for (let opens = 0; opens < OPENS_PER_TURN && started < count; opens++) {
        if (started - this.open >= this.#pendingMax) break;
        this.#dial(started++);
      }
      return this.open === count;
    });
  }

  echoAll(count: number): Promise<Cost> {
    let sent = 0;
    this.answers = 0;
    return measure(() => {
      const until = Math.min(count, sent + SENDS_PER_TURN);
      for (; sent < until; sent++) assert.equal(this.#driver.send(sent, WORD, WORD.length), WORD.length);
      this.turn(sent === count ? 5 : 0);
      return this.answers === count;
    });
  }

  hold(): Promise<Cost> {
    return new Promise((resolve) => {
      const beganMs = performance.now();
      const before = process.cpuUsage();
      const parked = (): void => {
        this.turn(0);
        if (performance.now() - beganMs < HOLD_MS) {
          this.#driver.park(HOLD_MS, parked);
          return;
        }
        const cpu = process.cpuUsage(before);
        resolve({ seconds: HOLD_MS / 1_000, cpuSeconds: (cpu.user + cpu.system) / 1e6 });
      };
      this.#driver.park(HOLD_MS, parked);
    });
  }

  closeAll(count: number): Promise<Cost> {
    let closed = 0;
    return measure(() => {
      const until = Math.min(count, closed + CLOSES_PER_TURN);
      for (; closed < until; closed++) this.#driver.close(closed, 'rst');
      const isDone = closed === count;
      this.turn(0);
      if (isDone) this.open = 0;
      return isDone;
    });
  }
}

async function main([kind, port, connections, source, pendingMax]: readonly string[]): Promise<void> {
  const count = Number(connections);
  const quad = source!.split('.').map(Number);
  const addresses = Array.from(
    { length: Math.ceil((count + WARM_CONNECTIONS) / PORTS) + 1 },
    (_, index) => `${quad[0]}.${quad[1]}.${quad[2]}.${quad[3]! + index}`,
  );
  const options: DriverOptions = {
    capacity: count,
    sources: addresses.map((address) => sockAddr(address, 0)),
    endpoints: [sockAddr('127.0.0.1', Number(port))],
  };
  if (kind === 'epoll') reserveDescriptors(count + 64);
  const driver = kind === 'uring' ? new UringDriver(options) : new EpollDriver(options);
  const load = new Load(driver, Number(pendingMax));
  await load.openAll(Math.min(WARM_CONNECTIONS, count));
  await load.closeAll(Math.min(WARM_CONNECTIONS, count));
  const opened = await load.openAll(count);
  const residentBytes = process.memoryUsage().rss;
  // The first rounds compile the code that a holder with probes runs all the time.
  for (let round = 0; round < WARM_ECHOES; round++) await load.echoAll(count);
  const echoed = await load.echoAll(count);
  const held = await load.hold();
  const closed = await load.closeAll(count);
  driver.end();
  console.log(
    JSON.stringify({
      connections: count,
      skipped: load.skipped,
      residentBytes,
      opened,
      echoed,
      held,
      closed,
    }),
  );
}

await main(process.argv.slice(2));
