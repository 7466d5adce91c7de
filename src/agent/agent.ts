/**
 * Owns one host's link to the coordinator: joining, coming back after a cut, the lease.
 * Must never own a target socket, so that a busy holder never looks like a dead agent.
 *
 * Without contact an agent opens nothing after `quietMs`, and after `leaseMs` it has closed everything: by its own
 * monotonic clock, so that no quota has two owners whatever the clocks of other hosts say.
 */
import assert from 'node:assert/strict';
import { cpus, hostname, release, totalmem } from 'node:os';
import type { Channel } from '../control/channel.ts';
import { connectChannel } from '../control/client.ts';
import { type AgentMessage, type CoordinatorMessage, PROTOCOL_VERSION } from '../control/message.ts';
import type { Token } from '../control/token.ts';
import type { Allowance } from '../core/allowance.ts';
import type { Clock } from '../core/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../core/errors.ts';
import type { SourceSpec } from '../core/run-spec.ts';
import { writePartialReport } from './partial-report.ts';
import { RunShare } from './run-share.ts';

const CHECK_EVERY_MS = 250;
/** Silence after which a link is given up and made anew: a cut cable closes no socket. */
const RELINK_AFTER_MS = 3_500;
const RELINK_TIMEOUT_MS = 2_000;
const RETRY_EVERY_MS = 500;
/** The lease closes everything at `leaseMs`; it begins a little earlier, because closing takes time. */
const LEASE_MARGIN_MS = 1_000;

export interface AgentOptions {
  readonly host: string;
  readonly port: number;
  readonly token: Token;
  readonly name: string;
  /** the script that holders are forked from */
  readonly entryPath: string;
  readonly clock: Clock;
  readonly allowance: Allowance;
  /** this host's own source addresses and holders, before the coordinator's; null: the coordinator's */
  readonly ownSources: SourceSpec | null;
  readonly ownHolders: number | null;
  /** serve one run after the other instead of one */
  readonly stay: boolean;
  /** how long to try to reach the coordinator before the first contact */
  readonly joinTimeoutMs: number;
  /** where the last stats go when the coordinator is lost; null: nowhere */
  readonly partialReportPath: string | null;
  /** one line for a person, to stderr */
  readonly onNote: (line: string) => void;
}

/** One agent serving one run. */
class Agent {
  readonly #options: AgentOptions;
  readonly #clock: Clock;
  readonly #over: Promise<ExitCode>;
  #finish: (code: ExitCode) => void = () => {};
  #channel: Channel<AgentMessage> | null = null;
  /** grows with each link, so that a late event of an old one is known as such */
  #link = 0;
  #isLinking = false;
  #nextTryMs = 0;
  #share: RunShare | null = null;
  #lastContactMs: number;
  #isQuiet = false;
  #isOver = false;
  #wasDone = false;
  readonly #isStopped: () => boolean;

  constructor(options: AgentOptions, isStopped: () => boolean) {
    this.#options = options;
    this.#clock = options.clock;
    this.#isStopped = isStopped;
    this.#lastContactMs = this.#clock.monotonicMs();
    this.#over = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  /** Joins, serves one run, and resolves with the exit code. */
  async run(): Promise<ExitCode> {
    await this.#join();
    const timer = setInterval(() => this.#check(), CHECK_EVERY_MS);
    const code = await this.#over;
    clearInterval(timer);
    this.#channel?.close();
    return code;
  }

  /** The first link: tried until it holds or the time is up. A wrong key or version is not tried again. */
  async #join(): Promise<void> {
    const startedMs = this.#clock.monotonicMs();
    for (;;) {
      try {
        await this.#connect(this.#options.joinTimeoutMs);
        return;
      } catch (error) {
        const isLate = this.#clock.monotonicMs() - startedMs + RETRY_EVERY_MS > this.#options.joinTimeoutMs;
        if (isLate || this.#isStopped() || !isUnreachable(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_EVERY_MS));
      }
    }
  }

  async #connect(timeoutMs: number): Promise<void> {
    const { host, port, token, name } = this.#options;
    const link = ++this.#link;
    this.#channel = null;
    const channel = await connectChannel(
      host,
      port,
      token,
      {
        onMessage: (message) => {
          if (link === this.#link) this.#take(message);
        },
        onClose: (problem) => {
          if (link === this.#link) this.#cut(problem);
        },
      },
      timeoutMs,
      this.#clock,
    );
    if (link !== this.#link || this.#isOver) {
      channel.close();
      return;
    }
    this.#channel = channel;
    channel.send({
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      name,
      host: {
        hostname: hostname(),
        cpus: cpus().length,
        memoryBytes: totalmem(),
        kernel: release(),
        node: process.version,
      },
      resume: this.#share?.identity ?? null,
    });
  }

  /** Ends everything now: the parent or the user asks for it. */
  abandon(why: string): void {
    if (this.#isOver) return;
    if (this.#wasDone) {
      this.#end(ExitCode.held);
      return;
    }
    this.#options.onNote(`agent ${this.#options.name}: ${why}; closing everything`);
    if (this.#share !== null) {
      this.#savePartial(why);
      this.#share.abandon();
    }
    this.#end(ExitCode.incomplete);
  }

  #savePartial(why: string): void {
    const { partialReportPath, name, clock, onNote } = this.#options;
    if (partialReportPath === null || this.#share === null) return;
    const path = writePartialReport(partialReportPath, {
      agent: name,
      why,
      ...this.#share.identity,
      writtenAt: new Date(clock.wallMs()).toISOString(),
      ...this.#share.partial(),
    });
    if (path !== null) onNote(`agent ${name}: its last stats are in ${path}`);
  }

  #take(message: CoordinatorMessage): void {
    this.#lastContactMs = this.#clock.monotonicMs();
    if (this.#isQuiet) {
      this.#isQuiet = false;
      this.#share?.resume();
    }
    if (message.type === 'spec' && this.#share === null) {
      const { ownSources, ownHolders } = this.#options;
      const { spec } = message;
      const own = {
        ...spec,
        sources: (ownSources ?? spec.sources) as typeof spec.sources,
        holders: ownHolders ?? spec.holders,
      };
      this.#share = new RunShare(
        { ...message, spec: own },
        {
          agent: this.#options.name,
          entryPath: this.#options.entryPath,
          allowance: this.#options.allowance,
          send: (reply) => this.#channel?.send(reply),
          onOver: () => this.#shareOver(),
        },
      );
      void this.#share.offer();
      return;
    }
    if (message.type === 'resumed') {
      this.#share?.resend();
      return;
    }
    this.#share?.take(message);
  }

  /** Everything is closed and told; the coordinator closes the channel once it has read that. */
  #shareOver(): void {
    if (this.#isOver) return;
    this.#wasDone = true;
  }

  /** The channel is gone: the end after a run, otherwise a cut that may heal within the lease. */
  #cut(problem: string | null): void {
    this.#channel = null;
    if (this.#wasDone) {
      this.#end(ExitCode.held);
      return;
    }
    if (this.#share === null || this.#isStopped()) {
      if (problem !== null)
        this.#options.onNote(`agent ${this.#options.name}: the coordinator said: ${problem}`);
      this.#end(ExitCode.incomplete);
      return;
    }
    this.#nextTryMs = 0;
  }

  #end(code: ExitCode): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#finish(code);
  }

