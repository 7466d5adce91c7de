/** Owns what must hold of each message with the counts of an agent. Must never look at the world. */
import type { AgentMessageOf } from '../../src/control/message.ts';

type Said = AgentMessageOf<'stats'>['stats'];

/** What was counted last, by name. */
export type Counted = Map<string, number>;

/** What only grows within an epoch. */
const GROWING = ['established', 'closed', 'reopened', 'reopenFailed'] as const;
const GROWING_LOAD = ['churned', 'lowered', 'openedLater'] as const;

/** Of counts by reason. */
export function sum(counts: Readonly<Record<string, number | undefined>>): number {
  let total = 0;
  for (const count of Object.values(counts)) total += count ?? 0;
  return total;
}

/**
 * What is wrong with the counts of a message, in words.
 * @param counted of the message before; becomes that of this one
 * @param isLast what is open is still to be closed, and counts as closed
 */
export function brokenCounts(stats: Said, counted: Counted, isLast: boolean): string[] {
  const { attempted, established, pending, open, closed } = stats;
  const [failed, dropped] = [sum(stats.failed), sum(stats.dropped)];
  const broken = fallen(stats, { failed, dropped }, counted);
  if (attempted !== established + failed + pending)
    broken.push(
      `attempted ${attempted} is not ${established} established, ${failed} failed and ${pending} pending`,
    );
  if (isLast && pending > 0) broken.push(`${pending} are pending when it is done`);
  // The last message has what was open before it was closed.
  const nowOpen = isLast ? 0 : open;
  if (established !== nowOpen + closed + dropped || open + dropped > established)
    broken.push(`established ${established} is not ${open} open, ${closed} closed and ${dropped} dropped`);
  return [...broken, ...brokenLoad(stats, { failed, dropped }, counted, isLast)];
}

function fallen(
  stats: Said,
  sums: { readonly failed: number; readonly dropped: number },
  counted: Counted,
): string[] {
  const broken: string[] = [];
  const look = (name: string, count: number): void => {
    const before = counted.get(name) ?? 0;
    if (count < before) broken.push(`${name} fell from ${before} to ${count}`);
    counted.set(name, count);
  };
  for (const name of GROWING) look(name, stats[name]);
  look('failed', sums.failed);
  look('dropped', sums.dropped);
  return broken;
}

/** Our own closes apart from losses, and each in the stage in which it was. */
function brokenLoad(
  { load, established, closed, open, dropped: droppedBy }: Said,
  { failed, dropped }: { readonly failed: number; readonly dropped: number },
  counted: Counted,
  isLast: boolean,
): string[] {
  // What has not changed is not said again.
  if (load === undefined || load === null) return [];
  const broken: string[] = [];
  for (const name of GROWING_LOAD) {
    const before = counted.get(name) ?? 0;
    if (load[name] < before) broken.push(`${name} fell from ${before} to ${load[name]}`);
    counted.set(name, load[name]);
  }
  const ours = load.churned + load.lowered + (isLast ? open : 0);
  if (closed !== ours)
    broken.push(
      `closed ${closed} is not ${load.churned} in their turn and ${load.lowered} because the line went down${isLast ? `, and ${open} at the end` : ''}`,
    );
  const { stages } = load;
  if (stages.length === 0) return broken;
  const inStages = (name: 'established' | 'failed' | 'dropped' | 'lowered' | 'churned'): number =>
    stages.reduce((all, stage) => all + stage[name], 0);
  const known = { established, failed, lowered: load.lowered, churned: load.churned };
  for (const name of ['established', 'failed', 'lowered', 'churned'] as const)
    if (inStages(name) !== known[name])
      broken.push(`${inStages(name)} ${name} in stages, and ${known[name]} in all`);
  // What goes with a holder is in no stage.
  const ofHolders = droppedBy['holder-lost'] ?? 0;
  if (inStages('dropped') !== dropped - ofHolders)
    broken.push(`${inStages('dropped')} dropped in stages, and ${dropped - ofHolders} in all`);
  return broken;
}
