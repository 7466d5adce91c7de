/**
 * Owns what one agent asks its kernel during a run: counters since the ramp began, readings every few seconds, and the
 * count of our sockets against our own books. Must never read often enough to cost anything.
 */

import { countEstablished, type SocketQuery } from '../host/kernel-count.ts';
import {
  type KernelEvidence,
  type KernelSample,
  keptCounters,
  withReadings,
} from '../host/kernel-evidence.ts';
import { readCounters, readKernel } from '../host/kernel-readings.ts';
import { systemClock } from '../host/system-clock.ts';
import { tcpExtDelta } from '../host/tcp-counters.ts';
import type { KernelCount } from '../judge/report.ts';
import { every, pause, type Timer } from '../time/timer.ts';

const READ_EVERY_MS = 3_000;
/** While connections come and go, books and kernel are asked again before a difference is believed. */
const COUNTS_MAX = 3;
const AGAIN_AFTER_MS = 300;
/** A count that took so long is not asked again: holders and kernel are too slow for a second opinion. */
const ASKING_MS_MAX = 5_000;

/** Watches one host's kernel from `start` to `stop`. */
export class KernelWatch {
  readonly #hasLocalEndpoint: boolean;
  readonly #synLadderSec: readonly number[];
  #before: Readonly<Record<string, number>> = {};
  #samples: Readonly<Record<string, KernelSample>> = {};
  #timer: Timer | null = null;

  constructor(about: { readonly hasLocalEndpoint: boolean; readonly synLadderSec: readonly number[] }) {
    this.#hasLocalEndpoint = about.hasLocalEndpoint;
    this.#synLadderSec = about.synLadderSec;
  }

  start(): void {
    this.#before = readCounters();
    this.#read();
    this.#timer = every(READ_EVERY_MS, () => this.#read());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Also takes a reading, so that the moment of the question is among them. */
  evidence(): KernelEvidence {
    this.#read();
    return {
      counters: keptCounters(tcpExtDelta(this.#before, readCounters())),
      samples: this.#samples,
      synLadderSec: this.#synLadderSec,
      hasLocalEndpoint: this.#hasLocalEndpoint,
    };
  }

  #read(): void {
    this.#samples = withReadings(this.#samples, readKernel());
  }
}

/**
 * Counts our sockets as the kernel sees them between two looks into our own books: a count that lies between the two is
 * no difference, because connections may come and go while the kernel is being asked.
 * @param freshOpen asks the holders and returns what our books say is open
 * @param nowMs monotonic
 */
export async function countBesideBooks(
  query: Omit<SocketQuery, 'state'>,
  freshOpen: () => Promise<number>,
  nowMs: () => number = systemClock.monotonicMs,
): Promise<Pick<KernelCount, 'established' | 'method' | 'openBefore' | 'open'>> {
  const lastMs = nowMs() + ASKING_MS_MAX;
  for (let tries = 1; ; tries += 1) {
    const openBefore = await freshOpen();
    const { established, method } = await countEstablished(query);
    const open = await freshOpen();
    const isBetween =
      established === null ||
      (established >= Math.min(openBefore, open) && established <= Math.max(openBefore, open));
    if (isBetween || tries === COUNTS_MAX || nowMs() >= lastMs)
      return { established, method, openBefore, open };
    await pause(AGAIN_AFTER_MS);
  }
}
