/**
 * Owns the question what one process with io_uring does that holds more connections than it may have descriptors: how much memory, how
 * fast beside as many C clients as that needs, whether more cost more each, and what it costs to keep them.
 */
import assert from 'node:assert/strict';
import { type Figure, figure } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Yardstick } from './yardstick.ts';

const CONNECTIONS = 130_000;
/** What is measured beside it: the cost of one must not grow. */
const MORE_CONNECTIONS = [260_000, 520_000];
const C_CLIENTS = 7;
const PENDING_MAX = 1_000;
const DESCRIPTORS_MAX = 20_000;
/** Each may have DESCRIPTORS_MAX connections too, and the kernel shares them out unevenly. */
const TARGET_PROCESSES = 40;
const CONNECTIONS_PER_ADDRESS = 60_000;
const RAMP_TIMEOUT_MS = 180_000;
const PAUSE_MS = 1_000;

interface ManyRun {
  readonly rampSeconds: number;
  readonly residentBytes: number;
  /** of one core, while all are silent */
  readonly holdPercent: number;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function runHolder(port: number, connections: number, holdMs: number): Promise<ManyRun> {
  const addresses = Array.from(
    { length: Math.ceil(connections / CONNECTIONS_PER_ADDRESS) },
    (_, index) => `127.0.8.${index + 1}`,
  );
  const fleet = new Fleet({
    port,
    connections,
    holders: 1,
    addresses,
    pendingMax: PENDING_MAX,
    engine: 'uring',
    descriptorsMax: DESCRIPTORS_MAX,
  });
  try {
    await fleet.prepare();
    await fleet.open(RAMP_TIMEOUT_MS);
    const { stats } = fleet.holders[0]!;
    await pause(PAUSE_MS);
    const before = await fleet.read();
    const beganMs = performance.now();
    assert.equal(before.open, connections, 'all are open');
    await pause(holdMs);
    const after = await fleet.read();
    const holdPercent = ((after.cpuMs - before.cpuMs) / (performance.now() - beganMs)) * 100;
    assert.equal(after.open, connections, 'all are still open');
    return { rampSeconds: stats!.rampMs / 1_000, residentBytes: after.residentBytes, holdPercent };
  } finally {
    await fleet.stop();
  }
}

/**
 * @param holdMs how long the silent ones are held and measured
 * @param isQuick leaves out the largest number
 */
export async function measureManyCost(
  yardstick: Yardstick,
  holdMs: number,
  isQuick: boolean,
): Promise<Figure[]> {
  const server = await yardstick.serve(TARGET_PROCESSES);
  try {
    const sources = Array.from({ length: C_CLIENTS }, (_, index) => `127.0.7.${index + 1}`);
    const clientSeconds = await yardstick.connectSeveral(server.port, CONNECTIONS, sources, PENDING_MAX);
    await pause(PAUSE_MS);
    const one = await runHolder(server.port, CONNECTIONS, holdMs);
    const figures = figuresOf(one, clientSeconds);
    const rate = CONNECTIONS / one.rampSeconds;
    for (const connections of isQuick ? MORE_CONNECTIONS.slice(0, 1) : MORE_CONNECTIONS) {
      await pause(PAUSE_MS);
      const more = await runHolder(server.port, connections, 0);
      const moreRate = connections / more.rampSeconds;
      figures.push(
        figure({
          name: `uring-rate-${connections / 1_000}k`,
          meaning: `connects a second of one holder that opens ${connections}, over the rate with ${CONNECTIONS}`,
          value: moreRate / rate,
          unit: '',
          bound: 0.7,
          boundIs: 'at-least',
          samples: [Math.round(moreRate), Math.round(rate), Math.round(more.residentBytes / 1e6)],
        }),
      );
    }
    return figures;
  } finally {
    await server.stop();
  }
}

function figuresOf({ rampSeconds, residentBytes, holdPercent }: ManyRun, clientSeconds: number): Figure[] {
  return [
    figure({
      name: 'uring-130k-resident',
      meaning: `resident size of one holder with ${CONNECTIONS} connections that may have ${DESCRIPTORS_MAX} descriptors`,
      value: residentBytes / 1e6,
      unit: 'MB',
      bound: 100,
      boundIs: 'at-most',
      samples: [residentBytes / 1e6],
    }),
    figure({
      name: 'uring-130k-ramp',
      meaning: `time of one holder for ${CONNECTIONS} connections, over that of ${C_CLIENTS} C clients for as many`,
      value: rampSeconds / clientSeconds,
      unit: '',
      bound: 1,
      boundIs: 'at-most',
      samples: [rampSeconds, clientSeconds],
    }),
    figure({
      name: 'uring-hold-cpu',
      meaning: `CPU of one holder while ${CONNECTIONS} silent connections are held, of one core`,
      value: holdPercent,
      unit: '%',
      bound: 2,
      boundIs: 'at-most',
      samples: [holdPercent],
    }),
  ];
}
