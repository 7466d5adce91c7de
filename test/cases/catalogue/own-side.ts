/**
 * Owns cases of our own host: link, route, address, processes, a second run, other programs, agents of one name. Must never
 * use a limit of the whole machine.
 */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../support/network.ts';
import { cliPath, startProcess } from '../../support/run-cli.ts';
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import { CLIENT, type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { typed } from './parts.ts';

async function ownLoss(stage: Stage, act: (client: Host) => Promise<unknown>): Promise<PlayedRun> {
  const { client, server } = await stage.pair();
  await stage.serve(server, 8_000, ['--mode', 'echo']);
  const args = `-t echo://${SERVER}:8000 -c 500 -d 10s --probe-every 2s --probe-timeout 3s`;
  return await stage.run(client, typed(args), {
    far: server,
    during: async (running) => {
      await running.saw(/holding/);
      await sleep(3_000);
      await act(client);
    },
  });
}

function ownExpected(rule: string | string[]): Expected {
  return {
    exit: 4,
    party: 'generator',
    rule,
    explains: 500,
    held: 0,
    never: [/application stopped answering/, /target's kernel speaks/],
    farSideDiffers: true,
  };
}

/** A control group (version 1 or 2) with so many tasks at most. */
function taskGroup(stage: Stage, tasksMax: number): string {
  const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const group = join(isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids', `${basename(stage.folder)}`);
  mkdirSync(group);
  stage.after(async () => {
    // The last processes of the run may still be ending.
    for (let tries = 0; tries < 50; tries++) {
      try {
        rmdirSync(group);
        return;
      } catch {
        await sleep(200);
      }
    }
    rmdirSync(group);
  });
  writeFileSync(join(group, 'pids.max'), String(tasksMax));
  return group;
}

/** Words before a command that put it into a control group. */
function inGroup(group: string): string[] {
  return ['bash', '-ec', `echo $$ > ${group}/cgroup.procs; exec "$@"`, 'bash'];
}

const SIX_HOLDERS = '-t 127.0.0.1:8000 -c 20000 -d 2s --holders 6';
const TASKS_REFUSED: Expected = {
  exit: 3,
  party: 'generator',
  says: [/REFUSED/, /(?:pids\.max|tasks|RLIMIT_NPROC|ulimit -u)/],
  never: [/SIGABRT/, /pthread_create/],
};

/**
 * @param outside words before `ip netns exec`: inside, another /sys is mounted, which has no control groups
 * @param inside words after it
 */
async function fewTasks(
  stage: Stage,
  outside: readonly string[],
  inside: readonly string[] = [],
): Promise<PlayedRun> {
  const host = await stage.lone();
  await stage.serve(host, 8_000);
  const program = [process.execPath, cliPath, ...typed(SIX_HOLDERS), '--no-progress'];
  const command = [...outside, 'ip', 'netns', 'exec', host.namespace, ...inside, ...program];
  const { code, stdout, stderr } = await startProcess(command, { timeoutMs: 120_000 }).result;
  return {
    command: `c100k-bench ${SIX_HOLDERS}`,
    exitCode: code,
    report: null,
    text: `${stdout}${stderr}`.replaceAll(stage.folder, 'FOLDER').replace(/\s+/g, ' '),
    farSide: null,
    truth: {},
    wire: null,
    counters: {},
    aftermath: null,
  };
}

export const OWN_SIDE_CASES: readonly CaseSpec[] = [
  {
    name: 'own-link-down',
    fault: 'our own cable is pulled in mid-hold',
    reports: ['pgbouncer/pgbouncer#364'],
    play: (stage) => ownLoss(stage, (client) => client.must('ip', 'link', 'set', 'eth0', 'down')),
    expected: ownExpected('generator-link'),
  },
  {
    name: 'own-route-gone',
    fault: 'our own route to the target is withdrawn in mid-hold',
    play: (stage) =>
      ownLoss(stage, (client) => client.must('ip', 'route', 'del', '10.83.0.0/24', 'dev', 'eth0')),
    expected: ownExpected('generator-route'),
  },
  {
    name: 'own-address-gone',
    fault: "this host's own address is taken away in mid-hold (DHCP, NetworkManager)",
    play: (stage) =>
      ownLoss(stage, (client) => client.must('ip', 'addr', 'del', `${CLIENT}/24`, 'dev', 'eth0')),
    expected: ownExpected(['generator-address', 'generator-alias']),
  },
  {
    name: 'pids-max-60',
    fault: 'a container with pids.max 60, and six holders of 11 threads',
    reports: ['nodejs/help#1754', 'podman-container-tools/podman#17647'],
    play: (stage) => fewTasks(stage, inGroup(taskGroup(stage, 60))),
    expected: TASKS_REFUSED,
  },
  {
    name: 'pids-max-20',
    fault: 'a container with pids.max 20: not even an agent starts',
    play: (stage) => fewTasks(stage, inGroup(taskGroup(stage, 20))),
    expected: TASKS_REFUSED,
  },
  {
    name: 'ulimit-u-20',
    fault: 'a user with ulimit -u 20',
    reports: ['Unitech/pm2#4951'],
    play: (stage) =>
      fewTasks(stage, [], typed('setpriv --reuid 65534 --regid 65534 --clear-groups prlimit --nproc=20:20')),
    expected: TASKS_REFUSED,
  },
  {
    name: 'two-runs-at-once',
    fault: 'two people run the tool on one host towards the same target',
    reports: ['docker/for-linux#654', 'satori-com/tcpkali#61'],
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 8_192 } });
      await stage.serve(host, 8_000, ['--mode', 'echo']);
      const args = typed('-t 127.0.0.1:8000 -c 2000 -d 6s');
      let other: Promise<{ code: number | null; stdout: string }> | null = null;
      const run = await stage.run(host, args, {
        during: async () => {
          other = host.bench([...args, '--no-progress']);
          await other;
        },
      });
      const result = await (other as Promise<{ code: number | null; stdout: string }> | null);
      return {
        ...run,
        truth: { otherExit: result?.code ?? null, otherSaid: result?.stdout.trim().split('\n').at(-1) ?? '' },
      };
    },
    expected: { exit: 0, party: null, rule: null, held: 2_000 },
  },
  {
    name: 'foreign-pool',
    fault: 'another program of this host has 50 connections to the same target since before the run',
    looksLike: 'two-runs-at-once',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.serve(host, 8_000, ['--mode', 'echo']);
      const pool = `import socket, time
s = [socket.create_connection(('127.0.0.1', 8000), source_address=('127.0.0.1', 0)) for _ in range(50)]
print('open', flush=True); time.sleep(600)`;
      const peer = await stage.python(host, pool, []);
      while (!peer.log().includes('open')) await sleep(50);
      return await stage.run(
        host,
        typed('-t echo://127.0.0.1:8000 -c 1000 -d 2s --source-ip 127.0.0.1 --source-ports 32768-60999'),
      );
    },
    expected: { exit: 0, party: null, rule: null, held: 1_000, says: [/\b50\b/] },
  },
  {
    name: 'agents-of-one-name',
    fault: 'two agents of the same name (VMs made from one image)',
    reports: ['gpustack/gpustack#3922', 'docker-archive/classicswarm#563'],
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const token = join(stage.folder, 'token');
      const agent = ['agent', '--join', `${SERVER}:7100`, '--token-file', token, '--name', 'clone'];
      const agents: Promise<{ code: number | null; stderr: string }>[] = [];
      const args = `-t echo://${SERVER}:8000 -c 500 -d 2s --listen ${SERVER}:7100 --expect-agents 2 --wait-agents 25s`;
      const run = await stage.run(server, [...typed(args), '--token-file', token], {
        isCaptured: false,
        during: async (running) => {
          await running.saw(/waiting for agents/);
          // Each host's kernel counts its own sockets, so the two are on two hosts.
          for (const host of [client, server]) agents.push(host.bench(agent));
          await Promise.all(agents);
        },
      });
      const results = await Promise.all(agents);
      return {
        ...run,
        truth: {
          agents: results.map(({ code, stderr }) => ({ code, said: stderr.trim().split('\n').at(-1) ?? '' })),
        },
      };
    },
    expected: {
      exit: 0,
      party: null,
      rule: null,
      held: 500,
      says: [/clone-2/],
    },
  },
  {
    name: 'agent-with-a-wrong-clock',
    fault: 'a token of one hour, and an agent whose clock is two hours ahead',
    needs: ['faketime'],
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const token = join(stage.folder, 'token');
      const made = await server.bench(['token', '--token-file', token, '--name', 'h7', '--expires', '1h']);
      const own = stage.file('h7.token', made.stdout);
      await server.must('chmod', '600', own);
      const agents: Promise<{ code: number | null; stderr: string }>[] = [];
      const args = `-t echo://${SERVER}:8000 -c 500 -d 2s --listen ${SERVER}:7100 --expect-agents 1 --wait-agents 20s`;
      const run = await stage.run(server, [...typed(args), '--token-file', token], {
        isCaptured: false,
        during: async (running) => {
          await running.saw(/waiting for agents/);
          const command = [
            'faketime',
            '+2 hours',
            process.execPath,
            cliPath,
            'agent',
            '--join',
            `${SERVER}:7100`,
            '--token-file',
            own,
          ];
          agents.push(client.run(command, { timeoutMs: 60_000 }));
          await Promise.all(agents);
        },
      });
      const [agent] = await Promise.all(agents);
      return {
        ...run,
        text: `${run.text} ${agent?.stderr.replace(/\s+/g, ' ') ?? ''}`,
        truth: { agentExit: agent?.code ?? null },
      };
    },
    expected: { exit: 4, party: 'generator', says: [/clock/] },
  },
];
