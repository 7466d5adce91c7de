/**
 * Owns one io_uring instance: its memory, writing requests into it, and reading completions out of it.
 * Must never know what a request is for: who it is about comes back as the two words that came with it.
 */
import { Errno } from '../libc.ts';
import {
  Cqe,
  Feature,
  type MappedMemory,
  OFF_RINGS,
  OFF_SQES,
  Op,
  Params,
  Setup,
  SQ_CQ_OVERFLOW,
  SQ_TASKRUN,
  Sqe,
  SqeFlag,
  type UringKernel,
} from './uring-binding.ts';

const SETUP_FLAGS =
  Setup.CQSIZE |
  Setup.SUBMIT_ALL |
  Setup.TASKRUN_FLAG |
  Setup.SINGLE_ISSUER |
  Setup.DEFER_TASKRUN |
  Setup.NO_SQARRAY;
const FEATURES = Feature.SINGLE_MMAP | Feature.NODROP | Feature.EXT_ARG;
/** asm-generic/errno.h; completions were lost (io_uring_enter(2)) */
const EBADR = 53;
/** enter() takes nothing while the kernel has no memory for requests: so often is it asked before that is an error. */
const SUBMITS_MAX = 1_000;

/** Which call was refused: one of making a ring, or the one that every turn is made of. */
type RingStep = 'setup' | 'features' | 'map' | 'files' | 'eventfd' | 'probe' | 'enter';

/** A ring that cannot be made, or not be used. */
export class RingError extends Error {
  readonly step: RingStep;
  /** positive; 0 where no call failed */
  readonly errno: number;

  constructor(step: RingStep, errno: number) {
    super(`io_uring: ${step} failed with errno ${errno}`);
    this.name = 'RingError';
    this.step = step;
    this.errno = errno;
  }
}

/** How a ring is made. */
interface RingOptions {
  /** requests between two calls of enter(), a power of two, at most 32,768 */
  readonly submissions: number;
  /** completions before the kernel keeps them in a list of its own, a power of two, more than `submissions` */
  readonly completions: number;
  /** direct descriptors, at most RLIMIT_NOFILE and 1,048,576 (IORING_MAX_FIXED_FILES in io_uring/rsrc.c) */
  readonly files: number;
  /** is signalled when there is something to do for a ring that waits; -1: none */
  readonly eventFd: number;
}

/** One ring. Only the thread that made it may use it. No method but the constructor allocates. */
export class Ring {
  readonly #kernel: UringKernel;
  readonly #fd: number;
  readonly #memory: MappedMemory[] = [];
  readonly #words: Int32Array;
  /** entries that are to be filled in at the place that `begin` has returned */
  readonly entries: Int32Array;
  /** requests between two calls */
  readonly entriesMax: number;
  readonly #sqTail: number;
  readonly #sqHead: number;
  readonly #sqMask: number;
  readonly #sqFlags: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqOverflow: number;
  readonly #cqes: number;
  #tail = 0;
  #submitted = 0;
  #head = 0;
  /** completions up to here belong to the turn */
  #end = 0;

