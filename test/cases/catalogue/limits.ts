/**
 * Owns cases of limits: of clients, descriptors, ports, rates, queues; and those that only show the same number. Must never
 * need more than a few thousand connections.
 */
import type { CaseSpec } from '../case.ts';
import { startHaproxy } from '../peers.ts';
import { FAR_SERVER, SERVER } from '../stage.ts';
import { countLimit, filterRule, nodeServer, typed } from './parts.ts';

function haproxy(maxconn: number): string {
  return `global
  maxconn 8000
defaults
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  maxconn ${maxconn}
listen tcp
  mode tcp
  bind 127.0.0.1:8000
  server s 127.0.0.1:8001
listen http
  mode http
  bind 127.0.0.1:8080
  http-request return status 200
`;
}

function shortTimeout(clientTimeout: string): string {
  return haproxy(5_000).replace('timeout client 60s', `timeout client ${clientTimeout}`);
}

/** Accepts 50 in each second. */
const slowAccept = (backlog: number): string => `import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', 8000)); s.listen(${backlog})
held = []
while True:
  held.append(s.accept()); time.sleep(0.02)
`;

/** Answers 30 at a time and takes no further one, as socat does with `max-children=30`. */
const ECHO_FOR_30 = `import socket, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', 8000)); s.listen(5)
room = threading.Semaphore(30)
def serve(c):
  while True:
    d = c.recv(4096)
    if not d: break
    c.sendall(d)
  c.close(); room.release()
while True:
  room.acquire(); c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
`;

/** Completes handshakes in its kernel alone. */
function neverAccepts(port: number, backlog: number): string {
  return `import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', ${port})); s.listen(${backlog})
time.sleep(3600)
`;
}

const FLOOD = `import socket, time
held = []
end = time.time() + 60
while time.time() < end:
  for _ in range(20):
    c = socket.socket(); c.setblocking(False); c.connect_ex(('127.0.0.1', 9000)); held.append(c)
  time.sleep(0.2)
  while len(held) > 200: held.pop(0).close()
`;

const MASQUERADE_1012 = `table ip nat {
 chain post {
  type nat hook postrouting priority 100;
  oifname "eth1" meta l4proto tcp masquerade to :40000-41011
 }
}`;

