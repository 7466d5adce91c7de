/**
 * Owns what a simulated host says of itself to its agent: facts, `ip`, what the kernel counts, its records of aliases. Must
 * never read the real host.
 */
import type { HostFacts } from '../../../src/host/host-facts.ts';
import type { Alias } from '../../../src/run/alias.ts';
import { FACTS } from '../../plan/plan-fixture.ts';
import { currentWorld } from '../world.ts';

const ANSWER_MS_MAX = 30;

async function answerSoon(): Promise<void> {
  const { random } = currentWorld();
  await currentWorld().sleep(random.between(0, ANSWER_MS_MAX));
}

export async function gatherHostFacts(): Promise<HostFacts> {
  await answerSoon();
  return FACTS;
}

interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly missing: boolean;
  readonly truncated: boolean;
}

export async function runProgram(): Promise<Answer> {
  await answerSoon();
  return { code: 0, stdout: '[]', stderr: '', missing: false, truncated: false };
}

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

export async function lookAfter(): Promise<Record<string, never>> {
  await answerSoon();
  return {};
}

export const hasCapability = (): boolean => true;
export const ownTasks = (): number => 0;
export const readText = (): null => null;
export const readNetworkSettings = (): readonly never[] => [];
/** Without io_uring the plan is the same on every machine that simulates. */
export const probeUring = (): { readonly text: string } => ({ text: 'simulated' });

/** No record is left by anyone. */
export class AliasRecords {
  readonly foreignFolder = null;
  write(_aliases: readonly Alias[]): boolean {
    return true;
  }
  read(): never[] {
    return [];
  }
  erase(): boolean {
    return true;
  }
}

export function withAddressLock<Result>(work: (isLocked: boolean) => Promise<Result>): Promise<Result> {
  return work(true);
}
