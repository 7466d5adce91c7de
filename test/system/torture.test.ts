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
  'run with epoll: setsockopt of the serve-worker: ENOMEM at use 2',
  'run with epoll: fork holder of the agent: EAGAIN at use 1',
  'run with epoll: connect of the holder: EADDRNOTAVAIL at use 7',
  'run with io_uring: bind of the serve-worker: EACCES at use 1',
  'run with io_uring: run ip of the cli: EACCES at use 1 and after',
  'run with io_uring: epoll_ctl of the agent: ENOMEM at use 1',
  'run with io_uring: io_uring_setup of the cli: ENOSYS at use 1',
  'run with addresses that it adds: run ip of the agent: exit code 2 at use 2',
  'plan: epoll_create1 of the cli: EMFILE at use 1',
  'path: io_uring_setup of the holder: EMFILE at use 1',
  'path: run ip of the agent: hang at use 2',
  'cleanup: run ip of the cli: nonsense at use 1',
  'serve with uring: io_uring_enter of the serve-worker: ENOMEM at use 1',
  'serve with epoll: setsockopt of the serve-worker: EPERM at use 1',
  'serve with epoll: fork serve-worker of the cli: EMFILE at use 1',
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
    filter: `^(${FAILURES.join('|')})$`,
    onLine: (line) => console.log(line),
  });
  assert.deepEqual(faults, []);
  assert.deepEqual({ tried, missed }, { tried: FAILURES.length, missed: 0 });
});
