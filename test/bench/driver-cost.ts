/**
 * Owns the comparison of the drivers with the C client, in turn and against the same target: connects a second, and CPU of
 * a connect, an echo, a close and a second of holding.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Figure, figure, median } from './figure.ts';
import type { Yardstick } from './yardstick.ts';

const ENTRY = fileURLToPath(new URL('./driver-process.js', import.meta.url));
const PENDING_MAX = 1_000;
/** Lets what a run has left in the kernel go before the next one. */
const PAUSE_MS = 500;

interface Cost {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

interface DriverRun {
  readonly residentBytes: number;
  readonly opened: Cost;
  readonly echoed: Cost;
  readonly held: Cost;
  readonly closed: Cost;
}

function runDriver(kind: string, port: number, connections: number, source: string): DriverRun {
  const args = [ENTRY, kind, port, connections, source, PENDING_MAX].map(String);
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

/** How many times one is the other, of each pair. */
function ratios(these: readonly number[], those: readonly number[]): number[] {
  return these.map((value, index) => value / those[index]!);
}

/**
 * @param pairs how often C client, uring and epoll take turns
 * @param connections at most what one C client may have
 */
export async function measureDriverCost(
  yardstick: Yardstick,
  pairs: number,
  connections: number,
): Promise<Figure[]> {
  const server = await yardstick.serve(8);
  const client = { rate: [] as number[], cpu: [] as number[] };
  const runs: Record<'uring' | 'epoll', DriverRun[]> = { uring: [], epoll: [] };
  try {
    for (let pair = 0; pair < pairs; pair++) {
      const run = yardstick.connect(server.port, connections, '127.0.0.3', PENDING_MAX);
      client.rate.push(connections / run.seconds);
      client.cpu.push(run.cpuSeconds / connections);
      await pause();
      for (const kind of ['uring', 'epoll'] as const) {
        runs[kind].push(runDriver(kind, server.port, connections, `127.0.${10 + pair}.1`));
        await pause();
      }
    }
  } finally {
    await server.stop();
  }
  const figures: Figure[] = [];
  for (const kind of ['uring', 'epoll'] as const) {
    const of = (read: (run: DriverRun) => number): number[] => runs[kind].map(read);
    const isUring = kind === 'uring';
    const rate = ratios(
      of((run) => connections / run.opened.seconds),
      client.rate,
    );
    const cpu = ratios(
      of((run) => run.opened.cpuSeconds / connections),
      client.cpu,
    );
    const each = (read: (run: DriverRun) => Cost): number[] =>
      of((run) => (read(run).cpuSeconds * 1e6) / connections);
    const add = (
      name: string,
      meaning: string,
      unit: string,
      bound: number,
      samples: readonly number[],
    ): void => {
      const boundIs = name === 'connect-rate' ? 'at-least' : 'at-most';
      figures.push(
        figure({ name: `${kind}-${name}`, meaning, value: median(samples), unit, bound, boundIs, samples }),
      );
    };
    add(
      'connect-rate',
      'connects a second over those of the C client, median',
      '',
      isUring ? 1.2 : 0.9,
      rate,
    );
    add('connect-cpu', 'CPU per connect over that of the C client, median', '', isUring ? 0.9 : 1.3, cpu);
    add(
      'echo-cpu',
      'CPU of one echo of 16 bytes, all connections in turn',
      'us',
      10,
      each((run) => run.echoed),
    );
    add(
      'close-cpu',
      'CPU of one close by RST',
      'us',
      20,
      each((run) => run.closed),
    );
    add(
      'hold-cpu',
      'CPU while all are silent, parked',
      '%',
      2,
      of((run) => (run.held.cpuSeconds / run.held.seconds) * 100),
    );
    add(
      'resident',
      'resident size with all connections open',
      'MB',
      100,
      of((run) => run.residentBytes / 1e6),
    );
  }
  return figures;
}
