/**
 * Owns an agent's end of a simulated holder: what a pool knows of a `ChildProcess`, and the pipe between the two. Must never know what
 * is said on it.
 */
import { EventEmitter } from 'node:events';
import type { AgentToHolder } from '../../src/agent/process-pipe.ts';
import { SimHolder } from './sim-holder.ts';
import type { SimProcess } from './virtual-time.ts';
import type { World } from './world.ts';

const PIPE_MS_MAX = 1;

/** What `fork` gives for a holder. */
export class SimChild extends EventEmitter {
  readonly pid: number;
  readonly #holder: SimHolder;
  readonly #parent: SimProcess;
  readonly #world: World;
  #lastMs = 0;
  connected = true;
  exitCode: number | null = null;
  signalCode: string | null = null;

  constructor(world: World) {
    super();
    this.#world = world;
    this.#parent = world.time.current;
    this.pid = world.nextPid();
    this.#holder = new SimHolder(world, this.#parent, (message) =>
      this.#fromHolder(() => this.emit('message', message)),
    );
    this.#holder.process.onDeath.push(() => this.#ended());
    this.#parent.onDeath.push(() => this.#holder.process.die());
  }

  #fromHolder(call: () => void): void {
    const { time, random } = this.#world;
    // A pipe keeps the order.
    this.#lastMs = Math.max(this.#lastMs, time.nowMs + random.between(0, PIPE_MS_MAX));
    time.at(this.#lastMs, this.#parent, call);
  }

  #ended(): void {
    const { how } = this.#holder;
    const { time } = this.#world;
    // What was on the pipe may come later than that.
    time.after(0, this.#parent, () => {
      if (how === 'left') this.exitCode = 0;
      else this.signalCode = how;
      this.emit('exit', this.exitCode, this.signalCode);
    });
    this.#fromHolder(() => this.#cut());
  }

  send(message: AgentToHolder): boolean {
    this.#world.time.after(PIPE_MS_MAX, this.#holder.process, () => this.#holder.take(message));
    return true;
  }

  kill(signal: string): boolean {
    this.#holder.killBy(signal);
    return true;
  }

  #cut(): void {
    if (!this.connected) return;
    this.connected = false;
    this.emit('disconnect');
  }

  disconnect(): void {
    this.#cut();
    this.#world.time.after(PIPE_MS_MAX, this.#holder.process, () => this.#holder.leave());
  }
}
