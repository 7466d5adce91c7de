/**
 * Owns how many workers a number of connections needs, and whether a host can have them. Pure. Must never read a limit.
 */
import assert from 'node:assert/strict';
import type { Finding } from '../base/errors.ts';
import { counted, formatBytes, formatCount } from '../base/units.ts';
import type { EngineName } from '../run/run-spec.ts';

/** What a Node process needs for itself, with room: libraries, epoll, eventfd, IPC, the listener. */
const DESCRIPTORS_OF_ITS_OWN = 64;
const FILL_RATIO_MAX = 0.9;
/** Below this many connections per worker another core brings nothing but 50 MB of another Node. */
const CONNECTIONS_PER_CORE_MIN = 1_000;
/** More processes than this are a mistake in a limit, not a plan. */
export const WORKERS_MAX = 256;
/** Processes that were not asked for by number: beyond this they take the cores from each other. */
const WORKERS_PER_CORE_MAX = 32;
/** Resident size of one worker; measured: 49 MB. */
const WORKER_BYTES = 50_000_000;

/** What a host has for workers. */
interface WorkerRoom {
  /** RLIMIT_NOFILE of a worker: the hard limit, because Node raises its soft limit to that at its start */
  readonly descriptorsPerProcess: number;
  /** at least 1 */
  readonly cores: number;
  /** with io_uring a connection takes no descriptor; absent: epoll */
  readonly engine?: EngineName;
  /** null: not known */
  readonly memoryFreeBytes: number | null;
  /** `fs.nr_open`, the highest that a descriptor limit can be set; null: not known */
  readonly nrOpen: number | null;
  /** the target is a run's own: fewer connections are asked for with another flag then */
  readonly isOfRun: boolean;
}

/**
 * How many connections one worker should be given. SO_REUSEPORT spreads them by a hash, so worker shares differ
 * like binomial counts: mean plus four standard deviations (about the root of the mean) must fit, and 90 % at most.
 * With io_uring each descriptor can be a ring with as many places as the limit says.
 * @param descriptorsPerProcess RLIMIT_NOFILE of a worker
 * @returns at least 1
 */
function connectionsPerWorker(descriptorsPerProcess: number, engine: EngineName): number {
  const room = Math.max(1, descriptorsPerProcess - DESCRIPTORS_OF_ITS_OWN);
  if (engine === 'uring') return Math.floor(room * descriptorsPerProcess * FILL_RATIO_MAX);
  // mean + 4 * sqrt(mean) = room, solved for the mean
  const meanWithMargin = (Math.sqrt(room + 4) - 2) ** 2;
  return Math.max(1, Math.floor(Math.min(room * FILL_RATIO_MAX, meanWithMargin)));
}

/**
 * Workers that hold `connectionsMax`, and one per core where there is work for it.
 * @param connectionsMax at least 1
 * @param descriptorsPerProcess RLIMIT_NOFILE of a worker
 * @param cores at least 1
 * @param engine with `uring` descriptors hardly ever ask for a further worker
 * @returns at least 1; `workersRefusal` says whether a host can have so many
 */
export function workersFor(
  connectionsMax: number,
  descriptorsPerProcess: number,
  cores: number,
  engine: EngineName = 'epoll',
): number {
  assert(connectionsMax >= 1 && cores >= 1, 'a target needs something to hold and a core to do so');
  const forDescriptors = Math.ceil(connectionsMax / connectionsPerWorker(descriptorsPerProcess, engine));
  const forCores = Math.min(cores, Math.ceil(connectionsMax / CONNECTIONS_PER_CORE_MIN));
  return Math.max(forDescriptors, forCores);
}

/**
 * Why a host cannot have the workers that a target needs; null: it can.
 * @param connectionsMax what the target must be able to hold
 * @param asked workers by number (`--workers`); null: as many as needed
 * @param room what the host has
 */
export function workersRefusal(
  connectionsMax: number,
  asked: number | null,
  room: WorkerRoom,
): Finding | null {
  const { descriptorsPerProcess, cores, memoryFreeBytes, isOfRun, engine = 'epoll' } = room;
  const workers = asked ?? workersFor(connectionsMax, descriptorsPerProcess, cores, engine);
  const most = Math.min(WORKERS_MAX, cores * WORKERS_PER_CORE_MAX);
  if (asked === null && workers > most) return tooManyWorkers(connectionsMax, workers, most, room);
  if (memoryFreeBytes === null || workers * WORKER_BYTES <= memoryFreeBytes) return null;
  const inMemory = Math.max(1, Math.floor(memoryFreeBytes / WORKER_BYTES));
  return {
    what: 'memory',
    unit: 'bytes',
    severity: 'refuse',
    needed: workers * WORKER_BYTES,
    available: memoryFreeBytes,
    message:
      `the built-in target needs ${counted(workers, 'worker')} x ${formatBytes(WORKER_BYTES)}, ` +
      `has ${formatBytes(memoryFreeBytes)}`,
    fix: isOfRun ? 'ask for fewer connections (--conns)' : `--workers ${inMemory}`,
  };
}

function tooManyWorkers(
  connectionsMax: number,
  workers: number,
  most: number,
  { descriptorsPerProcess, cores, nrOpen, isOfRun, engine = 'epoll' }: WorkerRoom,
): Finding {
  const each = connectionsPerWorker(descriptorsPerProcess, engine);
  // Eight workers, or one for each core, with room for the uneven spread.
  const mean = Math.ceil(connectionsMax / Math.max(8, cores));
  const limit = Math.ceil(mean / FILL_RATIO_MAX + 4 * Math.sqrt(mean)) + DESCRIPTORS_OF_ITS_OWN + 1;
  const less = isOfRun
    ? `ask for less: --conns ${most * each}`
    : `hold at most ${formatCount(most * each)}: --workers ${most}`;
  return {
    what: 'descriptors-per-process',
    unit: 'descriptors',
    severity: 'refuse',
    needed: connectionsMax,
    available: most * each,
    message:
      `the built-in target needs ${formatCount(workers)} workers for ${counted(connectionsMax, 'connection')} ` +
      `(${formatCount(each)} each: ${formatCount(descriptorsPerProcess)} descriptors less ${DESCRIPTORS_OF_ITS_OWN}, ` +
      `with room for an uneven spread), and at most ${most} are started on ${counted(cores, 'core')}`,
    fix: limit <= (nrOpen ?? limit) ? `ulimit -n ${limit}, or ${less}` : less,
  };
}