export const LIMIT_CASES: readonly CaseSpec[] = [
  {
    name: 'haproxy-maxconn-silent',
    fault: 'maxconn 2000 of a HAProxy frontend: 1,000 silent connections wait in the accept queue',
    reports: ['Netcracker/KubeMarine#483', 'haproxy/haproxy#682'],
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
      await stage.serve(host, 8_001);
      await startHaproxy(stage, host, haproxy(2_000), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 3000 -d 5s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-accept-queue', explains: 1_000, held: 2_000 },
  },
  {
    name: 'haproxy-maxconn-http',
    fault: 'the same frontend, asked by HTTP: 1,000 get no answer',
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
      await startHaproxy(stage, host, haproxy(2_000), [8_080]);
      return await stage.run(host, typed('-t http://127.0.0.1:8080/ -c 3000 -d 3s --connect-timeout 5s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-accept-queue', explains: 1_000, held: 2_000 },
  },
  {
    name: 'haproxy-has-room',
    fault: 'the same with maxconn 8000: all are taken, and stay silent',
    looksLike: 'haproxy-maxconn-silent',
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
      await stage.serve(host, 8_001);
      await startHaproxy(stage, host, haproxy(8_000), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 3000 -d 3s'));
    },
    expected: {
      exit: 0,
      party: null,
      rule: null,
      held: 3_000,
      says: [/\bPASS \(kernel only\) held [\d,]+ of [\d,]+ for /],
    },
  },
  {
    name: 'syn-rate-limit',
    fault: 'a filter at the target lets 50 SYNs through in a second and drops the rest',
    play: async (stage) => {
      const { client, server } = await stage.pair({
        server: {
          nft: filterRule(
            'input',
            'tcp dport 8000 tcp flags & (syn|ack) == syn limit rate over 50/second burst 5 packets drop',
          ),
        },
      });
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 1000 -d 2s --connect-timeout 8s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-rate-limit',
      explains: ({ report }) => 1_000 - (report?.connections.established ?? 0),
      cause: [/a second|\/s\b/],
      never: [/connections through and no more/],
    },
  },
  {
    name: 'slow-accept',
    fault:
      'a server accepts 50 a second from a queue of 16, and its kernel has no SYN cookies: as even as a rate limit',
    looksLike: 'syn-rate-limit',
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.ipv4.tcp_syncookies': 0 } });
      await stage.python(host, slowAccept(16), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 1000 -d 2s --connect-timeout 8s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-accept-queue', never: [/rate limit/] },
  },
  {
    name: 'slow-accept-behind-cookies',
    fault: 'the same server behind SYN cookies: its kernel says yes to all, and forgets most',
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.ipv4.tcp_syncookies': 1 } });
      await stage.python(host, slowAccept(16), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 1000 -d 2s --connect-timeout 4s'));
    },
    expected: {
      // It goes on accepting while it is looked at.
      farSideDiffers: true,
      exit: 1,
      party: 'target',
      rule: 'target-accept-queue',
      // Those that it took until then, and 17 in its queue.
      explains: ({ report }) => 1_000 - (report?.connections.held ?? 0),
      held: [20, 200],
    },
  },
  {
    name: 'evicts-the-oldest',
    fault: 'a server keeps the newest 300 and closes the oldest as new ones come',
    play: async (stage) => {
      const host = await stage.lone();
      const code = `import net from 'node:net';
const all = [];
net.createServer((s) => { s.on('error', () => {}); s.on('data', (d) => s.write(d)); all.push(s); if (all.length > 300) all.shift().end(); })
  .listen({ port: 8000, host: '0.0.0.0', backlog: 4096 });
`;
      await stage.script(host, code, [8_000]);
      return await stage.run(host, typed('-t echo://127.0.0.1:8000 -c 1000 -r 250/s -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-evicts',
      explains: 700,
      held: 300,
      cause: [/oldest/],
      never: [/timeout of/],
    },
  },
  {
    name: 'timeout-below-the-ramp',
    fault:
      'HAProxy with timeout client 1.5 s and a ramp of 4 s: the oldest end as new ones come, and then all the others',
    looksLike: 'evicts-the-oldest',
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone();
      await stage.serve(host, 8_001);
      await startHaproxy(stage, host, shortTimeout('1500ms'), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 1000 -r 250/s -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: 1_000,
      held: 0,
      cause: [/1\.[45]\d* s/],
      never: [/oldest/],
    },
  },
  {
    name: 'nat-of-1012-ports',
    fault:
      'a NAT has 1,012 ports, which is just below a descriptor limit; the whoami target sees its address',
    play: async (stage) => {
      const { client, server } = await stage.routed(MASQUERADE_1012);
      await stage.serve(server, 8_000, ['--mode', 'whoami']);
      return await stage.run(
        client,
        typed(`-t whoami://${FAR_SERVER}:8000 -c 1300 -d 2s --connect-timeout 3s`),
        { far: server },
      );
    },
    expected: {
      exit: 1,
      party: 'path',
      rule: ['path-ports', 'path-translated'],
      explains: [285, 295],
      held: [1_005, 1_015],
      never: [/just below a descriptor limit/],
    },
  },
  {
    name: 'nat-of-1012-ports-echo',
    fault: 'the same NAT before an echo target, which cannot see it',
    looksLike: 'nat-of-1012-ports',
    play: async (stage) => {
      const { client, server } = await stage.routed(MASQUERADE_1012);
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${FAR_SERVER}:8000 -c 1300 -d 2s --connect-timeout 3s`),
        { far: server },
      );
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-ports', 'path-limit'],
      explains: [285, 295],
      held: [1_005, 1_015],
      cause: [/descriptor/],
    },
  },
  {
    name: 'serve-descriptors-1024',
    fault:
      'a target with ulimit -n 1024 stops accepting: its kernel completes handshakes that are never answered',
    looksLike: 'nat-of-1012-ports-echo',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const command = ['bash', '-c', 'ulimit -n 1024; exec "$@"', 'bash'];
      const path = stage.file('limited.py', LIMITED_ECHO);
      await stage.start(server, [...command, '/usr/bin/python3', path], [8_000]);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 1300 -d 2s --connect-timeout 3s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-descriptors',
      explains: [275, 300],
      held: [1_000, 1_023],
    },
  },
  {
    name: 'router-limit-300',
    fault: 'a router lets 300 connections through and drops further SYNs',
    play: async (stage) => {
      const { client, server } = await stage.routed(countLimit('forward', 8_000, 300, 'all'));
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${FAR_SERVER}:8000 -c 500 -d 2s --connect-timeout 3s`),
        { far: server },
      );
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-limit', 'path-ports'],
      explains: [195, 205],
      held: [295, 305],
    },
  },
  {
    name: 'host-limit-300',
    fault: "the same limit in the firewall of the target's host: from here it looks the same",
    looksLike: 'router-limit-300',
    play: async (stage) => {
      const { client, server } = await stage.pair({
        server: { nft: countLimit('input', 8_000, 300, 'all') },
      });
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 500 -d 2s --connect-timeout 3s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-limit', 'path-ports'],
      explains: [195, 205],
      held: [295, 305],
      cause: [/host/],
    },
  },
  {
    name: 'abort-on-overflow',
    fault: 'the accept queue overflows and net.ipv4.tcp_abort_on_overflow is 1: established here, then reset',
    play: async (stage) => {
      const sysctls = { 'net.ipv4.tcp_abort_on_overflow': 1, 'net.ipv4.tcp_syncookies': 0 };
      const host = await stage.lone({ sysctls });
      await stage.python(host, slowAccept(200), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 1000 -d 2s --connect-timeout 4s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-accept-queue',
      // What it took until then is held; its queue of 200, what was reset and what got no answer are not.
      explains: ({ report }) => 1_000 - (report?.connections.held ?? 0),
      held: [50, 400],
      never: [/connection limit|limit of clients/],
      // It goes on accepting while it is looked at.
      farSideDiffers: true,
    },
  },
  {
    name: 'application-resets-above-100',
    fault: 'a server resets every connection above 100 as soon as it has accepted it',
    looksLike: 'abort-on-overflow',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, nodeServer(8_000, 'if (count > 100) socket.resetAndDestroy();'), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 500 -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 400,
      held: 100,
      never: [/accept queue overflowed/],
    },
  },
  {
    name: 'echo-for-thirty',
    fault:
      'a server that answers 30 at a time, with a backlog of 5, is asked by each connection: the queue overflows',
    looksLike: 'forty-percent-lost',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.python(host, ECHO_FOR_30, [8_000]);
      return await stage.run(host, typed('-t echo://127.0.0.1:8000 -c 60 -d 5s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-accept-queue',
      explains: 30,
      held: 30,
      never: [/packets get lost/, /ethtool/],
    },
  },
  {
    name: 'another-listener-overflows',
    fault: 'a filter drops 100 of our SYNs, while the accept queue of another server of this host overflows',
    looksLike: 'slow-accept',
    play: async (stage) => {
      const host = await stage.lone({ nft: filterRule('input', 'tcp dport 8000 tcp sport 1100-1199 drop') });
      await stage.serve(host, 8_000, ['--mode', 'echo']);
      await stage.python(host, neverAccepts(9_000, 1), [9_000]);
      await stage.start(host, ['/usr/bin/python3', '-c', FLOOD], []);
      return await stage.run(host, typed('-t echo://127.0.0.1:8000 -c 1000 -d 2s --connect-timeout 3s'));
    },
    expected: {
      exit: [1, 4],
      party: 'unknown',
      rule: ['unknown', 'generator-firewall', 'path-source-ports'],
      explains: 100,
      held: 900,
      never: [/accept queue overflowed/],
    },
  },
];

/** Echoes, and on EMFILE stops accepting, as most servers do. */
const LIMITED_ECHO = `import selectors, socket
sel = selectors.DefaultSelector()
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(('0.0.0.0', 8000)); l.listen(4096); l.setblocking(False)
sel.register(l, selectors.EVENT_READ)
while True:
  for key, _ in sel.select():
    if key.fileobj is l:
      try: c, _ = l.accept(); c.setblocking(False); sel.register(c, selectors.EVENT_READ)
      except OSError: sel.unregister(l)
    else:
      try:
        d = key.fileobj.recv(4096)
        if d: key.fileobj.send(d); continue
      except OSError: pass
      sel.unregister(key.fileobj); key.fileobj.close()
`;
