/**
 * Owns the world of one simulation: its time, its network, its hosts, and the truth of who has which connection open,
 * which no program under test is asked for. Must never judge (invariants.ts).
 */
import assert from 'node:assert/strict';
import type { Clock } from '../../src/base/clock.ts';
import { Random } from './random.ts';
import type { SimHolder } from './sim-holder.ts';
import { SimIp } from './sim-ip.ts';
import { SimNetwork } from './sim-network.ts';
import { SimProcess, VirtualTime } from './virtual-time.ts';

/** What a target, or the host itself, answers a connect with. */
export type ConnectAnswer =
  | 'established'
  | 'refused'
  | 'timeout'
  | 'reset'
  | 'descriptors'
  | 'memory'
  | 'source-lost';

export const CONNECT_MS_MAX = 8;

/** One host of the world. */
export interface SimHost {
  readonly name: string;
  /** its monotonic clock counts from elsewhere */
  readonly clockFromMs: number;
  wallStepMs: number;
  /** of the host itself; null: none, and the target answers */
  connects: ConnectAnswer | null;
  readonly tuples: Map<string, SimHolder>;
  readonly ip: SimIp;
  /** an agent on it was killed, or its `ip` did not work: what it added may stay until its lifetime is over */
  mayLeaveAliases: boolean;
}

/** Called for what happens in the world, as it happens. */
export interface WorldWatch {
  onOpen(host: SimHost, holder: SimHolder, tuple: string): void;
  onClose(): void;
  /** an address that a run has added is gone, by `ip` or by itself */
  onAddressGone(host: SimHost, address: string, byProgram: boolean): void;
}

/** One world; `currentWorld` is the one that the replaced modules act in. */
export class World {
  readonly outside = new SimProcess('world', 'nowhere', 0);
  readonly time = new VirtualTime(this.outside);
  readonly random: Random;
  readonly network: SimNetwork;
  readonly hosts = new Map<string, SimHost>();
  readonly processes: SimProcess[] = [];
  readonly holders: SimHolder[] = [];
  readonly trace: string[] = [];
  watch: WorldWatch = { onOpen: () => {}, onClose: () => {}, onAddressGone: () => {} };
  /** what the target answers */
  connects: ConnectAnswer = 'established';
  /** within what time it answers, but for a timeout */
  connectMsMax = CONNECT_MS_MAX;
  /** connections open now, by what the kernels have */
  open = 0;
  #pid = 1_000;

  constructor(seed: number) {
    this.random = new Random(seed, 1);
    this.network = new SimNetwork(this);
  }

  /** A line of the trace, with its time. */
  note(line: string): void {
    this.trace.push(`${(this.time.nowMs / 1_000).toFixed(3)} s  ${line}`);
  }

  addHost(name: string, clockFromMs: number): SimHost {
    const ip = new SimIp({
      nowMs: () => this.time.nowMs,
      random: (from, to) => this.random.between(from, to),
      sleep: (ms) => this.sleep(ms),
      onRemoved: (address, byProgram) => this.watch.onAddressGone(host, address, byProgram),
    });
    const host: SimHost = {
      name,
      clockFromMs,
      wallStepMs: 0,
      connects: null,
      tuples: new Map(),
      ip,
      mayLeaveAliases: false,
    };
    this.hosts.set(name, host);
    return host;
  }

  host(name: string): SimHost {
    const host = this.hosts.get(name);
    assert(host !== undefined, `no host ${name}`);
    return host;
  }

  spawn(name: string, host: string): SimProcess {
    const process = new SimProcess(name, host, this.processes.length + 1);
    this.processes.push(process);
    return process;
  }

  /** Connections that the kernel of a host calls established. */
  establishedOn(host: string): number {
    let established = 0;
    for (const holder of this.holders) if (holder.process.host === host) established += holder.openNow;
    return established;
  }

  nextPid(): number {
    this.#pid += 1;
    return this.#pid;
  }

  /** The clock of a host. */
  clockOf(name: string): Clock {
    const host = this.host(name);
    return {
      monotonicMs: () => host.clockFromMs + this.time.nowMs,
      wallMs: () => WALL_FROM_MS + host.wallStepMs + this.time.nowMs,
    };
  }

  /** Waits in the process that asks. */
  sleep(ms: number): Promise<void> {
    const process = this.time.current;
    return new Promise((resolve) => void this.time.after(ms, process, resolve));
  }

  /** A holder has a connection from now on. */
  opened(holder: SimHolder, tuple: string): void {
    const host = this.host(holder.process.host);
    this.open += 1;
    this.watch.onOpen(host, holder, tuple);
    host.tuples.set(tuple, holder);
  }

  closed(holder: SimHolder, tuple: string): void {
    const { tuples } = this.host(holder.process.host);
    if (tuples.get(tuple) === holder) tuples.delete(tuple);
    this.open -= 1;
    this.watch.onClose();
  }
}

/** A time of day to begin with. */
const WALL_FROM_MS = Date.UTC(2026, 0, 1);

let current: World | null = null;

/** The world that is simulated now. */
export function currentWorld(): World {
  assert(current !== null, 'nothing is simulated');
  return current;
}

/** From now on this is the one. */
export function enterWorld(world: World): void {
  current = world;
}
