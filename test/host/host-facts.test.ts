import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, test } from 'node:test';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { missingPrograms, type RunProgram, runProgram } from '../../src/host/command.ts';
import { gatherHostFacts } from '../../src/host/host-facts.ts';
import { HANG_MS } from '../support/waiting.ts';
import { type FakeKernel, fakeKernel } from './fake-kernel.ts';

let kernel: FakeKernel | null = null;
afterEach(() => kernel?.remove());

const LOCAL: Endpoint = { address: '127.0.0.1', port: 8_000, family: 4 };
const FAR: Endpoint = { address: '192.0.2.7', port: 8_000, family: 4 };

/** Answers as `ip` does, for one host with eth0; nothing is asked of the real one. */
const fakeIp: RunProgram = async (_file, args, options) => {
  const done = { code: 0, stderr: '', missing: false, truncated: false };
  if (args.includes('-batch')) {
    const lines = (options.input ?? '').trim().split('\n');
    const routes = lines.map((line) => {
      const dst = line.split(' ').at(-1) ?? '';
      return JSON.stringify([
        dst.startsWith('127.')
          ? { type: 'local', dst, dev: 'lo', prefsrc: '127.0.0.1' }
          : { dst, gateway: '10.0.0.1', dev: 'eth0', prefsrc: '10.0.0.5' },
      ]);
    });
    return { ...done, stdout: `${routes.join('\n')}\n` };
  }
  const addresses = [
    { family: 'inet', local: '10.0.0.5', prefixlen: 24, scope: 'global' },
    { family: 'inet6', local: 'fd00:0:0::5', prefixlen: 64, scope: 'global', tentative: true },
    { family: 'inet6', local: 'fd00::6', prefixlen: 64, scope: 'global', deprecated: true },
  ];
  return { ...done, stdout: JSON.stringify([{ ifname: 'eth0', addr_info: addresses }]) };
};

const noPrograms: RunProgram = async () => ({
  code: null,
  stdout: '',
  stderr: '',
  missing: true,
  truncated: false,
});

const FULL = {
  'proc/meminfo': 'MemTotal:       24684096 kB\nMemFree:        1 kB\nMemAvailable:   24395336 kB\n',
  'proc/self/limits':
    'Limit                     Soft Limit           Hard Limit           Units     \n' +
    'Max processes             96365                96365                processes \n' +
    'Max open files            1024                 20000                files     \n',
  'proc/self/status': 'Name:\tnode\nCapPrm:\t0000000000000000\nCapEff:\t0000000001000400\n',
  'proc/self/cgroup': '0::/run/box\n',
  'proc/sys/fs/file-nr': '412\t0\t2466183\n',
  'proc/sys/fs/file-max': '2466183\n',
  'proc/sys/fs/nr_open': '1048576\n',
  'proc/sys/net/ipv4/ip_local_port_range': '32768\t60999\n',
  'proc/sys/net/ipv4/ip_local_reserved_ports': '8080,9000-9010\n',
  'proc/sys/net/ipv4/ip_unprivileged_port_start': '1024\n',
  'proc/sys/net/ipv4/tcp_mem': '287901\t383869\t575802\n',
  'proc/sys/net/ipv4/tcp_max_tw_buckets': '131072\n',
  'proc/sys/net/ipv4/tcp_timestamps': '1\n',
  'proc/sys/net/ipv4/tcp_tw_reuse': '2\n',
  'proc/sys/net/ipv4/tcp_max_syn_backlog': '2048\n',
  'proc/sys/net/ipv4/tcp_syncookies': '1\n',
  'proc/sys/net/ipv4/tcp_syn_linear_timeouts': '4\n',
  'proc/sys/net/ipv4/tcp_syn_retries': '6\n',
  'proc/sys/net/core/somaxconn': '4096\n',
  'proc/sys/net/netfilter/nf_conntrack_count': '17\n',
  'proc/sys/net/netfilter/nf_conntrack_max': '262144\n',
  'proc/net/sockstat': 'sockets: used 12\nTCP: inuse 5 orphan 0 tw 3 alloc 8 mem 93\nUDP: inuse 0 mem 0\n',
  'sys/fs/cgroup/run/memory.max': '2147483648\n',
  'sys/fs/cgroup/run/memory.current': '1000000\n',
  'sys/fs/cgroup/run/box/memory.max': 'max\n',
};

