/**
 * Owns a coordinator in a process of its own, for tests that stop and kill it: the real run (src/coordinator/run.ts), with
 * every message written to a file as it passes. Forked by a test; the token comes over the environment. It tells its
 * parent where it listens, and then each phase.
 */
import { appendFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { parseToken } from '../../src/control/token.ts';
import { Run } from '../../src/coordinator/run.ts';
import type { LeaseTimes } from '../../src/run/lease.ts';
import type { LossPolicy } from '../../src/run/run-spec.ts';
import type { Phase } from '../../src/stats/stats.ts';
import { systemClock } from '../../src/time/timer.ts';

/** The compiled path of this program, to fork. */
export const COORDINATOR_ENTRY = fileURLToPath(import.meta.url);

/** What the parent asks for, as JSON in the first argument. */
export interface CoordinatorOrder {
  readonly targetPort: number;
  readonly connections: number;
  readonly ratePerSec: number | null;
  readonly holdMs: number;
  readonly agents: number;
  readonly waitAgentsMs: number;
  readonly onAgentLoss: LossPolicy;
  readonly lease: LeaseTimes;
  /** one JSON line for each message, in order */
  readonly recordPath: string;
  readonly reportPath: string;
}

async function main(order: CoordinatorOrder): Promise<number> {
  let told: Phase = 'gathering';
  const run = new Run({
    spec: {
      endpoints: [{ address: '127.0.0.1', port: order.targetPort, family: 4 }],
      protocol: 'tcp',
      connections: order.connections,
      ratePerSec: order.ratePerSec,
      pendingMax: 100,
      connectTimeoutMs: 5_000,
      holdMs: order.holdMs,
      close: 'rst',
      probeEveryMs: null,
      probeTimeoutMs: 10_000,
      sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
      holders: null,
      onDrop: 'count',
      wantsLossDetails: false,
    },
    targetText: [`127.0.0.1:${order.targetPort}`],
    entryPath: '',
    toolVersion: '0.0.0',
    clock: systemClock,
    listen: { host: '127.0.0.1', port: 0 },
    token: parseToken(process.env.C100K_TOKEN ?? ''),
    hasLocalAgent: false,
    remoteAgents: order.agents,
    waitAgentsMs: order.waitAgentsMs,
    onAgentLoss: order.onAgentLoss,
    lease: order.lease,
    ssh: null,
    onProgress: ({ phase }) => {
      if (phase !== told) process.send?.(phase);
      told = phase;
    },
    onNote: (line) => process.stderr.write(`${line}\n`),
    onListening: ({ port }) => process.send?.(port),
    // At once: what was written is there, even when this process is killed the next moment.
    onRecord: (entry) => appendFileSync(order.recordPath, `${JSON.stringify(entry)}\n`),
  });
  const report = await run.start();
  writeFileSync(order.reportPath, JSON.stringify(report));
  return report.exitCode;
}

if (process.argv[1] === COORDINATOR_ENTRY) {
  try {
    process.exitCode = await main(JSON.parse(process.argv[2] ?? '{}') as CoordinatorOrder);
  } catch (error) {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = error instanceof BenchError ? error.exitCode : ExitCode.bug;
  }
  if (process.connected) process.disconnect();
}
