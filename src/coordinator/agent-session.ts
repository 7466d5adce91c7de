/**
 * Owns the sessions of agents: names and epochs, what an agent showed when it joined, its channel while there is one; and
 * what no schema can know: whether a message stays within what this very agent was given. Must never know more of an
 * agent: the rest is in its record (run/agent-record.ts).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Channel } from '../control/channel.ts';
import type { AgentMessage, AgentMessageOf, CoordinatorMessage } from '../control/message.ts';
import { peerOf } from '../control/token.ts';

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
  /** the address that it joined from */
  readonly from: string;
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
  // Of an older agent: its own token is shared with the coordinator alone, the master token with every agent.
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
  /** by name: the number that the last of several agents of this name got */
  readonly #numbers = new Map<string, number>();
  #epoch = 0;

  /** @param from the address that it joined from */
  add(
    name: string,
    { identity, secret }: Credentials,
    channel: Channel<CoordinatorMessage>,
    from = '',
  ): AgentSession {
    this.#epoch++;
    const session: AgentSession = {
      id: this.#freeId(name),
      name,
      identity,
      secret,
      epoch: this.#epoch,
      from,
      lossAllowance: new LossAllowance(),
      contactNotes: 0,
      channel,
    };
    this.#byId.set(session.id, session);
    return session;
  }

  /** `vm` is `vm-2` beside another `vm`, and `vm#7` where that one is gone: it may be the same host once more. */
  #freeId(name: string): string {
    if (!this.#byId.has(name)) return name;
    let id = name;
    if (this.isPresent(name)) {
      let number = this.#numbers.get(name) ?? 1;
      while (this.#byId.has(id)) id = `${name}-${++number}`;
      this.#numbers.set(name, number);
    }
    // An agent may be called what another one's id would be.
    while (this.#byId.has(id)) id = `${id}#${this.#epoch}`;
    return id;
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

  /** Whether an agent that is called so, by itself or by the run, is in contact now. */
  isPresent(name: string): boolean {
    if (this.#byId.get(name)?.channel) return true;
    return this.all().some((session) => session.name === name && session.channel !== null);
  }

  /** Whether the agent that a token was made for is in contact now. @param identity of a token that has a name */
  isTokenInUse(identity: string): boolean {
    if (peerOf(identity)?.name === null) return false;
    return this.all().some((session) => session.identity === identity && session.channel !== null);
  }
}

/** What the coordinator knows of who speaks. */
interface Claimant {
  /** as the agent calls itself */
  readonly name: string;
  /** what it was last given; 0: nothing yet */
  readonly quota: number;
}

/** Counts of connections that one agent has at one moment: none can be above its quota. */
const WITHIN_QUOTA = [
  'open',
  'openAtHold',
  'openMin',
  'verified',
  'verifiedMin',
  'verifiedInHold',
  'pending',
  'unattempted',
] as const;

/**
 * What is wrong with a message, in words for a close reason and a note; null: nothing.
 * @param message it has passed the schema
 */
export function wrongClaim(message: AgentMessage, claimant: Claimant): string | null {
  switch (message.type) {
    case 'stats':
      if (message.quota > claimant.quota)
        return `quota: it speaks of ${message.quota}, and was given ${claimant.quota}`;
      return wrongStats(message, claimant);
    case 'done':
      return wrongStats(message, claimant);
    case 'losses': {
      const foreign = message.losses.find(({ holder }) => !isHolderOf(claimant.name, holder));
      return foreign === undefined ? null : 'holder: it speaks of losses of a holder that is not its own';
    }
    case 'hello':
    case 'offer':
    case 'ready':
    case 'refuse':
      return null;
  }
}

function isHolderOf(name: string, holder: string): boolean {
  return holder === '*' || holder.startsWith(`${name}/`);
}

function wrongStats(
  { stats, holders }: AgentMessageOf<'stats'> | AgentMessageOf<'done'>,
  { name, quota }: Claimant,
): string | null {
  for (const field of WITHIN_QUOTA) {
    if (stats[field] > quota) return `${field}: it speaks of ${stats[field]}, and was given ${quota}`;
  }
  const stage = stats.load?.stages.find(({ open, openMin }) => Math.max(open, openMin) > quota);
  if (stage !== undefined)
    return `stage: it speaks of ${Math.max(stage.open, stage.openMin)}, and was given ${quota}`;
  if (holders.some(({ id }) => !isHolderOf(name, id))) return 'holder: it speaks of one that is not its own';
  return null;
}

/** Losses with their details that one agent may report, so that no agent can fill a disk with them. */
class LossAllowance {
  #taken = 0;

  /**
   * The first of these losses that may be reported; what is left out is missing in the ledger alone, whose report counts it.
   * @param quota what the agent was given: each connection is lost once
   * @param reopenedForSec where lost ones are opened again: for how long that has gone on, and each may be lost once a second
   */
  take<Loss extends { readonly count: number }>(
    losses: readonly Loss[],
    quota: number,
    reopenedForSec: number,
  ): Loss[] {
    const most = quota * (1 + Math.ceil(Math.max(0, reopenedForSec)));
    return losses.filter(({ count }) => {
      if (this.#taken + count > most) return false;
      this.#taken += count;
      return true;
    });
  }
}
