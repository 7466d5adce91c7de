/**
 * Owns what a driver goes through on a simulated host, and the judgement of it: each fault at each place, and sequences by chance.
 * What the driver says is held against the host's own account. The same for every driver.
 */
import assert from 'node:assert/strict';
import { type Driver, DriverEvent, type DriverOptions } from '../../../src/engine/drivers/driver.ts';
import { sockAddr } from '../../../src/engine/drivers/sockaddr.ts';
import * as libc from '../../../src/engine/libc.ts';
import { type Told, Watched } from './driver-harness.ts';
import {
  type FaultPoint,
  type SimulatedHost,
  type SimulatedSocket,
  SYN_REJECTED,
} from './simulated-socket.ts';

const { Errno } = libc;

/** A driver on a host that is simulated. */
export interface Simulated {
  readonly host: SimulatedHost;
  readonly driver: Driver;
  /** what the driver itself has not let go; 0 once all is closed */
  readonly used: () => number;
}

/** Errnos that each request can bring, whichever driver makes it: the man page of the call. */
export const FAULTS = {
  socket: [
    Errno.ENFILE,
    Errno.EMFILE,
    Errno.ENOMEM,
    Errno.ENOBUFS,
    Errno.EACCES,
    Errno.EPERM,
    Errno.EAFNOSUPPORT,
    Errno.EPROTONOSUPPORT,
    Errno.EINVAL,
    Errno.ECANCELED,
  ],
  place: [Errno.ENOMEM],
  reuse: [Errno.ENOMEM, Errno.EPERM, Errno.ENOPROTOOPT, Errno.EOPNOTSUPP],
  bind: [
    Errno.EADDRINUSE,
    Errno.EADDRNOTAVAIL,
    Errno.EACCES,
    Errno.EPERM,
    Errno.ENOMEM,
    Errno.ENOBUFS,
    Errno.EINVAL,
  ],
  connect: [
    Errno.ECONNREFUSED,
    Errno.ETIMEDOUT,
    Errno.ECONNRESET,
    Errno.EPIPE,
    Errno.ECONNABORTED,
    Errno.EHOSTUNREACH,
    Errno.ENETUNREACH,
    Errno.ENETDOWN,
    112,
    Errno.ENOPROTOOPT,
    Errno.EADDRNOTAVAIL,
    Errno.EADDRINUSE,
    Errno.EACCES,
    Errno.EPERM,
    Errno.ENOMEM,
    Errno.ENOBUFS,
    Errno.EINTR,
    Errno.EINVAL,
  ],
  watch: [Errno.ENOMEM, Errno.EINVAL, Errno.EBADF, Errno.ECANCELED],
  watchWritable: [Errno.ENOMEM, Errno.EINVAL, Errno.ECANCELED],
  receive: [
    Errno.ECONNRESET,
    Errno.ETIMEDOUT,
    Errno.EPIPE,
    Errno.EHOSTUNREACH,
    Errno.ENETUNREACH,
    Errno.ENETDOWN,
    Errno.ENOMEM,
    Errno.ENOBUFS,
    Errno.ENOTCONN,
    Errno.EAGAIN,
    Errno.EINTR,
  ],
  send: [
    Errno.EPIPE,
    Errno.ECONNRESET,
    Errno.ETIMEDOUT,
    Errno.EHOSTUNREACH,
    Errno.ENETUNREACH,
    Errno.ENOMEM,
    Errno.ENOBUFS,
    Errno.EAGAIN,
    Errno.EINTR,
  ],
  linger: [Errno.ENOMEM, Errno.EPERM],
  close: [Errno.EINTR, Errno.EIO],
  cancel: [Errno.ENOENT, Errno.EALREADY],
  install: [Errno.EMFILE, Errno.ENFILE, Errno.EBADF, Errno.EPERM, Errno.ENOMEM],
};
/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What both sides send: byte n of a connection is n modulo 251. */
const PATTERN = Buffer.from(Uint8Array.from({ length: 251 * 4_800 }, (_, at) => at % 251));
const FLOOD_BYTES = 1_200_000;

/** `length` bytes from number `from` on. */
function pattern(from: number, length: number): Buffer {
  const at = from % 251;
  return PATTERN.subarray(at, at + length);
}

export const SLOTS = 6;

/** What a driver in a play is made for: each slot alternates between IPv4 and IPv6. */
export const PLAY_OPTIONS: DriverOptions = {
  capacity: SLOTS,
  sources: [sockAddr('10.0.0.1', 0), sockAddr('fd00::1', 0)],
  endpoints: [sockAddr('10.0.0.2', 80), sockAddr('fd00::2', 80)],
};

const QUIET_TURNS = 400;

