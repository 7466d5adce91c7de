/**
 * Owns the agents that a run expects: those that it starts itself (the local one, and those by the user's own OpenSSH client), what
 * their end means, and who has come and who is missing, in words. The token of an agent by ssh is the first line of its stdin; the
 * end of its stdin stops it, so it ends when we do, however we end.
 * Must never know what an agent says on its channel, decide how long to wait, or put a token into an argument or a log line.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import pLimit from 'p-limit';
import { type Clock, formatSeconds, type StandStill } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import {
  agentToken,
  formatToken,
  generateToken,
  type KnownKey,
  knownKeyOf,
  type Token,
} from '../control/token.ts';
import { startProgram } from '../host/command.ts';
import { isStopped } from '../host/proc-file.ts';
import type { RunReport } from '../judge/report.ts';
import type { EndReason, RunEvent } from '../run/run-event.ts';
import type { RunState } from '../run/run-transition.ts';
import { after } from '../time/timer.ts';
import { LocalAgent } from './local-agent.ts';
import { LOCAL_AGENT, type RunOptions, type SshAgentsOptions } from './run-settings.ts';

/**
 * The local agent gives a sign each second, and loads in well under one. One that is silent for longer is lost if the kernel says
 * that it is stopped.
 */
const LOCAL_STOPPED_MS = 10_000;
/** So long a machine that is many times too busy may take. */
const LOCAL_SILENT_MS = 30_000;

/** What the run does for them. */
interface StartedAgentsShell {
  readonly state: () => RunState;
  readonly dispatch: (event: RunEvent) => void;
  readonly note: (line: string) => void;
}

/** The agents that one run starts. */
export class StartedAgents {
  readonly #options: RunOptions;
  readonly #clock: Clock;
  /** of the coordinator's process: what agents report ages only while it looks */
  readonly #still: StandStill;
  readonly #shell: StartedAgentsShell;
  /** of a key that only the agent that this run forks is given */
  readonly #localToken: Token = agentToken(generateToken(), {
    name: LOCAL_AGENT,
    expiresSec: null,
    targets: null,
  });
  #localAgent: LocalAgent | null = null;
  #sshAgents: SshAgents | null = null;
  /** when the local agent said something last, in attended time */
  #localHeardMs = 0;

  constructor(options: RunOptions, still: StandStill, shell: StartedAgentsShell) {
    this.#options = options;
    this.#clock = options.clock;
    this.#still = still;
    this.#shell = shell;
  }

  /** Those by ssh; null: there are none. */
  get bySsh(): SshAgents | null {
    return this.#sshAgents;
  }

  /** The key of an identity; that of the local agent is made for this run, so that no holder of the master token has it. */
  keyFor(identity: string): KnownKey | null {
    if (this.#options.hasLocalAgent && identity === this.#localToken.identity)
      return { key: this.#localToken.key, isExpired: false };
    return knownKeyOf(this.#options.token, identity, this.#clock.wallMs());
  }

  /** Whether a name is that of the local agent, and who says it is not: the sources that were typed are for it alone. */
  isImpostor(name: string, identity: string): boolean {
    return this.#options.hasLocalAgent && name === LOCAL_AGENT && identity !== this.#localToken.identity;
  }

  /** Starts all of them. @param port that the control channel listens on */
  start(port: number): void {
    const { spec, hasLocalAgent, entryPath, token, ssh, listen } = this.#options;
    if (hasLocalAgent) {
      this.#localAgent = new LocalAgent({
        entryPath,
        name: LOCAL_AGENT,
        host: localHostOf(listen.host),
        port,
        token: this.#localToken,
        hostSpec: {
          sources: spec.sources,
          holders: spec.holders,
          ...(spec.engine === undefined ? {} : { engine: spec.engine }),
        },
        onLine: this.#options.onChildLine ?? null,
        onExit: (how) => this.#localAgentGone(how),
      });
    }
    if (ssh !== null) {
      this.#sshAgents = new SshAgents(ssh, port, (name) =>
        agentToken(token, { name, expiresSec: null, targets: null }),
      );
      this.#sshAgents.start(
        (line) => this.#shell.note(line),
        () => this.#sshAgentsGone(),
      );
    }
  }

  /** An agent has said something. */
  heard(id: string): void {
    if (id === LOCAL_AGENT) this.#localHeardMs = this.#still.attendedMs;
  }

  /** Before anything is open there is no lease to wait for: a local agent that is silent is not there. */
  checkLocal(): void {
    const { phase } = this.#shell.state();
    if (this.#localAgent === null || (phase !== 'gathering' && phase !== 'preparing')) return;
    const silentMs = this.#still.attendedMs - this.#localHeardMs;
    const isLost = silentMs > LOCAL_STOPPED_MS && isStopped('/proc', this.#localAgent.pid);
    if (!isLost && silentMs <= LOCAL_SILENT_MS) return;
    this.#localAgent.giveUp(`said nothing for ${formatSeconds(silentMs)}, as a stopped process does`);
  }

  /** Ends all of them, and waits for that. */
  async stop(): Promise<void> {
    await Promise.all([this.#localAgent?.reap(), this.#sshAgents?.stop()]);
  }

  /** Its holders end with it, so its connections are gone for sure and no lease has to be waited for. */
  #localAgentGone(how: string): void {
    const isGathering = this.#shell.state().phase === 'gathering';
    if (isGathering) this.#shell.note(`the local agent ${how}`);
    this.#shell.dispatch({ type: 'agent-left', atMs: this.#clock.monotonicMs(), agent: LOCAL_AGENT });
    // No other will come in its place.
    if (isGathering) this.#endGathering();
  }

  /** Some of the hosts that ssh was to start agents on will never come, and no agent by hand can take their place. */
  #sshAgentsGone(): void {
    const { phase, agents } = this.#shell.state();
    const missing = this.#sshAgents?.missing(agents) ?? [];
    if (phase === 'gathering' && missing.length > 0) this.#endGathering();
  }

  /** Those that are missing can come no more, so there is nothing to wait for. */
  #endGathering(): void {
    this.#shell.dispatch({ type: 'gathering-hopeless', atMs: this.#clock.monotonicMs() });
  }
}

