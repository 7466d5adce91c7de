/**
 * Owns the lines about who comes to the control port: who has joined, and who was turned away and why. Whoever connects chooses how
 * often, so lines are bounded: what is beyond that shows in the count of the report alone. Must never decide who is let in.
 */
import type { TurnedAway } from '../control/gate.ts';

/** Lines about clients that were turned away, in one run. */
const TURNED_AWAY_LINES_MAX = 20;

/** The arrivals of one run. */
export class Arrivals {
  readonly #onLine: (line: string) => void;
  /** what was said: one that tries again each second does not say it again */
  readonly #said = new Set<string>();
  #isCut = false;

  /** @param onLine gets one line for a person, which the report does not keep */
  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** One that was not let in. @param who null: it showed no token, so it is only counted */
  turnedAway(who: TurnedAway | null): void {
    if (who === null || this.#isCut) return;
    const { from, name, why } = who;
    const line = `turned away ${name === null ? 'a client' : `agent ${name}`} from ${from}: ${why}`;
    if (this.#said.has(line)) return;
    if (this.#said.size === TURNED_AWAY_LINES_MAX) {
      this.#isCut = true;
      this.#onLine('further clients that are turned away are not shown');
      return;
    }
    this.#said.add(line);
    this.#onLine(line);
  }
}

/** How one line names an agent that has joined. */
interface Joined {
  /** what the run calls it */
  readonly id: string;
  /** as it calls itself */
  readonly name: string;
  readonly from: string;
}

/**
 * The line about an agent that has joined.
 * @param here agents that are here, itself included
 * @param expected agents that are expected; fewer than are here once spares join
 */
export function joinedLine({ id, name, from }: Joined, here: number, expected: number): string {
  const renamed = id === name ? '' : ` (it calls itself ${name}, as another agent does)`;
  const count = here > expected ? 'one more than expected' : `${here} of ${expected}`;
  return `agent ${id} joined from ${from}${renamed}: ${count}`;
}
