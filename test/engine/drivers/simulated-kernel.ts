/**
 * Owns an io_uring that never leaves this process: rings in plain memory, sockets that the test moves, and a rule that says
 * which completion fails with what. It keeps its own account of every connection, which the driver's words are held
 * against. Must never use anything of the driver but the numbers of the binding.
 *
 * Taken from the kernel, because the driver rests on it: requests are begun in their order; a link is begun by work that
 * enter() does, some 20 pieces a call; a step that fails posts itself, and with SKIP_SUCCESS nothing of the rest; a full
 * completion queue puts completions aside, and ends a multishot watch.
 */
import assert from 'node:assert/strict';
import {
  CQE_MORE,
  Cqe,
  Feature,
  type MappedMemory,
  OFF_RINGS,
  Op,
  Params,
  SQ_CQ_OVERFLOW,
  SQ_TASKRUN,
  Sqe,
  SqeFlag,
  type UringKernel,
} from '../../../src/engine/drivers/uring-binding.ts';
import * as libc from '../../../src/engine/libc.ts';
import {
  type Account,
  addressOf,
  FarSides,
  type FaultPoint,
  keyOf,
  nameOf,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLRDHUP,
  pointOf,
  type Request,
  type SimulatedHost,
  SimulatedSocket,
  SYN_REJECTED,
  type Watch,
} from './simulated-socket.ts';

const { Errno } = libc;
/** Byte offsets of our own ring. */
const AT = {
  sqHead: 0,
  sqTail: 4,
  sqMask: 8,
  sqFlags: 12,
  cqHead: 64,
  cqTail: 68,
  cqMask: 72,
  overflow: 76,
  cqes: 128,
};
const WORKS_PER_CALL = 20;

interface SimulatedRing {
  readonly words: Int32Array;
  readonly sqes: Int32Array;
  readonly sqEntries: number;
  readonly cqEntries: number;
  files: (SimulatedSocket | null)[];
  readonly work: (() => void)[];
  readonly aside: Int32Array[];
  readonly watches: Map<string, Watch>;
  readonly connects: Map<string, SimulatedSocket>;
}

/** Memory that is handed out again and again: making some for each of 10,000 kernels would be most of the time. */
const pool = new Map<number, ArrayBuffer[]>();

export class SimulatedKernel extends FarSides implements UringKernel, SimulatedHost {
  readonly accounts = new Map<number, Account>();
  readonly sockets: SimulatedSocket[] = [];
  fault: (point: FaultPoint) => number = () => 0;
  enterFault: () => { errno: number; taken: number } | null = () => null;
  connectResult: () => number = () => 0;
  /** by what all requests of an open carry */
  readonly #opens = new Map<string, Account>();
  readonly #rings = new Map<number, SimulatedRing>();
  readonly #memory: MappedMemory[] = [];
  #nextAddress = 0x10_0000_0000;
  #nextFd = 1_000_000;

  // ---- the calls ----

