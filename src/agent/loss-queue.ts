/**
 * Owns details of losses that wait to be sent: those of many holders are merged into few messages, each as full as it may
 * be, and a host that loses more at the same time than the channel takes in a second sends the rest with the next reports.
 * Must never count losses (the counts are in every stats message), and never leave a detail out without counting that.
 */
import { LOSS_BATCH_MAX, type Loss } from '../stats/loss.ts';

/** Messages with details from one report to the next, and before the final message: at most 5 MB, and 15 MB. */
const LOSS_MESSAGES_PER_REPORT = 20;
const LOSS_MESSAGES_AT_END = 60;
/** Details that wait at most, 20 MB of memory. */
const LOSSES_WAITING_MAX = 100_000;

/** The queue of one agent's run. */
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

  /** Losses whose details were left out because too many waited, or were left when the final message was due. */
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

  /** The final message is due: what does not fit now is never sent, and counted. */
  finish(): void {
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
