/**
 * Owns a worker's connections through io_uring: a listener, rings whose places hold what is accepted, and what they count. A
 * connection takes no number of RLIMIT_NOFILE: a further ring is made when all are full, until the kernel refuses one.
 * Must never speak to the parent (worker.ts), fork or log.
 *
 * A connection: accepted into a place of the kernel's choice, its peer's address asked for, watched; each time it is readable one
 * RECV, in echo one SEND of the same bytes, and it is watched again. All of a turn goes to the kernel in one call a ring.
 */
import { succeeded } from '../engine/drivers/call-error.ts';
import { Cells } from '../engine/drivers/cells.ts';
import { SOCKADDR_BYTES_MAX } from '../engine/drivers/sockaddr.ts';
import { CQE_MORE, Cqe, type MappedMemory, type UringKernel } from '../engine/drivers/uring-binding.ts';
import { RingError } from '../engine/drivers/uring-ring.ts';
import * as libc from '../engine/libc.ts';
import { Poller } from '../engine/poller.ts';
import { after, type Timer } from '../time/timer.ts';
import { Answer, answerOf, cellOf, EMPTY, HeldRing, UNGREETED, UNNAMED } from './held-ring.ts';
import { type ServeMode, type SourceCount, type WorkerTotals, ZERO_TOTALS } from './serve-counts.ts';
import { SourceTable } from './source-table.ts';
import {
  isOutOfRoom,
  isTransient,
  SOURCES_LISTED_MAX,
  type Target,
  WHOAMI_TEXT_BYTES_MAX,
  whoamiText,
} from './target.ts';

/** As in epoll-target.ts: short waits are in this thread, long ones are not. */
const BUSY_WAIT_MS = 2;
const BUSY_WAITS_MAX = 25;
const IDLE_WAIT_MS = 1_000;
const RETRY_ACCEPT_MS = 1_000;
/** Calls for one ring in one turn; each does some 20 pieces of work (IO_LOCAL_TW_DEFAULT_MAX in io_uring/tw.h). */
const CALLS_PER_TURN_MAX = 32;
/** At the end a ring of 65,536 connections needs some thousand. */
const CALLS_AT_END_MAX = 100_000;
const PIECES_AT_END = 1_024;

/** Echo: what is received and then sent; as many connections are served in one turn. */
const MESSAGE_CELLS = 256;
const MESSAGE_BYTES = 16_384;
/** Names that are asked for at a time, and the lines of whoami. */
const NAME_CELLS = 4_096;

const RINGS_TOKEN = 1;

/** How it is made. */
interface UringTargetOptions {
  /** a listening socket; the target owns it from now on */
  readonly listenerFd: number;
  readonly isIpv6: boolean;
  readonly mode: ServeMode;
  /** what it calls itself in the mode `whoami` */
  readonly name: string;
  readonly kernel: UringKernel;
  /** called after a batch of events: some count may have changed */
  readonly changed: () => void;
  /** places of one ring at most, and rings; for tests */
  readonly filesMax?: number;
  readonly ringsMax?: number;
}

/** One worker's connections. */
export class UringTarget implements Target {
  readonly #options: UringTargetOptions;
  readonly #isEcho: boolean;
  readonly #poller = new Poller();
  /** one for all rings: signalled when there is work for a ring that had none */
  readonly #eventFd = libc.eventfd();
  readonly #rings: HeldRing[] = [];
  /** the one that accepts */
  #current: HeldRing;
  readonly #sources = new SourceTable();
  readonly #messages: Cells;
  readonly #names: Cells;
  /** what came and is not looked at: in modes that answer nothing, and from any number of connections at a time */
  readonly #scratch: MappedMemory;
  /** echo: what a slow reader has not taken yet, by ring and place; empty unless a send was partial */
  readonly #unsent = new Map<number, Uint8Array>();
  readonly #peer = new Uint8Array(SOCKADDR_BYTES_MAX);
  readonly #count = { ...ZERO_TOTALS };
  #isResting = false;
  #isClosed = false;
  #emptyWaits = 0;
  #retryTimer: Timer | undefined;