/** A driver on a simulated host, and what each slot's connection has been told and given. */
export class Play {
  readonly host: SimulatedHost;
  readonly side: Watched;
  readonly driver: Driver;
  readonly #used: () => number;
  /** source port of the connection in each slot; 0: closed */
  readonly ports = new Int32Array(SLOTS);
  /** bytes of ours that the driver has taken, by slot */
  readonly taken = new Int32Array(SLOTS);
  /** the last send was short, and no writable has come since */
  readonly isShort = new Uint8Array(SLOTS);
  /** what the slot's connection was when it was closed, to be looked at in the end */
  readonly closed: { port: number; how: string; state: string; taken: number }[] = [];
  #nextPort = 1;

  constructor({ host, driver, used }: Simulated) {
    this.host = host;
    this.driver = driver;
    this.#used = used;
    this.side = new Watched(this.driver);
    this.side.onEvent = (slot, event) => {
      assert.notEqual(this.ports[slot], 0, `event ${event} for the closed slot ${slot}`);
      if (event !== DriverEvent.writable) return;
      assert.equal(this.isShort[slot], 1, 'writable is said to who waits for it');
      this.isShort[slot] = 0;
    };
  }

  open(slot: number): void {
    const port = this.#nextPort;
    this.host.willOpen(port);
    if (!this.driver.open(slot, port % 2, port, port % 2)) return;
    this.#nextPort++;
    this.ports[slot] = port;
    this.taken[slot] = 0;
    this.isShort[slot] = 0;
    this.side.forget(slot);
  }

  isConnected(slot: number): boolean {
    const { connected, ended } = this.side.told[slot]!;
    return this.ports[slot] !== 0 && connected === 1 && ended === null;
  }

  send(slot: number, length: number): void {
    const from = this.taken[slot]!;
    const took = this.driver.send(slot, pattern(from, length), length);
    this.taken[slot] = from + took;
    if (took < length) this.isShort[slot] = 1;
  }

  close(slot: number, how: 'fin' | 'rst'): void {
    const told = this.side.told[slot]!;
    const state = told.failed !== null ? 'failed' : told.connected === 1 ? 'connected' : 'opening';
    this.closed.push({ port: this.ports[slot]!, how, state, taken: this.taken[slot]! });
    this.ports[slot] = 0;
    this.driver.close(slot, how);
  }

  socketOf(slot: number): SimulatedSocket | null {
    return this.host.accounts.get(this.ports[slot]!)?.socket ?? null;
  }

  /** Turns until nothing happens any more, with far sides that read and answer, and a kernel without faults. */
  quiesce(): void {
    const { host } = this;
    host.fault = () => 0;
    host.enterFault = () => null;
    host.connectResult = () => 0;
    let quiet = 0;
    for (let turns = 0; quiet < 5; turns++) {
      assert(turns < QUIET_TURNS, 'it comes to rest');
      // One that was given up is not answered: only its cancelling ends it.
      for (const socket of host.hanging) if (this.ports.includes(socket.port)) host.resolve(socket, 0);
      for (let slot = 0; slot < SLOTS; slot++) {
        const socket = this.isConnected(slot) ? this.socketOf(slot) : null;
        if (socket !== null && socket.room < 10_000) host.readSome(socket, 10_000);
      }
      let happened = 0;
      const before = this.side.onEvent;
      this.side.onEvent = (slot, event) => {
        happened++;
        before(slot, event);
      };
      this.side.turn(0);
      this.side.onEvent = before;
      quiet = happened === 0 && host.isIdle ? quiet + 1 : 0;
    }
  }

  /** At rest, each slot has been told all that the kernel's own account says, and nothing else. */
  check(): void {
    for (let slot = 0; slot < SLOTS; slot++) if (this.ports[slot] !== 0) this.#checkSlot(slot);
  }

