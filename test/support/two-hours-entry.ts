/**
 * Owns a process that lives through two hours of a changing load in little time, on a clock that it moves by itself: one engine with real sockets, or
 * what a coordinator keeps of a run. Forked by a test, which it gives its size to after every ten minutes. Must never judge it.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { DropReason } from '../../src/base/outcome.ts';
import { LivePage } from '../../src/coordinator/live-page.ts';
import { MetricsExport } from '../../src/coordinator/metrics-export.ts';
import { RunLog, runFacts } from '../../src/coordinator/run-facts.ts';
import type { RunOptions } from '../../src/coordinator/run-settings.ts';
import { RunWatch, UNWATCHED } from '../../src/coordinator/run-watch.ts';
import { makeReport } from '../../src/judge/run-report.ts';
import type { EngineName } from '../../src/run/run-spec.ts';
import { initialRunState } from '../../src/run/run-transition.ts';
import { targetAt } from '../../src/run/schedule.ts';
import { type Loss, RecentLossRing } from '../../src/stats/loss.ts';
import { ReturnRecorder } from '../../src/stats/returns.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { EngineRun, ManualClock, specTo } from '../engine/engine-run.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

/** The compiled path of this program, to fork. */
export const TWO_HOURS_ENTRY = fileURLToPath(import.meta.url);

/** What is said after every ten minutes. */
export interface Size {
  readonly atMinute: number;
  readonly heapBytes: number;
  readonly residentBytes: number;
  readonly descriptors: number;
  /** what has come and gone by then, or was lost */
  readonly passed: number;
}

const SECONDS = 7_200;
const SAMPLE_EVERY_SEC = 600;
const CONNECTIONS = 120;
const LOW = 40;
/** Ten minutes: up, flat, down, flat. */
const CYCLE = [
  { durationMs: 60_000, connections: CONNECTIONS },
  { durationMs: 300_000, connections: CONNECTIONS },
  { durationMs: 60_000, connections: LOW },
  { durationMs: 180_000, connections: LOW },
];
const RESET_AT_SEC = 200;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function saySize(second: number, passed: number): void {
  collect();
  collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  const size: Size = {
    atMinute: second / 60,
    heapBytes: heapUsed + external,
    residentBytes: rss,
    descriptors: readdirSync('/proc/self/fd').length,
    passed,
  };
  process.send?.(size);
}

/** Echoes; resets so many when it is asked to. */
function serveEcho(): void {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.pipe(socket);
  });
  process.on('message', (count: number) => {
    for (const socket of [...sockets].slice(0, count)) socket.resetAndDestroy();
  });
  process.on('disconnect', () => process.exit());
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, () => {
    const address = server.address();
    assert(address !== null && typeof address === 'object');
    process.send?.(address.port);
  });
}

async function liveAsEngine(engine: EngineName, port: number): Promise<void> {
  const clock = new ManualClock();
  const stages = Array.from({ length: SECONDS / SAMPLE_EVERY_SEC }, () => CYCLE).flat();
  const run = new EngineRun(
    specTo(port, CONNECTIONS, {
      engine,
      stages,
      protocol: 'echo',
      probeEveryMs: 30_000,
      probeTimeoutMs: 3_600_000,
      connectTimeoutMs: 3_600_000,
      churn: { kind: 'rate', perSec: 5 },
      onDrop: 'reopen',
      wantsLossDetails: true,
    }),
    clock,
  );
  run.engine.start();
  let lost = 0;
  for (let second = 0; second <= SECONDS; second++) {
    if (second === CYCLE[0]!.durationMs / 1_000) run.engine.markHold();
    if (second % SAMPLE_EVERY_SEC === RESET_AT_SEC) process.send?.('reset');
    const wanted = targetAt(stages, [{ from: 0, to: CONNECTIONS }], second * 1_000);
    for (let stats = run.stats(); stats.open !== wanted || stats.pending > 0; stats = run.stats())
      await nextTurn();
    lost += run.engine.takeLosses(1_000).length;
    run.engine.load();
    if (second > 0 && second % SAMPLE_EVERY_SEC === 0)
      saySize(second, (run.stats().load?.churned ?? 0) + lost);
    run.advance(clock, 1_000);
  }
  await run.stop();
}

