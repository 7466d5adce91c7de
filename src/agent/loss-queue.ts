/**
 * Owns details of losses that wait to be told: a host with many holders can lose more at once than the channel takes in
 * a second, so the rest waits for the next report. Must never count losses: the counts are in every stats message.
 */
import type { Loss } from '../stats/loss.ts';

/** Messages with details of losses from one report to the next, and before the last word: channel.ts sets the limit. */
const LOSS_MESSAGES_PER_REPORT = 20;
const LOSS_MESSAGES_AT_END = 60;

/** One share's queue. */
export class LossQueue {
  readonly #send: (losses: readonly Loss[]) => void;
  readonly #waiting: (readonly Loss[])[] = [];
  /** messages since the last report */
  #sent = 0;

  /** @param send one message; called as soon as the limit allows, in order */
  constructor(send: (losses: readonly Loss[]) => void) {
    this.#send = send;
  }

  /** Details of one message. */
  add(losses: readonly Loss[]): void {
    this.#waiting.push(losses);
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT);
  }

  /** A report is due: the limit counts from here. */
  nextReport(): void {
    this.#sent = 0;
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT);
  }

  /** The last word is due: what does not fit now is never told. */
  lastWord(): void {
    this.#sendUpTo(LOSS_MESSAGES_AT_END);
  }

  #sendUpTo(most: number): void {
    while (this.#waiting.length > 0 && this.#sent < most) {
      this.#sent++;
      this.#send(this.#waiting.shift()!);
    }
  }
}
