/**
 * Owns how many workers a number of connections needs. Pure. Must never read a limit.
 */
import assert from 'node:assert/strict';

/** What a Node process needs for itself, with room: libraries, epoll, eventfd, IPC, the listener. */
const DESCRIPTORS_OF_ITS_OWN = 64;
const FILL_RATIO_MAX = 0.9;
/** Below this many connections per worker another core brings nothing but 50 MB of another Node. */
const CONNECTIONS_PER_CORE_MIN = 1_000;
/** More processes than this are a mistake in a limit, not a plan. */
export const WORKERS_MAX = 1_024;

/**
 * How many connections one worker should be given. SO_REUSEPORT spreads them by a hash, so worker shares differ
 * like binomial counts: mean plus four standard deviations (about the root of the mean) must fit, and 90 % at most.
 * @param descriptorsPerProcess RLIMIT_NOFILE of a worker
 * @returns at least 1
 */
export function connectionsPerWorker(descriptorsPerProcess: number): number {
  const room = Math.max(1, descriptorsPerProcess - DESCRIPTORS_OF_ITS_OWN);
  // mean + 4 * sqrt(mean) = room, solved for the mean
  const meanWithMargin = (Math.sqrt(room + 4) - 2) ** 2;
  return Math.max(1, Math.floor(Math.min(room * FILL_RATIO_MAX, meanWithMargin)));
}

/**
 * Workers that hold `connectionsMax`, and one per core where there is work for it.
 * @param connectionsMax at least 1
 * @param descriptorsPerProcess RLIMIT_NOFILE of a worker
 * @param cores at least 1
 * @returns 1 to 1,024
 */
export function workersFor(connectionsMax: number, descriptorsPerProcess: number, cores: number): number {
  assert(connectionsMax >= 1 && cores >= 1, 'a target needs something to hold and a core to do so');
  const forDescriptors = Math.ceil(connectionsMax / connectionsPerWorker(descriptorsPerProcess));
  const forCores = Math.min(cores, Math.ceil(connectionsMax / CONNECTIONS_PER_CORE_MIN));
  return Math.min(WORKERS_MAX, Math.max(forDescriptors, forCores));
}
