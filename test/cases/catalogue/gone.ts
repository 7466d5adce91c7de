/**
 * Owns cases in which held connections are lost in mid-hold: by a reboot, a cut, a NAT that forgets, an application, a kernel
 * that kills. Must never cut anything outside of the case's own namespaces.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../support/network.ts';
import { startProcess } from '../../support/run-cli.ts';
import type { CaseSpec } from '../case.ts';
import { FAR_SERVER, type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { nodeServer, typed } from './parts.ts';

const PROBED = '-c 500 -d 10s --probe-every 2s --probe-timeout 3s';

const NAT = (invalid: string): string => `table ip nat {
 chain post {
  type nat hook postrouting priority 100;
  oifname "eth1" meta l4proto tcp masquerade
 }
}
table ip filter {
 chain forward {
  type filter hook forward priority 0;
  ${invalid}
 }
}`;

const CUT = `table ip cut {
 chain f {
  type filter hook forward priority -10;
  drop
 }
}`;
/** Both directions of one host. */
const DEAF = `table ip deaf {
  chain i {
    type filter hook input priority -10;
    drop
  }
  chain o {
    type filter hook output priority -10;
    drop
  }
}`;

/** Client, router and an echo target; something happens 3 s into the hold. */
async function routedHold(
  stage: Stage,
  nft: string | undefined,
  act: (hosts: { router: Host; server: Host }) => Promise<unknown>,
): Promise<PlayedRun> {
  const { client, router, server } = await stage.routed(nft);
  if (nft !== undefined) await router.sysctl('net.netfilter.nf_conntrack_tcp_loose', 0);
  await stage.serve(server, 8_000, ['--mode', 'echo']);
  return await stage.run(client, typed(`-t echo://${FAR_SERVER}:8000 ${PROBED}`), {
    far: server,
    during: async (running) => {
      await running.saw(/holding/);
      await sleep(3_000);
      await act({ router, server });
    },
  });
}

