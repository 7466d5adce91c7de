/**
 * Owns asking the targets what they hold, once a second and never twice at a time, and reading their answers. Must never delay a run: a target that
 * does not answer is a fact of its own, and a proof that is missing.
 */
import { request } from 'node:http';
import { formatBytes } from '../base/units.ts';
import type { TargetReport } from '../judge/report.ts';
import type { TargetProof } from '../judge/verdict.ts';
import { after } from '../time/timer.ts';

const ANSWER_TIMEOUT_MS = 900;
const ANSWER_BYTES_MAX = 262_144;

/** What came of one question: counts, or in words why there are none. */
type TargetAnswer = { readonly counts: TargetCounts } | { readonly problem: string };

/** A target that can be asked. */
export interface TargetWitness {
  /** for the report: a URL, or what else it is */
  readonly source: string;
  /** how many targets are asked, each at its own address */
  readonly targets: number;
  /** the user asked for this proof: without it no run passes */
  readonly isRequired: boolean;
  /** never rejects */
  ask(): Promise<TargetAnswer>;
}

/**
 * Targets that report their counts over HTTP: `c100k-bench serve --stats-listen`. All are asked at the same time, and one that
 * does not answer leaves the sum unknown. Redirections are not followed: the user named the ones who are asked.
 * @param urls at least one, each once, such as `http://192.168.0.10:8001`
 */
export function httpWitness(urls: readonly URL[]): TargetWitness {
  return {
    source: urls.map(({ href }) => href).join(' + '),
    targets: urls.length,
    isRequired: true,
    ask: async () => {
      const answers = await Promise.all(urls.map(fetchCounts));
      const counts: TargetCounts[] = [];
      for (const [index, answer] of answers.entries()) {
        if ('counts' in answer) counts.push(answer.counts);
        else if (urls.length === 1) return answer;
        else return { problem: `${urls[index]?.href}: ${answer.problem}` };
      }
      return { counts: addTargetCounts(counts) };
    },
  };
}

function fetchCounts(url: URL): Promise<TargetAnswer> {
  return new Promise((resolve) => {
    const fail = (problem: string): void => {
      resolve({ problem });
      asked.destroy();
    };
    const asked = request(url, { agent: false }, (answer) => {
      const { statusCode } = answer;
      if (statusCode !== 200) {
        fail(`HTTP status ${statusCode}`);
        return;
      }
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        chunks.push(chunk);
        if (bytes > ANSWER_BYTES_MAX) fail(`an answer of more than ${formatBytes(ANSWER_BYTES_MAX)}`);
      });
      answer.on('end', () => {
        const counts = parseTargetCounts(Buffer.concat(chunks).toString('utf8'));
        resolve(counts === null ? { problem: 'an answer that is no counts of a target' } : { counts });
      });
    });
    const timer = after(ANSWER_TIMEOUT_MS, () => fail(`no whole answer within ${ANSWER_TIMEOUT_MS} ms`));
    asked.on('error', (error: NodeJS.ErrnoException) => resolve({ problem: error.code ?? error.message }));
    asked.on('close', () => {
      timer.cancel();
      resolve({ problem: 'an answer that broke off' });
    });
    asked.end();
  });
}

/** What the target has said so far. */
export class TargetCountLog {
  readonly #witness: TargetWitness;
  #last: TargetCounts | null = null;
  /** what it had counted before the run, since it was started; null: not known */
  #before: TargetCounts | null = null;
  #isAskingBefore = false;
  #openMax = 0;
  #isCurrent = false;
  #isAsking = false;
  #unanswered = 0;
  #problem: string | null = null;
  #isHolding = false;
  /** the most that an answer to a question of the hold phase said; null: none was answered */
  #openInHold: number | null = null;
  #asksAgain = false;

  constructor(witness: TargetWitness) {
    this.#witness = witness;
  }

