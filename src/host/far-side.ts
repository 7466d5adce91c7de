/**
 * Owns what can be seen of the far side of an agent's connections where it is on this host: the listener's queue, its processes, and
 * whether each connection was accepted. Must never count our own side (kernel-count.ts), and never read often enough to cost anything.
 */
import { readdirSync, statSync } from 'node:fs';
import { unmapV4 } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { countLines, type RunProgram, runProgram } from './command.ts';
import { contiguousPorts, plainSocketName, SS_TIMEOUT_MS } from './kernel-count.ts';
import type { FarSide } from './kernel-evidence.ts';
import { readText } from './proc-file.ts';
import { addressKey, type DumpSockets, dumpSockets, TcpState } from './sock-diag.ts';

/** Endpoints that are looked at: the first ones. */
const ENDPOINTS_MAX = 64;

/** What is seen of one endpoint. */
interface Seen {
  waitingMax: number;
  waitingLast: number;
  takenLast: number;
  halfOpenMax: number;
  halfOpenLast: number;
  isQueueFull: boolean;
  queuedMax: number;
  /** at the look before */
  queuedBefore: number;
  queueDrops: number | null;
  /** at the first look */
  dropsBefore: number | null;
  descriptorsUsed: number | null;
  descriptorsMax: number | null;
  /** processes that listened at the first look */
  pids: readonly number[];
  hasListener: boolean;
}

/** Our connections at one endpoint, from its side. */
interface ConnectionCounts {
  waiting: number;
  taken: number;
  halfOpen: number;
}

const newCounts = (): ConnectionCounts => ({ waiting: 0, taken: 0, halfOpen: 0 });

function addTo(counts: ConnectionCounts, isHalfOpen: boolean, hasProcess: boolean): void {
  if (isHalfOpen) counts.halfOpen++;
  else if (hasProcess) counts.taken++;
  else counts.waiting++;
}

/** Several listeners may be one endpoint's (SO_REUSEPORT). */
function addDrops(drops: Map<Seen, number>, seen: Seen, count: number): void {
  drops.set(seen, (drops.get(seen) ?? 0) + count);
}

/** What listeners have dropped in all (sk_drops: tcp_listendrop() in include/net/tcp.h), counted from the first look. */
function takeDrops(drops: ReadonlyMap<Seen, number>): void {
  for (const [seen, count] of drops) {
    seen.dropsBefore ??= count;
    seen.queueDrops = Math.max(seen.queueDrops ?? 0, count - seen.dropsBefore);
  }
}

/** Looks at the far side of one agent's connections. */
export class FarSideWatch {
  readonly #seen = new Map<string, Seen>();
  readonly #endpoints: readonly Endpoint[];
  readonly #sources: ReadonlySet<string>;
  readonly #run: RunProgram;
  readonly #dump: DumpSockets;
  #hasLooked = false;

  /**
   * @param endpoints those that are addresses of this host
   * @param sources ours: connections of others do not count
   */
  constructor(
    endpoints: readonly Endpoint[],
    sources: readonly string[],
    run: RunProgram = runProgram,
    dump: DumpSockets = dumpSockets,
  ) {
    this.#endpoints = endpoints.slice(0, ENDPOINTS_MAX);
    this.#sources = new Set(sources);
    this.#run = run;
    this.#dump = dump;
  }

  /** Looks at the listeners: their queues, and the descriptors of their processes. */
  async lookAtListeners(): Promise<void> {
    if (this.#endpoints.length === 0) return;
    if (this.#hasLooked && (await this.#dumpListeners())) return;
    const ports = [...new Set(this.#endpoints.map(({ port }) => `sport = :${port}`))].join(' or ');
    // Whose a socket is `ss` finds by reading every descriptor of every process of this host: once, while there are few.
    const columns = this.#hasLooked ? '-Htnlm' : '-Htnlmp';
    const { code, stdout } = await this.#run('ss', [columns, `( ${ports} )`], { timeoutMs: SS_TIMEOUT_MS });
    if (code !== 0) return;
    this.#hasLooked = true;
    const drops = new Map<Seen, number>();
    // What it dropped is on a line of its own.
    for (const line of stdout.replace(/\n\s+/g, ' ').split('\n')) this.#takeListenerLine(line.trim(), drops);
    takeDrops(drops);
  }

  async #dumpListeners(): Promise<boolean> {
    const filter = { states: [TcpState.listen], localPorts: this.#ports, remotePorts: null };
    const dropped = new Map<Seen, number>();
    const isAnswered = await this.#dump(filter, (socket) => {
      const { localAddress, localPort, receiveQueue, sendQueue, drops } = socket;
      const isAny = /^\0+$/.test(localAddress);
      for (const endpoint of this.#endpoints) {
        if (endpoint.port !== localPort) continue;
        if (!isAny && addressKey(endpoint.address) !== localAddress) continue;
        this.#takeListener(endpoint, receiveQueue, sendQueue, []);
        if (drops !== null) addDrops(dropped, this.#of(endpoint), drops);
      }
    });
    if (isAnswered) takeDrops(dropped);
    return isAnswered;
  }

  get #ports(): readonly PortRange[] {
    return contiguousPorts(this.#endpoints.map(({ port }) => port));
  }

  /** Columns: State Recv-Q Send-Q Local:Port Peer:Port Process. */
  #takeListenerLine(line: string, drops: Map<Seen, number>): void {
    const [, waiting = '', room = '', local = ''] = line.split(/\s+/, 4);
    if (local === '') return;
    const pids = [...line.matchAll(/pid=(\d+)/g)].map((match) => Number(match[1]));
    const name = plainSocketName(local);
    const port = name.slice(name.lastIndexOf(':') + 1);
    const isAny = /^(?:0\.0\.0\.0|\*|::):\d+$/.test(name);
    for (const endpoint of this.#endpoints) {
      if (String(endpoint.port) !== port) continue;
      if (!isAny && name !== `${unmapV4(endpoint.address)}:${port}`) continue;
      this.#takeListener(endpoint, Number(waiting), Number(room), pids);
      const dropped = /skmem:\([^)]*\bd(\d+)\)/.exec(line)?.[1];
      if (dropped !== undefined) addDrops(drops, this.#of(endpoint), Number(dropped));
    }
  }

  #takeListener(endpoint: Endpoint, waiting: number, room: number, pids: readonly number[]): void {
    const seen = this.#of(endpoint);
    seen.hasListener = true;
    seen.isQueueFull ||= waiting > room;
    // What has just come waits for a moment with each server.
    seen.queuedMax = Math.max(seen.queuedMax, Math.min(seen.queuedBefore, waiting));
    seen.queuedBefore = waiting;
    if (seen.pids.length === 0) seen.pids = pids;
    this.#takeDescriptors(seen);
  }

  #takeDescriptors(seen: Seen): void {
    for (const pid of seen.pids) {
      const used = descriptorsOf(pid);
      if (used === null || used < (seen.descriptorsUsed ?? 0)) continue;
      const limit = /^Max open files\s+(\d+)/m.exec(readText('/proc', `${pid}/limits`) ?? '')?.[1];
      seen.descriptorsUsed = used;
      seen.descriptorsMax = limit === undefined ? null : Number(limit);
    }
  }

