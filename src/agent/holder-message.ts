/**
 * Owns the check of what a holder says to its agent: whether it is a message of the pipe (process-pipe.ts) whose numbers can be added.
 * A holder whose memory is damaged must end itself, never its agent. Must never be loaded by a holder, and never throw.
 */
import { isCount, isLike, isNumber, isTable, type Table } from '../base/shape.ts';
import type { Loss } from '../stats/loss.ts';
import { emptyStats, type HolderHealth, mergeAllStats, newHolderHealth, type Stats } from '../stats/stats.ts';
import type { HolderToAgent } from './process-pipe.ts';

const STATS = emptyStats();
const HEALTH = newHolderHealth('', 0, 0);

/** What not every holder has is taken when it can be added up. */
function isStats(value: unknown): value is Stats {
  if (!isLike(STATS, value)) return false;
  mergeAllStats([value as Stats, value as Stats]);
  return true;
}

function isHealth(value: unknown): value is HolderHealth {
  return isLike(HEALTH, value);
}

function isLoss(value: unknown): value is Loss {
  if (!isTable(value)) return false;
  const { atMs, holder, source, endpoint, ageMs, reason, count } = value;
  const texts = [holder, source, endpoint, reason];
  const isWhole = texts.every((text) => typeof text === 'string') && (ageMs === null || isNumber(ageMs));
  return isWhole && isNumber(atMs) && isCount(count);
}

function isRamp(value: unknown): boolean {
  return value === null || (isTable(value) && isNumber(value.fromMs) && isNumber(value.toMs));
}

/** What each type must have. */
const CHECKS: Readonly<Record<HolderToAgent['type'], (said: Table) => boolean>> = {
  ready: () => true,
  stats: ({ stats, health, settled, answers, openTuples, begun, ramp }) =>
    isStats(stats) &&
    isHealth(health) &&
    typeof settled === 'boolean' &&
    typeof begun === 'boolean' &&
    (answers === null || isCount(answers)) &&
    (openTuples === null || typeof openTuples === 'string') &&
    isRamp(ramp),
  checked: ({ which }) => typeof which === 'string',
  losses: ({ losses }) => Array.isArray(losses) && losses.every(isLoss),
  done: ({ stats, health, ramp }) => isStats(stats) && isHealth(health) && isRamp(ramp),
  warning: ({ message }) => typeof message === 'string',
  failed: ({ message }) => typeof message === 'string',
};

function isOfHolder(said: unknown): said is HolderToAgent {
  if (!isTable(said) || typeof said.type !== 'string' || !Object.hasOwn(CHECKS, said.type)) return false;
  return CHECKS[said.type as HolderToAgent['type']](said);
}

/** A message of a holder; null: no holder says that. */
export function readHolderMessage(said: unknown): HolderToAgent | null {
  try {
    return isOfHolder(said) ? said : null;
  } catch {
    // It has parts that cannot be added.
    return null;
  }
}