  #checkSlot(slot: number): void {
    const told = this.side.told[slot]!;
    const account = this.host.accounts.get(this.ports[slot]!)!;
    if (account.failed !== null) {
      assert.deepEqual(told.failed, account.failed, 'the first step that failed, and its errno');
      return;
    }
    const socket = account.socket!;
    assert.equal(told.failed, null);
    assert.equal(told.connected, 1, 'connected is told');
    assert(
      told.bytes.equals(socket.sentByFar.subarray(0, socket.received)),
      'all bytes that were received are told, in order',
    );
    const isOver = socket.hasFin || socket.isDead || account.ends.length > 0;
    assert.equal(told.ended !== null, isOver, `ended: ${told.ended}, ${JSON.stringify(account.ends)}`);
    if (told.ended === null) {
      assert.equal(socket.received, socket.sentByFar.length, 'all that came was received');
      this.#checkSent(socket, this.taken[slot]!);
      assert.equal(this.isShort[slot], 0, 'who waits for room is told when there is some');
      return;
    }
    const errnos = account.ends.map(({ errno }) => errno);
    assert(errnos.includes(told.ended), `ended with ${told.ended}, the kernel said ${errnos}`);
    // A FIN that was received before a send met an error is a FIN.
    if (told.ended === 0) assert.equal(errnos[0], 0, 'an error that a send or a watch met is no FIN');
  }

  #checkSent(socket: SimulatedSocket, taken: number): void {
    assert.equal(socket.sentByUs.length, taken, 'all that was taken is sent');
    assert(
      socket.sentByUs.every((byte, at) => byte === at % 251),
      'in order',
    );
  }

  /** Everything is closed, and nothing is left: no index, no place in a table, no watch, no connect. */
  finish(): void {
    for (let slot = 0; slot < SLOTS; slot++) if (this.ports[slot] !== 0) this.close(slot, 'rst');
    this.quiesce();
    assert.equal(this.#used(), 0, 'the driver has let go of all');
    assert.equal(this.host.leftovers, 0, 'nothing is left in the kernel');
    for (const { port, how, state, taken } of this.closed) {
      const { socket } = this.host.accounts.get(port)!;
      if (socket === null || state !== 'connected') continue;
      const bytes = socket.sentByUs;
      assert(bytes.length <= taken && bytes.equals(pattern(0, bytes.length)));
      if (how === 'rst') assert(socket.isReset || this.lingerFailed, 'closed by RST');
      else assert(!socket.isReset, 'closed by FIN');
    }
    this.driver.end();
    assert.equal(this.host.ownFiles, 0, 'the driver has closed its own descriptors');
  }

  lingerFailed = false;
}

/** Exercises every kind of request at least three times, whatever fails meanwhile. */
function scene(play: Play, isFlooded: boolean): void {
  const { host, driver } = play;
  const info = new Uint8Array(256);
  for (let round = 0; round < 4; round++) {
    for (let slot = 0; slot < SLOTS; slot++) if (play.ports[slot] === 0) play.open(slot);
    for (let turns = 0; turns < 6; turns++) play.side.turn(0);
    // One is given up while its connect hangs, and opened again.
    host.connectResult = () => -1;
    for (let times = 0; times < 2; times++) {
      play.close(5, 'rst');
      play.side.turn(0);
      play.open(5);
      for (let turns = 0; turns < 3; turns++) play.side.turn(0);
    }
    play.close(5, 'rst');
    host.connectResult = () => 0;
    for (let turns = 0; turns < 6; turns++) play.side.turn(0);
    for (let slot = 0; slot < 5; slot++) {
      driver.tcpInfo(slot, info);
      if (!play.isConnected(slot)) continue;
      driver.beginHearing(slot);
      driver.setKeepalive(slot, true);
      driver.probeWindow(slot);
      driver.hasHeard(Int32Array.of(slot), 1, info);
      play.send(slot, 700 + slot);
      const socket = play.socketOf(slot)!;
      host.arrive(socket, pattern(socket.sentByFar.length, 10));
      // Full: the rest is kept until there is room.
      if (slot === 1) play.send(slot, 9_000);
      if (slot === 2) host.fin(socket);
      // More than is taken in one turn.
      if (slot === 4 && isFlooded) host.arrive(socket, pattern(socket.sentByFar.length, FLOOD_BYTES));
      if (slot === 3) host.reset(socket, Errno.ECONNRESET);
    }
    for (let turns = 0; turns < 6; turns++) play.side.turn(0);
    const full = play.isConnected(1) ? play.socketOf(1) : null;
    if (full !== null) {
      play.send(1, 5_000);
      for (let turns = 0; turns < 4; turns++) play.side.turn(0);
      play.send(1, 5_000);
      for (let turns = 0; turns < 4; turns++) play.side.turn(0);
      host.readSome(full, 3_000);
    }
    for (let turns = 0; turns < 4; turns++) play.side.turn(0);
    if (round % 2 === 0) play.close(0, 'fin');
    for (let slot = 2; slot < 5; slot++) if (round % 2 === 1 || slot > 2) play.close(slot, 'rst');
  }
}

/** Around the sizes of our own buffers, and small ones. */
const SIZES: readonly number[] = [1, 7, 16, 30, 500, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 9_000];