  /**
   * Asks before the run opens anything: what the target has counted by then is of runs before. One that does not answer yet is no problem
   * of the run.
   */
  async askBefore(): Promise<void> {
    if (this.#isAskingBefore || this.#last !== null) return;
    this.#isAskingBefore = true;
    const answer = await this.#witness.ask();
    this.#isAskingBefore = false;
    if ('counts' in answer && this.#last === null) this.#before = answer.counts;
  }

  /** Asks again unless it is being asked; the answer counts from when it comes. */
  async ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    do {
      this.#asksAgain = false;
      await this.#askOnce();
    } while (this.#asksAgain);
    this.#isAsking = false;
  }

  async #askOnce(): Promise<void> {
    const wasHolding = this.#isHolding;
    const answer = await this.#witness.ask();
    this.#isCurrent = 'counts' in answer;
    if ('problem' in answer) {
      this.#unanswered++;
      this.#problem = answer.problem;
      return;
    }
    const { counts } = answer;
    this.#last = counts;
    // One that counts less than before was started again in between, and what it counts is of this run.
    if (this.#before !== null && counts.acceptedTotal < this.#before.acceptedTotal)
      this.#before = ZERO_COUNTS;
    // The built-in target has nothing behind it; of another one what came before its first answer is not known to be of this run.
    this.#before ??= this.#witness.isRequired ? counts : ZERO_COUNTS;
    // A maximum that has not grown may be of a run before.
    const ofRun = counts.openMax > this.#before.openMax ? counts.openMax : counts.openNow;
    this.#openMax = Math.max(this.#openMax, ofRun);
    // After the hold its count includes connections that are being closed.
    if (wasHolding && this.#isHolding) this.#openInHold = Math.max(this.#openInHold ?? 0, counts.openNow);
  }

  /** From now on an answer proves what is held: it is asked immediately, also when a question is on its way. */
  async holdBegins(): Promise<void> {
    this.#isHolding = true;
    this.#asksAgain = true;
    await this.ask();
  }

  holdEnds(): void {
    this.#isHolding = false;
  }

  /** What it holds now; null when the last question was not answered. */
  get openNow(): number | null {
    return this.#isCurrent ? (this.#last?.openNow ?? null) : null;
  }

  /** Why the last question that brought no counts did not; null: each one brought some. */
  get problem(): string | null {
    return this.#problem === null ? null : `${this.#witness.source}: ${this.#problem}`;
  }

  /** What a run that asked for this proof has got of it; null: it was not asked for. */
  proof(): TargetProof | null {
    if (!this.#witness.isRequired) return null;
    const { source, targets } = this.#witness;
    return { source, targets, open: this.#openInHold, problem: this.#problem };
  }

  /** Null when it has never answered. */
  report(): TargetReport | null {
    if (this.#last === null) return null;
    // Field by field: a witness may know more than the report's schema allows.
    const { openNow, acceptedTotal, sourceAddresses, descriptorsFull, workersLost } = this.#last;
    const before = this.#before ?? ZERO_COUNTS;
    return {
      source: this.#witness.source,
      openNow,
      openMax: this.#openMax,
      acceptedTotal,
      sourceAddresses,
      descriptorsFull: Math.max(0, descriptorsFull - before.descriptorsFull),
      workersLost: Math.max(0, workersLost - before.workersLost),
      unanswered: this.#unanswered,
    };
  }
}

/** What the built-in target reports. */
interface TargetCounts {
  readonly openNow: number;
  readonly openMax: number;
  readonly acceptedTotal: number;
  readonly sourceAddresses: number;
  readonly descriptorsFull: number;
  readonly workersLost: number;
}

const ZERO_COUNTS: TargetCounts = {
  openNow: 0,
  openMax: 0,
  acceptedTotal: 0,
  sourceAddresses: 0,
  descriptorsFull: 0,
  workersLost: 0,
};

const FIELDS = [
  'openNow',
  'openMax',
  'acceptedTotal',
  'sourceAddresses',
  'descriptorsFull',
  'workersLost',
] as const satisfies readonly (keyof TargetCounts)[];

/**
 * What several targets hold together: sums, with two exceptions. Maxima of different moments cannot be added, so `openMax`
 * is what is open now; and the same source may connect to each, so `sourceAddresses` is that of the one that sees most.
 * @param counts at least one
 */
function addTargetCounts(counts: readonly TargetCounts[]): TargetCounts {
  const [only] = counts;
  if (counts.length === 1 && only !== undefined) return only;
  const sum = (pick: (one: TargetCounts) => number): number =>
    counts.reduce((all, one) => all + pick(one), 0);
  const openNow = sum((one) => one.openNow);
  return {
    openNow,
    openMax: openNow,
    acceptedTotal: sum((one) => one.acceptedTotal),
    sourceAddresses: Math.max(...counts.map((one) => one.sourceAddresses)),
    descriptorsFull: sum((one) => one.descriptorsFull),
    workersLost: sum((one) => one.workersLost),
  };
}

/**
 * Reads an answer.
 * @param text JSON; further fields are left alone
 * @returns null when it is not what a target says
 */
function parseTargetCounts(text: string): TargetCounts | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isCounts(value)) return null;
  const { openNow, openMax, acceptedTotal, sourceAddresses, descriptorsFull, workersLost } = value;
  const counts = { openNow, openMax, acceptedTotal, sourceAddresses, descriptorsFull, workersLost };
  // Who holds more than it ever held, or ever accepted, reports something else.
  return counts.openNow <= counts.openMax && counts.openMax <= counts.acceptedTotal ? counts : null;
}

function isCounts(value: unknown): value is TargetCounts {
  if (typeof value !== 'object' || value === null) return false;
  const given = new Map(Object.entries(value));
  return FIELDS.every((field) => {
    const count: unknown = given.get(field);
    return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0;
  });
}
