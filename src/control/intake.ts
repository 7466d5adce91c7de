/**
 * Owns how much of what the other side sends is taken, over time: too many messages end a channel, too many bytes make it
 * wait. A wait costs the sender nothing but time, because what is not read stays in the sender's host; so an honest
 * agent with much to say is slowed down, never cut. And how long the other side may take, in time in which this process
 * ran: a process that stood still (stopped, or starved of CPU) must not blame the other side for what it did not read.
 * Must never read a message, or know what is waited for.
 */

import { StandStill } from '../base/clock.ts';
import { after, type Timer } from '../time/timer.ts';

/** Messages in a second, on average. */
export const MESSAGES_PER_SEC_MAX = 50;
/** Messages in one burst: what an agent says within a minute at that pace, so that a reader which stood still does not blame the sender. */
export const MESSAGES_AT_ONCE_MAX = 60 * MESSAGES_PER_SEC_MAX;

const MIB = 1_024 * 1_024;

const INTAKE_LIMITS = {
  /** everything before a good hello, in bytes; one read of the socket, 64 KiB, may come on top */
  helloBytes: 32 * 1_024,
  /** of one channel, on average; the largest message each second */
  bytesPerSec: 8 * MIB,
  bytesAtOnce: 16 * MIB,
  /** of one unfinished message; a larger one needs one of `largeAtOnce` places */
  smallBytes: 128 * 1_024,
  /** large messages that are taken in at the same time, over all channels; and of one agent's token one */
  largeAtOnce: 4,
  /** how long one may take */
  largeMs: 15_000,
  /** of one message with its frames */
  messageBytes: 9 * MIB,
} as const;

/** A token bucket. */
export class Bucket {
  readonly #perSec: number;
  readonly #most: number;
  #left: number;
  #lastMs: number;

  /** @param most what is there at first, and after a long time */
  constructor(perSec: number, most: number, nowMs: number) {
    this.#perSec = perSec;
    this.#most = most;
    this.#left = most;
    this.#lastMs = nowMs;
  }

  /**
   * Takes so many, also when they are not there.
   * @returns in how many milliseconds they will be; 0 when they are
   */
  take(count: number, nowMs: number): number {
    this.#left = Math.min(this.#most, this.#left + ((nowMs - this.#lastMs) * this.#perSec) / 1_000) - count;
    this.#lastMs = nowMs;
    return this.#left >= 0 ? 0 : (-this.#left / this.#perSec) * 1_000;
  }
}

interface Applicant {
  /** null: no limit of its own */
  readonly owner: string | null;
  readonly begin: () => void;
}

/** The places for large messages of one server. */
export class LargeMessages {
  readonly #inside = new Set<Applicant>();
  readonly #waiting = new Set<Applicant>();