  /** @throws RingError when the kernel refuses the first ring, CallError when it refuses what the rings are watched with */
  constructor(options: UringTargetOptions) {
    this.#options = options;
    this.#isEcho = options.mode === 'echo';
    const eventFd = succeeded('eventfd', this.#eventFd);
    // Edges: each signal counts, and the eventfd need not be read.
    succeeded('epoll_ctl', this.#poller.add(eventFd, libc.EPOLLIN | libc.EPOLLET, RINGS_TOKEN));
    const { kernel } = options;
    this.#messages = new Cells(kernel, MESSAGE_CELLS, MESSAGE_BYTES);
    this.#names = new Cells(kernel, NAME_CELLS, WHOAMI_TEXT_BYTES_MAX);
    const scratch = kernel.map(MESSAGE_BYTES, -1, 0);
    if (typeof scratch === 'number') throw new RingError('map', -scratch);
    this.#scratch = scratch;
    this.#current = this.#addRing();
  }

  #addRing(): HeldRing {
    const { kernel, listenerFd, isIpv6, filesMax, ringsMax = Number.POSITIVE_INFINITY } = this.#options;
    if (this.#rings.length >= ringsMax) throw new RingError('files', libc.Errno.EMFILE);
    const made = new HeldRing({
      kernel,
      listenerFd,
      isIpv6,
      eventFd: this.#eventFd,
      ...(filesMax === undefined ? {} : { filesMax }),
    });
    this.#rings.push(made);
    return made;
  }

  start(): void {
    this.#current.accept();
    setImmediate(this.#turn);
  }

  totals(): WorkerTotals {
    return { ...this.#count };
  }

  sources(): SourceCount[] {
    return this.#sources.list(SOURCES_LISTED_MAX);
  }

  // ---- turns ----

  readonly #turn = (): void => {
    if (this.#isClosed) return;
    this.#submit();
    if (!this.#hasAny && !this.#isOwed) this.#wait();
    const some = this.#take();
    this.#emptyWaits = some ? 0 : this.#emptyWaits + 1;
    if (this.#emptyWaits < BUSY_WAITS_MAX) setImmediate(this.#turn);
    else this.#park();
  };

  #submit(): void {
    for (const { ring } of this.#rings)
      for (let calls = 0; calls < CALLS_PER_TURN_MAX && (ring.queued > 0 || ring.hasWork); calls++)
        ring.submit(0, 0);
  }

  get #hasAny(): boolean {
    for (const { ring } of this.#rings) if (ring.hasCompletions || ring.hasWork) return true;
    return false;
  }

  /** Connections that found no free cell, though some are free now. */
  get #isOwed(): boolean {
    for (const { waiting } of this.#rings) if (waiting.size > 0) return true;
    return false;
  }

  #wait(): void {
    // One ring waits by itself, which is one call instead of two.
    if (this.#rings.length === 1) this.#current.ring.submit(1, BUSY_WAIT_MS);
    else if (this.#poller.wait(BUSY_WAIT_MS) > 0) this.#submit();
  }

  #park(): void {
    this.#submit();
    // Signals so far are taken first, so that none after the look at the rings is missed.
    this.#poller.wait(0);
    this.#poller.waitAsync(this.#hasAny || this.#isOwed ? 0 : IDLE_WAIT_MS, this.#parked);
  }

  readonly #parked = (): void => {
    if (this.#isClosed) return;
    this.#submit();
    if (!this.#take()) {
      this.#park();
      return;
    }
    this.#emptyWaits = 0;
    setImmediate(this.#turn);
  };

  /** Takes what has happened. @returns whether anything has */
  #take(): boolean {
    let some = false;
    for (const held of this.#rings) {
      const { ring } = held;
      ring.sample();
      for (let at = ring.take(); at >= 0; at = ring.take()) {
        some = true;
        this.#complete(held, at);
      }
    }
    for (const held of this.#rings) {
      for (let left = held.waiting.size; left > 0; left--) this.#serve(held, held.waiting.shift());
    }
    this.#arrangeAccepts();
    if (some) this.#options.changed();
    return some;
  }

  #complete(held: HeldRing, at: number): void {
    const words = held.ring.completions;
    const low = words[at + Cqe.USER_LOW]!;
    const place = words[at + Cqe.USER_HIGH]!;
    const result = words[at + Cqe.RES]!;
    const answer = answerOf(low);
    const cell = cellOf(low);
    switch (answer) {
      case Answer.accept:
      case Answer.acceptOne:
        held.accepted(answer, (words[at + Cqe.FLAGS]! & CQE_MORE) !== 0);
        if (result >= 0) this.#accepted(held, result);
        else if (isOutOfRoom(result)) this.#rest();
        // What is left is about one connection that ended in the queue (accept(2), "Error handling"), or our own cancel.
        return;
      case Answer.name:
        this.#named(held, place, cell, result);
        return;
      case Answer.said:
        if (result > 0) this.#count.bytesOut += result;
        this.#names.release(cell);
        return;
      case Answer.readable:
      case Answer.writable:
        this.#serve(held, place);
        return;
      case Answer.received:
        this.#received(held, place, cell, result);
        return;
      case Answer.sent:
        this.#sent(held, place, cell, result);
        return;
    }
  }

  // ---- accepting ----

  #accepted(held: HeldRing, place: number): void {
    held.sourceOf[place] = UNGREETED;
    held.used++;
    this.#greet(held, place);
  }

  /** Asks for its name, and watches it. */
  #greet(held: HeldRing, place: number): void {
    const cell = this.#names.take();
    if (cell < 0) {
      held.waiting.push(place);
      return;
    }
    held.sourceOf[place] = UNNAMED;
    held.askName(place, cell, this.#names.address(cell));
    held.watch(place, Answer.readable);
  }

  /** From now on it counts; its name is answered before anything else of it. */
  #named(held: HeldRing, place: number, cell: number, result: number): void {
    this.#count.acceptedTotal++;
    this.#count.openNow++;
    // The address stays known when a connection has ended meanwhile (getname() with peer 2 in net/ipv4/af_inet.c).
    if (result < 0) {
      this.#names.release(cell);
      return;
    }
    const bytes = this.#names.bytes(cell);
    for (let at = 0; at < SOCKADDR_BYTES_MAX; at++) this.#peer[at] = bytes[at]!;
    held.sourceOf[place] = this.#sources.add(this.#peer);
    if (this.#options.mode !== 'whoami') {
      this.#names.release(cell);
      return;
    }
    // Two lines, then silence. A new socket takes them; one that does not is about to end, and says so itself.
    const line = Buffer.from(whoamiText(this.#peer, this.#options.name), 'latin1');
    bytes.set(line);
    held.say(place, cell, this.#names.address(cell), line.byteLength);
  }

  /** Keeps one ring accepting: the current one while it has room, then another that has, then a new one. */
  #arrangeAccepts(): void {
    if (this.#isResting) return;
    if (!this.#current.hasRoom && !this.#current.isAccepting) {
      const roomy = this.#rings.find(({ hasRoom }) => hasRoom) ?? this.#tryRing();
      if (roomy === null) {
        this.#rest();
        return;
      }
      this.#current = roomy;
    }
    this.#current.accept();
  }

  #tryRing(): HeldRing | null {
    try {
      return this.#addRing();
    } catch (error) {
      if (error instanceof RingError) return null;
      throw error;
    }
  }

  /** No place is left, or no memory: it goes on when a connection closes; without one, another process may free what is missing. */
  #rest(): void {
    if (this.#isResting) return;
    this.#count.descriptorsFull++;
    this.#isResting = true;
    this.#current.stopAccepting();
    if (this.#rings.some(({ hasRoom }) => hasRoom)) this.#retryTimer = after(RETRY_ACCEPT_MS, this.#resume);
  }

  readonly #resume = (): void => {
    if (!this.#isResting || this.#isClosed) return;
    this.#retryTimer?.cancel();
    this.#isResting = false;
    this.#arrangeAccepts();
  };

  // ---- connections ----

  /** What is to be done for a connection now that it can be: greet, send the rest, receive. */
  #serve(held: HeldRing, place: number): void {
    const source = held.sourceOf[place]!;
    if (source === EMPTY) return;
    const rest = this.#unsent.size === 0 ? undefined : this.#unsent.get(this.#keyOf(held, place));
    if (source === UNGREETED) this.#greet(held, place);
    else if (rest !== undefined) this.#sendRest(held, place, rest);
    else this.#receive(held, place);
  }

  #keyOf(held: HeldRing, place: number): number {
    return this.#rings.indexOf(held) * held.files + place;
  }

  #receive(held: HeldRing, place: number): void {
    if (!this.#isEcho) {
      held.receive(place, 0, this.#scratch.address, MESSAGE_BYTES);
      return;
    }
    const cell = this.#messages.take();
    if (cell < 0) held.waiting.push(place);
    else held.receive(place, cell, this.#messages.address(cell), MESSAGE_BYTES);
  }

  #received(held: HeldRing, place: number, cell: number, result: number): void {
    if (result > 0) {
      this.#count.bytesIn += result;
      if (this.#isEcho) this.#send(held, place, cell, result);
      else if (result === MESSAGE_BYTES) this.#receive(held, place);
      else held.watch(place, Answer.readable);
      return;
    }
    if (this.#isEcho) this.#messages.release(cell);
    if (isTransient(result)) held.watch(place, Answer.readable);
    else this.#ended(held, place, result);
  }

  #ended(held: HeldRing, place: number, result: number): void {
    if (result === 0) this.#count.closedByPeer++;
    else this.#count.reset++;
    this.#drop(held, place);
  }

  #send(held: HeldRing, place: number, cell: number, bytes: number): void {
    this.#messages.setLength(cell, bytes);
    held.send(place, cell, this.#messages.address(cell), bytes);
  }

  /** What the socket did not take waits, and reading stops meanwhile. */
  #sent(held: HeldRing, place: number, cell: number, result: number): void {
    const length = this.#messages.length(cell);
    const isGone = result < 0 && !isTransient(result);
    const taken = Math.max(0, result);
    this.#count.bytesOut += taken;
    if (!isGone && taken < length) {
      this.#unsent.set(this.#keyOf(held, place), this.#messages.bytes(cell).slice(taken, length));
      held.watch(place, Answer.writable);
    } else if (!isGone) held.watch(place, Answer.readable);
    this.#messages.release(cell);
    if (isGone) this.#ended(held, place, result);
  }

  #sendRest(held: HeldRing, place: number, rest: Uint8Array): void {
    const cell = this.#messages.take();
    if (cell < 0) {
      held.waiting.push(place);
      return;
    }
    this.#unsent.delete(this.#keyOf(held, place));
    this.#messages.bytes(cell).set(rest);
    this.#send(held, place, cell, rest.byteLength);
  }

  #drop(held: HeldRing, place: number): void {
    const source = held.sourceOf[place]!;
    if (source >= 0) this.#sources.remove(source);
    held.sourceOf[place] = EMPTY;
    held.used--;
    held.close(place);
    this.#count.openNow--;
    if (this.#isResting) this.#resume();
  }

  // ---- the end ----

  /** Closes all in this call, so that what is open afterwards is no connection of ours. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#retryTimer?.cancel();
    libc.close(this.#options.listenerFd);
    for (const held of this.#rings) {
      held.stopAccepting();
      // The youngest first: the kernel finds a watch from its youngest on (io_poll_find), all of many in one of 256 lists.
      for (let place = held.files - 1; place >= 0; place--) {
        if (held.sourceOf[place] === EMPTY) continue;
        held.closeWatched(place, this.#unsent.has(this.#keyOf(held, place)));
      }
    }
    for (const held of this.#rings) this.#drain(held);
    for (const { ring } of this.#rings) ring.end();
    this.#messages.end();
    this.#names.end();
    this.#options.kernel.unmap(this.#scratch);
    this.#poller.close();
    libc.close(this.#eventFd);
  }

  /** Lets the kernel end what was on the way; what it accepted meanwhile is closed too. */
  #drain(held: HeldRing): void {
    const { ring } = held;
    for (let calls = 0; calls < CALLS_AT_END_MAX; calls++) {
      if (ring.queued === 0 && !ring.hasWork && !ring.hasCompletions) return;
      ring.submit(PIECES_AT_END, 0);
      ring.sample();
      for (let at = ring.take(); at >= 0; at = ring.take()) {
        const answer = answerOf(ring.completions[at + Cqe.USER_LOW]!);
        const result = ring.completions[at + Cqe.RES]!;
        if ((answer === Answer.accept || answer === Answer.acceptOne) && result >= 0) held.close(result);
      }
    }
  }
}
