/**
 * Owns what an agent reports of its run: how stats and lines fit into the messages of the control channel, and details of
 * losses that wait their turn: those of many holders are merged into few messages, each as full as it may be, and a host
 * that loses more than the channel takes in a second sends the rest with the next reports.
 * Must never count losses (the counts are in every stats message), and never leave a detail out without counting that.
 */
import type { AgentMessage } from '../control/message.ts';
import { LOSS_BATCH_MAX, type Loss } from '../stats/loss.ts';
import type { Stats, StatsNews } from '../stats/stats.ts';

/** Messages with details from one report to the next, and before the last word: at most 5 MB, and 15 MB. */
const LOSS_MESSAGES_PER_REPORT = 20;
const LOSS_MESSAGES_AT_END = 60;
/** Details that wait at most, 20 MB of memory. */
const LOSSES_WAITING_MAX = 100_000;

/** One share's queue. */
export class LossQueue {
  readonly #send: (losses: readonly Loss[]) => void;
  #waiting: Loss[] = [];
  /** how many of the first ones have been sent; they are let go of together */
  #taken = 0;
  /** messages since the last report */
  #sent = 0;
  #cut = 0;

  /** @param send one message; called as soon as one is full, or a report is due, in order */
  constructor(send: (losses: readonly Loss[]) => void) {
    this.#send = send;
  }

  /** Losses whose details were left out because too many waited, or were left when the last word was due. */
  get cut(): number {
    return this.#cut;
  }

  /** Details of one holder's message. */
  add(losses: readonly Loss[]): void {
    for (const loss of losses) {
      if (this.#waiting.length - this.#taken < LOSSES_WAITING_MAX) this.#waiting.push(loss);
      else this.#cut += loss.count;
    }
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT, LOSS_BATCH_MAX);
  }

  /** A report is due: everything that the limit allows goes before it, and the limit counts from here. */
  nextReport(): void {
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT, 1);
    this.#sent = 0;
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT, 1);
  }

  /** The last word is due: what does not fit now is never told, and counted. */
  lastWord(): void {
    this.#sendUpTo(LOSS_MESSAGES_AT_END, 1);
    for (const { count } of this.#waiting.slice(this.#taken)) this.#cut += count;
    this.#waiting = [];
    this.#taken = 0;
  }

  /** @param fullAt the fewest details that are worth a message */
  #sendUpTo(most: number, fullAt: number): void {
    while (this.#sent < most && this.#waiting.length - this.#taken >= fullAt) {
      const batch = this.#waiting.slice(this.#taken, this.#taken + LOSS_BATCH_MAX);
      this.#taken += batch.length;
      this.#sent++;
      this.#send(batch);
    }
    // Shifting one by one would cost the square of a long queue.
    if (this.#taken > this.#waiting.length / 2) {
      this.#waiting = this.#waiting.slice(this.#taken);
      this.#taken = 0;
    }
  }
}

/** More sources than this are told only in the final message, because stats go out every second. */
const SOURCES_EACH_SECOND_MAX = 1_024;

/** What the kernel's counters say, as the schema types it. */
export type WireEvidence = Extract<AgentMessage, { type: 'done' }>['evidence'];
type WireStats = Extract<AgentMessage, { type: 'stats' }>['stats'];

/** Stats as the schema types them: plain mutable records; the values are the same. */
export function toWire(stats: Stats | StatsNews): WireStats {
  return stats;
}

/** Leaves out the long tables that only the final message carries. */
export function trimmed(stats: StatsNews): WireStats {
  const sources = Object.keys(stats.openBySource).length;
  const endpoints = Object.keys(stats.openByEndpoint).length;
  return toWire({
    ...stats,
    openBySource: sources > SOURCES_EACH_SECOND_MAX ? {} : stats.openBySource,
    openByEndpoint: endpoints > SOURCES_EACH_SECOND_MAX ? {} : stats.openByEndpoint,
    droppedBy: Object.keys(stats.droppedBy).length > SOURCES_EACH_SECOND_MAX ? {} : stats.droppedBy,
  });
}
