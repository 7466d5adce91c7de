/**
 * Owns what the built-in target counts, the addition over its workers, the line that prints it, and the messages between
 * the target's parent and its workers over Node's IPC; and the server that tells it to others. Must never ask a worker (serve.ts) or print (cli/).
 *
 *   parent --> worker : listen      address, port, mode, backlog, engine (first message, once)
 *   parent <-- worker : listening   the port that it got          | failed: the call and its errno (then it ends)
 *   parent <-- worker : totals      when counts changed, at most every 200 ms
 *   parent <-- worker : stood-still for how long it did nothing, when that was seconds
 *   parent --> worker : count       request number
 *   parent <-- worker : counts      request number, totals, source addresses
 *   parent --> worker : stop
 *   parent <-- worker : stopped     final totals and source addresses, taken before it closes; then it ends
 *
 * A worker whose parent is gone (IPC disconnect) ends immediately.
 */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { isCount, isLike, isTable, type Table } from '../base/shape.ts';
import { counted, formatBytes, formatCount } from '../base/units.ts';
import type { EngineName } from '../run/run-spec.ts';

/** Every mode, in the order in which help lists them. */
const SERVE_MODES = ['hold', 'echo', 'whoami'] as const;

export type ServeMode = (typeof SERVE_MODES)[number];

/** What one worker counts by itself; cumulative but for `openNow`. */
export interface WorkerTotals {
  /** connections that are accepted and open now */
  readonly openNow: number;
  /** connections ever accepted */
  readonly acceptedTotal: number;
  /** connections that ended with the peer's FIN */
  readonly closedByPeer: number;
  /** connections that ended with an error, nearly always the peer's RST */
  readonly reset: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** how many times a worker stopped accepting because accept4(2) had no descriptor or no memory */
  readonly descriptorsFull: number;
}

/** `[address, connections that are open now]` */
export type SourceCount = readonly [address: string, open: number];

/** The most entries of `ServeCounts.bySource`. */
const BY_SOURCE_ENTRIES_MAX = 1_000;

/** What the target as a whole holds and has seen. */
export interface ServeCounts extends WorkerTotals {
  /**
   * The highest sum of `openNow` over the workers that was ever seen. Workers tell a changed count every 200 ms,
   * each at its own time, and on every request: a peak that is shorter may be missed, and while connections move
   * from one worker to another the sum may differ from the truth by what moved within 200 ms. Steady counts are exact.
   */
  readonly openMax: number;
  /** distinct source addresses with an open connection now; a lower bound once one worker has more than 65,536 */
  readonly sourceAddresses: number;
  /** open connections by source address, most first; at most 1,000 entries, so it may sum to less than `openNow` */
  readonly bySource: Readonly<Record<string, number>>;
  /** workers that serve now; after stop(): that served until then */
  readonly workers: number;
  /** workers that died without being asked to; what they had open is gone, what they had accepted stays counted */
  readonly workersLost: number;
  /** milliseconds since every worker listened */
  readonly servedMs: number;
  /** how the workers drive their sockets */
  readonly engine: EngineName;
}

export const ZERO_TOTALS: WorkerTotals = {
  openNow: 0,
  acceptedTotal: 0,
  closedByPeer: 0,
  reset: 0,
  bytesIn: 0,
  bytesOut: 0,
  descriptorsFull: 0,
};

/** The sum of two workers' totals; associative and commutative, `ZERO_TOTALS` is neutral. */
export function addTotals(a: WorkerTotals, b: WorkerTotals): WorkerTotals {
  return {
    openNow: a.openNow + b.openNow,
    acceptedTotal: a.acceptedTotal + b.acceptedTotal,
    closedByPeer: a.closedByPeer + b.closedByPeer,
    reset: a.reset + b.reset,
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
    descriptorsFull: a.descriptorsFull + b.descriptorsFull,
  };
}

/**
 * Adds the source addresses of several workers: one client's connections spread over all of them.
 * @returns the number of distinct addresses, and the busiest `BY_SOURCE_ENTRIES_MAX` of them
 */
export function mergeSources(lists: Iterable<readonly SourceCount[]>): {
  sourceAddresses: number;
  bySource: Record<string, number>;
} {
  const open = new Map<string, number>();
  for (const list of lists) {
    for (const [address, count] of list) open.set(address, (open.get(address) ?? 0) + count);
  }
  const busiest = [...open].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return {
    sourceAddresses: open.size,
    bySource: Object.fromEntries(busiest.slice(0, BY_SOURCE_ENTRIES_MAX)),
  };
}

/**
 * One line for a person, without a line end, such as
 * `holds 130,000 now, 130,000 at most, from 4 source addresses; accepted 130,000 in all`.
 * What went wrong (resets, lost workers, no descriptors) is added only where it happened.
 */
export function formatServeCounts(counts: ServeCounts): string {
  const parts = [
    `holds ${formatCount(counts.openNow)} now, ${formatCount(counts.openMax)} at most, ` +
      `from ${counted(counts.sourceAddresses, 'source address', 'source addresses')}`,
    `accepted ${formatCount(counts.acceptedTotal)} in all`,
  ];
  if (counts.reset > 0) parts.push(`${formatCount(counts.reset)} reset`);
  if (counts.descriptorsFull > 0) {
    parts.push(`${counted(counts.descriptorsFull, 'time', 'times')} out of descriptors`);
  }
  if (counts.workersLost > 0) parts.push(`${counted(counts.workersLost, 'worker', 'workers')} lost`);
  return parts.join('; ');
}

/**
 * What a target has seen by its end, one line a count, to be compared with the report of a run against it.
 * @param counts as `stop` returns them: what is open now was closed by the target itself
 */