/** One sequence of a seed: what the engine does, what far sides do, and what the kernel refuses, all by chance. */
function sequence(seed: number, { faults, enterErrnos, make }: Cast): void {
  const random = randomOf(seed);
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)]!;
  const play = new Play(make(random));
  const { host, driver } = play;
  const faultRate = pick([0, 0.02, 0.15]);
  let hearFailed = false;
  host.fault = (point) => {
    if (faults[point] === undefined || random() >= faultRate) return 0;
    if (point === 'linger') play.lingerFailed = true;
    if (point === 'hear') hearFailed = true;
    return pick(faults[point]!);
  };
  host.enterFault = () => {
    if (random() >= faultRate) return null;
    return { errno: pick(enterErrnos), taken: Math.floor(random() * 9) };
  };
  host.connectResult = () => {
    const what = random();
    return what < 0.15 ? -1 : what < 0.25 ? SYN_REJECTED : 0;
  };
  const info = new Uint8Array(256);
  const looked = new Int32Array(1);
  for (let step = 0; step < 60; step++) {
    const slot = Math.floor(random() * SLOTS);
    looked[0] = slot;
    const socket = play.isConnected(slot) ? play.socketOf(slot) : null;
    const what = random();
    if (what < 0.3) play.side.turn(0);
    else if (play.ports[slot] === 0) play.open(slot);
    else if (what < 0.4) play.close(slot, pick(['fin', 'rst']));
    else if (what < 0.43) driver.tcpInfo(slot, info);
    else if (what < 0.45) {
      driver.beginHearing(slot);
      if (driver.hasHeard(looked, 1, info) && info[0] === 1)
        assert(socket?.isHeard || hearFailed, 'nothing has come since it was asked');
    } else if (what < 0.5 && host.hanging.length > 0)
      host.resolve(pick(host.hanging), pick([0, 0, Errno.ECONNREFUSED, Errno.ETIMEDOUT, Errno.EHOSTUNREACH]));
    else if (socket === null) play.side.turn(0);
    else if (what < 0.7) play.send(slot, pick(SIZES));
    else if (what < 0.85 && !socket.hasFin && !socket.isDead)
      host.arrive(socket, pattern(socket.sentByFar.length, pick(SIZES)));
    else if (what < 0.9) host.readSome(socket, Math.floor(random() * 3_000));
    else if (what < 0.95) host.fin(socket);
    else host.reset(socket, pick([Errno.ECONNRESET, Errno.ETIMEDOUT, Errno.EPIPE]));
  }
  play.quiesce();
  play.check();
  play.finish();
}

/** Which driver is on which host, and what that host may answer. */
export interface Cast {
  /** the errnos that each request may fail with; a place that is missing never fails */
  readonly faults: Readonly<Partial<Record<FaultPoint, readonly number[]>>>;
  /** those of the call that brings events */
  readonly enterErrnos: readonly number[];
  /** @param random sizes that differ from sequence to sequence are drawn from it; without it the usual ones */
  make(random?: () => number): Simulated;
}

/** The n-th request of each kind fails with each errno of the table. */
export function playFaults(cast: Cast): void {
  for (const [point, errnos] of Object.entries(cast.faults))
    for (const errno of errnos) for (const nth of [1, 2, 3]) playFault(cast, point as FaultPoint, errno, nth);
}

function playFault(cast: Cast, point: FaultPoint, errno: number, nth: number): void {
  const play = new Play(cast.make());
  let seen = 0;
  let hasFired = false;
  play.host.fault = (at) => {
    if (at !== point || ++seen !== nth) return 0;
    hasFired = true;
    return errno;
  };
  play.lingerFailed = point === 'linger';
  try {
    scene(play, point === 'watchAgain');
    play.quiesce();
    play.check();
    play.finish();
    assert(hasFired, 'the fault was met');
  } catch (error) {
    throw new Error(`${point} number ${nth} with errno ${errno}`, { cause: error });
  }
}

/** Seeds of the sequences: `DRIVER_SEED=17 DRIVER_SEQUENCES=1` plays one again. */
const SEED = Number(process.env.DRIVER_SEED ?? 1);
const SEQUENCES = Number(process.env.DRIVER_SEQUENCES ?? 10_000);

/** Plays sequences by chance. @returns the seeds, for a person */
export function playSequences(cast: Cast): string {
  assert(SEQUENCES >= 1, 'there are sequences to play');
  for (let seed = SEED; seed < SEED + SEQUENCES; seed++) {
    try {
      sequence(seed, cast);
    } catch (error) {
      throw new Error(`DRIVER_SEED=${seed} DRIVER_SEQUENCES=1 plays it again`, { cause: error });
    }
  }
  return `seeds ${SEED} to ${SEED + SEQUENCES - 1}`;
}

/** What each failing step of an open says, one connection for each errno of the table. */
export function playOpens(
  { make }: Cast,
  table: Readonly<Partial<Record<FaultPoint, readonly number[]>>>,
): Told['failed'][] {
  return Object.entries(table).flatMap(([point, errnos]) =>
    errnos.map((errno) => {
      const play = new Play(make());
      play.host.fault = (at) => (at === point ? errno : 0);
      play.open(0);
      for (let turns = 0; turns < 6; turns++) play.side.turn(0);
      const { failed } = play.side.told[0]!;
      play.finish();
      return failed;
    }),
  );
}
