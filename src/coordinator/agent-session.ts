/**
 * Owns the sessions of agents: names and epochs, what an agent showed when it joined, its channel while there is one.
 * Must never know more of an agent: the rest is in its record (run/agent-record.ts).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Channel } from '../control/channel.ts';
import type { CoordinatorMessage } from '../control/message.ts';
import { peerOf } from '../control/token.ts';
import { LossAllowance } from './claims.ts';

export interface AgentSession {
  /** unique within the run */
  readonly id: string;
  /** as the agent calls itself */
  readonly name: string;
  /** what it proved to be: the identity of its token; only the same may come back as this agent */
  readonly identity: string;
  /** of its first hello; undefined: it has none, as agents of before this field */
  readonly secret: string | undefined;
  /** grows with each agent that joins; an agent that comes back after its lease gets a new one */
  readonly epoch: number;
  readonly lossAllowance: LossAllowance;
  /** lines about cuts and returns that were shown */
  contactNotes: number;
  /** null while contact is cut */
  channel: Channel<CoordinatorMessage> | null;
}

/** What a hello proves and shows about who says it. */
export interface Credentials {
  readonly identity: string;
  readonly secret: string | undefined;
}

/**
 * Why a hello with `resume` does not bring a session back, in words for who said it; null: it does. Whoever has the master
 * token can make every other token, so a token alone shows only that its agent has it too, never that it is that agent.
 */
export function resumeRefusal(session: AgentSession, said: Credentials): string | null {
  if (session.identity !== said.identity) return `agent ${session.name} joined with another token`;
  if (session.secret !== undefined)
    return isSame(session.secret, said.secret ?? '')
      ? null
      : `agent ${session.name} has a secret, which this is not`;
  // Of an older agent: its own token is shared with nobody but the coordinator, the master token with every agent.
  return peerOf(session.identity)?.name === null
    ? `agent ${session.name} joined with the master token and without a secret`
    : null;
}

/** Takes the same time whatever differs. */
function isSame(one: string, other: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(one), hash(other));
}

/** All agents that were ever part of the run, by id. */
export class AgentSessions {
  readonly #byId = new Map<string, AgentSession>();
  #epoch = 0;

  add(name: string, { identity, secret }: Credentials, channel: Channel<CoordinatorMessage>): AgentSession {
    this.#epoch++;
    let id = name;
    // An agent may be called what another one's id would be.
    while (this.#byId.has(id)) id = `${id}#${this.#epoch}`;
    const session: AgentSession = {
      id,
      name,
      identity,
      secret,
      epoch: this.#epoch,
      lossAllowance: new LossAllowance(),
      contactNotes: 0,
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
