/**
 * Owns the comparison of one holder with the C client, with each engine: connect rate, CPU and memory per connection, and whether the
 * first connects of a ramp are as fast as the others.
 */
import assert from 'node:assert/strict';
import type { EngineName } from '../../src/run/run-spec.ts';
import { SERIES_BUCKET_MS } from '../../src/stats/time-series.ts';
import { type Figure, figure, median } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { ClientRun, Yardstick } from './yardstick.ts';

const CONNECTIONS = 18_000;
const FEW_CONNECTIONS = 2_000;
const PENDING_MAX = 1_000;
/** Lets what a run has left in the kernel go before the next one. */
const PAUSE_MS = 300;
const ENGINES = ['epoll', 'uring'] as const;
/** What the names of the figures begin with: those of epoll are older than the other engine. */
const PREFIX: Readonly<Record<EngineName, string>> = { epoll: '', uring: 'uring-' };
const BOUNDS: Readonly<Record<EngineName, { readonly rate: number; readonly cpu: number }>> = {
  epoll: { rate: 0.9, cpu: 1.3 },
  uring: { rate: 1.2, cpu: 0.9 },
};

interface HolderRun {
  readonly ratePerSec: number;
  readonly cpuUsPerConnection: number;
  /** after a second of holding */
  readonly residentBytes: number;
  /** how long each tenth of the connections took, by when their connects were called */
  readonly tenthsMs: readonly number[];
}

/** How long each tenth took: moments between two buckets lie on a straight line. */
function tenthsOf(counts: readonly number[], bucketMs: number): number[] {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const tenths: number[] = [];
  let before = 0;
  let fromMs = 0;
  for (const [bucket, count] of counts.entries()) {
    while (tenths.length < 10 && before + count >= (total * (tenths.length + 1)) / 10 && count > 0) {
      const share = ((total * (tenths.length + 1)) / 10 - before) / count;
      const toMs = (bucket + share) * bucketMs;
      tenths.push(toMs - fromMs);
      fromMs = toMs;
    }
    before += count;
  }
  return tenths;
}

async function runHolder(port: number, connections: number, engine: EngineName): Promise<HolderRun> {
  const fleet = new Fleet({
    port,
    connections,
    holders: 1,
    addresses: ['127.0.0.2'],
    pendingMax: PENDING_MAX,
    engine,
  });
  await fleet.prepare();
  const before = await fleet.read();
  await fleet.open(60_000);
  const { stats, health } = fleet.holders[0]!;
  assert.equal(stats!.open, connections, 'the holder opens them all');
  const cpuMs = health!.cpuUserMs + health!.cpuSystemMs - before.cpuMs;
  const { folds, counts } = stats!.evidence!.connectsAt;
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const { residentBytes } = await fleet.read();
  await fleet.stop();
  await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  return {
    ratePerSec: connections / (stats!.rampMs / 1_000),
    cpuUsPerConnection: (cpuMs * 1_000) / connections,
    residentBytes,
    tenthsMs: tenthsOf(counts.established, SERIES_BUCKET_MS * 2 ** folds),
  };
}

/** What one engine did, beside the run of the C client that came before. */
interface Pair {
  readonly client: ClientRun;
  readonly many: HolderRun;
  readonly few: HolderRun;
}

/** @param pairs how often C client and holder take turns, with each engine */
export async function measureConnectCost(yardstick: Yardstick, pairs: number): Promise<Figure[]> {
  const server = await yardstick.serve(8);
  const runs: Record<EngineName, Pair[]> = { epoll: [], uring: [] };
  try {
    for (let pair = 0; pair < pairs; pair++) {
      for (const engine of ENGINES) {
        const client = yardstick.connect(server.port, CONNECTIONS, '127.0.0.3', PENDING_MAX);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        const many = await runHolder(server.port, CONNECTIONS, engine);
        const few = await runHolder(server.port, FEW_CONNECTIONS, engine);
        runs[engine].push({ client, many, few });
      }
    }
  } finally {
    await server.stop();
  }
  return ENGINES.flatMap((engine) => [...speedOf(engine, runs[engine]), ...memoryOf(engine, runs[engine])]);
}

function speedOf(engine: EngineName, pairs: readonly Pair[]): Figure[] {
  const rates = pairs.map(({ many, client }) => many.ratePerSec / (CONNECTIONS / client.seconds));
  const cpus = pairs.map(
    ({ many, client }) => many.cpuUsPerConnection / ((client.cpuSeconds * 1e6) / CONNECTIONS),
  );
  // Tenth by tenth over all runs first: the best tenth of one run is mostly luck.
  const tenthsMs = Array.from({ length: 10 }, (_, tenth) =>
    median(pairs.map(({ many }) => many.tenthsMs[tenth]!)),
  );
  return [
    figure({
      name: `${PREFIX[engine]}connect-rate-ratio`,
      meaning: `connects a second of one holder over those of the C client, ${CONNECTIONS} connections, ${engine}, median of pairs`,
      value: median(rates),
      unit: '',
      bound: BOUNDS[engine].rate,
      boundIs: 'at-least',
      samples: rates,
    }),
    figure({
      name: `${PREFIX[engine]}connect-cpu-ratio`,
      meaning: `CPU per connection of one holder (from ready to settled) over that of the C client, ${engine}, median of pairs`,
      value: median(cpus),
      unit: '',
      bound: BOUNDS[engine].cpu,
      boundIs: 'at-most',
      samples: cpus,
    }),
    figure({
      name: `${PREFIX[engine]}first-tenth-ratio`,
      meaning: `connects a second in the first tenth of a ramp over the best tenth, each the median of all runs, ${engine}`,
      value: Math.min(...tenthsMs) / tenthsMs[0]!,
      unit: '',
      bound: 0.9,
      boundIs: 'at-least',
      samples: tenthsMs.map((ms) => Math.round(CONNECTIONS / 10 / (ms / 1_000))),
    }),
  ];
}

function memoryOf(engine: EngineName, pairs: readonly Pair[]): Figure[] {
  const resident = pairs.map(({ many }) => many.residentBytes / 1e6);
  const bytesEach = pairs.map(
    ({ many, few }) => (many.residentBytes - few.residentBytes) / (CONNECTIONS - FEW_CONNECTIONS),
  );
  return [
    figure({
      name: `${PREFIX[engine]}holder-resident`,
      meaning: `resident size of a holder with ${CONNECTIONS} connections, ${engine}, worst run`,
      value: Math.max(...resident),
      unit: 'MB',
      bound: 64,
      boundIs: 'at-most',
      samples: resident,
    }),
    figure({
      name: `${PREFIX[engine]}user-bytes-per-connection`,
      meaning: `growth of the resident size from ${FEW_CONNECTIONS} to ${CONNECTIONS} connections, ${engine}, median of pairs`,
      value: median(bytesEach),
      unit: 'bytes',
      bound: 100,
      boundIs: 'at-most',
      samples: bytesEach,
    }),
  ];
}
