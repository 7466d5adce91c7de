/**
 * Owns a link between an agent and its coordinator that can be cut, stalled in either direction, and slowed down: a TCP
 * proxy on loopback. Must never change a byte.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** `up` is from the agent to the coordinator. */
export type Direction = 'up' | 'down';

interface Link {
  readonly agent: Socket;
  readonly coordinator: Socket;
  /** bytes so far, by direction */
  readonly seen: Record<Direction, Buffer[]>;
}

/** One proxy; every agent has its own. */
export class ControlProxy {
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #stalled = new Set<Direction>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #delayMs = 0;
  #isCut = false;
  #keepsBytes = false;
  #last: Link | null = null;

  constructor(coordinatorPort: number) {
    this.#server = createServer((agent) => this.#join(agent, coordinatorPort));
  }

  /** @returns the port that an agent joins */
  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  /** Remembers what passes from now on, for `recorded`. */
  record(): void {
    this.#keepsBytes = true;
  }

  /** What the agent of the last link has sent. */
  recorded(): Buffer {
    return Buffer.concat(this.#last?.seen.up ?? []);
  }

  #join(agent: Socket, port: number): void {
    if (this.#isCut) {
      agent.resetAndDestroy();
      return;
    }
    const coordinator = connect({ host: '127.0.0.1', port, noDelay: true });
    const link: Link = { agent, coordinator, seen: { up: [], down: [] } };
    agent.setNoDelay(true);
    this.#links.add(link);
    this.#last = link;
    this.#pump(link, 'up', agent, coordinator);
    this.#pump(link, 'down', coordinator, agent);
  }

  #pump(link: Link, direction: Direction, from: Socket, to: Socket): void {
    if (this.#stalled.has(direction)) from.pause();
    from.on('data', (chunk: Buffer) => {
      if (this.#keepsBytes) link.seen[direction].push(chunk);
      this.#later(() => to.write(chunk));
    });
    from.on('end', () => this.#later(() => to.end()));
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#links.delete(link);
      this.#later(() => to.destroy());
    });
  }

  #later(act: () => void): void {
    if (this.#delayMs === 0) {
      act();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, this.#delayMs);
    this.#timers.add(timer);
  }

  /** What is sent in this direction does not arrive, until `resume`: nobody is told. */
  stall(...directions: readonly Direction[]): void {
    for (const direction of directions) {
      this.#stalled.add(direction);
      for (const link of this.#links) source(link, direction).pause();
    }
  }

  resume(): void {
    this.#stalled.clear();
    for (const link of this.#links) {
      link.agent.resume();
      link.coordinator.resume();
    }
  }

  /** Every chunk arrives so much later; 0 is at once. Set it back only when nothing is under way. */
  slow(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Resets every link, and every new one until `mend`. */
  cut(): void {
    this.#isCut = true;
    for (const { agent, coordinator } of this.#links) {
      agent.resetAndDestroy();
      coordinator.resetAndDestroy();
    }
  }

  heal(): void {
    this.#isCut = false;
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const { agent, coordinator } of this.#links) {
      agent.destroy();
      coordinator.destroy();
    }
    this.#server.close();
  }
}

function source(link: Link, direction: Direction): Socket {
  return direction === 'up' ? link.agent : link.coordinator;
}
