/**
 * Owns a coordinator in a process of its own that lives through a long run in little time: everything that happens each
 * second happens many times a second, and the report so far is written as often. Forked by the soak test; it tells its
 * parent how large it and its children are.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { generateToken } from '../../src/control/token.ts';
import { Run } from '../../src/coordinator/run.ts';
import { UNWATCHED } from '../../src/coordinator/run-watch.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { reportJson } from '../../src/report/formats.ts';
import { systemClock } from '../../src/time/timer.ts';

/** The compiled path of this program, to fork. */
export const SOAK_ENTRY = fileURLToPath(import.meta.url);

/** What the parent asks for, as JSON in the first argument. */
export interface SoakOrder {
  readonly targetPort: number;
  readonly entryPath: string;
  readonly connections: number;
  readonly holdMs: number;
  /** how many times faster than a second is */
  readonly faster: number;
}

/** What it tells. */
export type SoakNews =
  | { readonly type: 'partial'; readonly bytes: number; readonly points: number; readonly isPartial: boolean }
  | { readonly type: 'report'; readonly report: RunReport };

function say(news: SoakNews): void {
  process.send?.(news);
}

async function main(order: SoakOrder): Promise<void> {
  const { faster } = order;
  // A clock whose hands for people jump an hour back and forth: nothing that counts may look at them.
  let readings = 0;
  const clock = {
    monotonicMs: systemClock.monotonicMs,
    wallMs: () => systemClock.wallMs() + (readings++ % 2 === 0 ? 3_600_000 : -3_600_000),
  };
  const run = new Run({
    spec: {
      endpoints: [{ address: '127.0.0.1', port: order.targetPort, family: 4 }],
      protocol: 'echo',
      connections: order.connections,
      ratePerSec: null,
      pendingMax: 100,
      connectTimeoutMs: 5_000,
      holdMs: order.holdMs,
      close: 'rst',
      probeEveryMs: 500,
      probeTimeoutMs: 5_000,
      sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
      holders: 1,
      onDrop: 'reopen',
      wantsLossDetails: true,
    },
    targetText: [`echo://127.0.0.1:${order.targetPort}`],
    entryPath: order.entryPath,
    toolVersion: '0.0.0',
    clock,
    listen: { host: '127.0.0.1', port: 0 },
    token: generateToken(),
    hasLocalAgent: true,
    remoteAgents: 0,
    waitAgentsMs: 30_000,
    onAgentLoss: 'continue',
    // Links are made anew as much faster: on a busy machine many of them come late, and no lease may end of it.
    lease: { quietMs: 5_000 / faster, leaseMs: 120_000, marginMs: 5_000 },
    ssh: null,
    watch: {
      ...UNWATCHED,
      onLosses: () => {},
      onPartial: (report) =>
        say({
          type: 'partial',
          bytes: reportJson(report).length,
          points: report.timeline.length,
          isPartial: report.isPartial,
        }),
      partialEveryMs: 60_000 / faster,
    },
    onProgress: () => {},
    onNote: (line) => process.stderr.write(`${line}\n`),
    onListening: () => {},
  });
  say({ type: 'report', report: await run.start() });
}

/** Resident bytes of a process; 0 when it is gone. */
export function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1_024;
  } catch {
    return 0;
  }
}

if (process.argv[1] === SOAK_ENTRY) {
  await main(JSON.parse(process.argv[2] ?? '{}') as SoakOrder);
  process.disconnect?.();
}
