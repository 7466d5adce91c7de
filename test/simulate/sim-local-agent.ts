/**
 * Owns a coordinator's end of the agent that it forks on its own host: what src/coordinator/local-agent.ts knows of a `ChildProcess`. The
 * process gets its token and what belongs to its host over the pipe, as a real one does. Must never know the run.
 */
import { EventEmitter } from 'node:events';
import type { HostSpecMessage } from '../../src/agent/process-pipe.ts';
import { parseToken, type Token } from '../../src/control/token.ts';
import type { HostSpec } from '../../src/run/run-spec.ts';
import type { SimProcess } from './virtual-time.ts';
import type { World } from './world.ts';

const PIPE_MS = 1;
const LOAD_MS_MAX = 300;

/** What a forked agent knows once it has loaded. */
export interface ForkedAgent {
  readonly name: string;
  readonly token: Token;
  readonly hostSpec: HostSpec;
}

/** What `fork` gives for the local agent. */
export class SimLocalAgent extends EventEmitter {
  readonly pid: number;
  readonly stderr = null;
  readonly stdin: { on(): void; end(text: string): void };
  readonly #world: World;
  readonly #parent: SimProcess;
  readonly #process: SimProcess;
  readonly #name: string;
  #token: Token | null = null;
  #hasLoaded = false;
  #signal: string | null = null;

  constructor(world: World, args: readonly string[]) {
    super();
    this.#world = world;
    this.#parent = world.time.current;
    this.#name = args[args.indexOf('--name') + 1] ?? '';
    this.#process = world.spawn(`agent ${this.#name} on ${this.#parent.host}`, this.#parent.host);
    this.#process.run = this.#parent.run;
    this.pid = world.nextPid();
    world.pids.set(this.pid, this.#process);
    this.stdin = {
      on: () => {},
      end: (text) => {
        this.#token = parseToken(text.trim());
      },
    };
    this.#process.parentPipe = (message) =>
      void world.time.after(PIPE_MS, this.#parent, () => this.emit('message', message));
    this.#process.onDeath.push(() => this.#ended());
    this.#parent.onDeath.push(() => this.#orphaned());
  }

  get connected(): boolean {
    return this.#process.state !== 'dead';
  }

  #ended(): void {
    const signal = this.#signal;
    this.#world.time.after(PIPE_MS, this.#parent, () =>
      this.emit('exit', signal === null ? 0 : null, signal),
    );
  }

  /** The kernel wakes it (engine/parent-bond.ts), and it reads the end of its pipe. */
  #orphaned(): void {
    const { time } = this.#world;
    this.#process.parentPipe = null;
    time.after(PIPE_MS, this.#world.outside, () => time.go(this.#process));
    time.after(PIPE_MS, this.#process, () => {
      if (this.#hasLoaded) this.#process.emit('disconnect');
      else this.#process.die();
    });
  }

  send({ hostSpec }: HostSpecMessage): boolean {
    const { time, random } = this.#world;
    time.after(random.between(PIPE_MS, LOAD_MS_MAX), this.#process, () => {
      this.#hasLoaded = true;
      const token = this.#token;
      if (token !== null) this.#world.onForked(this.#process, { name: this.#name, token, hostSpec });
    });
    return true;
  }

  kill(signal: string): boolean {
    // One that has not loaded has no handler.
    if (signal === 'SIGKILL' || !this.#hasLoaded) {
      this.#signal = signal;
      if (this.#process.state !== 'dead') this.#world.host(this.#process.host).mayLeaveAliases = true;
      this.#process.die();
    } else this.#world.time.after(0, this.#process, () => this.#process.emit(signal));
    return true;
  }
}
