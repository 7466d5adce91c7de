/**
 * Owns agents on other hosts that are started through the user's own OpenSSH client. The token is the first line of
 * the remote agent's stdin; the end of its stdin stops it, so it ends when we do, however we end.
 * Must never put a token into an argument or a log line.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import pLimit from 'p-limit';
import { formatToken, type Token } from '../control/token.ts';
import { after } from '../time/timer.ts';

/** sshd's MaxStartups begins to drop connections at 10 unauthenticated ones. */
const PARALLEL_STARTS_MAX = 8;
/** A start counts as running when ssh has not failed for so long. */
const SETTLE_MS = 1_500;
const END_TIMEOUT_MS = 3_000;
const STDERR_CHARS_MAX = 2_000;
const ENDED_IN_ORDER = 'exited with 0';

export interface SshAgentsOptions {
  /** `user@host` each */
  readonly hosts: readonly string[];
  /** the remote command, such as `npx c100k-bench` */
  readonly command: string;
  /** further arguments of ssh, such as `-p`, `2222` */
  readonly sshArguments: readonly string[];
  /** further arguments of each agent, such as `--holders`, `4` */
  readonly agentArguments: readonly string[];
  /** where agents reach us, `host:port`; null: the address that their ssh connection comes from */
  readonly advertise: string | null;
}

interface SshAgent {
  readonly host: string;
  readonly process: ChildProcess;
  isGone: boolean;
}

/** The ssh clients of one run. */
export class SshAgents {
  readonly #options: SshAgentsOptions;
  readonly #port: number;
  readonly #tokenFor: (name: string) => Token;
  readonly #agents: SshAgent[] = [];
  #isStopping = false;
  /** every host was tried once */
  #isTried = false;
  #onGone: () => void = () => {};

  /** @param tokenFor makes the token of the agent on a host; its name is the host as typed */
  constructor(options: SshAgentsOptions, port: number, tokenFor: (name: string) => Token) {
    this.#options = options;
    this.#port = port;
    this.#tokenFor = tokenFor;
  }

  /**
   * Starts an agent on every host, at most 8 at the same time. A host that fails is named; the others are tried all the same.
   * @param onGone some ssh client has ended; not before all hosts were tried
   */
  start(onNote: (line: string) => void, onGone: () => void): void {
    const limit = pLimit(PARALLEL_STARTS_MAX);
    this.#onGone = () => {
      if (this.#isTried && !this.#isStopping && this.#agents.some((agent) => agent.isGone)) onGone();
    };
    const tried = this.#options.hosts.map((host) => limit(() => this.#startOne(host, onNote)));
    void Promise.all(tried).then(() => {
      this.#isTried = true;
      this.#onGone();
    });
  }

  #startOne(host: string, onNote: (line: string) => void): Promise<void> {
    if (this.#isStopping) return Promise.resolve();
    const { command, sshArguments, agentArguments, advertise } = this.#options;
    const join = advertise ?? `ssh-client:${this.#port}`;
    const remote = [
      command,
      'agent',
      '--join',
      join,
      '--name',
      host,
      '--token-stdin',
      ...agentArguments,
    ].join(' ');
    const child = spawn(
      'ssh',
      ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=10', '-T', ...sshArguments, '--', host, remote],
      { stdio: ['pipe', 'ignore', 'pipe'], detached: true },
    );
    const agent: SshAgent = { host, process: child, isGone: false };
    this.#agents.push(agent);
    let said = '';
    child.stderr.setEncoding('utf8');
    child.stderr.on('data', (text: string) => {
      said = (said + text).slice(-STDERR_CHARS_MAX);
    });
    child.stdin.on('error', () => {});
    child.stdin.write(`${formatToken(this.#tokenFor(host))}\n`);
    return new Promise((resolve) => {
      const settled = after(SETTLE_MS, resolve);
      const gone = (how: string): void => {
        if (agent.isGone) return;
        agent.isGone = true;
        settled.cancel();
        const last = said.trim().split('\n').at(-1) ?? '';
        // An agent that ends in order after its run needs no line.
        const isWorthTelling = !this.#isStopping && how !== ENDED_IN_ORDER;
        if (isWorthTelling) onNote(`host ${host}: ssh ${how}${last === '' ? '' : `: ${last}`}`);
        resolve();
        this.#onGone();
      };
      child.on('error', (error) => gone(`could not be started: ${error.message}`));
      child.on('exit', (code, signal) =>
        gone(signal === null ? `exited with ${code}` : `was killed by ${signal}`),
      );
    });
  }

  /** The hosts whose ssh client has ended. */
  get failed(): string[] {
    return this.#agents.filter((agent) => agent.isGone).map((agent) => agent.host);
  }

  /** The hosts whose agents have not joined. */
  missing(joined: Pick<ReadonlySet<string>, 'has'>): string[] {
    return this.#options.hosts.filter((host) => !joined.has(host));
  }

  /** Ends every remote agent by the end of its stdin; an ssh client that does not end is killed. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(
      this.#agents.map(async (agent) => {
        if (agent.isGone) return;
        const exited = new Promise<void>((resolve) => agent.process.once('exit', () => resolve()));
        agent.process.stdin?.end();
        const killer = after(END_TIMEOUT_MS, () => agent.process.kill('SIGKILL'));
        await exited;
        killer.cancel();
      }),
    );
  }
}
