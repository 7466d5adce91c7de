/**
 * Owns as many rings as RLIMIT_NOFILE makes necessary, which of them an index belongs to, and waiting for all of them.
 * Must never know what a request is for.
 *
 * The table of direct descriptors of one ring is checked against RLIMIT_NOFILE, each ring for itself
 * (io_sqe_files_register in io_uring/rsrc.c). Index / perRing is the ring, the rest the place in its table.
 */

import * as libc from '../libc.ts';
import { Poller } from '../poller.ts';
import { succeeded } from './call-error.ts';
import type { UringKernel } from './uring-binding.ts';
import { Ring } from './uring-ring.ts';

/** Requests of one ring between two calls; 64 KB. */
const SUBMISSIONS = 1_024;
/** From 8,192 on the kernel's table of watches is as large as it gets (hash_bits in io_uring.c); 128 KB. */
const COMPLETIONS = 8_192;
/** Indices beyond the slots, for opens that are given up: as many as may be on the way at once. */
const SPARE_INDICES = 1_024;
/** IORING_MAX_FIXED_FILES in io_uring/rsrc.c */
const FILES_PER_RING_MAX = 1 << 20;
/** Calls for one ring in one turn: enough to keep up in a ramp, few enough to yield to Node's loop often. */
const CALLS_PER_TURN_MAX = 32;
/** The eventfd of the rings, in the poller; never a connection. */
const RINGS_TOKEN = 1;

/** Other sizes than the usual ones: for tests. */
export interface UringSizes {
  readonly submissions?: number;
  readonly completions?: number;
  /** direct descriptors of one ring; RLIMIT_NOFILE otherwise */
  readonly filesPerRing?: number;
  readonly spareIndices?: number;
}

/** How the rings are made. */
interface RingSetOptions {
  /** direct descriptors that are needed in all */
  readonly indices: number;
  /** the most that one ring may have */
  readonly filesPerRingMax: number;
  /** of each ring; see RingOptions */
  readonly submissions: number;
  readonly completions: number;
}

/** The rings that so many connections need. */
export function ringsFor(connections: number, sizes: UringSizes = {}): RingSetOptions {
  return {
    indices: connections + (sizes.spareIndices ?? SPARE_INDICES),
    filesPerRingMax: sizes.filesPerRing ?? Math.min(libc.descriptorsMax(), FILES_PER_RING_MAX),
    submissions: sizes.submissions ?? SUBMISSIONS,
    completions: sizes.completions ?? COMPLETIONS,
  };
}

/** All rings of one driver. No method allocates but the constructor and `park`. */
export class RingSet {
  readonly rings: readonly Ring[];
  /** indices in all, a little more than asked for */
  readonly indices: number;
  readonly #perRing: number;
  readonly #poller = new Poller();
  /** one for all rings: signalled when there is work for a ring that had none */
  readonly #eventFd = libc.eventfd();

  /** @throws RingError, or CallError when the process has no descriptor or no memory left for epoll itself */
  constructor(kernel: UringKernel, options: RingSetOptions) {
    const count = Math.ceil(options.indices / options.filesPerRingMax);
    this.#perRing = Math.ceil(options.indices / count);
    this.indices = count * this.#perRing;
    const rings: Ring[] = [];
    this.rings = rings;
    try {
      const eventFd = succeeded('eventfd', this.#eventFd);
      // Edges: each signal counts, and the eventfd need not be read.
      succeeded('epoll_ctl', this.#poller.add(eventFd, libc.EPOLLIN | libc.EPOLLET, RINGS_TOKEN));
      const { submissions, completions } = options;
      while (rings.length < count)
        rings.push(new Ring(kernel, { submissions, completions, files: this.#perRing, eventFd }));
    } catch (error) {
      this.end();
      throw error;
    }
  }

  /** The number of the ring of an index. */
  numberOf(index: number): number {
    return (index / this.#perRing) | 0;
  }

  /** The ring of an index. */
  of(index: number): Ring {
    return this.rings[this.numberOf(index)]!;
  }

  /** The place of an index in the table of its ring. */
  fileOf(index: number): number {
    return index % this.#perRing;
  }

  /** Gives each ring what it is to do, and takes what it has done. */
  submit(): void {
    for (const ring of this.rings) this.#work(ring);
  }

  /** The same for the ring of an index. */
  submitOf(index: number): void {
    this.#work(this.of(index));
  }

  #work(ring: Ring): void {
    // One call does some 20 pieces of work, and each link of a chain is one (IO_LOCAL_TW_DEFAULT_MAX in io_uring/tw.h).
    for (let calls = 0; calls < CALLS_PER_TURN_MAX && (ring.queued > 0 || ring.hasWork); calls++)
      ring.submit(0, 0);
  }

  /** Requests that the kernel does not have yet. */
  get queued(): number {
    let queued = 0;
    for (const ring of this.rings) queued += ring.queued;
    return queued;
  }

  /** Gives each ring what it is to do; what comes of it within the call is there to be taken. */
  submitQueued(): void {
    for (const ring of this.rings) if (ring.queued > 0) ring.submit(0, 0);
  }

  /** From now on the rings' `take` brings what is there now. */
  sample(): void {
    for (const ring of this.rings) ring.sample();
  }

  /** Whether a ring has completions, or work that would bring some. */
  get hasAny(): boolean {
    for (const ring of this.rings) if (ring.hasCompletions || ring.hasWork) return true;
    return false;
  }

  /** Waits in this thread until a ring has something, at most `waitMs`. */
  wait(waitMs: number): void {
    // One ring waits by itself, which is one call instead of two.
    if (this.rings.length === 1) this.rings[0]!.submit(1, waitMs);
    else if (this.#poller.wait(waitMs) > 0) this.submit();
  }

  /**
   * Waits in a worker thread until a ring has something.
   * @param isDue nothing is to be waited for
   */
  park(waitMs: number, isDue: () => boolean, done: () => void): void {
    // Signals of the rings so far are taken first, so that none after the look at the rings is missed.
    this.#poller.wait(0);
    this.#poller.waitAsync(isDue() ? 0 : waitMs, done);
  }

  wake(): void {
    this.#poller.wake();
  }

  /** Gives everything back; the kernel closes what is in the tables, in its own time (io_ring_exit_work). */
  end(): void {
    for (const ring of (this.rings as Ring[]).splice(0)) ring.end();
    this.#poller.close();
    libc.close(this.#eventFd);
  }
}
