/**
 * Owns the comparison of one holder with the C client: connect rate, CPU and memory per connection.
 */
import assert from 'node:assert/strict';
import { type Figure, figure, median } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Yardstick } from './yardstick.ts';

const CONNECTIONS = 18_000;
const FEW_CONNECTIONS = 2_000;
const PENDING_MAX = 1_000;
/** Lets what a run has left in the kernel go before the next one. */
const PAUSE_MS = 300;

interface HolderRun {
  readonly ratePerSec: number;
  readonly cpuUsPerConnection: number;
  /** after a second of holding */
  readonly residentBytes: number;
}

async function runHolder(port: number, connections: number): Promise<HolderRun> {
  const fleet = new Fleet({
    port,
    connections,
    holders: 1,
    addresses: ['127.0.0.2'],
    pendingMax: PENDING_MAX,
  });
  await fleet.prepare();
  const before = await fleet.read();
  await fleet.open(60_000);
  const { stats, health } = fleet.holders[0]!;
  assert.equal(stats!.open, connections, 'the holder opens them all');
  const cpuMs = health!.cpuUserMs + health!.cpuSystemMs - before.cpuMs;
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const { residentBytes } = await fleet.read();
  await fleet.stop();
  await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  return {
    ratePerSec: connections / (stats!.rampMs / 1_000),
    cpuUsPerConnection: (cpuMs * 1_000) / connections,
    residentBytes,
  };
}

/** @param pairs how often C client and holder take turns */
export async function measureConnectCost(yardstick: Yardstick, pairs: number): Promise<Figure[]> {
  const server = await yardstick.serve(8);
  const rates: number[] = [];
  const cpus: number[] = [];
  const resident: number[] = [];
  const bytesEach: number[] = [];
  try {
    for (let pair = 0; pair < pairs; pair++) {
      const client = yardstick.connect(server.port, CONNECTIONS, '127.0.0.3', PENDING_MAX);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const many = await runHolder(server.port, CONNECTIONS);
      const few = await runHolder(server.port, FEW_CONNECTIONS);
      rates.push(many.ratePerSec / (CONNECTIONS / client.seconds));
      cpus.push(many.cpuUsPerConnection / ((client.cpuSeconds * 1e6) / CONNECTIONS));
      resident.push(many.residentBytes / 1e6);
      bytesEach.push((many.residentBytes - few.residentBytes) / (CONNECTIONS - FEW_CONNECTIONS));
    }
  } finally {
    await server.stop();
  }
  return [
    figure({
      name: 'connect-rate-ratio',
      meaning: `connects a second of one holder over those of the C client, ${CONNECTIONS} connections, median of pairs`,
      value: median(rates),
      unit: '',
      bound: 0.8,
      boundIs: 'at-least',
      samples: rates,
    }),
    figure({
      name: 'connect-cpu-ratio',
      meaning:
        'CPU per connection of one holder (from ready to settled) over that of the C client, median of pairs',
      value: median(cpus),
      unit: '',
      bound: 1.5,
      boundIs: 'at-most',
      samples: cpus,
    }),
    figure({
      name: 'holder-resident',
      meaning: `resident size of a holder with ${CONNECTIONS} connections, worst run`,
      value: Math.max(...resident),
      unit: 'MB',
      bound: 64,
      boundIs: 'at-most',
      samples: resident,
    }),
    figure({
      name: 'user-bytes-per-connection',
      meaning: `growth of the resident size from ${FEW_CONNECTIONS} to ${CONNECTIONS} connections, median of pairs`,
      value: median(bytesEach),
      unit: 'bytes',
      bound: 100,
      boundIs: 'at-most',
      samples: bytesEach,
    }),
  ];
}