export function formatServeTotals(counts: ServeCounts): string {
  const { acceptedTotal, openMax, closedByPeer, reset, openNow, bytesIn, bytesOut } = counts;
  const lost = acceptedTotal - closedByPeer - reset - openNow;
  const closed = [
    `${formatCount(closedByPeer)} by FIN of the client`,
    `${formatCount(reset)} by RST or an error`,
    `${formatCount(openNow)} by serve at its end`,
    ...(lost > 0 ? [`${formatCount(lost)} with a lost worker`] : []),
  ];
  return [
    `accepted   ${formatCount(acceptedTotal)}`,
    `peak held  ${formatCount(openMax)}`,
    `closed     ${closed.join(', ')}`,
    `bytes      ${formatCount(bytesIn)} received, ${formatCount(bytesOut)} sent`,
  ].join('\n');
}

/** What the workers said last: at most 200 ms old for one that is not stopped. */
export interface LatestCounts {
  readonly total: WorkerTotals;
  readonly workers: readonly WorkerTotals[];
}

/**
 * The line that a terminal shows while it serves, such as
 * `holds 2,000  accepted 2,100  closed 100  in 32 KiB  out 32 KiB  workers 990 + 1,010`.
 * @param columns what is longer is cut: a line that wrapped would stay behind
 */
export function formatLiveLine({ total, workers }: LatestCounts, columns: number): string {
  const parts = [
    `holds ${formatCount(total.openNow)}`,
    `accepted ${formatCount(total.acceptedTotal)}`,
    `closed ${formatCount(total.acceptedTotal - total.openNow)}`,
    `in ${formatBytes(total.bytesIn)}`,
    `out ${formatBytes(total.bytesOut)}`,
  ];
  if (workers.length > 1)
    parts.push(`workers ${workers.map(({ openNow }) => formatCount(openNow)).join(' + ')}`);
  return parts.join('  ').slice(0, Math.max(0, columns));
}

export type ToWorker =
  | {
      readonly type: 'listen';
      readonly host: string;
      readonly port: number;
      readonly mode: ServeMode;
      readonly backlog: number;
      readonly engine: EngineName;
      /** refuse a port on which another process listens with SO_REUSEPORT; only the first worker asks for it */
      readonly alone: boolean;
    }
  | { readonly type: 'count'; readonly request: number }
  | { readonly type: 'stop' };

export type FromWorker =
  | { readonly type: 'listening'; readonly port: number }
  /** `errno` is positive, such as 98 for EADDRINUSE */
  | { readonly type: 'failed'; readonly call: string; readonly errno: number }
  | { readonly type: 'totals'; readonly totals: WorkerTotals }
  | { readonly type: 'stood-still'; readonly forMs: number }
  | {
      readonly type: 'counts';
      readonly request: number;
      readonly totals: WorkerTotals;
      readonly sources: readonly SourceCount[];
    }
  | { readonly type: 'stopped'; readonly totals: WorkerTotals; readonly sources: readonly SourceCount[] };

const isTotals = (value: unknown): boolean => isLike(ZERO_TOTALS, value);

function isSources(value: unknown): boolean {
  const isOne = (one: unknown): boolean =>
    Array.isArray(one) && one.length === 2 && typeof one[0] === 'string' && isCount(one[1]);
  return Array.isArray(value) && value.every(isOne);
}

/** What each type must have. */
const FROM_WORKER: Readonly<Record<FromWorker['type'], (said: Table) => boolean>> = {
  listening: ({ port }) => isCount(port),
  failed: ({ call, errno }) => typeof call === 'string' && isCount(errno),
  totals: ({ totals }) => isTotals(totals),
  'stood-still': ({ forMs }) => isCount(forMs),
  counts: ({ request, totals, sources }) => isCount(request) && isTotals(totals) && isSources(sources),
  stopped: ({ totals, sources }) => isTotals(totals) && isSources(sources),
};

function isOfWorker(said: unknown): said is FromWorker {
  if (!isTable(said) || typeof said.type !== 'string' || !Object.hasOwn(FROM_WORKER, said.type)) return false;
  return FROM_WORKER[said.type as FromWorker['type']](said);
}

/**
 * A message of a worker whose counts can be added; null: no worker says that. A worker whose memory is damaged must not damage the counts of the others. The other
 * direction needs no such check: a worker ends with its parent.
 */
export function readWorkerMessage(said: unknown): FromWorker | null {
  return isOfWorker(said) ? said : null;
}

/** One asks each second; the rest is room for a person. */
const CONNECTIONS_MAX = 16;
const REQUEST_TIMEOUT_MS = 2_000;

export interface StatsServer {
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Starts to answer.
 * @param port 0 takes a free one
 * @throws BenchError `serve-failed`, exit 3
 */
export async function serveStats(
  host: string,
  port: number,
  counts: () => Promise<ServeCounts>,
): Promise<StatsServer> {
  const server = createServer(
    {
      maxHeaderSize: 4_096,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: 500,
      keepAlive: false,
    },
    (request, response) => void answer(request, response, counts),
  );
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(host, port, error)));
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: bound.address,
    port: bound.port,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  counts: () => Promise<ServeCounts>,
): Promise<void> {
  response.setHeader('connection', 'close');
  response.setHeader('cache-control', 'no-store');
  if (request.method !== 'GET') {
    response.writeHead(405, { allow: 'GET' }).end();
    return;
  }
  const body = JSON.stringify(await counts());
  response.writeHead(200, { 'content-type': 'application/json' }).end(`${body}\n`);
}

function cannotListen(host: string, port: number, cause: Error): BenchError {
  return new BenchError(
    ErrorCode.serveFailed,
    ExitCode.refused,
    `cannot tell counts on ${host}:${port}: ${cause.message}`,
    'give --stats-listen an address of this host and a free port, such as 127.0.0.1:8001',
    cause,
  );
}
