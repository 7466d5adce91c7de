/**
 * Owns the agent process that the coordinator forks on its own host. It talks over the control channel like any
 * other; the IPC pipe only tells it that we are gone. Must never pass the token as an argument.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { formatToken, type Token } from '../control/token.ts';

/** The environment variable that carries an agent's token. */
const TOKEN_VARIABLE = 'C100K_TOKEN';
/** How long the agent may take to end after its channel was closed. */
const END_TIMEOUT_MS = 2_000;

/**
 * Tells an agent that the command line forked it for the person who typed the target: it has no owner's limits then.
 * A pipe alone does not say that, because process managers give one too.
 */
export const LOCAL_VARIABLE = 'C100K_LOCAL_AGENT';

/** The flags of this command, given as variables, are not the agent's. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('C100K_')));
}

export interface LocalAgentOptions {
  readonly entryPath: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly token: Token;
  /** once, when the process is gone, however it ended */
  readonly onExit: (how: string) => void;
}

/** The forked agent. It joins by itself. */
export class LocalAgent {
  readonly #process: ChildProcess;
  #isGone = false;

  constructor(options: LocalAgentOptions) {
    const { entryPath, name, host, port, token, onExit } = options;
    const join = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    this.#process = fork(entryPath, ['agent', '--join', join, '--name', name], {
      // Its own process group: Ctrl-C in the terminal must reach the CLI alone, which then drains in order.
      detached: true,
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env: { ...inherited(), [LOCAL_VARIABLE]: '1', [TOKEN_VARIABLE]: formatToken(token) },
    });
    const gone = (how: string): void => {
      if (this.#isGone) return;
      this.#isGone = true;
      onExit(how);
    };
    this.#process.on('error', (error) => gone(error.message));
    this.#process.on('exit', (code, signal) =>
      gone(signal === null ? `exited with ${code}` : `killed by ${signal}`),
    );
  }

  /** Waits for its end, which its closed channel brings about; one that does not end is killed. */
  async reap(): Promise<void> {
    if (this.#isGone) return;
    const exited = new Promise<void>((resolve) => this.#process.once('exit', () => resolve()));
    if (this.#process.connected) this.#process.disconnect();
    // One that is still loading hears neither its channel nor its pipe; it has no handler yet, so this ends it at once.
    this.#process.kill('SIGTERM');
    const killer = setTimeout(() => this.#process.kill('SIGKILL'), END_TIMEOUT_MS);
    await exited;
    clearTimeout(killer);
  }
}
