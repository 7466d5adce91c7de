/**
 * Owns the agent process that the coordinator forks on its own host. It talks over the control channel like any
 * other; the IPC pipe says what belongs to this host, and that we are gone. Must never pass the token as an argument
 * or a variable.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { type HostSpecMessage, SHUTDOWN_HEARTBEAT } from '../agent/process-pipe.ts';
import { formatToken, type Token } from '../control/token.ts';
import { bindChild } from '../engine/parent-bond.ts';
import { eachLine } from '../host/command.ts';
import type { HostSpec } from '../run/run-spec.ts';
import { after } from '../time/timer.ts';

/** How long the agent may take to end, or to give a sign that it is busy closing, after it was asked to. */
const END_TIMEOUT_MS = 2_000;
/**
 * How long it may be busy closing: sockets gone (2 s), the lock for addresses (10 s), a look that renews (5 s and 15 s), a look at
 * whose they are (5 s), one batch of `ip` (15 s), one look at what is left (5 s). One that is killed before leaves its aliases to their lifetime.
 */
const CLOSING_MS_MAX = 60_000;

/**
 * The pid of the command line that forked this agent for the person who typed the target: it has no owner's limits then.
 * A pipe alone does not say that, because process managers give one too.
 */
export const LOCAL_VARIABLE = 'C100K_LOCAL_AGENT';

/** The flags of this command, given as variables, are not the agent's. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('C100K_')));
}

interface LocalAgentOptions {
  readonly entryPath: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly token: Token;
  /** the sources and holders that were typed for this host */
  readonly hostSpec: HostSpec;
  /** gets what it and its holders write to stderr, line by line; null: they write to ours */
  readonly onLine: ((line: string) => void) | null;
  /** once, when the process is gone, however it ended */
  readonly onExit: (how: string) => void;
}

/** The forked agent. It joins by itself. */
export class LocalAgent {
  readonly #process: ChildProcess;
  readonly #onExit: (how: string) => void;
  #isGone = false;

  constructor(options: LocalAgentOptions) {
    const { entryPath, name, host, port, token, hostSpec, onLine, onExit } = options;
    const join = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    this.#process = bindChild('wake', (bond) =>
      fork(entryPath, ['agent', '--join', join, '--name', name, '--token-stdin'], {
        // Its own process group: Ctrl-C in the terminal must reach the CLI alone, which then drains in order.
        detached: true,
        execArgv: [],
        stdio: ['pipe', 'ignore', onLine === null ? 'inherit' : 'pipe', 'ipc', bond],
        env: { ...inherited(), [LOCAL_VARIABLE]: String(process.pid) },
      }),
    );
    if (onLine !== null) eachLine(this.#process.stderr, onLine);
    // Not in its environment: that stays readable for as long as it lives, and its holders would inherit it.
    this.#process.stdin?.on('error', () => {});
    this.#process.stdin?.end(`${formatToken(token)}\n`);
    const message: HostSpecMessage = { type: 'host-spec', hostSpec };
    // That one is gone already, or was never there, shows by its end.
    if (this.#process.connected) this.#process.send(message, () => {});
    this.#onExit = onExit;
    const gone = (how: string): void => this.#gone(how);
    this.#process.on('error', (error) => gone(`could not be started: ${error.message}`));
    this.#process.on('exit', (code, signal) =>
      gone(signal === null ? `exited with ${code}` : `killed by ${signal}`),
    );
  }

  #gone(how: string): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#endGroup();
    this.#onExit(how);
  }

  /** 0 when it could not be started */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Ends it immediately, as one that is stopped; it counts as gone from now. */
  giveUp(how: string): void {
    this.#process.kill('SIGKILL');
    this.#gone(how);
  }

  /**
   * Its holders are in its process group. The kernel ends them with it (engine/parent-bond.ts), except for one that is stopped
   * where the kernel refuses that.
   */
  #endGroup(): void {
    const { pid } = this.#process;
    if (pid === undefined) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // ESRCH: no process is left, as it should be.
    }
  }

  /**
   * Tells it to end and waits for that: for as long as it gives signs that it is busy closing, because one that is killed
   * while it removes its aliases leaves them on the host. One that is silent is killed.
   */
  async reap(): Promise<void> {
    if (this.#isGone) return;
    const agent = this.#process;
    const exited = new Promise<void>((resolve) => agent.once('exit', () => resolve()));
    const kill = (): void => void agent.kill('SIGKILL');
    const last = after(CLOSING_MS_MAX, kill);
    let killer = after(END_TIMEOUT_MS, kill);
    agent.on('message', (message) => {
      if (message !== SHUTDOWN_HEARTBEAT) return;
      killer.cancel();
      killer = after(END_TIMEOUT_MS, kill);
    });
    // One that is still loading hears nothing; it has no handler yet, so this ends it immediately. Its pipe stays: the signs
    // come over it, and it closes with this process.
    agent.kill('SIGTERM');
    await exited;
    killer.cancel();
    last.cancel();
  }
}
