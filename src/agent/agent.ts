/**
 * Owns one host's link to the coordinator: joining, coming back after a cut, the lease.
 * Must never own a target socket, so that a busy holder never looks like a dead agent.
 *
 * Without contact an agent opens nothing after `quietMs`, and after `leaseMs` it has closed everything: by its own
 * monotonic clock, so that no quota has two owners whatever the clocks of other hosts say. Contact is an *answer*: it
 * counts from the moment at which the message that was answered was sent (run/lease.ts).
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpus, hostname, release, totalmem } from 'node:os';
import type { Clock } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode, type Finding } from '../base/errors.ts';
import type { Channel, ChannelEnd } from '../control/channel.ts';
import { connectChannel } from '../control/client.ts';
import {
  type AgentMessage,
  type CoordinatorMessage,
  type CoordinatorMessageOf,
  PROTOCOL_VERSION,
} from '../control/message.ts';
import type { Token } from '../control/token.ts';
import type { Allowance } from '../plan/allowance.ts';
import type { Rhythm } from '../run/lease.ts';
import type { HostSpec } from '../run/run-spec.ts';
import { after, pause } from '../time/timer.ts';
import { brokenRule } from './agent-quota.ts';
import { sendGuarded, writePartialReport } from './agent-reporter.ts';
import { AgentRun } from './agent-run.ts';
import { startShutdownHeartbeat } from './process-pipe.ts';

/** Too many to be guessed. */
const SECRET_BYTES = 16;
/** Between two tries to join. */
const JOIN_RETRY_MS = 500;
/** Between the end of a parent's control channel and that of its pipe. */
const PIPE_AFTER_SERVER_MS = 200;
/** How long a coordinator may take to end its run, or its part of it, after this agent has refused. */
const REFUSED_WAIT_MS = 10_000;
/** How long it waits for the coordinator's close after `done`: as long as that takes to call an agent lost. */
const DONE_WAIT_MS = 20_000;
/** The others are in the report of the run. */
const REFUSALS_SHOWN_MAX = 8;
/** Before an agent with `stay` asks again, after it was turned away or could not join. */
const STAY_RETRY_MS = 5_000;

interface AgentOptions {
  readonly host: string;
  readonly port: number;
  readonly token: Token;
  readonly name: string;
  /** the script that holders are forked from */
  readonly entryPath: string;
  readonly clock: Clock;
  readonly allowance: Allowance;
  /** what belongs to this host: nothing of it is ever taken from the coordinator */
  readonly hostSpec: HostSpec;
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
  /** others may have the same token: this shows that a hello with `resume` comes from here */
  readonly #secret = randomBytes(SECRET_BYTES).toString('base64url');
  readonly #over: Promise<ExitCode>;
  #finish: (code: ExitCode) => void = () => {};
  #fail: (error: BenchError) => void = () => {};
  #channel: Channel<AgentMessage> | null = null;
  /** grows with each link, so that a late event of an old one is known as such */
  #link = 0;
  #isLinking = false;
  #nextTryMs = 0;
  #helloAtMs = 0;
  /** when the last message was sent that the coordinator may answer */
  #askedMs = 0;
  /** a hello with `resume` waits for its `resumed` */
  #isResuming = false;
  /** what this agent refused to do: with which code it ends, and since when it waits for the end */
  #refusal: { readonly code: ExitCode; readonly atMs: number } | null = null;
  #share: AgentRun | null = null;
  /** when the last message that was answered was sent; before the first answer, when we began */
  #contactMs: number;
  #isOver = false;
  /** everything is closed and reported; what is missing is the coordinator's orderly close */
  #wasDone = false;
  #doneAtMs = 0;
  #wasTurnedAway = false;
  /** aborted when this process is to end */
  readonly #stopping: AbortSignal;

  constructor(options: AgentOptions, stopping: AbortSignal) {
    this.#options = options;
    this.#clock = options.clock;
    this.#stopping = stopping;
    this.#contactMs = this.#clock.monotonicMs();
    this.#over = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
  }

