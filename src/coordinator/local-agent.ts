/**
 * Owns the agent process that the coordinator forks on its own host. It talks over the control channel like any
 * other; the IPC pipe only tells it that we are gone. Must never pass the token as an argument.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { formatToken, type Token } from '../control/token.ts';

/** The environment variable that carries an agent's token. */
const TOKEN_VARIABLE = 'C100K_TOKEN';

export interface LocalAgentOptions {
  readonly entryPath: string;
  readonly name: string;
  readonly port: number;
  readonly token: Token;
  /** once, when the process is gone, however it ended */
  readonly onExit: (how: string) => void;
}

/** Forks the local agent; resolves never: the agent joins by itself. */
export function forkLocalAgent(options: LocalAgentOptions): ChildProcess {
  const { entryPath, name, port, token } = options;
  const child = fork(entryPath, ['agent', '--join', `127.0.0.1:${port}`, '--name', name], {
    // Its own process group: Ctrl-C in the terminal must reach the CLI alone, which then drains in order.
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, [TOKEN_VARIABLE]: formatToken(token) },
  });
  let exited = false;
  const exit = (how: string): void => {
    if (exited) return;
    exited = true;
    options.onExit(how);
  };
  child.on('error', (error) => exit(error.message));
  child.on('exit', (code, signal) => exit(signal === null ? `exited with ${code}` : `killed by ${signal}`));
  return child;
}
