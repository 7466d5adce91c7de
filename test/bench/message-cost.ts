/**
 * Owns the question what a message costs: 20,000 connections that each send one line a second, made from a template, and check what comes back, over
 * both engines, beside a C client that does the same against the same target, in turn.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { DEFAULT_PROTOCOL_OPTIONS } from '../../src/base/endpoint.ts';
import { NO_TRAFFIC, readTemplate } from '../../src/base/traffic-options.ts';
import type { EngineName, HolderSpec } from '../../src/run/run-spec.ts';
import type { HolderHealth } from '../../src/stats/stats.ts';
import { HolderProcess } from '../agent/holder-process.ts';
import { type Figure, figure, median } from './figure.ts';
import type { Yardstick } from './yardstick.ts';

const CONNECTIONS = 20_000;
/** A process may have 20,000 descriptors, and needs some beside its connections. */
const PROCESSES = 2;
const EVERY_MS = 1_000;
const RAMP_TIMEOUT_MS = 120_000;
const TEMPLATE = '{conn} {seq} {rand:16}\\n';
/** CPU of the holders for a message over that of the C client, at most. */
const BOUNDS: readonly (readonly [EngineName, number])[] = [
  ['epoll', 2],
  ['uring', 1.5],
];

const run = promisify(execFile);

/** What the connections of one process have said. */
interface Said {
  readonly messages: number;
  readonly cpuMs: number;
}

const share = CONNECTIONS / PROCESSES;
const sources = (network: string): string[] =>
  Array.from({ length: PROCESSES }, (_, index) => `${network}.${index + 1}`);

/** Microseconds of CPU for one message. */
function costUs(said: readonly Said[]): number {
  const sum = (of: (one: Said) => number): number => said.reduce((total, one) => total + of(one), 0);
  const messages = sum((one) => one.messages);
  assert(messages > 0, 'something was said');
  return (sum((one) => one.cpuMs) * 1_000) / messages;
}

async function clientCost(program: string, port: number, holdMs: number): Promise<number> {
  return costUs(
    await Promise.all(
      sources('127.0.12').map(async (source) => {
        const { stdout } = await run(program, [port, share, source, 1_024, holdMs / 1_000].map(String));
        const { sent, answered, wrong, cpuSeconds } = JSON.parse(stdout.trim().split('\n')[1] ?? '{}');
        assert.deepEqual([answered, wrong], [sent, 0]);
        return { messages: answered, cpuMs: cpuSeconds * 1_000 };
      }),
    ),
  );
}

function specOf(port: number, source: string, engine: EngineName): HolderSpec {
  const read = readTemplate(Buffer.from(TEMPLATE), { hasEscapes: true, hasGroups: false });
  assert('value' in read, TEMPLATE);
  const traffic = { ...NO_TRAFFIC, send: { template: read.value, everyMs: EVERY_MS } };
  return {
    id: `messages/${source}`,
    engine,
    addresses: [source],
    ports: [{ from: 1_024, to: 65_535 }],
    endpoints: [{ address: '127.0.0.1', port, family: 4 }],
    sliceFrom: 0,
    sliceTo: 64_512,
    connections: share,
    ratePerSec: null,
    pendingMax: 500,
    connectTimeoutMs: 30_000,
    close: 'rst',
    protocol: 'echo',
    protocolOptions: { ...DEFAULT_PROTOCOL_OPTIONS, traffic },
    probeEveryMs: EVERY_MS,
    probeTimeoutMs: 30_000,
  };
}

async function holdersCost(port: number, engine: EngineName, holdMs: number): Promise<number> {
  const holders = sources(engine === 'uring' ? '127.0.13' : '127.0.14').map((source) => ({
    holder: new HolderProcess(),
    spec: specOf(port, source, engine),
  }));
  try {
    for (const { holder, spec } of holders) await holder.prepare(spec);
    for (const { holder } of holders) holder.send({ type: 'start' });
    for (const { holder } of holders)
      await holder.until('the holder settles', () => holder.settled, RAMP_TIMEOUT_MS);
    const before = await Promise.all(holders.map(({ holder }) => holder.report()));
    await new Promise((resolve) => setTimeout(resolve, holdMs));
    const after = await Promise.all(holders.map(({ holder }) => holder.report()));
    const cpuOf = ({ cpuUserMs, cpuSystemMs }: HolderHealth): number => cpuUserMs + cpuSystemMs;
    return costUs(
      after.map(({ stats, health }, index) => {
        const { stats: statsBefore, health: healthBefore } = before[index]!;
        assert.equal(stats.open, share, 'all are still open');
        assert.equal(stats.messages?.wrong, 0);
        return {
          messages: stats.probesAnswered - statsBefore.probesAnswered,
          cpuMs: cpuOf(health) - cpuOf(healthBefore),
        };
      }),
    );
  } finally {
    for (const { holder } of holders) await holder.stop();
  }
}

/**
 * @param rounds how often C client and holders take turns
 * @param holdMs how long each says something
 */
export async function measureMessageCost(
  yardstick: Yardstick,
  rounds: number,
  holdMs: number,
): Promise<Figure[]> {
  const program = yardstick.program('yardstick-messages');
  const server = await yardstick.serve(4);
  const client: number[] = [];
  const ours = new Map<EngineName, number[]>(BOUNDS.map(([engine]) => [engine, []]));
  try {
    for (let round = 0; round < rounds; round++) {
      client.push(await clientCost(program, server.port, holdMs));
      for (const [engine, samples] of ours) samples.push(await holdersCost(server.port, engine, holdMs));
    }
  } finally {
    await server.stop();
  }
  return BOUNDS.map(([engine, bound]) => {
    const samples = (ours.get(engine) ?? []).map((us, round) => us / client[round]!);
    const us = median(ours.get(engine) ?? []).toFixed(1);
    return figure({
      name: `${engine}-message-cpu-ratio`,
      meaning: `CPU of a message of 20,000 a second, ${engine}, over that of a C client; ${us} us over ${median(client).toFixed(1)}`,
      value: median(samples),
      unit: '',
      bound,
      boundIs: 'at-most',
      samples,
    });
  });
}