  setup(entries: number, params: Uint8Array): number {
    const view = new DataView(params.buffer);
    const cqEntries = view.getUint32(Params.CQ_ENTRIES, true);
    view.setUint32(Params.SQ_ENTRIES, entries, true);
    view.setUint32(Params.FEATURES, Feature.SINGLE_MMAP | Feature.NODROP | Feature.EXT_ARG, true);
    const fields: [number, number][] = [
      [Params.SQ_HEAD, AT.sqHead],
      [Params.SQ_TAIL, AT.sqTail],
      [Params.SQ_MASK, AT.sqMask],
      [Params.SQ_FLAGS, AT.sqFlags],
      [Params.CQ_HEAD, AT.cqHead],
      [Params.CQ_TAIL, AT.cqTail],
      [Params.CQ_MASK, AT.cqMask],
      [Params.CQ_OVERFLOW, AT.overflow],
      [Params.CQ_CQES, AT.cqes],
    ];
    for (const [field, at] of fields) view.setUint32(field, at, true);
    const words = new Int32Array((AT.cqes + cqEntries * 16) / 4);
    words[AT.sqMask / 4] = entries - 1;
    words[AT.cqMask / 4] = cqEntries - 1;
    this.#rings.set(++this.#nextFd, {
      words,
      sqes: new Int32Array(entries * Sqe.WORDS),
      sqEntries: entries,
      cqEntries,
      files: [],
      work: [],
      aside: [],
      watches: new Map(),
      connects: new Map(),
    });
    return this.#nextFd;
  }

  map(bytes: number, fd: number, offset: number): MappedMemory {
    const ring = this.#rings.get(fd);
    if (ring !== undefined)
      return { address: 0, buffer: (offset === OFF_RINGS ? ring.words : ring.sqes).buffer as ArrayBuffer };
    const buffer = pool.get(bytes)?.pop() ?? new ArrayBuffer(bytes);
    const memory = { address: this.#nextAddress, buffer };
    // Addresses beyond 32 bits, some across the border of 4 GiB, as the kernel may give them.
    this.#nextAddress += Math.ceil(bytes / 4_096) * 4_096 + 0x7fff_f000;
    this.#memory.push(memory);
    return memory;
  }

  unmap(memory: MappedMemory): void {
    if (!this.#memory.includes(memory)) return;
    const { buffer } = memory;
    pool.set(buffer.byteLength, [...(pool.get(buffer.byteLength) ?? []), buffer]);
  }

  registerFiles(fd: number, files: number): number {
    this.#rings.get(fd)!.files = new Array<SimulatedSocket | null>(files).fill(null);
    return 0;
  }

  registerEventFd(): number {
    return 0;
  }

  probe(_fd: number, ops: readonly number[]): number[] {
    return ops.map(() => 1);
  }

  setNonBlocking(): number {
    return 0;
  }

  close(fd: number): void {
    this.#rings.delete(fd);
  }

  enter(fd: number, submit: number): number {
    const ring = this.#rings.get(fd)!;
    const fault = this.enterFault();
    const taken = fault === null ? submit : Math.min(submit, fault.taken);
    this.#submit(ring, taken);
    if (fault === null || fault.errno === Errno.EINTR) this.#run(ring, WORKS_PER_CALL);
    this.#flush(ring);
    this.#setFlags(ring);
    return fault === null || (taken > 0 && fault.errno !== Errno.EINTR) ? taken : -fault.errno;
  }

  get isIdle(): boolean {
    return [...this.#rings.values()].every((ring) => ring.work.length === 0 && ring.aside.length === 0);
  }

  get leftovers(): number {
    let left = 0;
    for (const ring of this.#rings.values())
      left += ring.files.filter((file) => file !== null).length + ring.watches.size + ring.connects.size;
    return left + this.sockets.filter((socket) => !socket.isReleased).length;
  }

  #setFlags(ring: SimulatedRing): void {
    ring.words[AT.sqFlags / 4] =
      (ring.work.length > 0 ? SQ_TASKRUN : 0) | (ring.aside.length > 0 ? SQ_CQ_OVERFLOW : 0);
  }

  get ownFiles(): number {
    return this.#rings.size;
  }

  /** The port of an open stands in its requests. */
  willOpen(): void {}

  // ---- requests ----

  #submit(ring: SimulatedRing, count: number): void {
    const { words } = ring;
    let chain: Request[] = [];
    for (let done = 0; done < count; done++) {
      const head = words[AT.sqHead / 4]!;
      assert(head !== words[AT.sqTail / 4], 'no more is submitted than was queued');
      const at = (head & (ring.sqEntries - 1)) * Sqe.WORDS;
      words[AT.sqHead / 4] = (head + 1) | 0;
      const entry = ring.sqes.slice(at, at + Sqe.WORDS);
      const request = { op: entry[Sqe.HEAD]! & 0xff, flags: entry[Sqe.HEAD]! & 0xff00, words: entry };
      if (request.op === Op.SOCKET) this.#account(ring, head, request);
      // As in the kernel, the address is read when the request is taken.
      if (request.op === Op.BIND) assert.equal(this.#portOf(request), this.#opens.get(keyOf(request))!.port);
      chain.push(request);
      if ((request.flags & SqeFlag.LINK) !== 0 && done + 1 < count) continue;
      this.#step(ring, chain, 0);
      chain = [];
    }
  }

  /** The port of an open stands in its third request, which may not have been submitted yet. */
  #account(ring: SimulatedRing, head: number, socket: Request): void {
    const at = ((head + 2) & (ring.sqEntries - 1)) * Sqe.WORDS;
    const words = ring.sqes.slice(at, at + Sqe.WORDS);
    assert.equal(words[Sqe.HEAD]! & 0xff, Op.BIND);
    const port = this.#portOf({ op: Op.BIND, flags: 0, words });
    assert(!this.accounts.has(port), `port ${port} is used once`);
    const account: Account = { port, failed: null, socket: null, ends: [] };
    this.accounts.set(port, account);
    this.#opens.set(keyOf(socket), account);
  }

  /** Begins a step; the next one follows by work of a later call or this one. */
  #step(ring: SimulatedRing, chain: Request[], at: number): void {
    const request = chain[at]!;
    const done = (result: number): void => {
      const isQuiet = (request.flags & SqeFlag.SKIP_SUCCESS) !== 0;
      if (result < 0 || !isQuiet) this.#post(ring, request, result, 0);
      if (at + 1 >= chain.length) return;
      if (result >= 0) ring.work.push(() => this.#step(ring, chain, at + 1));
      else if (!isQuiet) for (const rest of chain.slice(at + 1)) this.#post(ring, rest, -Errno.ECANCELED, 0);
    };
    const result = this.#execute(ring, request, done);
    if (result !== null) done(result);
  }

  /** @returns the result; null: `done` is called with it later, or the request posts its completions itself */
  #execute(ring: SimulatedRing, request: Request, done: (result: number) => void): number | null {
    if (request.op === Op.NOP) return 0;
    const point = pointOf(request);
    const errno = this.fault(point);
    const account = this.#opens.get(keyOf(request));
    const step = STEPS[point];
    const isCut = request.words[Sqe.FD] === -1;
    if (account !== undefined && step !== undefined && errno !== 0 && point !== 'connect' && !isCut)
      account.failed ??= { step, errno };
    switch (request.op) {
      case Op.SOCKET:
        return errno !== 0 ? -errno : this.#socket(ring, request, account!);
      case Op.POLL_ADD:
        this.#watch(ring, request, errno);
        return null;
      case Op.ASYNC_CANCEL:
        return this.#cancel(ring, request, errno);
      case Op.CLOSE:
        return this.#close(ring, request, errno);
    }
    const socket = ring.files[request.words[Sqe.FD]!] ?? null;
    if (socket === null) {
      this.#cutOff(request);
      return -Errno.EBADF;
    }
    if (request.op !== Op.CONNECT) return this.#onSocket(request, point, socket, errno);
    this.#connect(ring, request, account!, errno, done);
    return null;
  }

  /** The rest of a chain that was cut: there was no memory for it. */
  #cutOff(request: Request): void {
    const account = this.#opens.get(keyOf(request));
    if (account !== undefined) account.failed ??= { step: STEPS.place!, errno: Errno.ENOMEM };
  }

  #socket(ring: SimulatedRing, request: Request, account: Account): number {
    const file = request.words[Sqe.FILE_INDEX]! - 1;
    assert(file >= 0 && file < ring.files.length, `direct descriptor ${file}`);
    assert.equal(ring.files[file], null, 'the place is empty');
    const errno = this.fault('place');
    if (errno !== 0) {
      account.failed = { step: STEPS.place!, errno };
      return 0;
    }
    const socket = new SimulatedSocket(account.port);
    this.sockets.push(socket);
    account.socket = socket;
    ring.files[file] = socket;
    return 0;
  }

  #onSocket(request: Request, point: FaultPoint, socket: SimulatedSocket, errno: number): number {
    if (point === 'receive') return this.#receive(request, socket, errno);
    if (point === 'send') return this.#send(request, socket, errno);
    if (errno !== 0) return -errno;
    if (point === 'linger') socket.isReset = true;
    if (point === 'hear') socket.isHeard = false;
    if (point === 'look') this.#look(request, socket);
    if (point === 'bind')
      assert.equal(this.#opens.get(keyOf(request))!.socket, socket, 'a chain binds its own socket');
    // A descriptor that is really there: the driver asks it, and closes it.
    if (point === 'install') return libc.eventfd();
    return 0;
  }

  /** The core that the last segment came on. */
  #look(request: Request, socket: SimulatedSocket): void {
    const { buffer, offset } = this.#at(addressOf(request, Sqe.ADDR3));
    new DataView(buffer).setInt32(offset, socket.isHeard ? 1 : -1, true);
  }

  #end(port: number, point: FaultPoint, errno: number): void {
    this.accounts.get(port)?.ends.push({ point, errno });
  }

  /** Who only looks does not know yet that there is a connection: any error but a reset is the end of its open. */
  #notReceived(socket: SimulatedSocket, errno: number, isPeek: boolean): void {
    const account = this.accounts.get(socket.port)!;
    const isReset = errno === Errno.ECONNRESET || errno === Errno.EPIPE;
    if (isPeek) account.failed = isReset ? null : { step: STEPS.connect!, errno };
    if (isPeek && isReset) socket.isSeenOpen = true;
    if (!isPeek || isReset) this.#end(socket.port, 'receive', errno);
  }

  #receive(request: Request, socket: SimulatedSocket, errno: number): number {
    const isPeek = (request.words[Sqe.OP_FLAGS]! & libc.MSG_PEEK) !== 0;
    if (errno !== 0) {
      if (errno !== Errno.EAGAIN && errno !== Errno.EINTR) this.#notReceived(socket, errno, isPeek);
      // Nothing wakes a socket again for what it has had all the time.
      if (errno === Errno.EAGAIN) this.wake(socket, POLLIN);
      return -errno;
    }
    if (isPeek && (socket.error === 0 || socket.received < socket.sentByFar.length)) socket.isSeenOpen = true;
    if (socket.received < socket.sentByFar.length) {
      const bytes = socket.sentByFar.subarray(socket.received, socket.received + request.words[Sqe.LEN]!);
      if (!isPeek) socket.received += bytes.length;
      const { buffer, offset } = this.#at(addressOf(request, Sqe.ADDR));
      new Uint8Array(buffer).set(bytes, offset);
      return bytes.length;
    }
    if (socket.error !== 0) {
      const code = socket.error;
      socket.error = 0;
      this.#end(socket.port, 'receive', code);
      return -code;
    }
    if (socket.hasFin || socket.isDead) {
      this.#end(socket.port, 'receive', 0);
      return 0;
    }
    return -Errno.EAGAIN;
  }

  #send(request: Request, socket: SimulatedSocket, errno: number): number {
    const fail = (code: number): number => {
      if (code !== Errno.EAGAIN && code !== Errno.EINTR) this.#end(socket.port, 'send', code);
      return -code;
    };
    if (errno !== 0) return fail(errno);
    if (socket.error !== 0) {
      const code = socket.error;
      socket.error = 0;
      return fail(code);
    }
    if (socket.isDead) return fail(Errno.EPIPE);
    const length = Math.min(socket.room, request.words[Sqe.LEN]!);
    if (length === 0) return -Errno.EAGAIN;
    const { buffer, offset } = this.#at(addressOf(request, Sqe.ADDR));
    socket.sentByUs = Buffer.concat([socket.sentByUs, new Uint8Array(buffer, offset, length)]);
    socket.room -= length;
    return length;
  }

  #close(ring: SimulatedRing, request: Request, errno: number): number {
    const file = request.words[Sqe.FILE_INDEX]! - 1;
    const socket = ring.files[file] ?? null;
    if (socket === null) return -Errno.EBADF;
    ring.files[file] = null;
    socket.isInTable = false;
    return errno === 0 ? 0 : -errno;
  }

  #connect(
    ring: SimulatedRing,
    request: Request,
    account: Account,
    errno: number,
    done: (result: number) => void,
  ): void {
    const socket = account.socket!;
    const result = errno !== 0 ? errno : this.connectResult();
    const key = nameOf(request);
    socket.state = 'connecting';
    socket.isAnsweredEarly = result === SYN_REJECTED;
    socket.connect = request;
    ring.connects.set(key, socket);
    const isRejected = result === SYN_REJECTED;
    const finish = (code: number): void => {
      ring.work.push(() => {
        socket.connect = null;
        ring.connects.delete(key);
        if (code === 0) socket.state = isRejected ? 'rejected' : 'connected';
        else if (code !== Errno.ECANCELED) account.failed ??= { step: 4, errno: code };
        done(code === 0 ? 0 : -code);
      });
      this.#setFlags(ring);
    };
    this.#finishes.set(socket, finish);
    if (result >= 0) this.resolve(socket, result);
    if (!isRejected) return;
    // As io_connect() does where the error is in the error queue alone.
    finish(0);
    this.#finishes.set(socket, (code) => this.#sentAgain(socket, account, code));
  }

  readonly #finishes = new Map<SimulatedSocket, (code: number) => void>();

  /** The SYN that was rejected first has been sent again. */
  #sentAgain(socket: SimulatedSocket, account: Account, errno: number): void {
    if (errno === 0) {
      socket.state = 'connected';
      this.wake(socket, POLLOUT);
      return;
    }
    account.failed ??= { step: STEPS.connect!, errno };
    this.reset(socket, errno);
  }

  resolve(socket: SimulatedSocket, errno: number): void {
    const finish = this.#finishes.get(socket);
    this.#finishes.delete(socket);
    finish?.(errno);
  }

  get hanging(): SimulatedSocket[] {
    return [...this.#finishes.keys()];
  }

  #cancel(ring: SimulatedRing, request: Request, errno: number): number {
    const key = `${request.words[Sqe.ADDR]}/${request.words[Sqe.ADDR_HIGH]}`;
    const watch = ring.watches.get(key);
    // One that is there is always ended, also while an event of it is on its way (io_poll_cancel_req).
    if (watch !== undefined) {
      watch.isCancelled = true;
      this.#queue(ring, watch);
      return 0;
    }
    if (errno !== 0) return -errno;
    const socket = ring.connects.get(key);
    if (socket === undefined) return -Errno.ENOENT;
    // One that is answered already is not found in time.
    if (!this.#finishes.has(socket) || socket.isAnsweredEarly) return -Errno.EALREADY;
    this.resolve(socket, Errno.ECANCELED);
    return 0;
  }

  // ---- watches ----

  #watch(ring: SimulatedRing, request: Request, errno: number): void {
    const socket = ring.files[request.words[Sqe.FD]!] ?? null;
    if (socket === null || errno !== 0) {
      if (socket !== null) this.#notWatched(socket, errno);
      else this.#cutOff(request);
      this.#post(ring, request, socket === null ? -Errno.EBADF : -errno, 0);
      return;
    }
    const watch: Watch = {
      socket,
      low: request.words[Sqe.USER_LOW]!,
      high: request.words[Sqe.USER_HIGH]!,
      mask: request.words[Sqe.OP_FLAGS]! | POLLERR | POLLHUP | POLLRDHUP,
      isOnce: request.words[Sqe.LEN] === 0,
      isCancelled: false,
      isQueued: false,
    };
    socket.watches.add(watch);
    ring.watches.set(nameOf(request), watch);
    if ((socket.mask & watch.mask) !== 0) this.#queue(ring, watch);
  }

  /** Of a connection that nobody knows of yet, a watch that could not be set is the end of its open. */
  #notWatched(socket: SimulatedSocket, errno: number): void {
    if (socket.isSeenOpen) this.#end(socket.port, 'watch', errno);
    else if (errno !== Errno.EBADF) this.accounts.get(socket.port)!.failed = { step: STEPS.connect!, errno };
    // Only an empty place answers that.
    else this.accounts.get(socket.port)!.failed = { step: STEPS.place!, errno: Errno.ENOMEM };
  }

  #queue(ring: SimulatedRing, watch: Watch): void {
    if (watch.isQueued) return;
    watch.isQueued = true;
    ring.work.push(() => this.#fire(ring, watch));
  }

  #fire(ring: SimulatedRing, watch: Watch): void {
    watch.isQueued = false;
    const drop = (): void => {
      watch.socket.watches.delete(watch);
      ring.watches.delete(`${watch.low}/${watch.high}`);
    };
    if (watch.isCancelled) {
      drop();
      this.#postWords(ring, watch.low, watch.high, -Errno.ECANCELED, 0);
      return;
    }
    const mask = watch.socket.mask & watch.mask;
    if (mask === 0) return;
    if ((mask & POLLOUT) !== 0 && (mask & POLLHUP) === 0) watch.socket.isSeenOpen = true;
    const goesOn = !watch.isOnce && this.#hasRoom(ring);
    if (!goesOn) drop();
    this.#postWords(ring, watch.low, watch.high, mask, goesOn ? CQE_MORE : 0);
  }

  /** @param key what has come about; a watch for something else sleeps on (io_poll_wake in io_uring/poll.c) */
  protected override wake(socket: SimulatedSocket, key: number): void {
    for (const ring of this.#rings.values()) {
      for (const watch of socket.watches)
        if (ring.watches.get(`${watch.low}/${watch.high}`) === watch && (key & watch.mask) !== 0)
          this.#queue(ring, watch);
      this.#setFlags(ring);
    }
  }

  // ---- completions ----

  #run(ring: SimulatedRing, count: number): void {
    for (let done = 0; done < count && ring.work.length > 0; done++) ring.work.shift()!();
  }

  #hasRoom(ring: SimulatedRing): boolean {
    const used = (ring.words[AT.cqTail / 4]! - ring.words[AT.cqHead / 4]!) | 0;
    return ring.aside.length === 0 && used < ring.cqEntries;
  }

  #post(ring: SimulatedRing, request: Request, result: number, flags: number): void {
    this.#postWords(ring, request.words[Sqe.USER_LOW]!, request.words[Sqe.USER_HIGH]!, result, flags);
  }

  #postWords(ring: SimulatedRing, low: number, high: number, result: number, flags: number): void {
    const entry = new Int32Array(4);
    entry[Cqe.USER_LOW] = low;
    entry[Cqe.USER_HIGH] = high;
    entry[Cqe.RES] = result;
    entry[Cqe.FLAGS] = flags;
    if (this.#hasRoom(ring)) this.#write(ring, entry);
    else ring.aside.push(entry);
  }

  #write(ring: SimulatedRing, entry: Int32Array): void {
    const tail = ring.words[AT.cqTail / 4]!;
    ring.words.set(entry, AT.cqes / 4 + (tail & (ring.cqEntries - 1)) * 4);
    ring.words[AT.cqTail / 4] = (tail + 1) | 0;
  }

  #flush(ring: SimulatedRing): void {
    while (ring.aside.length > 0) {
      const used = (ring.words[AT.cqTail / 4]! - ring.words[AT.cqHead / 4]!) | 0;
      if (used >= ring.cqEntries) return;
      this.#write(ring, ring.aside.shift()!);
    }
  }

  // ---- memory ----

  #at(address: number): { buffer: ArrayBuffer; offset: number } {
    const memory = this.#memory.find(
      (one) => address >= one.address && address < one.address + one.buffer.byteLength,
    );
    assert(memory !== undefined, `address ${address.toString(16)} is ours`);
    return { buffer: memory.buffer, offset: address - memory.address };
  }

  #portOf(bind: Request): number {
    const { buffer, offset } = this.#at(addressOf(bind, Sqe.ADDR));
    return new DataView(buffer).getUint16(offset + 2, false);
  }
}

const STEPS: Partial<Record<FaultPoint, number>> = { socket: 1, place: 1, reuse: 2, bind: 3, connect: 4 };
