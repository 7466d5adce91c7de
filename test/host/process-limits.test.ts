/** Owns the proof that the room for tasks is what the kernel leaves: the tighter one of user and control group. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { readTaskRoom } from '../../src/host/process-limits.ts';
import { type FakeKernel, fakeKernel } from './fake-kernel.ts';

function kernel(t: TestContext, files: Readonly<Record<string, string>>): FakeKernel {
  const made = fakeKernel(files);
  t.after(() => made.remove());
  return made;
}

const LIMITS = 'Max processes             100                  200                  processes\n';
const status = (uid: number, threads: number, capabilities = '0'): string =>
  `Name:\tx\nUid:\t${uid}\t0\t0\t0\nThreads:\t${threads}\nCapEff:\t${capabilities.padStart(16, '0')}\n`;
const USER = {
  'proc/self/limits': LIMITS,
  'proc/self/status': status(1_000, 11),
  'proc/17/status': status(1_000, 11),
  'proc/18/status': status(1_000, 29),
  'proc/19/status': status(0, 500),
  'proc/self/cgroup': '0::/a/b\n',
};

test('threads of every process of the real user count against the soft limit of ulimit -u', (t) => {
  assert.deepEqual(readTaskRoom(kernel(t, USER)), { by: 'ulimit -u', limit: 100, free: 60 });
});

test('root, and who may exceed limits, is bound by control groups alone', (t) => {
  assert.equal(readTaskRoom(kernel(t, { ...USER, 'proc/self/status': status(0, 1) })), null);
  const resource = (1n << 24n).toString(16);
  assert.equal(readTaskRoom(kernel(t, { ...USER, 'proc/self/status': status(1_000, 1, resource) })), null);
});

test('the control group with the least room binds, in both versions', (t) => {
  const v2 = {
    ...USER,
    'sys/fs/cgroup/a/pids.max': '70\n',
    'sys/fs/cgroup/a/pids.current': '50\n',
    'sys/fs/cgroup/a/b/pids.max': 'max\n',
    'sys/fs/cgroup/a/b/pids.current': '9\n',
  };
  assert.deepEqual(readTaskRoom(kernel(t, v2)), { by: 'pids.max', limit: 70, free: 20 });
  const v1 = {
    ...USER,
    'proc/self/cgroup': '8:pids:/a\n4:memory:/a\n0::/\n',
    'sys/fs/cgroup/pids/a/pids.max': '5\n',
    'sys/fs/cgroup/pids/a/pids.current': '6\n',
  };
  assert.deepEqual(readTaskRoom(kernel(t, v1)), { by: 'pids.max', limit: 5, free: 0 });
});

test('the kernel agrees: a user of this host with a limit of its own', {
  skip: process.getuid?.() !== 0,
}, () => {
  // As nobody, in a process of its own: limit and user are this test's alone.
  const script = `import('${new URL('../../src/host/process-limits.js', import.meta.url).href}').then(({ readTaskRoom }) =>
    console.log(JSON.stringify(readTaskRoom({ procRoot: '/proc', sysRoot: '/nowhere' }))))`;
  const args = [
    '--reuid=64999',
    '--regid=64999',
    '--clear-groups',
    'bash',
    '-c',
    'ulimit -u 50; exec "$@"',
    '-',
  ];
  const { stdout, stderr } = spawnSync('setpriv', [...args, process.execPath, '-e', script], {
    encoding: 'utf8',
    cwd: '/',
  });
  const room = JSON.parse(stdout || `{"error":${JSON.stringify(stderr)}}`) as {
    by: string;
    limit: number;
    free: number;
  };
  assert.equal(room.by, 'ulimit -u', stderr);
  assert.equal(room.limit, 50);
  // One Node process, nothing else of that user: 6 to 16 threads by version.
  assert.ok(room.free >= 34 && room.free <= 44, `${room.free} free`);
});