  /** @throws RingError */
  constructor(kernel: UringKernel, options: RingOptions) {
    this.#kernel = kernel;
    const bytes = new Uint8Array(Params.BYTES);
    const params = new DataView(bytes.buffer);
    params.setUint32(Params.CQ_ENTRIES, options.completions, true);
    params.setUint32(Params.FLAGS, SETUP_FLAGS, true);
    this.#fd = kernel.setup(options.submissions, bytes);
    if (this.#fd < 0) throw new RingError('setup', -this.#fd);
    try {
      const has = params.getUint32(Params.FEATURES, true);
      if ((has & FEATURES) !== FEATURES) throw new RingError('features', 0);
      const at = (field: number): number => params.getUint32(field, true);
      const ringBytes = at(Params.CQ_CQES) + at(Params.CQ_ENTRIES) * Cqe.WORDS * 4;
      this.#words = this.#map(ringBytes, OFF_RINGS);
      this.entriesMax = at(Params.SQ_ENTRIES);
      this.entries = this.#map(this.entriesMax * Sqe.WORDS * 4, OFF_SQES);
      this.#sqHead = at(Params.SQ_HEAD) >> 2;
      this.#sqTail = at(Params.SQ_TAIL) >> 2;
      this.#sqMask = this.#words[at(Params.SQ_MASK) >> 2]!;
      this.#sqFlags = at(Params.SQ_FLAGS) >> 2;
      this.#cqHead = at(Params.CQ_HEAD) >> 2;
      this.#cqTail = at(Params.CQ_TAIL) >> 2;
      this.#cqMask = this.#words[at(Params.CQ_MASK) >> 2]!;
      this.#cqOverflow = at(Params.CQ_OVERFLOW) >> 2;
      this.#cqes = at(Params.CQ_CQES) >> 2;
      this.#refuse('files', kernel.registerFiles(this.#fd, options.files));
      if (options.eventFd >= 0) this.#refuse('eventfd', kernel.registerEventFd(this.#fd, options.eventFd));
    } catch (error) {
      this.end();
      throw error;
    }
  }

  #map(bytes: number, offset: number): Int32Array {
    const memory = this.#kernel.map(bytes, this.#fd, offset);
    if (typeof memory === 'number') throw new RingError('map', -memory);
    this.#memory.push(memory);
    return new Int32Array(memory.buffer, 0, bytes >> 2);
  }

