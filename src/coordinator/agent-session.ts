/**
 * Owns what belongs to one agent in one run: its name and epoch, its channel while there is one, its books.
 * Must never decide whether it is lost (run/run-state.ts).
 */
import type { Channel } from '../control/channel.ts';
import type { CoordinatorMessage } from '../control/message.ts';
import type { AgentBooks } from './agent-counts.ts';

export interface AgentSession {
  /** unique within the run */
  readonly id: string;
  /** as the agent calls itself */
  readonly name: string;
  /** grows with each agent that joins; an agent that comes back after its lease gets a new one */
  readonly epoch: number;
  readonly books: AgentBooks;
  /** null while contact is cut */
  channel: Channel<CoordinatorMessage> | null;
}

/** All agents that were ever part of the run, by id. */
export class AgentSessions {
  readonly #byId = new Map<string, AgentSession>();
  #epoch = 0;

  /** @param books made for the id that the session gets */
  add(name: string, channel: Channel<CoordinatorMessage>, books: (id: string) => AgentBooks): AgentSession {
    this.#epoch++;
    const id = this.#byId.has(name) ? `${name}#${this.#epoch}` : name;
    const session: AgentSession = { id, name, epoch: this.#epoch, books: books(id), channel };
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
