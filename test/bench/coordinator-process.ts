/**
 * Owns the coordinator under measurement: the real one (src/coordinator/run.ts) in a process of its own, with the plain
 * progress lines of the command line, so that its CPU and memory can be read from outside. Forked by
 * coordinator-scale.ts; the key comes over the environment. Must never measure itself but for the age of messages,
 * which only the receiver can know: a simulated agent puts the time of sending into `rampMs`.
 */
import assert from 'node:assert/strict';
import { readAgents } from '../../src/api/agents-request.ts';
import { readRunRequest, specOf } from '../../src/api/run-request.ts';
import { environmentToken } from '../../src/api/token-source.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { createDisplay } from '../../src/cli/progress-display.ts';
import { Run } from '../../src/coordinator/run.ts';
import type { Progress } from '../../src/coordinator/run-progress.ts';
import type { RunOptions } from '../../src/coordinator/run-settings.ts';
import { LatencyRecorder, latencySummary } from '../../src/stats/histogram.ts';
import { systemClock } from '../../src/time/timer.ts';
import { hostMonotonicMs } from './host-time.ts';

/** What the parent is told, in this order: `listening`, one `phase` each, `report`. */
export type CoordinatorNews =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'phase'; readonly phase: string; readonly atMs: number }
  | {
      readonly type: 'report';
      readonly verdict: string;
      readonly held: number;
      readonly agents: number;
      readonly lost: readonly string[];
      readonly statsMessages: number;
      readonly lagMs: { readonly p50: number; readonly p99: number; readonly max: number };
      readonly notes: readonly string[];
      /** highest resident size of the whole run, the final messages of all agents and the report included */
      readonly residentBytesMax: number;
      /** after collecting garbage, before the first agent came and in the hold; 0: not asked for (`--expose-gc`) */
      readonly heapBytes: { readonly idle: number; readonly holding: number };
    };

/** What the parent asks for, as JSON in the first argument. */
export interface CoordinatorOrder {
  readonly agents: number;
  readonly connections: number;
  readonly holdMs: number;
  readonly waitAgentsMs: number;
}

const US_PER_MS = 1_000;

/** The heap after collecting garbage; 0 where Node was not started for that. */
function heapBytes(): number {
  const { gc } = globalThis;
  if (gc === undefined) return 0;
  gc();
  return process.memoryUsage().heapUsed;
}

function tellParent(news: CoordinatorNews): void {
  process.send?.(news);
}

async function main(): Promise<void> {
  const order = JSON.parse(process.argv[2] ?? '{}') as CoordinatorOrder;
  const lag = new LatencyRecorder();
  let phase = '';
  const heap = { idle: 0, holding: 0 };
  const onRecord: RunOptions['onRecord'] = ({ message }) => {
    // In the ramp the agents are still told to start; from then on the age of a message is the coordinator's doing.
    if (message.type !== 'stats' || phase !== 'holding') return;
    lag.record((hostMonotonicMs() - message.stats.rampMs) * US_PER_MS);
  };
  const display = createDisplay(
    process.stderr,
    { quiet: false, periodic: true, everyMs: 5_000 },
    process.env,
  );
  // The flags that a user types, so that every option is as a real run has it. The key comes from C100K_TOKEN.
  const flags = [
    `--target 127.0.0.1:9 --conns ${order.connections} --duration ${order.holdMs}ms`,
    `--expect-agents ${order.agents} --wait-agents ${order.waitAgentsMs}ms --listen 127.0.0.1:0`,
  ];
  const parsed = await parseCommandLine(flags.join(' ').split(' '), {}, '0.0.0', 80);
  assert(parsed.kind === 'command');
  const request = readRunRequest(parsed.values);
  const run = new Run({
    spec: specOf(request, [{ address: '127.0.0.1', port: 9, family: 4 }]),
    targetText: ['127.0.0.1:9'],
    entryPath: '',
    toolVersion: '0.0.0',
    clock: systemClock,
    ...(await readAgents(parsed.values, environmentToken())),
    onProgress: (progress: Progress) => {
      display.show(progress);
      // By the end of the hold each agent has said all that is kept of it.
      if (progress.phase === 'draining' && phase === 'holding') heap.holding = heapBytes();
      if (progress.phase === phase) return;
      phase = progress.phase;
      tellParent({ type: 'phase', phase, atMs: hostMonotonicMs() });
    },
    onNote: (line) => display.note(line),
    onListening: ({ port }) => {
      heap.idle = heapBytes();
      tellParent({ type: 'listening', port });
    },
    onRecord,
  });
  const report = await run.start();
  const { count, p50, p99, max } = latencySummary(lag.sparse());
  const ms = (us: number | null): number => (us ?? 0) / US_PER_MS;
  tellParent({
    type: 'report',
    verdict: report.verdict,
    held: report.connections.held,
    agents: report.agents.length,
    lost: report.agents.filter((agent) => agent.lost).map((agent) => agent.name),
    statsMessages: count,
    lagMs: { p50: ms(p50), p99: ms(p99), max: ms(max) },
    notes: report.notes,
    residentBytesMax: process.resourceUsage().maxRSS * 1_024,
    heapBytes: heap,
  });
  process.disconnect();
}

await main();