/** A control group (version 1 or 2) with a memory limit. */
function memoryGroup(stage: Stage, limitBytes: number): string {
  const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const group = join(isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory', `${basename(stage.folder)}`);
  mkdirSync(group);
  stage.after(() => rmdirSync(group));
  writeFileSync(join(group, isV2 ? 'memory.max' : 'memory.limit_in_bytes'), String(limitBytes));
  return group;
}

const EATS_MEMORY = `import time
held = []
for _ in range(200): held.append(bytearray(4 * 1024 * 1024)); time.sleep(0.002)
`;

export const GONE_CASES: readonly CaseSpec[] = [
  {
    name: 'target-rebooted',
    fault:
      'the target on our segment loses power and comes back: it answers every probe with a reset, and new connects',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const before = await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${PROBED}`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(3_000);
          await server.nft(DEAF);
          await server.must('ss', '-K', 'sport = :8000');
          await before.end('SIGKILL');
          await server.must('nft', 'delete', 'table', 'ip', 'deaf');
          await stage.serve(server, 8_000, ['--mode', 'echo']);
        },
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: 'target-rebooted',
      explains: 500,
      held: 0,
      never: [/something on the way has forgotten/],
    },
  },
  {
    name: 'target-lost-its-address',
    fault: "the target's address is removed there in mid-hold",
    looksLike: 'own-address-gone',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${PROBED}`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(3_000);
          await server.must('ip', 'addr', 'del', `${SERVER}/24`, 'dev', 'eth0');
        },
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: 'target-gone',
      explains: 500,
      held: 0,
      never: [/forgotten/],
      farSideDiffers: true,
    },
  },
  {
    name: 'nat-forgets-and-resets',
    fault: 'a NAT loses its table and resets what it does not know',
    looksLike: 'target-rebooted',
    needs: ['conntrack'],
    play: (stage) =>
      routedHold(stage, NAT('ct state invalid meta l4proto tcp reject with tcp reset'), ({ router }) =>
        router.must('conntrack', '-F'),
      ),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-forgot',
      explains: 500,
      held: 0,
      farSideDiffers: true,
    },
  },
  {
    name: 'application-resets-second-message',
    fault: 'an application echoes one message and resets the connection at the next',
    looksLike: 'target-rebooted',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const code = nodeServer(
        8_000,
        'let n = 0; socket.on("data", (d) => { if (++n === 1) socket.write(d); else socket.resetAndDestroy(); });',
      );
      await stage.script(server, code, [8_000]);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 500 -d 6s --probe-every 2s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closed',
      explains: 500,
      held: 0,
      never: [/forgotten/, /rebooted/],
    },
  },
  {
    name: 'path-cut',
    fault: 'a router drops everything from one moment on',
    play: (stage) => routedHold(stage, undefined, ({ router }) => router.nft(CUT)),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-cut',
      explains: 500,
      held: 0,
      never: [/forgotten/],
      farSideDiffers: true,
    },
  },
  {
    name: 'target-frozen',
    fault: 'the target is stopped (SIGSTOP): its kernel acknowledges, its application does not answer',
    looksLike: 'path-cut',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const peer = await stage.script(server, nodeServer(8_000, 'socket.pipe(socket);'), [8_000]);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${PROBED}`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(3_000);
          peer.signal('SIGSTOP');
        },
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-silent',
      explains: 500,
      held: 0,
      farSideDiffers: true,
    },
  },
  {
    name: 'nat-forgets-silently',
    fault: 'a NAT loses its table and drops what it does not know; new connects would pass',
    looksLike: 'path-cut',
    needs: ['conntrack'],
    play: (stage) =>
      routedHold(stage, NAT('ct state invalid drop'), ({ router }) => router.must('conntrack', '-F')),
    expected: {
      exit: 1,
      party: 'path',
      rule: ['path-forgot', 'path-cut'],
      explains: 500,
      held: 0,
      farSideDiffers: true,
    },
  },
  {
    name: 'router-link-down',
    fault: "the router's link to the target goes down",
    looksLike: 'own-link-down',
    play: (stage) =>
      routedHold(stage, undefined, ({ router }) => router.must('ip', 'link', 'set', 'eth1', 'down')),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-cut', 'path-unreachable'],
      explains: 500,
      held: 0,
      never: [/our own link/],
      farSideDiffers: true,
    },
  },
  {
    name: 'another-process-killed-for-memory',
    fault:
      'the kernel kills another process of this host for memory while the target closes 100 of its own will',
    play: async (stage) => {
      const host = await stage.lone();
      const group = memoryGroup(stage, 48 * 1_024 * 1_024);
      const code = nodeServer(8_000, 'if (count <= 100) setTimeout(() => socket.end(), 3000);');
      await stage.script(host, code, [8_000]);
      const path = stage.file('eats.py', EATS_MEMORY);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 500 -d 5s'), {
        during: async (running) => {
          await running.saw(/holding/);
          const eater = [
            'bash',
            '-ec',
            `echo $$ > ${join(group, 'cgroup.procs')}; exec /usr/bin/python3 ${path}`,
          ];
          const { signal } = await startProcess(eater, {}).result;
          assert.equal(signal, 'SIGKILL', 'the kernel has killed it');
        },
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: ['target-closed', 'target-timeout'],
      explains: 100,
      held: 400,
      never: [/for (?:want|lack) of memory/],
    },
  },
  {
    name: 'target-killed-for-memory',
    fault: 'the kernel kills the target itself for memory in mid-hold',
    looksLike: 'another-process-killed-for-memory',
    play: async (stage) => {
      const host = await stage.lone();
      const group = memoryGroup(stage, 160 * 1_024 * 1_024);
      // It fills what it may have once somebody says so.
      const code = `${nodeServer(8_000, '')}
process.on('SIGUSR2', () => { const held = []; setInterval(() => held.push(Buffer.alloc(16 << 20, 1)), 5); });`;
      const peer = await stage.script(host, code, [8_000]);
      writeFileSync(join(group, 'cgroup.procs'), String(peer.pid));
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 500 -d 20s'), {
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(2_000);
          peer.signal('SIGUSR2');
        },
      });
    },
    expected: { exit: 1, party: 'target', rule: 'target-memory', explains: 500, held: 0 },
  },
];
