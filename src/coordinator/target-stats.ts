/**
 * Owns asking the target what it holds, once a second and never twice at a time. Must never delay a run: a target that
 * does not answer is a fact of its own.
 */
import { request } from 'node:http';
import type { TargetReport } from '../judge/report.ts';
import { parseTargetCounts, type TargetCounts } from '../stats/target-counts.ts';
import { after } from '../time/timer.ts';

const ANSWER_TIMEOUT_MS = 900;
const ANSWER_BYTES_MAX = 262_144;

/** Somebody who can be asked. */
export interface TargetWitness {
  /** for the report: a URL, or what else it is */
  readonly source: string;
  /** never rejects; null: no answer */
  ask(): Promise<TargetCounts | null>;
}

/**
 * A target that tells its counts over HTTP: `c100k-bench serve --stats-listen`.
 * @param url such as `http://192.168.0.10:8001`
 */
export function httpWitness(url: URL): TargetWitness {
  return { source: url.href, ask: () => fetchCounts(url) };
}

function fetchCounts(url: URL): Promise<TargetCounts | null> {
  return new Promise((resolve) => {
    const asked = request(url, { agent: false, timeout: ANSWER_TIMEOUT_MS }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.length > ANSWER_BYTES_MAX) asked.destroy();
      });
      answer.on('end', () => resolve(answer.statusCode === 200 ? parseTargetCounts(text) : null));
      answer.on('close', () => resolve(null));
    });
    const timer = after(ANSWER_TIMEOUT_MS, () => asked.destroy());
    asked.on('error', () => resolve(null));
    asked.on('close', () => {
      timer.cancel();
      resolve(null);
    });
    asked.end();
  });
}

/** What the target has said so far. */
export class TargetBooks {
  readonly #witness: TargetWitness;
  #last: TargetCounts | null = null;
  #openMax = 0;
  #isCurrent = false;
  #isAsking = false;
  #unanswered = 0;

  constructor(witness: TargetWitness) {
    this.#witness = witness;
  }

  /** Asks again unless it is being asked; the answer counts from when it comes. */
  async ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const counts = await this.#witness.ask();
    this.#isAsking = false;
    this.#isCurrent = counts !== null;
    if (counts === null) this.#unanswered++;
    else {
      this.#last = counts;
      this.#openMax = Math.max(this.#openMax, counts.openNow, counts.openMax);
    }
  }

  /** What it holds now; null when the last question was not answered. */
  get openNow(): number | null {
    return this.#isCurrent ? (this.#last?.openNow ?? null) : null;
  }

  /** Null when it has never answered. */
  report(): TargetReport | null {
    if (this.#last === null) return null;
    // Field by field: a witness may know more than the report's schema allows.
    const { openNow, acceptedTotal, sourceAddresses, descriptorsFull, workersLost } = this.#last;
    return {
      source: this.#witness.source,
      openNow,
      openMax: this.#openMax,
      acceptedTotal,
      sourceAddresses,
      descriptorsFull,
      workersLost,
      unanswered: this.#unanswered,
    };
  }
}
