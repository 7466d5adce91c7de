/**
 * Owns what a simulated host says of itself to its agent: facts, `ip`, what the kernel counts, its records of aliases. Must
 * never read the real host.
 */

import type { RunProgram } from '../../../src/host/command.ts';
import type { HostFacts } from '../../../src/host/host-facts.ts';
import type { Alias } from '../../../src/run/alias.ts';
import type { AliasRecord } from '../../../src/sources/alias-records.ts';
import { FACTS } from '../../plan/plan-fixture.ts';
import type { SimProcess } from '../virtual-time.ts';
import { currentWorld } from '../world.ts';

/** Children under simulation write nothing. */
export { eachLine, startProgram } from '../../../src/host/command.ts';

const ANSWER_MS_MAX = 30;

async function answerSoon(): Promise<void> {
  const { random } = currentWorld();
  await currentWorld().sleep(random.between(0, ANSWER_MS_MAX));
}

export async function gatherHostFacts(): Promise<HostFacts> {
  await answerSoon();
  return FACTS;
}

/** On the host whose process asks. */
export const runProgram: RunProgram = (...asked) => {
  const world = currentWorld();
  return world.host(world.time.current.host).ip.run(...asked);
};

export async function countEstablished(): Promise<{
  readonly established: number;
  readonly others: number;
  readonly method: 'sock-diag';
}> {
  const world = currentWorld();
  const { host } = world.time.current;
  await answerSoon();
  return { established: world.establishedOn(host), others: 0, method: 'sock-diag' };
}

export async function untilClosed(): Promise<void> {
  await answerSoon();
}

/** One connect, which the target sees; nothing is held. */
export async function lookAfter(
  _run: RunProgram,
  _endpoints: readonly unknown[],
  { mayConnect }: { readonly mayConnect: () => boolean },
): Promise<Record<string, never>> {
  const world = currentWorld();
  const { current } = world.time;
  if (mayConnect()) world.connectedOnce(current);
  await answerSoon();
  return {};
}

export const hasCapability = (): boolean => true;
export const ownTasks = (): number => 0;
/** No process waits for a core. */
export const coreWaitMs = (): number => 0;
/** Whether the process with this id is stopped. */
export const isStopped = (_proc: string, pid: number): boolean =>
  currentWorld().pids.get(pid)?.state === 'stopped';
export const readText = (): null => null;
export const readNetworkSettings = (): readonly never[] => [];
/** Without io_uring the plan is the same on every machine that simulates. */
export const probeUring = (): { readonly text: string } => ({ text: 'simulated' });

const LOCK_MS_MAX = 10_000;
const LOCK_RETRY_MS = 20;

/** As src/sources/alias-records.ts has it; a record lies in a folder of the host. */
export class AliasRecords {
  readonly foreignFolder = null;
  readonly #me = currentWorld().time.current;

  get #records(): Map<SimProcess, readonly Alias[]> {
    return currentWorld().host(this.#me.host).ip.records;
  }

  write(aliases: readonly Alias[]): boolean {
    if (aliases.length === 0) this.#records.delete(this.#me);
    else this.#records.set(this.#me, aliases);
    return true;
  }

  read(): AliasRecord[] {
    return [...this.#records].map(([writer, aliases]) => ({
      path: String(writer.number),
      pid: writer.number,
      aliases,
      isAlive: writer.state !== 'dead',
      isMine: writer === this.#me,
    }));
  }

  erase(path: string): boolean {
    for (const writer of this.#records.keys())
      if (String(writer.number) === path) this.#records.delete(writer);
    return true;
  }
}

/** As src/sources/alias-records.ts has it: the kernel gives up the lock of a process that is dead. */
export async function withAddressLock<Result>(work: (isLocked: boolean) => Promise<Result>): Promise<Result> {
  const { time } = currentWorld();
  const me = time.current;
  const { ip } = currentWorld().host(me.host);
  const untilMs = time.nowMs + LOCK_MS_MAX;
  // One process may ask twice, and then waits for itself.
  while (ip.lockedBy !== null && ip.lockedBy.state !== 'dead' && time.nowMs < untilMs)
    await currentWorld().sleep(LOCK_RETRY_MS);
  const isLocked = ip.lockedBy === null || ip.lockedBy.state === 'dead';
  if (isLocked) ip.lockedBy = me;
  try {
    return await work(isLocked);
  } finally {
    if (isLocked) ip.lockedBy = null;
  }
}
