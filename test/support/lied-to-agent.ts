/**
 * Owns an agent of the real program that is lied to (lying-coordinator.ts): its start, and what it must do when it refuses.
 * Must never send anything beyond loopback.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { AgentMessage } from '../../src/control/message.ts';
import { startAgent } from './agents.ts';
import { until } from './bench-run.ts';
import {
  honestQuota,
  honestSpec,
  type LyingCoordinator,
  renewing,
  type Victim,
} from './lying-coordinator.ts';
import type { RunningCli } from './run-cli.ts';

/** Ends a wait that would last for ever. */
export const WITHIN_MS = 90_000;
/** An agent looks at its lease 250 ms apart, and reports each second. */
export const LEASE = { leaseMs: 3_000, quietMs: 1_000 };

/** An honest spec with something of what the run asks for changed. */
export const specWith = (port: number, change: object): object => {
  const honest = honestSpec(port);
  return { ...honest, spec: { ...honest.spec, ...change } };
};

/** Starts the agent that is lied to. */
export function agentOf(t: TestContext, liar: LyingCoordinator, flags: readonly string[] = []): RunningCli {
  return startAgent(t, `127.0.0.1:${liar.port}`, 'ada', liar.tokenText, flags);
}

/** It hears the refusal, its owner reads it, and it ends by itself. */
export async function assertRefused(
  agent: RunningCli,
  liar: LyingCoordinator,
  pattern: RegExp,
  code: number,
): Promise<void> {
  await until('the coordinator hears the refusal', WITHIN_MS, () => pattern.test(liar.refusals().join('\n')));
  const ended = await agent.result;
  assert.equal(ended.code, code, ended.stderr);
  assert.match(ended.stderr, /agent ada: refused: /);
  assert.doesNotMatch(ended.stderr, /this is a bug/);
}

/** Goes on whatever it hears: quota, start, hold, and the lease. */
export function goingOn(quota: object): (message: { readonly type: string }, victim: Victim) => void {
  return (message, victim) => {
    renewing(message as Parameters<typeof renewing>[0], victim);
    if (message.type === 'stats') for (const type of ['start', 'hold']) victim.say({ type });
    if (message.type !== 'stats') victim.say(quota);
  };
}

/**
 * Follows the protocol as far as the start, over and over: where the machine is busy a channel is cut, and what was said on it once is lost.
 * @param quota answers the offer
 */
export function obliging(message: AgentMessage, victim: Victim, quota: object = honestQuota(5)): void {
  renewing(message, victim);
  if (message.type === 'offer') victim.say(quota);
  if (message.type === 'ready' || message.type === 'stats') victim.say({ type: 'start' });
}