test('every fact is read from its file', async () => {
  kernel = fakeKernel(FULL);
  const facts = await gatherHostFacts([FAR, LOCAL, { ...FAR, port: 8_001 }], { ...kernel, run: fakeIp });
  const { hostname, cpus, platform, toolsMissing = null, ...rest } = facts;
  assert.deepEqual(toolsMissing, missingPrograms(['ip', 'ss', 'arping']));
  assert.equal(platform, 'linux');
  assert.ok(hostname.length > 0);
  assert.ok(cpus >= 1);
  assert.deepEqual(rest, {
    memoryTotalBytes: 24_684_096 * 1_024,
    memoryAvailableBytes: 24_395_336 * 1_024,
    cgroupMemoryLimitBytes: 2_147_483_648,
    cgroupMemoryUsedBytes: 1_000_000,
    nofileSoft: 1_024,
    nofileHard: 20_000,
    canRaiseNofile: true,
    canBindPrivileged: true,
    fileMax: 2_466_183,
    fileUsed: 412,
    nrOpen: 1_048_576,
    tasks: null,
    localPortRange: { from: 32_768, to: 60_999 },
    reservedPorts: [
      { from: 8_080, to: 8_080 },
      { from: 9_000, to: 9_010 },
    ],
    unprivilegedPortStart: 1_024,
    listenPortsAny: [],
    tcpMem: [287_901, 383_869, 575_802],
    pageSizeBytes: 4_096,
    sockstat: { inuse: 5, timeWait: 3, memPages: 93 },
    twBucketsMax: 131_072,
    tcpTimestamps: 1,
    tcpTwReuse: 2,
    conntrack: { active: true, count: 17, max: 262_144 },
    somaxconn: 4_096,
    tcpMaxSynBacklog: 2_048,
    tcpSyncookies: 1,
    synLinearTimeouts: 4,
    synRetries: 6,
    timeWaitOnTuples: null,
    hostAddresses: [
      { address: '10.0.0.5', family: 4, prefix: 24, device: 'eth0', scope: 'global', usable: true },
      { address: 'fd00::5', family: 6, prefix: 64, device: 'eth0', scope: 'global', usable: false },
      { address: 'fd00::6', family: 6, prefix: 64, device: 'eth0', scope: 'global', usable: false },
    ],
    routes: [
      { address: '192.0.2.7', device: 'eth0', source: '10.0.0.5', local: false },
      { address: '127.0.0.1', device: 'lo', source: '127.0.0.1', local: true },
    ],
  });
});

test('with nothing to read every fact is null and nothing throws', async () => {
  kernel = fakeKernel();
  const facts = await gatherHostFacts([LOCAL], { ...kernel, run: noPrograms });
  const nulls = Object.entries(facts).filter(([, value]) => value === null);
  assert.deepEqual(nulls.map(([name]) => name).sort(), [
    'cgroupMemoryLimitBytes',
    'cgroupMemoryUsedBytes',
    'fileMax',
    'fileUsed',
    'localPortRange',
    'memoryAvailableBytes',
    'memoryTotalBytes',
    'nofileHard',
    'nofileSoft',
    'nrOpen',
    'somaxconn',
    'synLinearTimeouts',
    'synRetries',
    'tasks',
    'tcpMaxSynBacklog',
    'tcpMem',
    'tcpSyncookies',
    'tcpTimestamps',
    'tcpTwReuse',
    'timeWaitOnTuples',
    'twBucketsMax',
    'unprivilegedPortStart',
  ]);
  assert.deepEqual(facts.sockstat, { inuse: null, timeWait: null, memPages: null });
  assert.deepEqual(facts.conntrack, { active: false, count: null, max: null });
  // Without `ip` the addresses are Node's, and the route is asked of a UDP socket.
  assert.ok(facts.hostAddresses.some((own) => own.address === '127.0.0.1' && own.device === 'lo'));
  assert.deepEqual(facts.routes, [{ address: '127.0.0.1', device: 'lo', source: '127.0.0.1', local: true }]);
});

test('an unlimited descriptor limit is bounded by fs.nr_open', async () => {
  kernel = fakeKernel({
    ...FULL,
    'proc/self/limits': 'Max open files            unlimited            unlimited            files\n',
  });
  const facts = await gatherHostFacts([], { ...kernel, run: noPrograms });
  assert.equal(facts.nofileHard, 1_048_576);
});