  /** Four times a second: the lease, and a new link when the old one is silent. */
  #check(): void {
    const nowMs = this.#clock.monotonicMs();
    const silentMs = nowMs - this.#lastContactMs;
    const share = this.#share;
    if (share === null) {
      if (silentMs > this.#options.joinTimeoutMs) this.abandon('the coordinator said nothing after hello');
      return;
    }
    if (silentMs > share.leaseMs - LEASE_MARGIN_MS) {
      this.abandon(`no contact with the coordinator for ${Math.round(silentMs / 1000)} s`);
      return;
    }
    if (silentMs > share.quietMs && !this.#isQuiet) {
      this.#isQuiet = true;
      share.pause();
    }
    const isSilent = this.#channel === null || silentMs > RELINK_AFTER_MS;
    if (isSilent && !this.#isLinking && nowMs >= this.#nextTryMs) void this.#relink(nowMs);
  }

  async #relink(nowMs: number): Promise<void> {
    this.#isLinking = true;
    this.#nextTryMs = nowMs + RETRY_EVERY_MS;
    this.#channel?.close();
    try {
      await this.#connect(RELINK_TIMEOUT_MS);
      // A link that brings nothing is tried for as long as a new one would take.
      this.#nextTryMs = this.#clock.monotonicMs() + RELINK_TIMEOUT_MS;
    } catch {
      // Not there yet: the lease decides how long we try.
    } finally {
      this.#isLinking = false;
    }
  }
}

/** Whether an error of joining says that nobody is there yet, so that trying again makes sense. */
function isUnreachable(error: unknown): boolean {
  const cause = error instanceof BenchError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  return ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'EAI_AGAIN', 'ENOTFOUND'].includes(
    cause?.code ?? '',
  );
}

/**
 * Joins a coordinator and serves one run, or with `stay` one after the other.
 *
 * Ends by itself when the run is over, when the lease is over, when the parent that forked it is gone, or when
 * `stopWhen` says so.
 * @param stopWhen given a function that ends the agent with a reason; for a parent's end of input
 * @returns the exit code of the process: 0 after an orderly end, 4 otherwise
 * @throws BenchError (control-channel, exit 4) when it cannot join
 */
export async function runAgent(
  options: AgentOptions,
  stopWhen: (stop: (why: string) => void) => void = () => {},
): Promise<ExitCode> {
  assert(options.name.length > 0, 'an agent has a name');
  let current: Agent | null = null;
  let stopped: string | null = null;
  const stop = (why: string): void => {
    stopped ??= why;
    current?.abandon(why);
  };
  // The local agent is forked by the CLI: when that dies, the pipe closes within milliseconds.
  process.on('disconnect', () => stop('the process that started this agent is gone'));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => stop(`got ${signal}`));
  stopWhen(stop);
  for (;;) {
    current = new Agent(options, () => stopped !== null);
    try {
      const code = await current.run();
      if (!options.stay || stopped !== null) return code;
    } catch (error) {
      const isFatal = !(error instanceof BenchError) || error.code !== ErrorCode.controlChannel;
      if (!options.stay || stopped !== null || isFatal) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_EVERY_MS));
  }
}
