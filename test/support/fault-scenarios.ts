/**
 * Owns the faults that diagnoses are tested with, by name. Each can be run anew; `record-faults.ts` keeps their reports.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type After,
  childrenOf,
  echoScript,
  type FaultRun,
  loneHost,
  natNetwork,
  run,
  SERVER_ADDRESS,
  startRun,
  startScript,
  startServe,
} from './faults.ts';
import { withKernelSetting } from './kernel-setting.ts';
import { freePort } from './net-target.ts';
import { createNetwork } from './network.ts';

export interface Scenario {
  /** what is done, in words */
  readonly fault: string;
  readonly needsRoot: boolean;
  readonly run: (t: After) => Promise<FaultRun>;
}

const SHORT_TIMEOUT = ['--connect-timeout', '2s'];

/** A control group (version 1 or 2) with a memory limit; removed after the test. */
function memoryGroup(t: After, limitBytes: number): string {
  const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const group = join(isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory', `c100k-${process.pid}`);
  mkdirSync(group);
  t.after(() => rmdirSync(group));
  writeFileSync(join(group, isV2 ? 'memory.max' : 'memory.limit_in_bytes'), String(limitBytes));
  return group;
}

const CONNTRACK_MAX = '/proc/sys/net/netfilter/nf_conntrack_max';

/** Lets connections be silent for longer than any run: a stopped process answers nothing. */
async function stopped(t: After, args: readonly string[], stopAfterMs: number | null): Promise<FaultRun> {
  const target = await startServe(t, ['--mode', 'echo', '--workers', '1']);
  const stop = (): void => {
    for (const pid of target.workers()) process.kill(pid, 'SIGSTOP');
  };
  if (stopAfterMs === null) stop();
  const started = startRun(t, ['--target', `echo://127.0.0.1:${target.port}`, '--conns', '500', ...args]);
  if (stopAfterMs !== null) {
    await started.cli.saw(/holding/);
    await sleep(stopAfterMs);
    stop();
  }
  return await started.finish();
}

/** The holder may run for 20 ms in each 400 ms (the CPU controller of control groups), from the start of the ramp. */
async function starved(t: After, protocol: string, args: readonly string[]): Promise<FaultRun> {
  const { port } = await startScript(t, echoScript());
  const to = [
    '--target',
    `${protocol}://127.0.0.1:${port}`,
    '--holders',
    '1',
    '--conns',
    '3000',
    '--rate',
    '1000/s',
  ];
  const group = cpuGroup(t, 20_000, 400_000);
  const started = startRun(t, [...to, ...args]);
  await started.cli.saw(/ramping/);
  for (const agent of childrenOf(started.cli.child.pid ?? 0)) {
    for (const holder of childrenOf(agent)) writeFileSync(join(group, 'cgroup.procs'), String(holder));
  }
  return await started.finish();
}

/** A control group (version 1 or 2) that may use so much of each period; removed after the test. */
function cpuGroup(t: After, quotaUs: number, periodUs: number): string {
  const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const group = join(isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/cpu', `c100k-${process.pid}`);
  mkdirSync(group);
  t.after(() => rmdirSync(group));
  if (isV2) writeFileSync(join(group, 'cpu.max'), `${quotaUs} ${periodUs}`);
  else {
    writeFileSync(join(group, 'cpu.cfs_period_us'), String(periodUs));
    writeFileSync(join(group, 'cpu.cfs_quota_us'), String(quotaUs));
  }
  return group;
}

async function natRun(
  t: After,
  masquerade: string,
  args: readonly string[],
  during?: (parts: { flush: () => Promise<unknown> }) => Promise<void>,
  routerRules?: string,
): Promise<FaultRun> {
  const { client, router, server } = await natNetwork(t, masquerade, routerRules);
  await router.sysctl('net.netfilter.nf_conntrack_tcp_loose', 0);
  await startServe(t, ['--mode', 'echo'], { host: server, address: SERVER_ADDRESS, port: 8_000 });
  const started = startRun(t, args, { host: client });
  let faultAtMs = 0;
  const flush = async (): Promise<void> => {
    await router.must('conntrack', '-F');
    faultAtMs = Date.now();
  };
  if (during !== undefined) {
    await started.cli.saw(/holding/);
    await during({ flush });
  }
  return { ...(await started.finish()), faultAtMs };
}

/** What a router does with packets that it has no state for: it does not send them on. */
const DROP_INVALID = forwardRule('ct state invalid drop');
const REJECT_INVALID = forwardRule('ct state invalid meta l4proto tcp reject with tcp reset');

function forwardRule(rule: string): string {
  return `table ip filter {
  chain forward {
    type filter hook forward priority 0;
    ${rule}
  }
}`;
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'target-never-answers': {
    fault: 'the target is stopped (SIGSTOP) before the run',
    needsRoot: false,
    run: (t) => stopped(t, ['--duration', '3s'], null),
  },
  'target-stops-answering': {
    fault: 'the target is stopped (SIGSTOP) in mid-hold',
    needsRoot: false,
    run: (t) => stopped(t, ['--duration', '9s', '--probe-every', '2s', '--probe-timeout', '2s'], 2_500),
  },
  'target-descriptors-accept-stops': {
    fault: 'ulimit -n 1024 on the built-in target: it stops to accept',
    needsRoot: false,
    run: async (t) => {
      // With io_uring the built-in target takes no descriptor for a connection.
      const flags = ['--mode', 'echo', '--workers', '1', '--engine', 'epoll'];
      const target = await startServe(t, flags, { descriptorsMax: 1_024 });
      const args = ['--target', `echo://127.0.0.1:${target.port}`, '--conns', '2000', '--duration', '4s'];
      return await run(t, [...args, ...SHORT_TIMEOUT]);
    },
  },
  'target-descriptors-closes': {
    fault: 'ulimit -n 1024 on a Node server: it closes what it cannot take',
    needsRoot: false,
    run: async (t) => {
      const { port } = await startScript(t, echoScript(), { descriptorsMax: 1_024 });
      return await run(t, ['--target', `echo://127.0.0.1:${port}`, '--conns', '2000', '--duration', '3s']);
    },
  },
  'target-descriptors-said': {
    fault: 'ulimit -n 1024 on the built-in target, which is asked (--target-stats)',
    needsRoot: false,
    run: async (t) => {
      const flags = ['--workers', '1', '--engine', 'epoll'];
      const target = await startServe(t, flags, { descriptorsMax: 1_024 });
      const args = ['--target', `127.0.0.1:${target.port}`, '--conns', '6000', '--duration', '2s'];
      return await run(t, [...args, ...SHORT_TIMEOUT, '--target-stats', target.statsUrl]);
    },
  },
  'target-accept-queue': {
    fault: 'the target is stopped with a backlog of 128',
    needsRoot: false,
    run: async (t) => {
      const { port, child } = await startScript(t, echoScript(undefined, 128));
      child.kill('SIGSTOP');
      const args = ['--target', `127.0.0.1:${port}`, '--conns', '500', '--duration', '1s'];
      return await run(t, [...args, ...SHORT_TIMEOUT]);
    },
  },
  'target-closes': {
    fault: 'a server that closes each connection at once',
    needsRoot: false,
    run: async (t) => {
      const { port } = await startScript(t, echoScript('socket.destroy();'));
      return await run(t, ['--target', `127.0.0.1:${port}`, '--conns', '500', '--duration', '2s']);
    },
  },
  'target-ended': {
    fault: 'the target is killed (SIGKILL) in mid-hold',
    needsRoot: false,
    run: async (t) => {
      const { port, child } = await startScript(t, echoScript());
      const started = startRun(t, ['--target', `127.0.0.1:${port}`, '--conns', '1000', '--duration', '10s']);
      await started.cli.saw(/holding/);
      await sleep(2_000);
      child.kill('SIGKILL');
      return await started.finish();
    },
  },
  'target-refused': {
    fault: 'nobody listens',
    needsRoot: false,
    run: async (t) =>
      run(t, ['--target', `127.0.0.1:${await freePort()}`, '--conns', '500', '--duration', '1s']),
  },
  'generator-ports': {
    fault: 'ten of a hundred source ports are taken by sockets that do not listen',
    needsRoot: false,
    run: async (t) => {
      const { port } = await startScript(t, echoScript());
      const holder = `import net from 'node:net';
for (let port = 21500; port < 21510; port++) net.createServer().listen(port, '127.0.0.9');
setTimeout(() => console.log(1), 200);`;
      await startScript(t, holder);
      const from = ['--source-ip', '127.0.0.9', '--source-ports', '21500-21599'];
      return await run(t, ['--target', `127.0.0.1:${port}`, '--conns', '100', '--duration', '1s', ...from]);
    },
  },
  'generator-descriptors': {
    fault: "the holders' descriptor limit is lowered in mid-ramp (prlimit)",
    needsRoot: false,
    run: async (t) => {
      const { port } = await startScript(t, echoScript());
      const args = [
        '--target',
        `127.0.0.1:${port}`,
        '--conns',
        '1500',
        '--rate',
        '500/s',
        '--duration',
        '1s',
      ];
      const started = startRun(t, [...args, '--holders', '1']);
      await started.cli.saw(/ramping/);
      await sleep(500);
      for (const agent of childrenOf(started.cli.child.pid ?? 0)) {
        for (const holder of childrenOf(agent)) {
          execFileSync('prlimit', ['--pid', String(holder), '--nofile=700:700']);
        }
      }
      return await started.finish();
    },
  },
  'generator-lost': {
    fault: 'one of two holders is killed (SIGKILL) in mid-hold',
    needsRoot: false,
    run: async (t) => {
      const { port } = await startScript(t, echoScript());
      const args = ['--target', `127.0.0.1:${port}`, '--conns', '1000', '--duration', '4s', '--holders', '2'];
      const started = startRun(t, args);
      await started.cli.saw(/holding/);
      await sleep(1_500);
      const [agent] = childrenOf(started.cli.child.pid ?? 0);
      const [holder] = childrenOf(agent ?? 0);
      if (holder !== undefined) process.kill(holder, 'SIGKILL');
      return await started.finish();
    },
  },
  'generator-limited': {
    fault: 'a holder has a twentieth of a core (control group), and holds all the same',
    needsRoot: true,
    run: (t) => starved(t, 'tcp', ['--duration', '2s']),
  },
  'generator-cpu': {
    fault: 'a holder has a twentieth of a core (control group), and probes must be answered in 200 ms',
    needsRoot: true,
    run: (t) =>
      starved(t, 'echo', ['--duration', '3s', '--probe-every', '500ms', '--probe-timeout', '200ms']),
  },
  'generator-alias': {
    fault: 'one of two source addresses is removed in mid-hold',
    needsRoot: true,
    run: async (t) => {
      const network = await createNetwork(t, {
        client: { on: { lan: ['10.97.0.2/24'] } },
        server: { on: { lan: ['10.97.0.1/24'] } },
      });
      await startServe(t, ['--mode', 'echo'], {
        host: network.host('server'),
        address: '10.97.0.1',
        port: 8_000,
      });
      const client = network.host('client');
      const sources = ['--source-ip', '10.97.0.2', '--source-ip', '10.97.0.3', '--alias-dev', 'eth0'];
      const args = [
        '--target',
        '10.97.0.1:8000',
        '--conns',
        '1000',
        '--duration',
        '8s',
        '--alias-lease',
        '6s',
        '--source-ports',
        '20000-20499',
      ];
      const started = startRun(t, [...args, ...sources], { host: client });
      await started.cli.saw(/holding/);
      await sleep(1_000);
      await client.must('ip', 'addr', 'del', '10.97.0.3/32', 'dev', 'eth0');
      return await started.finish();
    },
  },
  'generator-memory': {
    fault: 'the kernel answers ENOBUFS to some connects (strace injects it)',
    needsRoot: false,
    run: async (t) => {
      const { port } = await startScript(t, echoScript());
      const wrap =
        'exec strace -f -qq -o /dev/null --seccomp-bpf -e trace=connect -e inject=connect:error=ENOBUFS:when=101+2 "$@"';
      const args = ['--target', `127.0.0.1:${port}`, '--conns', '300', '--duration', '1s', '--holders', '1'];
      return await run(t, args, { options: { wrap } });
    },
  },
  'target-memory': {
    fault: 'the target outgrows the memory limit of its control group, and the kernel kills it',
    needsRoot: true,
    run: async (t) => {
      const group = memoryGroup(t, 96 * 1_048_576);
      const grow =
        'setTimeout(() => setInterval(() => hog.push(Buffer.alloc(8e6, 1)), 20), 6_000); const hog = [];';
      const { port, child } = await startScript(t, `${grow}\n${echoScript()}`);
      writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
      return await run(t, ['--target', `127.0.0.1:${port}`, '--conns', '500', '--duration', '12s']);
    },
  },
  'path-conntrack': {
    fault: 'the connection tracking table of our own host is full (nf_conntrack_max is lowered for the run)',
    needsRoot: true,
    run: async (t) => {
      const { client, server } = await natNetwork(t, '');
      await client.nft(
        'table ip f { chain o { type filter hook output priority 0; ct state invalid drop; }\n}',
      );
      await startServe(t, ['--mode', 'echo'], { host: server, address: SERVER_ADDRESS, port: 8_000 });
      const args = ['--target', `echo://${SERVER_ADDRESS}:8000`, '--conns', '3000', '--duration', '1s'];
      const started = startRun(t, [...args, ...SHORT_TIMEOUT, '--rate', '1000/s'], { host: client });
      // Preflight would refuse: the table is made smaller under the run.
      await started.cli.saw(/ramping/);
      return await withKernelSetting(CONNTRACK_MAX, '1500', () => started.finish());
    },
  },
  'path-ports-100': {
    fault: 'the router masquerades to 100 ports',
    needsRoot: true,
    run: (t) =>
      natRun(t, 'to :40000-40099', [
        '--target',
        `echo://${SERVER_ADDRESS}:8000`,
        '--conns',
        '300',
        '--duration',
        '3s',
        ...SHORT_TIMEOUT,
      ]),
  },
  'path-ports-100-silent': {
    fault: 'the router masquerades to 100 ports, and nothing proves itself',
    needsRoot: true,
    run: (t) =>
      natRun(t, 'to :40000-40099', [
        '--target',
        `${SERVER_ADDRESS}:8000`,
        '--conns',
        '300',
        '--duration',
        '1s',
        ...SHORT_TIMEOUT,
      ]),
  },
  'path-ports-28232': {
    fault: 'the router masquerades to the default ephemeral range, and nothing proves itself',
    needsRoot: true,
    run: (t) =>
      natRun(t, 'to :32768-60999', [
        '--target',
        `${SERVER_ADDRESS}:8000`,
        '--conns',
        '30000',
        '--duration',
        '1s',
        '--connect-timeout',
        '3s',
      ]),
  },
  'path-forgot-drop': {
    fault: 'the state of the NAT is flushed in mid-hold, and the router drops what it does not know',
    needsRoot: true,
    run: (t) =>
      natRun(
        t,
        '',
        [
          '--target',
          `echo://${SERVER_ADDRESS}:8000`,
          '--conns',
          '1000',
          '--duration',
          '10s',
          '--probe-every',
          '2s',
          '--probe-timeout',
          '2s',
        ],
        async ({ flush }) => {
          await sleep(3_000);
          await flush();
        },
        DROP_INVALID,
      ),
  },
  'path-forgot-reset': {
    fault: 'the state of the NAT is flushed in mid-hold, and the router answers with RST',
    needsRoot: true,
    run: (t) =>
      natRun(
        t,
        '',
        [
          '--target',
          `echo://${SERVER_ADDRESS}:8000`,
          '--conns',
          '1000',
          '--duration',
          '8s',
          '--probe-every',
          '2s',
          '--probe-timeout',
          '2s',
        ],
        async ({ flush }) => {
          await sleep(3_000);
          await flush();
        },
        REJECT_INVALID,
      ),
  },
  'path-forgot-silent': {
    fault: 'the state of the NAT is flushed in mid-hold, and nothing is sent that would tell',
    needsRoot: true,
    run: (t) =>
      natRun(
        t,
        '',
        ['--target', `${SERVER_ADDRESS}:8000`, '--conns', '1000', '--duration', '4s', '--close', 'rst'],
        async ({ flush }) => {
          await sleep(1_000);
          await flush();
        },
        DROP_INVALID,
      ),
  },
  'path-unreachable': {
    fault: 'a router rejects with ICMP admin-prohibited',
    needsRoot: true,
    run: (t) =>
      natRun(
        t,
        '',
        [
          '--target',
          `${SERVER_ADDRESS}:8000`,
          '--conns',
          '300',
          '--duration',
          '1s',
          '--connect-timeout',
          '4s',
        ],
        undefined,
        forwardRule('tcp dport 8000 ct state new reject with icmp admin-prohibited'),
      ),
  },
  'rst-storm': {
    fault: 'ss -K on a quarter of the connections in mid-hold',
    needsRoot: true,
    run: async (t) => {
      const lone = await loneHost(t);
      const target = await startServe(t, ['--workers', '4'], { host: lone });
      const sources = ['--source-ip', '127.0.0.2-127.0.0.5'];
      const args = [
        '--target',
        `127.0.0.1:${target.port}`,
        '--conns',
        '20000',
        '--duration',
        // `ss` asks for 5,000 one by one, and takes its time where the machine is busy.
        '20s',
        ...sources,
      ];
      const started = startRun(t, args, { host: lone });
      await started.cli.saw(/holding/);
      await sleep(1_500);
      await lone.must(
        'bash',
        '-c',
        `ss -K state established "sport = :${target.port} and dst 127.0.0.3" >/dev/null`,
      );
      return await started.finish();
    },
  },
};