/** What three agents say each second, and what is made of it. */
async function liveAsCoordinator(): Promise<void> {
  const clock = new ManualClock();
  const beganMs = clock.monotonicMs();
  const spec = runSpec({
    connections: 3_000,
    onDrop: 'reopen',
    wantsLossDetails: true,
    backendFrom: 'header:X',
    holdMs: SECONDS * 1_000,
  });
  const counts = {
    openNow: 3_000,
    openMax: 3_000,
    acceptedTotal: 3_000,
    sourceAddresses: 3,
    descriptorsFull: 0,
    workersLost: 0,
  };
  const watchOptions = {
    ...UNWATCHED,
    onLosses: () => {},
    targetWitness: { source: 'a test', targets: 1, isRequired: true, ask: async () => ({ counts }) },
  };
  const options: RunOptions = {
    spec,
    targetText: ['127.0.0.1:80'],
    entryPath: '',
    toolVersion: '0.0.0',
    clock,
    listen: { host: '127.0.0.1', port: 0 },
    token: { identity: '', key: Buffer.alloc(32) } as never as RunOptions['token'],
    hasLocalAgent: false,
    remoteAgents: 3,
    waitAgentsMs: 1_000,
    onAgentLoss: 'continue',
    ssh: null,
    watch: watchOptions,
    onProgress: () => {},
    onNote: () => {},
    onListening: () => {},
  };
  const state = {
    ...initialRunState(
      spec,
      {
        agentsExpected: 3,
        gatherMs: 1,
        prepareMs: 1,
        stallMs: 1,
        drainMs: 1,
        leaseMs: 1,
        onAgentLoss: 'continue',
      },
      beganMs,
    ),
    phase: 'holding' as const,
  };
  const log = new RunLog(spec);
  const watch = new RunWatch(watchOptions);
  const page = await LivePage.start({ host: '127.0.0.1', port: 0 }, clock);
  const metrics = await MetricsExport.start(
    { listen: { host: '127.0.0.1', port: 0 }, otlp: null, onNote: () => {} },
    clock,
  );
  const reader = (await fetch(`${page.url}events`)).body?.getReader();
  const reading = (async () => {
    while ((await reader?.read())?.done === false);
  })().catch(() => {});
  log.phaseChanged('preparing', 'ramping', beganMs);
  log.phaseChanged('ramping', 'holding', beganMs + 1);
  watch.rampBegins(beganMs, clock.wallMs());
  watch.holdBegins();
  const agents = ['ada', 'bob', 'cyd'].map((name) => ({
    name,
    losses: new RecentLossRing(),
    returns: new ReturnRecorder(),
    stats: emptyStats(),
  }));
  let lost = 0;
  for (let second = 1; second <= SECONDS; second++) {
    clock.advance(1_000);
    const atMs = clock.monotonicMs();
    const sinceMs = atMs - beganMs;
    // Every ten minutes a tenth goes at once; between, one a second, each of another place.
    const count = second % SAMPLE_EVERY_SEC === RESET_AT_SEC ? 100 : 1;
    for (const agent of agents) {
      const details: Loss[] = [];
      for (let each = 0; each < count; each++) {
        agent.losses.add(sinceMs);
        agent.returns.called(sinceMs);
        agent.returns.isBack(sinceMs);
        details.push({
          atMs: sinceMs,
          holder: `${agent.name}/0`,
          source: `10.0.${second % 256}.${each}`,
          endpoint: `10.1.0.1:${second % 60_000}`,
          ageMs: 1_000,
          reason: DropReason.rst,
          count: 1,
        });
      }
      lost += count;
      const before = agent.stats;
      agent.stats = {
        ...before,
        established: before.established + count,
        open: 1_000,
        connectUs: [second % 400, second],
      };
      log.recentLosses(agent.name, agent.losses.list(), agent.returns.list(), beganMs, atMs);
      log.lossDetails(details, atMs);
      watch.takeLosses(agent.name, details);
      log.reported(before, agent.stats, atMs);
      log.backends({ one: second % 1_000, two: 1_000 }, 'holding', atMs);
    }
    log.sampleHoldCpu(atMs, () => second);
    await watch.askTarget();
    log.addPoint(
      atMs,
      {
        phase: 'holding',
        open: 3_000 - count,
        established: 3_000 + lost,
        pending: 0,
        failed: 0,
        dropped: lost,
        verified: 0,
        seenByTarget: 3_000,
      },
      second % 100 === 0,
    );
    const report = () =>
      makeReport(
        runFacts({ options, state, log, watch, startedWallMs: beganMs, still: null }, { isPartial: true }),
      );
    log.metricFacts(agents[0]!.stats, 'holding', atMs);
    metrics.update(report);
    // A page takes some milliseconds: a tenth of those of two hours grows as all of them would.
    if (second % 10 === 0) page.update(report);
    if (second % 60 === 0) await (await fetch(metrics.url ?? '')).text();
    if (second % 10 === 0) await nextTurn();
    if (second % SAMPLE_EVERY_SEC === 0) saySize(second, lost);
  }
  page.close();
  metrics.close();
  await reader?.cancel();
  await reading;
}

if (process.argv[1] === TWO_HOURS_ENTRY) {
  const [, , part = '', port = ''] = process.argv;
  if (part === 'target') serveEcho();
  else {
    if (part === 'coordinator') await liveAsCoordinator();
    else await liveAsEngine(part as EngineName, Number(port));
    process.disconnect?.();
    process.exit();
  }
}
