/**
 * Owns looking at the target's side of our connections where an endpoint is an address of this host: which of them no process has
 * accepted, whether its listener's queue is full, how many descriptors its process has left. Must never look at another host's.
 *
 * A socket that is established and that no process has accepted has no inode (`ino:0` in ss -e). Recv-Q of the listener also counts what we
 * have closed since, so it says only whether the queue was full.
 */
import { readdirSync } from 'node:fs';
import { unmapV4 } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { countLines, type RunProgram, runProgram } from './command.ts';
import { plainSocketName } from './kernel-count.ts';
import type { FarSide } from './kernel-evidence.ts';
import { readText } from './proc-file.ts';

/** Endpoints that are looked at: the first ones. */
const ENDPOINTS_MAX = 64;
/** 130,000 sockets take `ss` about a second. */
const SS_TIMEOUT_MS = 15_000;

/** What is seen of one endpoint. */
interface Seen {
  waitingMax: number;
  waitingLast: number;
  takenLast: number;
  halfOpenMax: number;
  halfOpenLast: number;
  isQueueFull: boolean;
  descriptorsUsed: number | null;
  descriptorsMax: number | null;
  /** processes that listened at the first look */
  pids: readonly number[];
  hasListener: boolean;
}

/** Looks at the far side of one agent's connections. */
export class FarSideWatch {
  readonly #seen = new Map<string, Seen>();
  readonly #endpoints: readonly Endpoint[];
  readonly #sources: ReadonlySet<string>;
  readonly #run: RunProgram;

  /**
   * @param endpoints those that are addresses of this host
   * @param sources ours: connections of others do not count
   */
  constructor(endpoints: readonly Endpoint[], sources: readonly string[], run: RunProgram = runProgram) {
    this.#endpoints = endpoints.slice(0, ENDPOINTS_MAX);
    this.#sources = new Set(sources);
    this.#run = run;
  }

  /** Looks at the listeners: their queues, and the descriptors of their processes. */
  async lookAtListeners(): Promise<void> {
    if (this.#endpoints.length === 0) return;
    const ports = [...new Set(this.#endpoints.map(({ port }) => `sport = :${port}`))].join(' or ');
    const { code, stdout } = await this.#run('ss', ['-Htnlp', `( ${ports} )`], { timeoutMs: SS_TIMEOUT_MS });
    if (code !== 0) return;
    for (const line of stdout.split('\n')) this.#takeListener(line.trim());
  }

  /** Columns: State Recv-Q Send-Q Local:Port Peer:Port Process. */
  #takeListener(line: string): void {
    const [, waiting = '', room = '', local = ''] = line.split(/\s+/, 4);
    if (local === '') return;
    const pids = [...line.matchAll(/pid=(\d+)/g)].map((match) => Number(match[1]));
    const name = plainSocketName(local);
    const port = name.slice(name.lastIndexOf(':') + 1);
    const isAny = /^(?:0\.0\.0\.0|\*|::):\d+$/.test(name);
    for (const endpoint of this.#endpoints) {
      if (String(endpoint.port) !== port) continue;
      if (!isAny && name !== `${unmapV4(endpoint.address)}:${port}`) continue;
      const seen = this.#of(endpoint);
      seen.hasListener = true;
      seen.isQueueFull ||= Number(waiting) > Number(room);
      if (seen.pids.length === 0) seen.pids = pids;
      this.#takeDescriptors(seen);
    }
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

  /** Looks at each connection of ours from its other side; costs a second for 130,000. */
  async lookAtConnections(): Promise<void> {
    await this.lookAtListeners();
    for (const endpoint of this.#endpoints) await this.#lookAt(endpoint);
  }

  async #lookAt(endpoint: Endpoint): Promise<void> {
    const literal = endpoint.family === 6 ? `[${endpoint.address}]` : endpoint.address;
    const counts = { waiting: 0, taken: 0, halfOpen: 0 };
    const args = ['-Htne', 'state', 'established', 'state', 'syn-recv', `src ${literal}:${endpoint.port}`];
    const { code } = await countLines('ss', args, {
      timeoutMs: SS_TIMEOUT_MS,
      matches: (line) => {
        const [state = '', , , , peer = ''] = line.split(/\s+/, 5);
        const name = plainSocketName(peer);
        if (!this.#sources.has(name.slice(0, name.lastIndexOf(':')))) return false;
        if (state === 'SYN-RECV') counts.halfOpen++;
        else if (/ ino:0(?: |$)/.test(line)) counts.waiting++;
        else counts.taken++;
        return true;
      },
    });
    if (code !== 0) return;
    const seen = this.#of(endpoint);
    seen.waitingLast = counts.waiting;
    seen.takenLast = counts.taken;
    seen.halfOpenLast = counts.halfOpen;
    seen.waitingMax = Math.max(seen.waitingMax, counts.waiting);
    seen.halfOpenMax = Math.max(seen.halfOpenMax, counts.halfOpen);
  }

  #of(endpoint: Endpoint): Seen {
    const name = formatEndpoint(endpoint);
    const known = this.#seen.get(name);
    if (known !== undefined) return known;
    const seen: Seen = {
      ...{ waitingMax: 0, waitingLast: 0, takenLast: 0, halfOpenMax: 0, halfOpenLast: 0 },
      ...{ isQueueFull: false, descriptorsUsed: null, descriptorsMax: null, pids: [], hasListener: false },
    };
    this.#seen.set(name, seen);
    return seen;
  }

  /** What was seen of endpoints that listen, or have connections of ours, in this network namespace. */
  facts(): Readonly<Record<string, FarSide>> {
    const facts: Record<string, FarSide> = {};
    for (const [name, { pids, hasListener, ...seen }] of this.#seen) {
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
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return null;
  }
}
