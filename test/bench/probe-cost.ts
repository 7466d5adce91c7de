/**
 * Owns the question what 20,000 probes a second cost a holder, by echo and by WebSocket pings, and how many WebSocket
 * connections it opens with one core.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineName, HolderSpec } from '../../src/run/run-spec.ts';
import { HolderProcess } from '../agent/holder-process.ts';
import { type Figure, figure } from './figure.ts';
import type { Yardstick } from './yardstick.ts';

const CONNECTIONS = 10_000;
/** 20,000 probes a second */
const PROBE_EVERY_MS = 500;
const RAMP_TIMEOUT_MS = 120_000;

/** Protocol, engine, name of the figure, and its bound in percent of a core. */
const PROBES: readonly (readonly ['echo' | 'ws', EngineName, string, number])[] = [
  ['echo', 'epoll', 'probe-cpu-echo', 50],
  ['echo', 'uring', 'uring-probe-cpu-echo', 12],
  ['ws', 'epoll', 'probe-cpu-ws', 50],
];

/** What one holder did. */
export interface ProbeCost {
  /** of one core, while probing */
  readonly percent: number;
  readonly probesPerSec: number;
  readonly answeredRatio: number;
  /** CPU of the holder for one connection that it opened, handshake included, microseconds */
  readonly openUs: number;
  readonly openedPerSec: number;
}

/** A WebSocket server in C, which answers pings; compiled by `cc`. */
async function startWsResponder(
  sourceFolder: string,
  processes: number,
): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-ws-'));
  const program = join(folder, 'ws-responder');
  execFileSync('cc', ['-O2', '-Wall', '-o', program, join(sourceFolder, 'ws-responder.c')], {
    stdio: 'inherit',
  });
  const child = spawn(program, [String(processes)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout, 'data');
  return {
    port: Number(String(line)),
    stop: async () => {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Opens connections with one holder, probes them for a while, and reads what that cost. */
async function probeOnce(
  port: number,
  protocol: 'echo' | 'ws',
  {
    connections = CONNECTIONS,
    probeEveryMs = PROBE_EVERY_MS,
    holdMs = 5_000,
    engine = 'epoll' as EngineName,
  } = {},
): Promise<ProbeCost> {
  const ports = [{ from: 1_024, to: 65_535 }];
  const spec: HolderSpec = {
    id: 'probes/0',
    engine,
    addresses: ['127.0.0.9'],
    ports,
    endpoints: [{ address: '127.0.0.1', port, family: 4 }],
    sliceFrom: 0,
    sliceTo: 64_512,
    connections,
    ratePerSec: null,
    pendingMax: 500,
    connectTimeoutMs: 30_000,
    close: 'rst',
    protocol,
    probeEveryMs,
    probeTimeoutMs: 30_000,
  };
  const holder = new HolderProcess();
  try {
    await holder.prepare(spec);
    const idle = (await holder.report()).health;
    holder.send({ type: 'start' });
    await holder.until('the holder settles', () => holder.settled, RAMP_TIMEOUT_MS);
    const opened = await holder.report();
    assert.equal(opened.stats.open, connections, 'all are open');
    // The first probes are spread over a second of their own.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const before = await holder.report();
    const beganMs = performance.now();
    await new Promise((resolve) => setTimeout(resolve, holdMs));
    const after = await holder.report();
    const wallMs = performance.now() - beganMs;
    const cpuOf = ({ cpuUserMs, cpuSystemMs }: typeof idle): number => cpuUserMs + cpuSystemMs;
    const answered = after.stats.probesAnswered - before.stats.probesAnswered;
    assert.equal(after.stats.open, connections, 'all are still open');
    return {
      percent: ((cpuOf(after.health) - cpuOf(before.health)) / wallMs) * 100,
      probesPerSec: (answered / wallMs) * 1_000,
      answeredRatio: answered / Math.max(1, after.stats.probesSent - before.stats.probesSent),
      openUs: ((cpuOf(opened.health) - cpuOf(idle)) * 1_000) / connections,
      openedPerSec: (connections / opened.stats.rampMs) * 1_000,
    };
  } finally {
    await holder.stop();
  }
}

/** @param sourceFolder where the .c files are */
export async function measureProbeCost(yardstick: Yardstick, sourceFolder: string): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [protocol, engine, name, bound] of PROBES) {
    const server = protocol === 'echo' ? await yardstick.serve(1) : await startWsResponder(sourceFolder, 1);
    try {
      const cost = await probeOnce(server.port, protocol, { engine });
      // A machine that is too busy sends fewer: what counts is the cost of 20,000.
      const percent = (cost.percent / cost.probesPerSec) * 20_000;
      const samples = [cost.percent, cost.probesPerSec];
      const meaning = `CPU of one holder for 20,000 ${protocol} probes a second, ${engine}, of one core`;
      figures.push(
        figure({
          name,
          meaning,
          value: percent,
          unit: '%',
          bound,
          boundIs: 'at-most',
          samples,
        }),
      );
      if (protocol === 'ws') {
        figures.push(
          figure({
            name: 'ws-open-cpu',
            meaning: 'CPU of one holder for one WebSocket connection opened; 200 us is 5,000/s on one core',
            value: cost.openUs,
            unit: 'us',
            bound: 200,
            boundIs: 'at-most',
            samples: [cost.openUs],
          }),
          figure({
            name: 'ws-open-rate',
            meaning: 'WebSocket connections that one holder opens a second, each with its upgrade checked',
            value: cost.openedPerSec,
            unit: '/s',
            bound: 5_000,
            boundIs: 'at-least',
            samples: [cost.openedPerSec],
          }),
        );
      }
    } finally {
      await server.stop();
    }
  }
  return figures;
}
