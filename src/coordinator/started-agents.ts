/**
 * Owns the agents that this run starts itself: the local one and those by ssh; and what their end means. Must never know
 * what an agent says on its channel.
 */
import type { Clock } from '../base/clock.ts';
import { formatSeconds, type StandStill } from '../base/clock.ts';
import { agentToken, generateToken, type KnownKey, knownKeyOf, type Token } from '../control/token.ts';
import { isStopped } from '../host/proc-file.ts';
import type { RunEvent } from '../run/run-event.ts';
import type { RunState } from '../run/run-state.ts';
import { LocalAgent } from './local-agent.ts';
import { LOCAL_AGENT, type RunOptions } from './run-settings.ts';
import { SshAgents } from './ssh-agents.ts';

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
