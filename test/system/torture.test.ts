/**
 * Owns failures within the program of each kind: a system call or another program fails at one of its uses, in a run, a plan, a path, a
 * cleanup and a target. `npm run torture` tries thousands of them, or a sample that is drawn anew.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { whyNoNetwork } from '../support/network.ts';
import { tortureRound } from '../torture/torture.ts';

/** Each scenario has been run once before, however busy the machine is. */
const TIMEOUT_MS = 11 * 60_000;

const FAILURES = [
  'run with epoll: setsockopt of the serve-worker in setIntOption < attempt < openListener < listen (2): ENOMEM at use 1',
  'run with epoll: fork holder of the agent in fork: EAGAIN at use 1',
  'run with epoll: connect of the holder in connect < open < open < dialOne: EADDRNOTAVAIL at use 2',
  'run with io_uring: bind of the serve-worker in bind < attempt < openListener < listen: EACCES at use 1',
  'run with io_uring: run ip of the cli in askRoutes < readRoutes < gatherHostFacts < prepareHost: EACCES at use 1 and after',
  'run with io_uring: epoll_ctl of the agent in epollCtl < ctl < add < Poller: ENOMEM at use 1',
  'run with io_uring: io_uring_setup of the cli in setup < Ring < lacking < probeUring (2): ENOSYS at use 1',
  'run with io_uring: io_uring_enter of the serve-worker in enter < submit < submit < turn: ENOMEM at use 1',
  'run with io_uring: fork serve-worker of the cli in WorkerHandle < startWorker: EMFILE at use 1',
  'run with addresses that it adds: run ip of the agent in runIpBatch < addAliases < acquire < withAddressLock: exit code 2 at use 1',
  'run with addresses that it adds: run ip of the agent in askRoutes < readSourceDevices < leavingElsewhere < checkSources: hang at use 1',
  'plan: epoll_create1 of the cli in epollCreate < Poller < RingSet < UringDriver: EMFILE at use 1',
  'path: io_uring_setup of the holder in setup < Ring < RingSet < UringDriver: EMFILE at use 1',
  'cleanup: run ip of the cli in readAddressesNow < removeLeftovers < withAddressLock < cleanupCommand: nonsense at use 1',
  'serve with uring: io_uring_enter of the serve-worker in enter < submit < submit < turn: EINTR at use 1',
  'serve with epoll: setsockopt of the serve-worker in setIntOption < attempt < openListener < listen (4): ENOMEM at use 1',
];

test('what fails within the program is named, and nothing is left', { timeout: TIMEOUT_MS }, async (t) => {
  const why = whyNoNetwork();
  if (why !== null) {
    t.skip(why);
    return;
  }
  const { tried, missed, faults } = await tortureRound({
    after: t,
    seed: 1,
    sample: null,
    part: null,
    labs: null,
    isList: false,
    filter: `^(${FAILURES.map((line) => line.replace(/[()]/g, '\\$&')).join('|')})$`,
    onLine: (line) => console.log(line),
  });
  assert.deepEqual(faults, []);
  assert.deepEqual({ tried, missed }, { tried: FAILURES.length, missed: 0 });
});