  /**
   * Asks for a place.
   * @param owner whose agent's token it is; null: the coordinator's own
   * @param begin called once there is a place, perhaps immediately
   * @returns gives the place back, or asks no more
   */
  ask(owner: string | null, begin: () => void): () => void {
    const applicant: Applicant = { owner, begin };
    this.#waiting.add(applicant);
    this.#admit();
    return () => {
      this.#waiting.delete(applicant);
      if (this.#inside.delete(applicant)) this.#admit();
    };
  }

  #admit(): void {
    for (const applicant of this.#waiting) {
      if (this.#inside.size >= INTAKE_LIMITS.largeAtOnce) return;
      const isTwice = [...this.#inside].some(({ owner }) => owner !== null && owner === applicant.owner);
      if (isTwice) continue;
      this.#waiting.delete(applicant);
      this.#inside.add(applicant);
      applicant.begin();
    }
  }
}

/** What an intake does to its channel. */
interface IntakeEvents {
  /** stop or go on reading */
  pause(): void;
  resume(): void;
  /** a limit is broken; once */
  violated(problem: string): void;
}

/** One channel's intake. */
export class Intake {
  static readonly LIMITS = INTAKE_LIMITS;

  readonly #large: LargeMessages;
  readonly #owner: string | null;
  readonly #events: IntakeEvents;
  readonly #bucket: Bucket;
  readonly #monotonicMs: () => number;
  #isGreeted = false;
  #isOver = false;
  #bytesAfter = 0;
  /** before the hello */
  #bytesBefore = 0;
  /** since the last whole message */
  #partial = 0;
  #leavePlace: (() => void) | null = null;
  #stopWaiting: () => void = () => {};
  #hasPlace = false;
  #isThrottled = false;
  #throttle: Timer | null = null;

  constructor(large: LargeMessages, owner: string | null, events: IntakeEvents, monotonicMs: () => number) {
    this.#large = large;
    this.#owner = owner;
    this.#events = events;
    this.#monotonicMs = monotonicMs;
    this.#bucket = new Bucket(INTAKE_LIMITS.bytesPerSec, INTAKE_LIMITS.bytesAtOnce, monotonicMs());
  }

  /** A good hello came. */
  greeted(): void {
    this.#isGreeted = true;
  }

  /** So many bytes came, before anything is made of them. */
  bytes(count: number): void {
    if (this.#isOver) {
      this.#bytesAfter += count;
      // Whoever goes on speaking is not read any more; what it wants to hear is on its way.
      if (this.#bytesAfter > INTAKE_LIMITS.helloBytes) this.#events.pause();
      return;
    }
    this.#partial += count;
    // What came before this is read: a hello in it would have been heard. The hello may be in this chunk, with more behind it.
    if (this.#bytesBefore > INTAKE_LIMITS.helloBytes && !this.#isGreeted) {
      this.#violate('more than 32 KiB before a hello');
      return;
    }
    this.#bytesBefore += count;
    if (this.#partial > INTAKE_LIMITS.messageBytes) {
      this.#violate('message too large');
      return;
    }
    if (this.#partial > INTAKE_LIMITS.smallBytes && this.#leavePlace === null) this.#askPlace();
    this.#slowDown(this.#bucket.take(count, this.#monotonicMs()));
  }

  /** A whole message has come. */
  message(): void {
    this.#partial = 0;
    this.#leave();
  }

  /** The channel is closed or closing. */
  end(): void {
    this.#isOver = true;
    this.#leave();
    this.#throttle?.cancel();
  }

  #violate(problem: string): void {
    this.end();
    this.#events.violated(problem);
  }

  #askPlace(): void {
    this.#hasPlace = false;
    this.#leavePlace = this.#large.ask(this.#owner, () => {
      this.#hasPlace = true;
      const late = (): void => this.#violate('a message took too long');
      this.#stopWaiting = lateAfter(INTAKE_LIMITS.largeMs, late, this.#monotonicMs);
      this.#goOn();
    });
    if (!this.#hasPlace) this.#events.pause();
  }

  #leave(): void {
    this.#stopWaiting();
    this.#leavePlace?.();
    this.#leavePlace = null;
  }

  #slowDown(ms: number): void {
    if (ms <= 0 || this.#isThrottled) return;
    this.#isThrottled = true;
    this.#events.pause();
    this.#throttle = after(ms, () => {
      this.#isThrottled = false;
      this.#goOn();
    });
  }

  #goOn(): void {
    const isWaiting = this.#leavePlace !== null && !this.#hasPlace;
    if (!this.#isOver && !this.#isThrottled && !isWaiting) this.#events.resume();
  }
}

const LOOK_EVERY_MS = 500;

/**
 * Calls `late` once so much time has passed while this process looked. A pause of this process counts as two looks
 * (1 s) at most, and looks that come late count as long as they took.
 * @param ms at least 1
 * @param nowMs monotonic
 * @returns gives up waiting; harmless afterwards
 */
export function lateAfter(ms: number, late: () => void, nowMs: () => number): () => void {
  const attention = new StandStill(LOOK_EVERY_MS, nowMs());
  let timer = after(Math.min(ms, LOOK_EVERY_MS), look);
  function look(): void {
    attention.look(nowMs());
    const leftMs = ms - attention.attendedMs;
    if (leftMs <= 0) late();
    else timer = after(Math.min(leftMs, LOOK_EVERY_MS), look);
  }
  return () => timer.cancel();
}
