/** Tests the kernel's files as they are read: sysctls, listeners, the state of a process, and what limits its tasks. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { afterEach, type TestContext, test } from 'node:test';
import {
  coreWaitMs,
  isStopped,
  parsePortList,
  readListenPortsAny,
  readSysctl,
  readSysctlNumbers,
  readTaskRoom,
} from '../../src/host/proc-file.ts';
import { type FakeKernel, fakeKernel } from './fake-kernel.ts';

let kernel: FakeKernel | null = null;
afterEach(() => kernel?.remove());

const HEAD = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n';
const line = (index: number, local: string, state: string): string =>
  `${String(index).padStart(4)}: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0\n`;

test('a sysctl is numbers, and null when it is missing or is no number', () => {
  kernel = fakeKernel({
    'proc/sys/net/ipv4/tcp_mem': '287901\t383869\t575802\n',
    'proc/sys/net/core/somaxconn': '4096\n',
    'proc/sys/odd': 'yes\n',
    'proc/sys/empty': '\n',
  });
  assert.deepEqual(readSysctlNumbers(kernel.procRoot, 'net/ipv4/tcp_mem'), [287_901, 383_869, 575_802]);
  assert.equal(readSysctl(kernel.procRoot, 'net/core/somaxconn'), 4_096);
  for (const name of ['odd', 'empty', 'not/there']) assert.equal(readSysctl(kernel.procRoot, name), null);
});

test('the list of reserved ports: none, single ports, ranges, and nonsense left out', () => {
  const rows: [string, { from: number; to: number }[]][] = [
    ['\n', []],
    ['8080\n', [{ from: 8_080, to: 8_080 }]],
    [
      '9000-9010,8080\n',
      [
        { from: 8_080, to: 8_080 },
        { from: 9_000, to: 9_010 },
      ],
    ],
    ['70000,5-4,x,443', [{ from: 443, to: 443 }]],
  ];
  for (const [text, ranges] of rows) assert.deepEqual(parsePortList(text), ranges, text);
});

test('only listeners at the wildcard address are found, of both families, each port once', () => {
  kernel = fakeKernel({
    'proc/net/tcp':
      HEAD +
      line(0, '00000000:07E8', '0A') +
      line(1, '0100007F:1F90', '0A') +
      line(2, '0200007F:2000', '01') +
      line(3, '00000000:2001', '01'),
    'proc/net/tcp6':
      HEAD +
      line(0, '00000000000000000000000000000000:0050', '0A') +
      line(1, '00000000000000000000000000000000:07E8', '0A') +
      line(2, '00000000000000000000000001000000:0051', '0A'),
  });
  assert.deepEqual(readListenPortsAny(kernel.procRoot), [0x50, 0x7e8]);
});

test('what is no port in these tables is left out', () => {
  const odd = ['00000000:100000', '00000000:', '00000000:zz', '00000000:-001', '00000000'];
  kernel = fakeKernel({
    'proc/net/tcp': HEAD + [...odd, '00000000:0050'].map((local, index) => line(index, local, '0A')).join(''),
  });
  assert.deepEqual(readListenPortsAny(kernel.procRoot), [0x50]);
});

test('a host without these tables has no listeners', () => {
  kernel = fakeKernel();
  assert.deepEqual(readListenPortsAny(kernel.procRoot), []);
});

test('a real listener at 0.0.0.0 is found, one at 127.0.0.1 is not', async () => {
  // Wildcard, but on a port of the kernel's choice and closed at once: nothing is sent.
  const wide = createServer().listen({ port: 0, host: '0.0.0.0' });
  const narrow = createServer().listen({ port: 0, host: '127.0.0.1' });
  await Promise.all(
    [wide, narrow].map((server) => new Promise((resolve) => server.once('listening', resolve))),
  );
  const portOf = (server: typeof wide): number => (server.address() as { port: number }).port;
  const found = readListenPortsAny('/proc');
  const [widePort, narrowPort] = [portOf(wide), portOf(narrow)];
  wide.close();
  narrow.close();
  assert.ok(found.includes(widePort));
  assert.ok(!found.includes(narrowPort));
});

test('a process is stopped when the kernel says T, whatever it is called', () => {
  kernel = fakeKernel({
    'proc/1/stat': '1 (node) S 0 1 1 0',
    'proc/2/stat': '2 (a) T 0) R 0 1 1 0',
    'proc/3/stat': '3 (node) T 0 1 1 0',
    'proc/4/stat': '4 (a) S (\n)) t 0 1 1 0',
  });
  const { procRoot } = kernel;
  assert.deepEqual(
    [1, 2, 3, 4, 5].map((pid) => isStopped(procRoot, pid)),
    [false, false, true, true, false],
  );
});

test('what a process has waited for a core is the second number of schedstat, null without it', () => {
  kernel = fakeKernel({
    'proc/1/schedstat': '5000000 2500000 7\n',
    'proc/self/schedstat': '1 0 1\n',
    'proc/2/schedstat': 'none\n',
  });
  const { procRoot } = kernel;
  assert.deepEqual(
    ([1, 'self', 2, 3] as const).map((pid) => coreWaitMs(procRoot, pid)),
    [2.5, 0, null, null],
  );
  // This kernel keeps the account: a process that has run has waited once at least, however shortly.
  assert.notEqual(coreWaitMs('/proc', 'self'), null);
});

function kernelFor(t: TestContext, files: Readonly<Record<string, string>>): FakeKernel {
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
  assert.deepEqual(readTaskRoom(kernelFor(t, USER)), { by: 'ulimit -u', limit: 100, free: 60 });
});

test('root, and who may exceed limits, is bound by control groups alone', (t) => {
  assert.equal(readTaskRoom(kernelFor(t, { ...USER, 'proc/self/status': status(0, 1) })), null);
  const resource = (1n << 24n).toString(16);
  assert.equal(readTaskRoom(kernelFor(t, { ...USER, 'proc/self/status': status(1_000, 1, resource) })), null);
});

test('the control group with the least room binds, in both versions', (t) => {
  const v2 = {
    ...USER,
    'sys/fs/cgroup/a/pids.max': '70\n',
    'sys/fs/cgroup/a/pids.current': '50\n',
    'sys/fs/cgroup/a/b/pids.max': 'max\n',
    'sys/fs/cgroup/a/b/pids.current': '9\n',
  };
  assert.deepEqual(readTaskRoom(kernelFor(t, v2)), { by: 'pids.max', limit: 70, free: 20 });
  const v1 = {
    ...USER,
    'proc/self/cgroup': '8:pids:/a\n4:memory:/a\n0::/\n',
    'sys/fs/cgroup/pids/a/pids.max': '5\n',
    'sys/fs/cgroup/pids/a/pids.current': '6\n',
  };
  assert.deepEqual(readTaskRoom(kernelFor(t, v1)), { by: 'pids.max', limit: 5, free: 0 });
});

test('where /sys has no control groups, the next process above that still sees them shows the limit', (t) => {
  const stat = (name: string, parent: number): string => `7 (${name}) S ${parent} 7 7 0 -1 4194560 1 0\n`;
  const tree = {
    'proc/self/cgroup': '8:pids:/box\n0::/\n',
    'proc/self/stat': stat('node', 41),
    'proc/41/stat': stat('a) S 9 (b', 40),
    'proc/40/stat': stat('bash', 1),
    'proc/40/root/sys/fs/cgroup/pids/box/pids.max': '60\n',
    'proc/40/root/sys/fs/cgroup/pids/box/pids.current': '25\n',
  };
  assert.deepEqual(readTaskRoom(kernelFor(t, tree)), { by: 'pids.max', limit: 60, free: 35 });
  const own = { 'sys/fs/cgroup/pids/box/pids.max': '30\n', 'sys/fs/cgroup/pids/box/pids.current': '25\n' };
  assert.deepEqual(readTaskRoom(kernelFor(t, { ...tree, ...own })), { by: 'pids.max', limit: 30, free: 5 });
  assert.equal(readTaskRoom(kernelFor(t, { ...tree, 'proc/41/stat': stat('init', 0) })), null);
});

test('the kernel agrees: a user of this host with a limit of its own', {
  skip: process.getuid?.() !== 0,
}, () => {
  // As a user of its own, in a process of its own: limit and user are this test's alone.
  const script = `import('${new URL('../../src/host/proc-file.js', import.meta.url).href}').then(({ readTaskRoom }) =>
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
