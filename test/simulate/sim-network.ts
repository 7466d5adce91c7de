/**
 * Owns the network between the hosts of a simulation: connections that deliver in order, each direction on its own, with
 * delay, cuts, partitions of one or both directions, half-open ends and slow readers. Must never know what is sent.
 */
import type { SimProcess } from './virtual-time.ts';
import type { World } from './world.ts';

const DELAY_MS_MIN = 0.2;
const DELAY_MS_MAX = 4;
/** After a partition TCP sends again when its timer says so. */
const AGAIN_MS_MAX = 1_500;

interface Parcel {
  readonly bytes: number;
  readonly deliver: () => void;
}

/** One direction of one connection. */
class Lane {
  readonly #world: World;
  readonly #fromHost: string;
  readonly #to: SimProcess;
  readonly #waiting: Parcel[] = [];
  #lastMs = 0;
  /** sent, and not delivered */
  bytes = 0;
  /** arrives in place of the next message; null: that arrives */
  nextText: string | null = null;
  /** until when its reader is slow */
  slowUntilMs = 0;
  isClosed = false;

  constructor(world: World, fromHost: string, to: SimProcess) {
    this.#world = world;
    this.#fromHost = fromHost;
    this.#to = to;
  }

  send(bytes: number, deliver: () => void): void {
    if (this.isClosed) return;
    this.bytes += bytes;
    this.#waiting.push({ bytes, deliver });
    this.pump(0);
  }

  /** @param extraMs beside the usual delay */
  pump(extraMs: number): void {
    const { network, random, time } = this.#world;
    if (network.isBlocked(this.#fromHost, this.#to.host)) return;
    for (const parcel of this.#waiting.splice(0)) {
      const delayMs = random.between(DELAY_MS_MIN, DELAY_MS_MAX) + extraMs;
      this.#lastMs = Math.max(this.#lastMs, time.nowMs + delayMs, this.slowUntilMs);
      time.at(this.#lastMs, this.#to, () => {
        this.bytes -= parcel.bytes;
        if (!this.isClosed) parcel.deliver();
      });
    }
  }
}

/** One connection between two processes. */
export class Wire {
  readonly #world: World;
  readonly client: SimProcess;
  readonly server: SimProcess;
  readonly toServer: Lane;
  readonly toClient: Lane;
  /** what each end does when the connection is gone */
  onGone: { client: () => void; server: () => void } = { client: () => {}, server: () => {} };
  #gone = { client: false, server: false };

  constructor(world: World, client: SimProcess, server: SimProcess) {
    this.#world = world;
    this.client = client;
    this.server = server;
    this.toServer = new Lane(world, client.host, server);
    this.toClient = new Lane(world, server.host, client);
    client.onDeath.push(() => this.leave('client'));
    server.onDeath.push(() => this.leave('server'));
  }

  /** One end closes its socket, or its kernel does: the other end learns of it as far as the way goes. */
  leave(end: 'client' | 'server'): void {
    if (this.#gone[end]) return;
    this.#gone[end] = true;
    const [out, back] = end === 'client' ? [this.toServer, this.toClient] : [this.toClient, this.toServer];
    const other = end === 'client' ? 'server' : 'client';
    out.send(0, () => this.lose(other));
    back.isClosed = true;
  }

  /** One end is told by its kernel that the connection is gone. The other one is not. */
  lose(end: 'client' | 'server'): void {
    if (this.#gone[end]) return;
    this.#gone[end] = true;
    (end === 'client' ? this.toClient : this.toServer).isClosed = true;
    (end === 'client' ? this.toServer : this.toClient).isClosed = true;
    const process = end === 'client' ? this.client : this.server;
    this.#world.time.after(0, process, () => this.onGone[end]());
  }

  get isOver(): boolean {
    return this.#gone.client && this.#gone.server;
  }
}

/** Who listens where. */
interface Listener {
  readonly process: SimProcess;
  accept(wire: Wire): void;
}

/** All connections. */
export class SimNetwork {
  readonly #world: World;
  readonly #blocked = new Set<string>();
  readonly #listeners = new Map<string, Listener>();
  #wires: Wire[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  isBlocked(from: string, to: string): boolean {
    return this.#blocked.size > 0 && this.#blocked.has(`${from}>${to}`);
  }

  block(from: string, to: string): void {
    this.#blocked.add(`${from}>${to}`);
  }

  heal(from: string, to: string): void {
    this.#blocked.delete(`${from}>${to}`);
    const extraMs = this.#world.random.between(0, AGAIN_MS_MAX);
    for (const { client, toServer, toClient } of this.#wiresNow()) {
      if (client.host === from) toServer.pump(extraMs);
      if (client.host === to) toClient.pump(extraMs);
    }
  }

  listen(port: number, listener: Listener): void {
    this.#listeners.set(String(port), listener);
  }

  unlisten(port: number): void {
    this.#listeners.delete(String(port));
  }

  /** Begins a connection from the current process. @returns null: there is none to ask, the connect is refused */
  connect(port: number): { wire: Wire; listener: Listener } | null {
    const listener = this.#listeners.get(String(port));
    if (listener === undefined || listener.process.state === 'dead') return null;
    const { current } = this.#world.time;
    current.run = listener.process.run;
    const wire = new Wire(this.#world, current, listener.process);
    this.#wires.push(wire);
    return { wire, listener };
  }

  #wiresNow(): Wire[] {
    this.#wires = this.#wires.filter((wire) => !wire.isOver);
    return this.#wires;
  }

  /** Connections of the processes of a host. */
  ofHost(host: string): Wire[] {
    return this.#wiresNow().filter(({ client }) => client.host === host);
  }
}