  /** Whether one of the two did not want the other: asking again immediately would bring the same answer. */
  get wasTurnedAway(): boolean {
    return this.#wasTurnedAway || this.#refusal !== null;
  }

  /** With what it ends when everything is over. */
  get #lastCode(): ExitCode {
    return this.#refusal?.code ?? ExitCode.held;
  }

  /**
   * Joins, serves one run, and resolves with the exit code.
   * @throws BenchError when it cannot join, or is not wanted
   */
  async run(): Promise<ExitCode> {
    await this.#join();
    let timer = after(0, () => {});
    const look = (): void => {
      this.#check();
      const everyMs = this.#share?.rhythm.checkEveryMs ?? JOIN_RETRY_MS;
      if (!this.#isOver) timer = after(everyMs, look);
    };
    look();
    try {
      return await this.#over;
    } finally {
      timer.cancel();
      this.#channel?.close();
    }
  }

  /** The first link: tried until it holds or the time is up. A wrong key or version is not tried again. */
  async #join(): Promise<void> {
    const startedMs = this.#clock.monotonicMs();
    for (;;) {
      try {
        await this.#connect(this.#options.joinTimeoutMs);
        return;
      } catch (error) {
        const isLate = this.#clock.monotonicMs() - startedMs + JOIN_RETRY_MS > this.#options.joinTimeoutMs;
        if (isLate || this.#stopping.aborted || !isUnreachable(error)) throw error;
        await pause(JOIN_RETRY_MS, { signal: this.#stopping });
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
        onViolation: (problem) => {
          if (link === this.#link) this.#violated(problem);
        },
        onClose: (problem, end) => {
          if (link === this.#link) this.#cut(problem, end);
        },
      },
      timeoutMs,
      this.#clock,
      this.#stopping,
    );
    if (link !== this.#link || this.#isOver) {
      channel.close();
      return;
    }
    this.#channel = channel;
    this.#helloAtMs = this.#clock.monotonicMs();
    this.#askedMs = this.#helloAtMs;
    this.#isResuming = this.#share !== null;
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
      secret: this.#secret,
    });
  }

  /** Ends everything now: the parent or the user asks for it, or the lease is over. */
  abandon(why: string): void {
    if (this.#isOver) return;
    if (this.#wasDone) {
      // Nothing is left to close, and no message is waited for.
      this.#end(this.#lastCode);
      return;
    }
    this.#options.onNote(`agent ${this.#options.name}: ${why}; closing everything`);
    if (this.#share !== null) {
      this.#savePartial(why);
      this.#share.abandon();
    }
    this.#end(this.#refusal?.code ?? ExitCode.incomplete);
  }

  /**
   * The coordinator said what no agent does, and the channel closes because of it. It hears the finding; what it has made
   * this agent open or add is given back.
   */
  #violated(problem: string): void {
    if (this.#isOver) return;
    if (this.#share !== null) {
      this.#share.violated(problem);
      return;
    }
    const finding = brokenRule(problem);
    this.#channel?.send({ type: 'refuse', findings: [finding] });
    this.#refused([finding], false);
  }

  #refused(findings: readonly Finding[], wasRunning: boolean): void {
    const { allowance, name, onNote } = this.#options;
    const code = wasRunning ? ExitCode.incomplete : ExitCode.refused;
    this.#refusal ??= { code, atMs: this.#clock.monotonicMs() };
    // The person who typed the run reads it in the report.
    if (allowance.isOwner) return;
    for (const { message, fix } of findings.slice(0, REFUSALS_SHOWN_MAX)) {
      onNote(`agent ${name}: refused: ${message}${fix === null ? '' : `; ${fix}`}`);
    }
  }

  /** It has refused, or is done, and the run goes on as if it had not: this agent is not held by that. */
  #leave(): void {
    if (this.#share !== null && !this.#wasDone) {
      this.#savePartial('it refused what the coordinator asked for');
      this.#share.abandon();
    }
    if (this.#refusal !== null) this.#channel?.close('it asked for what this agent does not do');
    this.#end(this.#lastCode);
  }

  #send(message: AgentMessage): void {
    const channel = this.#channel;
    if (channel === null) return;
    if (message.type === 'stats') this.#askedMs = message.sentAtMs;
    if (sendGuarded(channel, message)) return;
    // The next link says again what matters.
    this.#link += 1;
    this.#channel = null;
    this.#options.onNote(`agent ${this.#options.name}: the coordinator reads nothing of what it says`);
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
    if (this.#isOver) return;
    switch (message.type) {
      case 'spec':
        this.#begin(message);
        return;
      case 'resumed':
        // Each of them costs the largest messages: one that was not asked for is not heard.
        if (!this.#isResuming) return;
        this.#isResuming = false;
        this.#answered(this.#helloAtMs);
        this.#share?.resend();
        return;
      case 'renew':
        this.#answered(message.sentAtMs);
        return;
      default:
        this.#share?.take(message);
    }
  }

  /** What comes to a share that has begun already was sent again after a cut, and changes nothing. */
  #begin(message: CoordinatorMessageOf<'spec'>): void {
    if (this.#share !== null) return;
    const { hostSpec, name, entryPath, allowance, clock } = this.#options;
    this.#share = new AgentRun(message, {
      hostSpec,
      agent: name,
      entryPath,
      allowance,
      clock,
      send: (reply) => this.#send(reply),
      onRefused: (findings, wasRunning) => this.#refused(findings, wasRunning),
      onOver: () => {
        this.#wasDone = true;
        this.#doneAtMs = this.#clock.monotonicMs();
      },
    });
    this.#answered(this.#helloAtMs);
    void this.#share.offer();
  }

  /** The coordinator has answered what we sent at `sentAtMs`: the lease counts from then, never from the answer. */
  #answered(sentAtMs: number): void {
    // After `done`, or a refusal, nothing keeps this agent.
    if (this.#wasDone || this.#refusal !== null) return;
    const atMs = Math.min(sentAtMs, this.#askedMs);
    if (atMs > this.#contactMs) this.#contactMs = atMs;
    this.#share?.extendLease(this.#contactMs);
  }

  /** The channel is gone: the end after a run, otherwise a cut that may heal within the lease. */
  #cut(problem: string | null, end: ChannelEnd): void {
    this.#channel = null;
    if (this.#wasDone && end === 'orderly') {
      this.#end(this.#lastCode);
      return;
    }
    // What `ws` itself finds wrong was not reported before.
    if (end === 'violated' && this.#refusal === null) this.#violated(problem ?? 'what cannot be read');
    if (this.#refusal !== null && end !== 'cut') {
      this.#leave();
      return;
    }
    if (this.#share === null || this.#stopping.aborted) {
      this.#wasTurnedAway = end === 'refused' || end === 'version';
      if (this.#wasTurnedAway && !this.#options.stay && !this.#stopping.aborted) {
        this.#isOver = true;
        this.#fail(refusalError(problem ?? '', end));
        return;
      }
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

  /** Some times a second: the lease, and a new link when the old one is silent. */
  #check(): void {
    const nowMs = this.#clock.monotonicMs();
    const silentMs = nowMs - this.#contactMs;
    const share = this.#share;
    const isRefusedLong = this.#refusal !== null && nowMs - this.#refusal.atMs > REFUSED_WAIT_MS;
    if (isRefusedLong || (this.#wasDone && nowMs - this.#doneAtMs > DONE_WAIT_MS)) {
      this.#leave();
      return;
    }
    if (share === null) {
      if (silentMs > this.#options.joinTimeoutMs) this.abandon('the coordinator said nothing after hello');
      return;
    }
    if (nowMs >= share.liveUntilMs) {
      this.abandon(`no contact with the coordinator for ${Math.round(silentMs / 1000)} s`);
      return;
    }
    const isSilent = this.#channel === null || silentMs > share.rhythm.relinkAfterMs;
    if (isSilent && !this.#isLinking && nowMs >= this.#nextTryMs) void this.#relink(nowMs, share.rhythm);
  }

  async #relink(nowMs: number, { retryEveryMs, relinkTimeoutMs }: Rhythm): Promise<void> {
    this.#isLinking = true;
    this.#nextTryMs = nowMs + retryEveryMs;
    this.#channel?.close();
    try {
      await this.#connect(relinkTimeoutMs);
      // A link that brings nothing is tried for as long as a new one would take.
      this.#nextTryMs = this.#clock.monotonicMs() + relinkTimeoutMs;
    } catch {
      // Not there yet: the lease decides how long we try.
    } finally {
      this.#isLinking = false;
    }
  }
}

/** What an agent ends with that the coordinator does not want: it said why, in words. */
function refusalError(problem: string, end: ChannelEnd): BenchError {
  const isVersion = end === 'version';
  return new BenchError(
    isVersion ? ErrorCode.protocolVersion : ErrorCode.agentRefused,
    ExitCode.incomplete,
    `the coordinator does not take this agent: ${problem}`,
    isVersion
      ? 'install the same version of c100k-bench on both hosts: npx c100k-bench --version'
      : 'start it before the run begins, under the name that its token is for, and each name once',
  );
}

/** A reset is what a forwarded port without a coordinator, and one that is too busy for a handshake, answer with. */
const UNREACHABLE: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENOTFOUND',
]);

/** Whether an error of joining says that no coordinator is there yet, so that trying again makes sense. */
function isUnreachable(error: unknown): boolean {
  const cause = error instanceof BenchError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  return UNREACHABLE.has(cause?.code ?? '');
}

/**
 * Joins a coordinator and serves one run, or with `stay` one after the other.
 *
 * Ends by itself when the run is over, when the lease is over, when the parent that forked it is gone, or when
 * `stopWhen` says so.
 * @param stopWhen given a function that ends the agent with a reason; for a parent's end of input
 * @returns the exit code of the process: 0 after an orderly end, 3 when it refused, 4 otherwise
 * @throws BenchError (control-channel, exit 4; token-expired, exit 2) when it cannot join; (agent-refused,
 *   protocol-version, exit 4) when the coordinator does not take it
 */
export async function runAgent(
  options: AgentOptions,
  stopWhen: (stop: (why: string) => void) => void = () => {},
): Promise<ExitCode> {
  assert(options.name.length > 0, 'an agent has a name');
  let current: Agent | null = null;
  let stopped: string | null = null;
  const stopping = new AbortController();
  const stop = (why: string): void => {
    if (stopped === null) startShutdownHeartbeat();
    stopped ??= why;
    stopping.abort();
    current?.abandon(why);
  };
  // The local agent is forked by the CLI: when that dies, the pipe closes within milliseconds.
  process.on('disconnect', () => stop('the process that started this agent is gone'));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => stop(`got ${signal}`));
  stopWhen(stop);
  // The parent may have gone while this process was loading: then `disconnect` came before there was a listener.
  if (process.send !== undefined && !process.connected) return ExitCode.incomplete;
  for (;;) {
    const agent = new Agent(options, stopping.signal);
    current = agent;
    let waitMs = JOIN_RETRY_MS;
    try {
      const code = await agent.run();
      if (!options.stay || stopped !== null) return code;
      if (agent.wasTurnedAway) waitMs = STAY_RETRY_MS;
    } catch (error) {
      const isFatal = !(error instanceof BenchError) || error.code !== ErrorCode.controlChannel;
      // A parent that ends closes its server a moment before our pipe: then its end is what to report, not this error.
      if (process.connected) await pause(PIPE_AFTER_SERVER_MS);
      if (stopped !== null) return ExitCode.incomplete;
      if (!options.stay || isFatal) throw error;
      waitMs = STAY_RETRY_MS;
    }
    await pause(waitMs, { signal: stopping.signal });
    if (stopped !== null) return ExitCode.incomplete;
  }
}