test('the tightest memory limit of control groups counts: version 1, and a container that sees only its root', async () => {
  const rows: [Record<string, string>, number | null][] = [
    [
      {
        'proc/self/cgroup': '4:memory:/a/b\n0::/\n',
        'sys/fs/cgroup/memory/a/b/memory.limit_in_bytes': '5000\n',
      },
      5_000,
    ],
    [
      { 'proc/self/cgroup': '4:cpu,memory:/gone\n', 'sys/fs/cgroup/memory/memory.limit_in_bytes': '7000\n' },
      7_000,
    ],
    [
      {
        'proc/self/cgroup': '4:memory:/a\n',
        'sys/fs/cgroup/memory/a/memory.limit_in_bytes': '9000\n',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '8000\n',
      },
      8_000,
    ],
    [
      {
        'proc/self/cgroup': '4:memory:/\n',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      },
      null,
    ],
    [{ 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.max': 'max\n' }, null],
  ];
  for (const [files, limit] of rows) {
    const fake = fakeKernel(files);
    const facts = await gatherHostFacts([], { ...fake, run: noPrograms });
    fake.remove();
    assert.equal(facts.cgroupMemoryLimitBytes, limit, JSON.stringify(files));
  }
});

test('TIME_WAIT sockets are counted only while timestamps are off, and only those towards the endpoints', async () => {
  const row = (local: string, remote: string, state: string): string =>
    `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 1\n`;
  const table =
    'sl local rem st\n' +
    row('0200007F:0400', '0100007F:1F40', '06') +
    row('0200007F:0401', '0100007F:1F40', '06') +
    row('0200007F:0402', '0100007F:1F40', '01') +
    row('0200007F:0403', '0100007F:1F41', '06');
  for (const [timestamps, counted] of [
    ['0\n', 2],
    ['1\n', null],
  ] as const) {
    const fake = fakeKernel({
      ...FULL,
      'proc/net/tcp': table,
      'proc/sys/net/ipv4/tcp_timestamps': timestamps,
    });
    const facts = await gatherHostFacts([LOCAL], { ...fake, run: noPrograms });
    fake.remove();
    assert.equal(facts.timeWaitOnTuples, counted);
  }
});

test('of this host everything is known, with few programs run, and agrees with the kernel', async () => {
  const ran: string[] = [];
  const facts = await gatherHostFacts([LOCAL], {
    run: (file, args, options) => {
      ran.push([file, ...args].join(' '));
      return runProgram(file, args, options);
    },
  });
  // A process started is what costs time here.
  assert.ok(ran.length <= 3, ran.join('\n'));
  assert.equal(facts.fileMax, Number(readFileSync('/proc/sys/fs/file-max', 'utf8')));
  const shell = spawnSync('sh', ['-c', 'ulimit -Hn; getconf PAGESIZE'], { encoding: 'utf8' });
  const [nofileHard, pageSizeBytes] = shell.stdout.trim().split('\n');
  if (nofileHard !== 'unlimited') assert.equal(facts.nofileHard, Number(nofileHard));
  assert.equal(facts.pageSizeBytes, Number(pageSizeBytes));
  assert.ok((facts.memoryAvailableBytes ?? 0) > 0);
  assert.ok((facts.memoryAvailableBytes ?? 0) <= (facts.memoryTotalBytes ?? 0));
  assert.deepEqual(
    facts.routes.map(({ device, local }) => ({ device, local })),
    [{ device: 'lo', local: true }],
  );
  assert.ok(facts.hostAddresses.some((own) => own.address === '127.0.0.1'));
  // It must cross the control channel as it is.
  assert.deepEqual(JSON.parse(JSON.stringify(facts)), facts);
});

const COUNT = 'proc/sys/net/netfilter/nf_conntrack_count';
const MAX = 'proc/sys/net/netfilter/nf_conntrack_max';

/** What is found out about connection tracking below a made-up /proc. */
async function conntrackOf(procRoot: string, probeConntrack = async (): Promise<void> => {}) {
  const run: RunProgram = () =>
    Promise.resolve({ code: null, stdout: '', stderr: '', missing: true, truncated: false });
  return (await gatherHostFacts([], { procRoot, run, probeConntrack })).conntrack;
}

test('without the files nothing is tracked', async () => {
  kernel = fakeKernel();
  assert.deepEqual(await conntrackOf(kernel.procRoot), { active: false, count: null, max: null });
});

test('a maximum without a count leaves it open', async () => {
  kernel = fakeKernel({ [MAX]: '262144\n' });
  assert.deepEqual(await conntrackOf(kernel.procRoot), { active: null, count: null, max: 262_144 });
});

test('entries prove tracking, and then no datagram is sent', async () => {
  kernel = fakeKernel({ [COUNT]: '5\n', [MAX]: '100\n' });
  const facts = await conntrackOf(kernel.procRoot, () => assert.fail('no probe is needed'));
  assert.deepEqual(facts, { active: true, count: 5, max: 100 });
});

test('an empty table tracks when our own datagram makes an entry, and does not when it makes none', async () => {
  const fake = fakeKernel({ [COUNT]: '0\n', [MAX]: '100\n' });
  kernel = fake;
  assert.equal((await conntrackOf(fake.procRoot, async () => {})).active, false);
  const tracked = await conntrackOf(fake.procRoot, async () => fake.write(COUNT, '1\n'));
  assert.deepEqual(tracked, { active: true, count: 1, max: 100 });
});

/** A network namespace of its own, in which a rule is or is not there; it ends with its process. */
function trackedInNamespace(rules: string): string {
  const module = new URL('../../src/host/host-facts.js', import.meta.url).href;
  const script = `import(${JSON.stringify(module)}).then(async (m) => console.log((await m.gatherHostFacts([])).conntrack.active))`;
  const shell = `ip link set lo up && ${rules} && exec "$0" -e "$1"`;
  const result = spawnSync('unshare', ['-n', 'sh', '-c', shell, process.execPath, script], {
    encoding: 'utf8',
    timeout: HANG_MS,
  });
  return result.status === 0 ? result.stdout.trim() : `failed: ${result.stderr}`;
}

const canTest =
  process.getuid?.() === 0 && spawnSync('unshare', ['-n', 'nft', 'list', 'tables']).status === 0
    ? false
    : 'needs root, unshare and nft';

test('the kernel itself: a fresh namespace does not track', { skip: canTest }, () => {
  assert.equal(trackedInNamespace('true'), 'false');
});

test('the kernel itself: one stateful rule and it tracks', { skip: canTest }, () => {
  const rule =
    "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new accept'";
  assert.equal(trackedInNamespace(rule), 'true');
});
