/**
 * Owns the times by which contact and its loss are judged, and what follows from an agent's last contact.
 * Must never read a clock.
 *
 * Contact is what the coordinator has acknowledged: an agent counts from the moment at which it *sent* the last message
 * that was answered, the coordinator from the moment at which it *received* one. So the agent's time always ends
 * first, whatever is late, stopped or cut in one direction only, and the margin between the two is for closing.
 */
import { StandStill } from '../base/clock.ts';

/** The promise between agents and coordinator. */
export interface LeaseTimes {
  /** an agent without contact opens nothing after so long; also sets how often it reports: five times as often */
  readonly quietMs: number;
  /** an agent without contact has closed everything, and removed its aliases, after so long */
  readonly leaseMs: number;
  /** how much longer the coordinator waits before it calls an agent lost and hands its quota on */
  readonly marginMs: number;
}

/** What every run uses; only tests are shorter. */
export const LEASE_TIMES: LeaseTimes = { quietMs: 5_000, leaseMs: 15_000, marginMs: 5_000 };

/** How often things happen, all in proportion to the lease; the numbers behind are those of `LEASE_TIMES`. */
export interface Rhythm {
  /** stats, each of which asks for the lease anew: 1 s */
  readonly reportEveryMs: number;
  /** looking at the lease: 250 ms */
  readonly checkEveryMs: number;
  /** silence after which a link is given up and made anew, because a cut cable closes no socket: 3.5 s */
  readonly relinkAfterMs: number;
  /** for one new link: 2 s */
  readonly relinkTimeoutMs: number;
  /** between two tries of a new link: 500 ms */
  readonly retryEveryMs: number;
  /** how much before the end of the lease closing begins: 1 s */
  readonly closeEarlyMs: number;
  /** a holder that reports each second and has said nothing for so long is lost: what it reported is too old; 10 s */
  readonly holderSilentMs: number;
}

/** The rhythm that goes with a lease. */
export function rhythmOf({ quietMs, leaseMs }: Pick<LeaseTimes, 'quietMs' | 'leaseMs'>): Rhythm {
  return {
    reportEveryMs: quietMs / 5,
    checkEveryMs: quietMs / 20,
    relinkAfterMs: quietMs * 0.7,
    relinkTimeoutMs: quietMs * 0.4,
    retryEveryMs: quietMs / 10,
    closeEarlyMs: leaseMs / 15,
    holderSilentMs: quietMs * 2,
  };
}

/** Until when an agent and its holders may act, on this host's monotonic clock, in milliseconds. */
export interface LeaseEnds {
  /** new connections may be opened before this moment */
  readonly openUntilMs: number;
  /** at this moment everything is closed */
  readonly liveUntilMs: number;
}

/**
 * What an agent may do after its last contact.
 * @param contactMs when the last message that was answered was sent, on the agent's monotonic clock
 */
export function leaseEndsOf(contactMs: number, times: Pick<LeaseTimes, 'quietMs' | 'leaseMs'>): LeaseEnds {
  return {
    openUntilMs: contactMs + times.quietMs,
    liveUntilMs: contactMs + times.leaseMs - rhythmOf(times).closeEarlyMs,
  };
}

/**
 * A new link may take twice as long as the first try of one: a host without a core to spare is slow, not cut. Not more: one that is
 * tried while the path is cut sends SYNs after 1, 3 and 7 s (tcp_syn_retries, tcp(7)), so a path that heals after 3 s would be found late.
 */
const PATIENCE_MAX = 2;

/**
 * When an agent gives its link up and makes a new one. Silence counts in attended time (base/clock.ts): an agent that had no core
 * has not listened, and whoever answers may have none either.
 */
export class LinkWatch {
  readonly #rhythm: Pick<Rhythm, 'checkEveryMs' | 'relinkAfterMs' | 'relinkTimeoutMs'>;
  readonly #attention: StandStill;
  #lookedAtMs: number;
  #answeredMs = 0;
  #patience = 1;

  /**
   * @param rhythm `relinkAfterMs` may be Infinity: a link that is never given up for its silence
   * @param nowMs monotonic
   */
  constructor(rhythm: Pick<Rhythm, 'checkEveryMs' | 'relinkAfterMs' | 'relinkTimeoutMs'>, nowMs: number) {
    this.#rhythm = rhythm;
    this.#attention = new StandStill(rhythm.checkEveryMs, nowMs);
    this.#lookedAtMs = nowMs;
  }

  /**
   * To be called each `checkEveryMs`. @param nowMs monotonic
   * @returns whether it came so late that what has come meanwhile must be read before anything is judged: Node runs timers first
   */
  look(nowMs: number): boolean {
    this.#attention.look(nowMs);
    const gapMs = nowMs - this.#lookedAtMs;
    this.#lookedAtMs = nowMs;
    return gapMs > 2 * this.#rhythm.checkEveryMs;
  }

  /** The coordinator has answered. */
  answered(): void {
    this.#answeredMs = this.#attention.attendedMs;
    this.#patience = 1;
  }

  /** Whether the link has brought no answer for so long that a new one is made. */
  get isSilent(): boolean {
    return this.#attention.attendedMs - this.#answeredMs > this.#rhythm.relinkAfterMs;
  }

  /** A new link is made. @returns how long it may take, milliseconds: longer from the second one on, while none answers */
  relinking(): number {
    const timeoutMs = this.#rhythm.relinkTimeoutMs * this.#patience;
    this.#patience = PATIENCE_MAX;
    return timeoutMs;
  }
}
