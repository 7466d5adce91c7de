/**
 * Owns the world of one simulation: its time, its network, its hosts, and the truth of who has which connection open,
 * which no program under test is asked for. Must never judge (invariants.ts).
 */
import assert from 'node:assert/strict';
import type { Clock } from '../../src/base/clock.ts';
import { Answer, type ConnectAnswer } from './answers.ts';
import { Random } from './random.ts';
import type { SimHolder } from './sim-holder.ts';
import { SimIp } from './sim-ip.ts';
import type { ForkedAgent } from './sim-local-agent.ts';
import { SimNetwork } from './sim-network.ts';
import { SimProcess, VirtualTime } from './virtual-time.ts';

export const CONNECT_MS_MAX = 8;

/** One host of the world. */
export interface SimHost {
  readonly name: string;
  /** its monotonic clock counts from elsewhere */
  readonly clock: Clock;
  wallStepMs: number;
  /** of the host itself; null: none, and the target answers */
  connects: ConnectAnswer | null;
  readonly tuples: Map<string, SimHolder>;
  readonly ip: SimIp;
  /** an agent on it was killed, or its `ip` did not work: what it added may stay until its lifetime is over */
  mayLeaveAliases: boolean;
}

/** How a connection left: lost, closed by us, or it never was one. */
export type Leaving = 'lost' | 'ours' | 'failed';

/** Called for what happens to the connections of one run, as it happens. */
export interface RunWatch {
  /** of the run, by what the kernels have: on their way or established, and established */
  open: number;
  established: number;
  onBegin(host: SimHost, holder: SimHolder, tuple: string): void;
  /** how long the agents of a host have not been heard */
  silenceMs(host: string): number;
  /** one of its processes opens, which may not */
  onOpensTooLate(process: SimProcess, silentMs: number): void;
  readonly quietMs: number;
  onEstablished(holder: SimHolder): void;
  /** it closes in order what it has */
  onClosing(holder: SimHolder): void;
  onLeave(holder: SimHolder, why: Leaving): void;
  /** an address is gone, by `ip` or by itself; @param isOurs a run has added it */
  onAddressGone(host: SimHost, address: string, byProgram: boolean, isOurs: boolean): void;
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
  /** processes that somebody knows by their id */
  readonly pids = new Map<number, SimProcess>();
  /** what a coordinator has forked begins */
  onForked: (process: SimProcess, agent: ForkedAgent) => void = () => {};
  /** a promise is broken: the rest of the history tells no more */
  isBroken = false;
  /** by the number of the run */
  readonly watches: RunWatch[] = [];
  /** what the target answers */
  connects: ConnectAnswer = Answer.established;
  /** within what time it answers, but for a timeout */
  connectMsMax = CONNECT_MS_MAX;
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
      onRemoved: (address, byProgram, isOurs) => {
        for (const watch of this.watches) watch.onAddressGone(host, address, byProgram, isOurs);
      },
    });
    const host: SimHost = {
      name,
      clock: {
        monotonicMs: () => clockFromMs + this.time.nowMs,
        wallMs: () => WALL_FROM_MS + host.wallStepMs + this.time.nowMs,
      },
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
    return this.host(name).clock;
  }

  /** Waits in the process that asks. */
  sleep(ms: number): Promise<void> {
    const process = this.time.current;
    return new Promise((resolve) => void this.time.after(ms, process, resolve));
  }

  /** Connections that are open or on their way. */
  get open(): number {
    return this.watches.reduce((sum, { open }) => sum + open, 0);
  }

  #watchOf(holder: SimHolder): RunWatch {
    const watch = this.watches[holder.run];
    assert(watch !== undefined, `no run ${holder.run}`);
    return watch;
  }

  ownerOf(host: string, tuple: string): SimHolder | undefined {
    return this.host(host).tuples.get(tuple);
  }

  /** A holder has a connection from now on, which is on its way. */
  begun(holder: SimHolder, tuple: string): void {
    const host = this.host(holder.process.host);
    const watch = this.#watchOf(holder);
    watch.open += 1;
    watch.onBegin(host, holder, tuple);
    host.tuples.set(tuple, holder);
  }

  /** A process of a run has made one connect, and holds nothing of it. */
  connectedOnce(process: SimProcess): void {
    // It may close what it has of one run while it has reached the coordinator of the next.
    const mayOpen = (watch: RunWatch): boolean => watch.silenceMs(process.host) <= watch.quietMs;
    if (this.watches.some(mayOpen)) return;
    const watch = this.watches[process.run];
    watch?.onOpensTooLate(process, watch.silenceMs(process.host));
  }

  established(holder: SimHolder): void {
    const watch = this.#watchOf(holder);
    watch.established += 1;
    watch.onEstablished(holder);
  }

  closing(holder: SimHolder): void {
    this.#watchOf(holder).onClosing(holder);
  }

  closed(holder: SimHolder, tuple: string, why: Leaving): void {
    const { tuples } = this.host(holder.process.host);
    if (tuples.get(tuple) === holder) tuples.delete(tuple);
    const watch = this.#watchOf(holder);
    watch.open -= 1;
    if (why !== 'failed') watch.established -= 1;
    watch.onLeave(holder, why);
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
