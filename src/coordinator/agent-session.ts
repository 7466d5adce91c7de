/**
 * Owns what belongs to one agent in one run: its name and epoch, its channel while there is one, its books.
 * Must never decide whether it is lost (run/run-state.ts).
 */
import type { Channel } from '../control/channel.ts';
import type { CoordinatorMessage } from '../control/message.ts';
import type { AgentBooks } from './agent-counts.ts';
import { LossAllowance } from './claims.ts';

export interface AgentSession {
  /** unique within the run */
  readonly id: string;
  /** as the agent calls itself */
  readonly name: string;
  /** what it proved to be: the identity of its token; only the same may come back as this agent */
  readonly identity: string;
  /** grows with each agent that joins; an agent that comes back after its lease gets a new one */
  readonly epoch: number;
  readonly books: AgentBooks;
  readonly lossAllowance: LossAllowance;
  /** lines about cuts and returns that were shown */
  linkNotes: number;
  /** when it was first told to start, monotonic; null: not yet */
  startedMs: number | null;
  /** null while contact is cut */
  channel: Channel<CoordinatorMessage> | null;
}

/** All agents that were ever part of the run, by id. */
export class AgentSessions {
  readonly #byId = new Map<string, AgentSession>();
  #epoch = 0;

  /** @param books made for the id that the session gets */
  add(
    name: string,
    identity: string,
    channel: Channel<CoordinatorMessage>,
    books: (id: string) => AgentBooks,
  ): AgentSession {
    this.#epoch++;
    let id = name;
    // An agent may be called what another one's id would be.
    while (this.#byId.has(id)) id = `${id}#${this.#epoch}`;
    const session: AgentSession = {
      id,
      name,
      identity,
      epoch: this.#epoch,
      books: books(id),
      lossAllowance: new LossAllowance(),
      linkNotes: 0,
      startedMs: null,
      channel,
    };
    this.#byId.set(id, session);
    return session;
  }

  /** Forgets one that left before it got a quota. */
  remove(id: string): void {
    this.#byId.delete(id);
  }

  get(id: string): AgentSession | undefined {
    return this.#byId.get(id);
  }

  all(): AgentSession[] {
    return [...this.#byId.values()];
  }

  /** The one that a returning agent speaks of. */
  resumable(name: string, epoch: number): AgentSession | undefined {
    return this.all().find((session) => session.name === name && session.epoch === epoch);
  }

  /** Whether an agent of this name is in contact now. */
  isPresent(name: string): boolean {
    return this.all().some((session) => session.name === name && session.channel !== null);
  }
}
