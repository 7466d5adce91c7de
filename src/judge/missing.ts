/**
 * Owns which connections are missing, by kind, and how many of each kind have been explained: no connection is explained twice.
 * Must never let a diagnosis claim what is not missing.
 */
import type { DropReason, FailReason, Party } from '../base/outcome.ts';
import { formatCount } from '../base/units.ts';
import { type DiagnosisFacts, endedYoung, farSidesOf } from './evidence-shape.ts';
import type { Diagnosis } from './report.ts';

/**
 * `young`: closed or reset before it was ever held; `reset-on-probe`: later, by a RST in answer to a probe; neither is in
 * `dropped fin` and `dropped rst`. `unanswered`: open, and its application never answered; `waiting` and `half-open`: not taken by the application of an endpoint
 * of this host; `final-reset`: reset in answer to the segment of a final check.
 */
export type MissingKind =
  | `failed ${FailReason}`
  | `dropped ${DropReason}`
  | 'young'
  | 'reset-on-probe'
  | 'unattempted'
  | 'unanswered'
  | 'waiting'
  | 'half-open'
  | 'final-reset';

export type MissingKinds = Partial<Record<MissingKind, number>>;

/** What a rule says: the connections that it explains, and the words for as many of them as nothing else had explained. */
export interface Claim {
  readonly party: Party;
  readonly what: string;
  readonly kinds: MissingKinds;
  readonly message: string | ((count: number) => string);
  readonly next: string;
}

/** What a kind is called where nothing explains it. */
const WORDS: Readonly<Record<string, string>> = {
  'failed timeout': 'connects got no answer',
  'failed refused': 'connects were refused',
  'failed reset': 'connects were reset',
  'failed unreachable': 'connects found the target unreachable',
  'failed handshake': 'handshakes failed',
  'failed tls': 'TLS handshakes failed',
  young: 'connections were closed young',
  'reset-on-probe': 'connections were reset at their next probe',
  'dropped fin': 'connections were closed by the far side',
  'dropped rst': 'connections were reset',
  'dropped timeout': 'connections timed out in the kernel',
  'dropped probe-timeout': 'probes got no answer',
  'dropped unreachable': 'connections became unreachable',
  unanswered: 'connections are open and never answered',
  'final-reset': 'connections were reset at the end',
  waiting: 'connections wait for their application',
  'half-open': 'connections are half open at the target',
};

function kindsOf(facts: DiagnosisFacts): Map<MissingKind, number> {
  const { asked, connections, hold } = facts;
  const { failed, dropped, unattempted, open, verified, held } = connections;
  const kinds = new Map<MissingKind, number>();
  const add = (kind: MissingKind, count: number): void => void (count > 0 && kinds.set(kind, count));
  for (const [reason, count] of Object.entries(failed)) add(`failed ${reason as FailReason}`, count);
  for (const [reason, count] of Object.entries(dropped)) add(`dropped ${reason as DropReason}`, count);
  addEnded(facts, kinds);
  add('unanswered', asked.probeEveryMs === null ? 0 : open - verified);
  // What is open and does not count as held, because the far side does not have it or did not answer at the end.
  let unheld =
    hold.seconds > 0 ? Math.min(open, asked.connections) - held - (kinds.get('unanswered') ?? 0) : 0;
  const addUnheld = (kind: MissingKind, count: number): void => {
    const own = Math.min(count, Math.max(0, unheld));
    unheld -= own;
    add(kind, own);
  };
  const sides = farSidesOf(facts);
  addUnheld('waiting', sum(sides.map(({ waitingLast }) => waitingLast)));
  addUnheld('half-open', sum(sides.map(({ halfOpenMax }) => halfOpenMax)));
  add('unattempted', unattempted);
  return kinds;
}

/** What the far side ended, by how young it was and by what it answered. */
function addEnded(facts: DiagnosisFacts, kinds: Map<MissingKind, number>): void {
  const young = endedYoung(facts);
  const { fin = 0, rst = 0 } = facts.connections.dropped;
  // A segment of the final check that is answered by RST: the far kernel does not have the connection, or something on the way does not.
  const { rampEnd, holdEnd } = facts.evidence?.finalCheck ?? {};
  const byCheck = facts.asked.probeEveryMs === null ? (rampEnd?.reset ?? 0) + (holdEnd?.reset ?? 0) : 0;
  const youngFin = Math.min(fin, young.fin);
  // The check begins a second after the last connect (final-check.ts), so what was younger was reset by itself.
  const youngRst = Math.min(rst, young.rst);
  const atEnd = Math.min(rst - youngRst, byCheck);
  const onProbe = Math.min(facts.losses.resetsOnProbe, rst - atEnd - youngRst);
  kinds.set('final-reset', atEnd);
  kinds.set('young', youngFin + youngRst);
  kinds.set('reset-on-probe', onProbe);
  kinds.set('dropped fin', fin - youngFin);
  kinds.set('dropped rst', rst - atEnd - youngRst - onProbe);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

export class Missing {
  readonly #left: Map<MissingKind, number>;

  constructor(facts: DiagnosisFacts) {
    this.#left = kindsOf(facts);
  }

  /** Connections of these kinds that nothing has explained yet. */
  of(...kinds: readonly MissingKind[]): number {
    return sum(kinds.map((kind) => this.#left.get(kind) ?? 0));
  }

  /** The same, each by itself: a claim on all of them. */
  all(...kinds: readonly MissingKind[]): MissingKinds {
    return Object.fromEntries(kinds.map((kind) => [kind, this.of(kind)]));
  }

  /** So many of these kinds, the first ones first: a claim on a number. */
  some(count: number, ...kinds: readonly MissingKind[]): MissingKinds {
    let rest = count;
    const claim: MissingKinds = {};
    for (const kind of kinds) {
      const own = Math.min(Math.max(0, rest), this.of(kind));
      rest -= own;
      claim[kind] = own;
    }
    return claim;
  }

  /** Everything but what was never tried. */
  get rest(): number {
    return sum([...this.#left].map(([kind, count]) => (kind === 'unattempted' ? 0 : count)));
  }

  /** What is left, in words, the largest first; nothing but what was never tried: an empty text. */
  get words(): string {
    const list = [...this.#left].filter(([kind, count]) => count > 0 && kind !== 'unattempted');
    return list
      .sort(([, a], [, b]) => b - a)
      .map(([kind, count]) => `${formatCount(count)} ${WORDS[kind] ?? `x ${kind}`}`)
      .join(', ');
  }

  /** Takes what a claim explains out of what is missing. @returns null: all of it was explained already */
  take({ party, what, kinds, message, next }: Claim): Diagnosis | null {
    let count = 0;
    for (const [kind, claimed] of Object.entries(kinds) as [MissingKind, number][]) {
      const own = Math.min(claimed, this.of(kind));
      if (own <= 0) continue;
      this.#left.set(kind, this.of(kind) - own);
      count += own;
    }
    if (count === 0) return null;
    return { party, what, count, message: typeof message === 'string' ? message : message(count), next };
  }
}
