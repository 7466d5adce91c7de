/**
 * Owns a run of the coordinator in this process, for agents that lie to it over a real socket. Must never join one that tells
 * the truth unless it is asked for.
 */
import type { TestContext } from 'node:test';
import { generateToken, type Token } from '../../src/control/token.ts';
import { Run } from '../../src/coordinator/run.ts';
import type { RunOptions } from '../../src/coordinator/run-settings.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { systemClock } from '../../src/time/timer.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { RawAgent } from './raw-agent.ts';
import { ScriptedAgent } from './scripted-agent.ts';

const LEASE = { quietMs: 1_000, leaseMs: 3_000, marginMs: 500 };

export interface Lied {
  readonly port: number;
  readonly token: Token;
  readonly notes: string[];
  readonly report: Promise<RunReport>;
}

/** What a run is started with that waits for agents from elsewhere, ten connections for each. @param change of its options */
export function runOptions(change: Partial<RunOptions> = {}): RunOptions {
  const remoteAgents = change.remoteAgents ?? 1;
  return {
    spec: runSpec({ connections: 10 * remoteAgents, holdMs: 400 }),
    targetText: ['127.0.0.1:80'],
    entryPath: '',
    toolVersion: '0.0.0',
    clock: systemClock,
    listen: { host: '127.0.0.1', port: 0 },
    token: generateToken(),
    hasLocalAgent: false,
    remoteAgents,
    waitAgentsMs: 20_000,
    onAgentLoss: 'continue',
    lease: LEASE,
    ssh: null,
    onProgress: () => {},
    onNote: () => {},
    onListening: () => {},
    ...change,
  };
}

/** Starts one. */
export async function start(t: TestContext, change: Partial<RunOptions> = {}): Promise<Lied> {
  const notes: string[] = [];
  const options = runOptions({ onNote: (line) => notes.push(line), ...change });
  let report: Promise<RunReport> | null = null;
  const port = await new Promise<number>((resolve, reject) => {
    const run = new Run({ ...options, onListening: (bound) => resolve(bound.port) });
    report = run.start();
    report.catch(reject);
    t.after(() => {
      // Ends what a failed test has left open.
      run.interrupt('SIGTERM');
      run.interrupt('SIGTERM');
    });
  });
  return { port, token: options.token, notes, report: report! };
}

/** A liar that has said all that an honest agent says, up to the start. */
export async function begun(t: TestContext, { port, token }: Lied, hello: object = {}): Promise<RawAgent> {
  const liar = await RawAgent.join(port, token, hello);
  t.after(() => liar.leave());
  await liar.hears('spec');
  liar.offer(10);
  await liar.hears('quota');
  liar.ready();
  await liar.hears('start');
  return liar;
}

/** With an honest one beside it. */
export async function besideHonest(
  t: TestContext,
): Promise<Lied & { readonly liar: RawAgent; readonly epoch: number }> {
  const run = await start(t, { remoteAgents: 2 });
  const honest = await ScriptedAgent.join(run.port, run.token, {
    name: 'honest',
    reportEveryMs: 200,
    capacity: 10,
  });
  t.after(() => honest.leave());
  const liar = await begun(t, run);
  const { epoch } = (await liar.hears('spec')) as unknown as { epoch: number };
  return { ...run, liar, epoch };
}