/** Where an agent on this host finds a listener: the unspecified address listens on loopback too. */
function localHostOf(listenHost: string): string {
  if (listenHost === '0.0.0.0') return '127.0.0.1';
  return listenHost === '::' ? '::1' : listenHost;
}

/** sshd's MaxStartups begins to drop connections at 10 unauthenticated ones. */
const PARALLEL_STARTS_MAX = 8;
/** A start counts as running when ssh has not failed for so long. */
const SETTLE_MS = 1_500;
const END_TIMEOUT_MS = 3_000;
const STDERR_CHARS_MAX = 2_000;
const ENDED_IN_ORDER = 'exited with 0';

interface SshAgent {
  readonly host: string;
  readonly process: ChildProcess;
  isGone: boolean;
}

/** The ssh clients of one run. */
class SshAgents {
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
    const ssh = ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=10', '-T', ...sshArguments, '--', host, remote];
    const child = startProgram(() =>
      spawn('ssh', ssh, { stdio: ['pipe', 'ignore', 'pipe'], detached: true }),
    );
    const agent: SshAgent = { host, process: child, isGone: false };
    this.#agents.push(agent);
    let said = '';
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (text: string) => {
      said = (said + text).slice(-STDERR_CHARS_MAX);
    });
    child.stdin?.on('error', () => {});
    child.stdin?.write(`${formatToken(this.#tokenFor(host))}\n`);
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

/** No run was started. There is a report all the same: one that asked for it reads there which agents were missing. */
export class NeverRanError extends BenchError {
  readonly report: RunReport;

  constructor({ code, exitCode, message, hint }: BenchError, report: RunReport) {
    super(code, exitCode, message, hint);
    this.report = report;
  }
}

/** Names of agents in one line for a person at most. */
const NAMES_SHOWN_MAX = 10;

/** Names of agents that are here. */
type Present = Pick<ReadonlySet<string>, 'has'>;

/** What is known of the hosts that ssh starts agents on. */
interface StartedBySsh {
  /** hosts where no agent could be started */
  readonly failed: readonly string[];
  /** names that were to come and are not among those present */
  missing(present: Present): readonly string[];
}

/** Some names, and how many more there are. */
function namesOf(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN_MAX;
  return names.slice(0, NAMES_SHOWN_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/**
 * Who has come and how many are missing.
 * @param ssh null: none was started by ssh
 * @returns null once all are here, or where none is waited for
 */
export function waitingNote(state: RunState, remoteAgents: number, ssh: StartedBySsh | null): string | null {
  const { phase, terms } = state;
  if (phase !== 'gathering' || remoteAgents === 0) return null;
  const agents = [...state.agents.values()];
  const missing = terms.agentsExpected - agents.length;
  if (missing === 0 && !agents.some((agent) => agent.isCut)) return null;
  const names = agents.map((agent) => (agent.isCut ? `${agent.id} (cut off)` : agent.id));
  const here = names.length === 0 ? 'none' : namesOf(names);
  const started = ssh?.missing(state.agents) ?? [];
  const named = started.length === 0 ? '' : `: ${namesOf(started)}`;
  return `waiting for agents: ${here} here, ${missing} of ${terms.agentsExpected} missing${named}`;
}

/**
 * The error of a run that was never started.
 * @param waitedMs how long agents were waited for
 * @param ssh null: none was started by ssh
 * @returns null when it did
 */
export function neverRan(reason: EndReason, waitedMs: number, ssh: StartedBySsh | null): BenchError | null {
  if (reason.type === 'agents-missing') return missingError(reason, waitedMs, ssh);
  if (reason.type !== 'agents-not-ready') return null;
  return new BenchError(
    ErrorCode.agentLost,
    ExitCode.incomplete,
    `not ready in time: ${reason.missing.join(', ')}`,
    'see what these agents say on their own stderr',
  );
}

function missingError(
  { joined, silent, expected }: Extract<EndReason, { type: 'agents-missing' }>,
  waitedMs: number,
  ssh: StartedBySsh | null,
): BenchError {
  const seconds = Math.ceil(waitedMs / 1000);
  const came = joined.length === 0 ? 'none came' : `only ${namesOf(joined)} came`;
  const quiet = silent.length === 0 ? '' : `; ${namesOf(silent)} came and stopped answering`;
  const missing = ssh?.missing(new Set([...joined, ...silent])) ?? [];
  const failed = ssh?.failed ?? [];
  const named =
    failed.length > 0
      ? `; none could be started on ${namesOf(failed)}`
      : missing.length > 0
        ? `; missing: ${namesOf(missing)}`
        : '';
  return new BenchError(
    ErrorCode.agentMissing,
    ExitCode.incomplete,
    `${expected} agent(s) expected, ${came} in ${seconds} s${quiet}${named}`,
    ssh === null
      ? 'start the missing ones with the join line above, or wait longer: --wait-agents 5m'
      : 'see what ssh said above, and try by hand: ssh -o BatchMode=yes user@host true',
  );
}
