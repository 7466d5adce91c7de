/**
 * Owns the question how fast other programs open connections to the same target from one address: wrk, tsung, and a client with
 * `node:net`, beside one holder with each engine. Who counts is the target. There is no bound: they are other programs, made for other things.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Figure, figure } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Yardstick, YardstickServer } from './yardstick.ts';

const AMOUNTS = [15_000, 64_000];
const PENDING_MAX = 1_000;
const SAMPLE_EVERY_MS = 20;
/** It opens no more than it has: shorter rests are those of a port search, a SYN that is sent again, or a slow start. */
const STALLED_MS = 10_000;
const TIMEOUT_MS = 30_000;
const PAUSE_MS = 500;
const NET_CLIENT = fileURLToPath(new URL('./peer-net-client.js', import.meta.url));

/** What ends a client, and all that it has open. */
type Stop = () => Promise<void>;

interface Peer {
  readonly name: string;
  /** program that must be installed; null: none */
  readonly needs: string | null;
  /** @returns once it has begun, or is about to */
  begin(port: number, connections: number): Promise<Stop>;
}

const PEERS: readonly Peer[] = [
  {
    name: 'holder-uring',
    needs: null,
    begin: async (port, count) => await beginHolder(port, count, 'uring'),
  },
  {
    name: 'holder-epoll',
    needs: null,
    begin: async (port, count) => await beginHolder(port, count, 'epoll'),
  },
  {
    name: 'node-net',
    needs: null,
    begin: async (port, count) => {
      const args = [NET_CLIENT, port, count, PENDING_MAX].map(String);
      return ending(spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }));
    },
  },
  {
    name: 'wrk',
    needs: 'wrk',
    begin: async (port, count) =>
      ending(spawn('wrk', ['-t', '1', '-c', String(count), '-d', '60s', `http://127.0.0.1:${port}/`], QUIET)),
  },
  { name: 'tsung', needs: 'tsung', begin: beginTsung },
];

/** A group of its own, because some of them are shell scripts. */
const QUIET = { stdio: 'ignore', detached: true } as const;

function isInstalled(program: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', program]).status === 0;
}

function ending(child: ChildProcess): Stop {
  const ended = once(child, 'exit');
  return async () => {
    if (child.exitCode === null && child.signalCode === null) {
      if (child.spawnargs.includes(NET_CLIENT)) child.kill('SIGKILL');
      else process.kill(-child.pid!, 'SIGKILL');
    }
    await ended;
  };
}

async function beginHolder(port: number, connections: number, engine: 'uring' | 'epoll'): Promise<Stop> {
  const fleet = new Fleet({
    port,
    connections,
    // One process cannot have so many descriptors.
    holders: engine === 'epoll' ? Math.ceil(connections / 18_000) : 1,
    addresses: ['127.0.0.2'],
    pendingMax: PENDING_MAX,
    engine,
  });
  await fleet.prepare();
  const opening = fleet.open(TIMEOUT_MS);
  return async () => {
    await opening;
    await fleet.stop();
  };
}

/** Its Erlang finds others by a name server of our own, on loopback, so that none is left behind. */
async function beginTsung(port: number, connections: number): Promise<Stop> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-tsung-'));
  const file = join(folder, 'tsung.xml');
  writeFileSync(file, tsungPlan(port, connections));
  const namePort = String(20_000 + (process.pid % 10_000));
  const env = {
    ...process.env,
    HOME: folder,
    ERL_EPMD_PORT: namePort,
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_AFLAGS: '-kernel inet_dist_use_interface {127,0,0,1}',
  };
  const names = spawn('epmd', ['-port', namePort, '-address', '127.0.0.1'], QUIET);
  const stopNames = ending(names);
  const args = ['-I', '127.0.0.1', '-n', '-w', '0', '-f', file, '-l', join(folder, 'log'), 'start'];
  const stopTsung = ending(spawn('tsung', args, { ...QUIET, env, cwd: folder }));
  return async () => {
    await stopTsung();
    await stopNames();
    rmSync(folder, { recursive: true, force: true });
  };
}

/** All in one second, as far as it can; each sends a byte and is silent then. */
function tsungPlan(port: number, connections: number): string {
  return `<?xml version="1.0"?>
<!DOCTYPE tsung SYSTEM "/usr/share/tsung/tsung-1.0.dtd" []>
<tsung loglevel="warning">
  <clients><client host="localhost" use_controller_vm="true" maxusers="70000"/></clients>
  <servers><server host="127.0.0.1" port="${port}" type="tcp"/></servers>
  <load duration="60" unit="second"><arrivalphase phase="1" duration="60" unit="second">
    <users maxnumber="${connections}" arrivalrate="${connections}" unit="second"/>
  </arrivalphase></load>
  <sessions><session name="raw" probability="100" type="ts_raw">
    <request><raw data="x" ack="no_ack"/></request><thinktime value="120" random="false"/>
  </session></sessions>
</tsung>
`;
}

/** How many were accepted at the end, and how many a second until then, from the first on. */
async function watchServer(
  server: YardstickServer,
  connections: number,
): Promise<{ reached: number; rate: number }> {
  const beganMs = performance.now();
  let firstMs = 0;
  let lastMs = beganMs;
  let reached = 0;
  while (reached < connections) {
    const accepted = await server.accepted();
    const nowMs = performance.now();
    if (accepted > 0 && firstMs === 0) firstMs = nowMs;
    if (accepted > reached) lastMs = nowMs;
    reached = accepted;
    // The first takes its time: Erlang starts slowly.
    if (nowMs - beganMs > TIMEOUT_MS || (reached > 0 && nowMs - lastMs > STALLED_MS)) break;
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_EVERY_MS));
  }
  return {
    reached,
    rate: reached === 0 ? 0 : reached / (Math.max(SAMPLE_EVERY_MS, lastMs - firstMs) / 1_000),
  };
}

async function measurePeer(yardstick: Yardstick, peer: Peer, connections: number): Promise<Figure> {
  const server = await yardstick.serve(8, true);
  try {
    const stop = await peer.begin(server.port, connections);
    try {
      const { reached, rate } = await watchServer(server, connections);
      const amount = `${connections / 1_000}k`;
      const how = reached >= connections ? '' : `; it came to ${reached}`;
      return figure({
        name: `peer-${amount}-${peer.name}`,
        meaning: `connections a second of ${peer.name} to ${connections} from one address, as the target counts them${how}`,
        value: rate,
        unit: '/s',
        bound: 0,
        boundIs: 'at-least',
        samples: [reached],
      });
    } finally {
      await stop();
    }
  } finally {
    await server.stop();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

/** @param say is told of each that is left out, and why */
export async function measurePeers(yardstick: Yardstick, say: (line: string) => void): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const peer of PEERS) {
    if (peer.needs !== null && !isInstalled(peer.needs)) {
      say(`skip peer ${peer.name}: ${peer.needs} is not installed`);
      continue;
    }
    for (const connections of AMOUNTS) figures.push(await measurePeer(yardstick, peer, connections));
  }
  return figures;
}