  /** Looks at each connection of ours from its other side. */
  async lookAtConnections(): Promise<void> {
    await this.lookAtListeners();
    if (this.#endpoints.length === 0 || (await this.#dumpConnections())) return;
    for (const endpoint of this.#endpoints) await this.#lookAt(endpoint);
  }

  async #dumpConnections(): Promise<boolean> {
    const sources = new Set([...this.#sources].map(addressKey));
    const ends = this.#endpoints.map((endpoint) => ({
      endpoint,
      address: addressKey(endpoint.address),
      counts: newCounts(),
    }));
    const byPort = new Map<number, typeof ends>();
    for (const end of ends) byPort.set(end.endpoint.port, [...(byPort.get(end.endpoint.port) ?? []), end]);
    const states = [TcpState.established, TcpState.synReceived];
    const isAnswered = await this.#dump(
      { states, localPorts: this.#ports, remotePorts: null },
      ({ state, localAddress, localPort, remoteAddress, inode }) => {
        const end = byPort.get(localPort)?.find(({ address }) => address === localAddress);
        if (end === undefined || !sources.has(remoteAddress)) return;
        addTo(end.counts, state === TcpState.synReceived, inode !== 0);
      },
    );
    if (isAnswered) for (const { endpoint, counts } of ends) this.#takeCounts(endpoint, counts);
    return isAnswered;
  }

  async #lookAt(endpoint: Endpoint): Promise<void> {
    const literal = endpoint.family === 6 ? `[${endpoint.address}]` : endpoint.address;
    const counts = newCounts();
    const args = ['-Htne', 'state', 'established', 'state', 'syn-recv', `src ${literal}:${endpoint.port}`];
    const { code } = await countLines('ss', args, {
      timeoutMs: SS_TIMEOUT_MS,
      matches: (line) => {
        const [state = '', , , , peer = ''] = line.split(/\s+/, 5);
        const name = plainSocketName(peer);
        if (!this.#sources.has(name.slice(0, name.lastIndexOf(':')))) return false;
        addTo(counts, state === 'SYN-RECV', !/ ino:0(?: |$)/.test(line));
        return true;
      },
    });
    if (code === 0) this.#takeCounts(endpoint, counts);
  }

  #takeCounts(endpoint: Endpoint, { waiting, taken, halfOpen }: ConnectionCounts): void {
    const seen = this.#of(endpoint);
    seen.waitingLast = waiting;
    seen.takenLast = taken;
    seen.halfOpenLast = halfOpen;
    seen.waitingMax = Math.max(seen.waitingMax, waiting);
    seen.halfOpenMax = Math.max(seen.halfOpenMax, halfOpen);
  }

  #of(endpoint: Endpoint): Seen {
    const name = formatEndpoint(endpoint);
    const known = this.#seen.get(name);
    if (known !== undefined) return known;
    const seen: Seen = {
      ...{ waitingMax: 0, waitingLast: 0, takenLast: 0, halfOpenMax: 0, halfOpenLast: 0 },
      ...{ isQueueFull: false, queuedMax: 0, queuedBefore: 0, queueDrops: null, dropsBefore: null },
      ...{ descriptorsUsed: null, descriptorsMax: null, pids: [], hasListener: false },
    };
    this.#seen.set(name, seen);
    return seen;
  }

  /** What was seen of endpoints that listen, or have connections of ours, in this network namespace. */
  facts(): Readonly<Record<string, FarSide>> {
    const facts: Record<string, FarSide> = {};
    for (const [name, { pids, hasListener, dropsBefore: _, queuedBefore: _queued, ...seen }] of this.#seen) {
      if (!hasListener && seen.takenLast + seen.waitingMax + seen.halfOpenMax === 0) continue;
      const isOwnerGone = pids.length === 0 ? null : pids.every((pid) => descriptorsOf(pid) === null);
      facts[name] = { ...seen, isOwnerGone };
    }
    return facts;
  }
}

/** Descriptors that a process has open; null: it is gone, or belongs to another user. */
function descriptorsOf(pid: number): number | null {
  try {
    const path = `/proc/${pid}/fd`;
    // Since Linux 6.2 the size of the folder is the number of its entries (fs/proc/fd.c); before, it is 0.
    return statSync(path).size || readdirSync(path).length;
  } catch {
    return null;
  }
}
