/**
 * Owns the engine that a test's runs are driven with: `TEST_ENGINE=uring|epoll`, which the runner of the tests sets for each
 * file of its matrix. Must never let it be without effect: what a report says of its engine is checked against it.
 */
import assert from 'node:assert/strict';
import type { RunReport } from '../../src/judge/report.ts';

const VARIABLE = 'TEST_ENGINE';

export const ENGINES = ['uring', 'epoll'] as const;

export type TestEngine = (typeof ENGINES)[number];

/** What the variable says; null: nothing, and `auto` decides. */
export function testEngine(): TestEngine | null {
  const text = process.env[VARIABLE] ?? '';
  if (text === '') return null;
  const engine = ENGINES.find((name) => name === text);
  assert(engine, `${VARIABLE}=${text} is not known: use ${ENGINES.join(' or ')}`);
  return engine;
}

/** The environment of a test file that runs with this engine. */
export function environmentFor(engine: TestEngine | null): NodeJS.ProcessEnv {
  return engine === null ? process.env : { ...process.env, [VARIABLE]: engine };
}

/** What the command line takes it from; `--engine` of a test that is about one engine alone goes before it. */
export function engineVariable(): Readonly<Record<string, string>> {
  const engine = testEngine();
  return engine === null ? {} : { C100K_ENGINE: engine };
}

/**
 * Fails where agents used another engine than the variable says, unless the test's own command line or the protocol asked
 * for one.
 */
export function checkEngine({ agents }: Pick<RunReport, 'agents'>, args: readonly string[]): void {
  const engine = testEngine();
  const isOwnChoice = args.includes('--engine') || args.some((arg) => /^(?:tls|wss|https):\/\//.test(arg));
  if (engine === null || isOwnChoice) return;
  // An agent that never offered anything names none.
  for (const agent of agents) if (agent.engine !== null) assert.equal(agent.engine.name, engine, agent.name);
}
