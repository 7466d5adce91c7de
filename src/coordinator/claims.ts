/**
 * Owns what an agent may claim beside what the coordinator gave to it: its quota, its name. What no schema can know. Must
 * never send, and never change a claim.
 */
import type { AgentMessage, AgentMessageOf } from '../control/message.ts';

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
      const stranger = message.losses.find(({ holder }) => !isHolderOf(claimant.name, holder));
      return stranger === undefined ? null : 'holder: it speaks of losses of a holder that is not its own';
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
  if (holders.some(({ id }) => !isHolderOf(name, id))) return 'holder: it speaks of one that is not its own';
  return null;
}

/** Losses with their details that one agent may tell, so that no agent can fill a disk with them. */
export class LossAllowance {
  #told = 0;

  /**
   * The first of these losses that may be told; what is left out is missing in the ledger alone, whose report counts it.
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
      if (this.#told + count > most) return false;
      this.#told += count;
      return true;
    });
  }
}