  #refuse(step: RingStep, code: number): void {
    if (code < 0) throw new RingError(step, -code);
  }

  /** Which of these Op the kernel does not know. @throws RingError */
  unknownOps(ops: readonly number[]): number[] {
    const known = this.#kernel.probe(this.#fd, ops);
    if (typeof known === 'number') throw new RingError('probe', -known);
    return ops.filter((_, index) => known[index] === 0);
  }

  // ---- requests ----

  /** Requests that the kernel does not have yet. */
  get queued(): number {
    return (this.#tail - this.#submitted) | 0;
  }

  /** Makes room for `count` requests, at most as many as the ring has, so that one chain is submitted in one call. */
  reserve(count: number): void {
    if (this.queued + count > this.entriesMax) this.submit(0, 0);
  }

  /**
   * A new request. Room for it must have been reserved.
   * @param head opcode and flags
   * @param fd direct descriptor, or -1
   * @param low @param high come back with the completion
   * @returns where its words begin in `entries`; those that are not given are 0
   */
  begin(head: number, fd: number, low: number, high: number): number {
    const words = this.entries;
    const at = (this.#tail & this.#sqMask) * Sqe.WORDS;
    this.#tail = (this.#tail + 1) | 0;
    // Word by word: an array literal or fill() for each request costs more than the system call.
    words[at] = head;
    words[at + 1] = fd;
    words[at + 2] = 0;
    words[at + 3] = 0;
    words[at + 4] = 0;
    words[at + 5] = 0;
    words[at + 6] = 0;
    words[at + 7] = 0;
    words[at + 8] = low;
    words[at + 9] = high;
    words[at + 10] = 0;
    words[at + 11] = 0;
    words[at + 12] = 0;
    words[at + 13] = 0;
    words[at + 14] = 0;
    words[at + 15] = 0;
    return at;
  }

  /** Whether the kernel has completions or work for us that enter() would bring. Now and then it has none after all. */
  get hasWork(): boolean {
    return (Atomics.load(this.#words, this.#sqFlags) & (SQ_CQ_OVERFLOW | SQ_TASKRUN)) !== 0;
  }

  /**
   * Gives the kernel what is queued, and lets it make completions.
   * @param completionsMin more than 20 are made only when asked for (IO_LOCAL_TW_DEFAULT_MAX in io_uring/tw.h)
   * @param waitMs how long to wait for them; 0: not at all
   * @throws RingError when the kernel does not take the call, has lost completions (EBADR), or keeps refusing requests (EAGAIN): nothing can be reported any more
   */
  submit(completionsMin: number, waitMs: number): void {
    Atomics.store(this.#words, this.#cqHead, this.#head);
    Atomics.store(this.#words, this.#sqTail, this.#tail);
    // The kernel sets the flag for work that it finds in the same call too, and takes it back only when it has work again
    // (io_req_local_work_add, __io_run_local_work): who believed it would never sleep. What is left, it says again.
    Atomics.and(this.#words, this.#sqFlags, ~SQ_TASKRUN);
    for (let tries = 0; tries < SUBMITS_MAX; tries++) {
      const code = this.#kernel.enter(this.#fd, this.queued, completionsMin, waitMs);
      // Not what enter() returned: it may have taken requests and then been interrupted while it waited.
      this.#submitted = Atomics.load(this.#words, this.#sqHead);
      if (code === -EBADR || this.#words[this.#cqOverflow] !== 0) break;
      if (this.queued === 0) return;
      // EAGAIN, EBUSY: no memory for requests, or completions wait to be taken; some were taken perhaps. See io_uring_enter(2).
      if (code < 0 && code !== -Errno.EAGAIN && code !== -Errno.EBUSY && code !== -Errno.EINTR)
        throw new RingError('enter', -code);
      this.#dropRestOfCutChain();
    }
    // No memory for requests, or for completions, of which some are lost.
    throw new RingError('enter', this.queued > 0 ? Errno.EAGAIN : EBADR);
  }

  /**
   * Where the kernel has no memory for the next request of a chain, it begins those that it has taken, and would take the
   * rest for a chain of its own: a CONNECT that does not wait for its BIND. So the rest does nothing, but that its last
   * request fails with EBADF (io_submit_sqes, io_submit_state_end in io_uring.c).
   */
  #dropRestOfCutChain(): void {
    const words = this.entries;
    const taken = ((this.#submitted - 1) & this.#sqMask) * Sqe.WORDS;
    if ((words[taken]! & SqeFlag.LINK) === 0) return;
    words[taken]! &= ~SqeFlag.LINK;
    // What was taken comes to its end first: its requests name a place that is free when the rest has failed.
    for (let calls = 0; calls < SUBMITS_MAX; calls++) {
      Atomics.and(this.#words, this.#sqFlags, ~SQ_TASKRUN);
      this.#kernel.enter(this.#fd, 0, 0, 0);
      if ((Atomics.load(this.#words, this.#sqFlags) & SQ_TASKRUN) === 0) break;
    }
    for (let next = this.#submitted; ; next = (next + 1) | 0) {
      const at = (next & this.#sqMask) * Sqe.WORDS;
      if ((words[at]! & SqeFlag.LINK) === 0) {
        words[at + Sqe.FD] = -1;
        return;
      }
      words.fill(0, at, at + Sqe.WORDS);
      words[at] = Op.NOP | SqeFlag.SKIP_SUCCESS;
    }
  }

  // ---- completions ----

  /** Whether a completion waits to be taken. */
  get hasCompletions(): boolean {
    return Atomics.load(this.#words, this.#cqTail) !== this.#head;
  }

  /** From now on `take` brings what is there now. */
  sample(): void {
    this.#end = Atomics.load(this.#words, this.#cqTail);
  }

  /** The next completion: where it begins in `completions`, or -1 when all that were sampled are taken. */
  take(): number {
    if (this.#head === this.#end) return -1;
    const at = this.#cqes + (this.#head & this.#cqMask) * Cqe.WORDS;
    this.#head = (this.#head + 1) | 0;
    return at;
  }

  /** The words that `take` points into; valid until the next `submit`. */
  get completions(): Int32Array {
    return this.#words;
  }

  /**
   * Finds a completion that was made just now, out of turn, and takes its words away so that it is not seen again.
   * @returns its result, or null when it is not there (yet)
   */
  takeOutOfTurn(low: number, high: number): number | null {
    const tail = Atomics.load(this.#words, this.#cqTail);
    for (let at = (tail - 1) | 0; ((at - this.#head) | 0) >= 0; at = (at - 1) | 0) {
      const word = this.#cqes + (at & this.#cqMask) * Cqe.WORDS;
      if (this.#words[word + Cqe.USER_LOW] !== low || this.#words[word + Cqe.USER_HIGH] !== high) continue;
      this.#words[word + Cqe.USER_LOW] = 0;
      return this.#words[word + Cqe.RES]!;
    }
    return null;
  }

  /** Gives everything back. */
  end(): void {
    this.#kernel.close(this.#fd);
    for (const memory of this.#memory.splice(0)) this.#kernel.unmap(memory);
  }
}
