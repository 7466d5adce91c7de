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
import type { Clock } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode, type Finding } from '../base/errors.ts';
import type { Channel, ChannelEnd } from '../control/channel.ts';
import { connectChannel, isUnreachable, refusalError } from '../control/client.ts';
import type { AgentMessage, CoordinatorMessage, CoordinatorMessageOf } from '../control/message.ts';
import type { Token } from '../control/token.ts';
import type { Allowance } from '../plan/allowance.ts';
import { LinkWatch } from '../run/lease.ts';
import type { HostSpec } from '../run/run-spec.ts';
import { after, pause } from '../time/timer.ts';
import { AgentLog } from './agent-log.ts';
import { type AgentStage, type Link, refusalIn, runIn, withDone, withRefusal } from './agent-phase.ts';
import { brokenRule } from './agent-quota.ts';
import { helloOf, sendGuarded, writePartialReport } from './agent-reporter.ts';
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
  /** where the last stats go when the coordinator is lost, by the name of the agent in its run; null: nowhere */
  readonly partialReportPath: ((name: string) => string) | null;
  /** one line for a person, to stderr */
  readonly onNote: (line: string) => void;
}

/** One agent serving one run. */
class Agent {
  readonly #options: AgentOptions;
  readonly #log: AgentLog;
  readonly #clock: Clock;
  /** others may have the same token: this shows that a hello with `resume` comes from here */
  readonly #secret = randomBytes(SECRET_BYTES).toString('base64url');
  readonly #over: Promise<ExitCode>;
  #finish: (code: ExitCode) => void = () => {};
  #fail: (error: BenchError) => void = () => {};
  #stage: AgentStage<AgentRun> = { name: 'joining' };
  #link: Link = { name: 'down', id: 0, nextTryMs: 0 };
  /** when the last message that was answered was sent; before the first answer, when we began */
  #contactMs: number;
  #watch: LinkWatch;
  /** aborted when this process is to end */
  readonly #stopping: AbortSignal;

  constructor(options: AgentOptions, log: AgentLog, stopping: AbortSignal) {
    this.#options = options;
    this.#log = log;
    this.#clock = options.clock;
    this.#stopping = stopping;
    this.#contactMs = this.#clock.monotonicMs();
    const whileJoining = { checkEveryMs: JOIN_RETRY_MS, relinkAfterMs: Infinity };
    this.#watch = new LinkWatch({ ...whileJoining, relinkTimeoutMs: options.joinTimeoutMs }, this.#contactMs);
    this.#over = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
  }

  /** Whether one of the two did not want the other: asking again immediately would bring the same answer. */
  get wasTurnedAway(): boolean {
    return this.#stage.name === 'over' && this.#stage.wasTurnedAway;
  }

  /** The stage now: asked after each wait. */
  get #isOver(): boolean {
    return this.#stage.name === 'over';
  }

  get #run(): AgentRun | null {
    return runIn(this.#stage);
  }

  /** Whether it has said hello, or is to, and has heard nothing yet. */
  get #isJoining(): boolean {
    return this.#stage.name === 'joining' && !this.#stopping.aborted;
  }

  /** With what it ends when everything is over. */
  get #lastCode(): ExitCode {
    return refusalIn(this.#stage)?.code ?? ExitCode.held;
  }

  /** null: there is none */
  get #channel(): Channel<AgentMessage> | null {
    return this.#link.name === 'up' ? this.#link.channel : null;
  }

  /**
   * Joins, serves one run, and resolves with the exit code.
   * @throws BenchError when it cannot join, or is not wanted
   */
  async run(): Promise<ExitCode> {
    await this.#join();
    let timer = after(0, () => {});
    const check = (): void => {
      this.#check();
      const everyMs = this.#run?.rhythm.checkEveryMs ?? JOIN_RETRY_MS;
      if (!this.#isOver) timer = after(everyMs, look);
    };
    const look = (): void => {
      if (this.#watch.look(this.#clock.monotonicMs())) timer = after(0, check);
      else check();
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
    this.#log.connecting();
    for (;;) {
      try {
        await this.#connect(this.#options.joinTimeoutMs, 0);
        return;
      } catch (error) {
        const isLate =
          this.#clock.monotonicMs() - this.#contactMs + JOIN_RETRY_MS > this.#options.joinTimeoutMs;
        if (isLate || this.#stopping.aborted || !isUnreachable(error)) throw error;
        this.#log.waiting(error);
        await pause(JOIN_RETRY_MS, { signal: this.#stopping });
      }
    }
  }

  /** @param silentMs how long the new link may bring nothing before another one is tried */
  async #connect(timeoutMs: number, silentMs: number): Promise<void> {
    const { host, port, token } = this.#options;
    const id = this.#link.id + 1;
    this.#link = { name: 'connecting', id };
    const channel = await connectChannel(
      host,
      port,
      token,
      {
        onMessage: (message) => {
          if (id === this.#link.id) this.#take(message);
        },
        onViolation: (problem) => {
          if (id === this.#link.id) this.#violated(problem);
        },
        onClose: (problem, end) => {
          if (id === this.#link.id) this.#cut(problem, end);
        },
      },
      timeoutMs,
      this.#clock,
      this.#stopping,
    );
    if (!this.#isConnecting(id) || this.#isOver) {
      channel.close();
      return;
    }
    const nowMs = this.#clock.monotonicMs();
    const times = { nextTryMs: nowMs + silentMs, helloAtMs: nowMs, askedMs: nowMs };
    this.#link = { name: 'up', id, channel, ...times, isResuming: this.#run !== null };
    this.#sayHello(channel);
  }

  /** Whether this link is still to come: asked after a wait, because it may have been closed meanwhile. */
  #isConnecting(id: number): boolean {
    return this.#link.name === 'connecting' && this.#link.id === id;
  }

  #sayHello(channel: Channel<AgentMessage>): void {
    const resume = this.#run?.identity ?? null;
    channel.send(helloOf(this.#options.name, resume, this.#secret));
  }

  /** Ends everything now: the parent or the user asks for it, or the lease is over. */
  abandon(why: string): void {
    const stage = this.#stage;
    if (stage.name === 'over') return;
    if (stage.name === 'done') {
      // Nothing is left to close, and no message is waited for.
      this.#end(this.#lastCode);
      return;
    }
    this.#options.onNote(`agent ${this.#options.name}: ${why}; closing everything`);
    const code = refusalIn(stage)?.code ?? ExitCode.incomplete;
    this.#giveUp(why);
    this.#end(code);
  }

  /** Closes everything, with a file about it instead of a report. */
  #giveUp(why: string): void {
    const run = this.#run;
    if (run === null) return;
    this.#savePartial(run, why);
    run.abandon();
  }

  /**
   * The coordinator said what no agent does, and the channel closes because of it. It hears the finding; what it has made
   * this agent open or add is given back.
   */
  #violated(problem: string): void {
    if (this.#isOver) return;
    const run = this.#run;
    if (run !== null) {
      run.violated(problem);
      return;
    }
    const finding = brokenRule(problem);
    this.#channel?.send({ type: 'refuse', findings: [finding] });
    this.#refused([finding], false);
  }

  #refused(findings: readonly Finding[], wasRunning: boolean): void {
    const { allowance, name, onNote } = this.#options;
    const code = wasRunning ? ExitCode.incomplete : ExitCode.refused;
    this.#stage = withRefusal(this.#stage, code, this.#clock.monotonicMs());
    // The person who typed the run reads it in the report.
    if (allowance.isOwner) return;
    for (const { message, fix } of findings.slice(0, REFUSALS_SHOWN_MAX)) {
      onNote(`agent ${name}: refused: ${message}${fix === null ? '' : `; ${fix}`}`);
    }
  }

  /** It has refused, or is done, and the run goes on as if it had not: this agent is not held by that. */
  #leave(): void {
    const code = this.#lastCode;
    const hasRefused = refusalIn(this.#stage) !== null;
    if (this.#stage.name !== 'done') this.#giveUp('it refused what the coordinator asked for');
    if (hasRefused) this.#channel?.close('it asked for what this agent does not do');
    this.#end(code);
  }

  #send(message: AgentMessage): void {
    const link = this.#link;
    if (link.name !== 'up') return;
    this.#log.sent(message);
    if (message.type === 'stats') this.#link = { ...link, askedMs: message.sentAtMs };
    if (sendGuarded(link.channel, message)) return;
    // The next link says again what matters.
    this.#link = { name: 'down', id: this.#link.id + 1, nextTryMs: link.nextTryMs };
    this.#options.onNote(`agent ${this.#options.name}: the coordinator reads nothing of what it says`);
  }

  #savePartial(run: AgentRun, why: string): void {
    const { partialReportPath, name, clock, onNote } = this.#options;
    if (partialReportPath === null) return;
    const path = writePartialReport(partialReportPath(this.#log.name), {
      agent: name,
      why,
      ...run.identity,
      writtenAt: new Date(clock.wallMs()).toISOString(),
      ...run.partial(),
    });
    if (path !== null) onNote(`agent ${name}: its last stats are in ${path}`);
  }

  #take(message: CoordinatorMessage): void {
    if (this.#isOver) return;
    // A verdict belongs to a run that is done here.
    if (message.type !== 'verdict' || this.#stage.name === 'done') this.#log.heard(message);
    switch (message.type) {
      case 'counted':
        if (this.#stage.name === 'done') this.#stage = { ...this.#stage, isCounted: true };
        return;
      case 'verdict':
        return;
      case 'spec':
        this.#begin(message);
        return;
      case 'resumed':
        this.#resumed();
        return;
      case 'renew':
        this.#answered(message.sentAtMs);
        return;
      default:
        this.#run?.take(message);
    }
  }

  #resumed(): void {
    const link = this.#link;
    // Each of them costs the largest messages: one that was not asked for is not heard.
    if (link.name !== 'up' || !link.isResuming) return;
    this.#link = { ...link, isResuming: false };
    this.#answered(link.helloAtMs);
    this.#run?.resend();
  }

  /** What comes when a run has begun already was sent again after a cut, and changes nothing. */
  #begin(message: CoordinatorMessageOf<'spec'>): void {
    if (this.#stage.name !== 'joining') return;
    const { hostSpec, name, entryPath, allowance, clock } = this.#options;
    const run = new AgentRun(message, {
      hostSpec,
      agent: name,
      entryPath,
      allowance,
      clock,
      send: (reply) => this.#send(reply),
      onRefused: (findings, wasRunning) => this.#refused(findings, wasRunning),
      onOver: () => {
        this.#stage = withDone(this.#stage, this.#clock.monotonicMs());
      },
    });
    this.#stage = { name: 'serving', run };
    // The kernel says when a coordinator of this host is gone: no cable is between us, and a new link is work for both.
    const relinkAfterMs = allowance.isOwner ? Infinity : run.rhythm.relinkAfterMs;
    this.#watch = new LinkWatch({ ...run.rhythm, relinkAfterMs }, clock.monotonicMs());
    this.#answered(this.#link.name === 'up' ? this.#link.helloAtMs : this.#contactMs);
    void run.offer();
  }

  /** The coordinator has answered what we sent at `sentAtMs`: the lease counts from then, never from the answer. */
  #answered(sentAtMs: number): void {
    // After `done`, or a refusal, nothing keeps this agent.
    if (this.#stage.name !== 'serving' && this.#stage.name !== 'joining') return;
    const askedMs = this.#link.name === 'up' ? this.#link.askedMs : this.#contactMs;
    this.#contactMs = Math.max(this.#contactMs, Math.min(sentAtMs, askedMs));
    this.#watch.answered();
    this.#run?.extendLease(this.#contactMs);
  }

  /** The channel is gone: the end after a run, otherwise a cut that may heal within the lease. */
  #cut(problem: string | null, end: ChannelEnd): void {
    this.#link = { name: 'down', id: this.#link.id, nextTryMs: 0 };
    // What was counted need not be said again, however the channel ends.
    if (this.#stage.name === 'done' && (end === 'orderly' || this.#stage.isCounted)) {
      this.#end(this.#lastCode);
      return;
    }
    // What `ws` itself finds wrong was not reported before.
    if (end === 'violated' && refusalIn(this.#stage) === null)
      this.#violated(problem ?? 'what cannot be read');
    if (refusalIn(this.#stage) !== null && end !== 'cut') {
      this.#leave();
      return;
    }
    if (this.#run !== null && !this.#stopping.aborted) {
      if (this.#stage.name === 'serving') this.#log.cut(problem);
      return;
    }
    // Not in yet: a server that has no room for all at a time cuts the slow ones off. #check() tries again.
    if (this.#isJoining && end === 'cut') return;
    const isUnwanted = end === 'refused' || end === 'version';
    if (isUnwanted && !this.#options.stay && !this.#stopping.aborted) {
      this.#stage = { name: 'over', wasTurnedAway: true };
      this.#fail(refusalError(problem ?? '', end));
      return;
    }
    if (problem !== null) this.#log.refusedBy(problem);
    this.#end(ExitCode.incomplete, isUnwanted);
  }

  #end(code: ExitCode, isUnwanted = false): void {
    if (this.#isOver) return;
    if (this.#stage.name === 'done' && refusalIn(this.#stage) === null) this.#log.doneAlone();
    const wasTurnedAway = isUnwanted || refusalIn(this.#stage) !== null;
    this.#stage = { name: 'over', wasTurnedAway };
    this.#finish(code);
  }

  /** Whether it has waited for the coordinator's end, after a refusal or `done`, for as long as it does. */
  get #waitedTooLong(): boolean {
    const nowMs = this.#clock.monotonicMs();
    const stage = this.#stage;
    if (nowMs - (refusalIn(stage)?.atMs ?? nowMs) > REFUSED_WAIT_MS) return true;
    return stage.name === 'done' && nowMs - stage.atMs > DONE_WAIT_MS;
  }

  /** Some times a second: the lease, and a new link when the old one is silent. */
  #check(): void {
    if (this.#waitedTooLong) {
      this.#leave();
      return;
    }
    if (this.#stage.name === 'done' && this.#stage.isCounted) return;
    const nowMs = this.#clock.monotonicMs();
    const silentMs = nowMs - this.#contactMs;
    const run = this.#run;
    if (run === null) {
      if (silentMs > this.#options.joinTimeoutMs) this.abandon('the coordinator said nothing after hello');
      else if (this.#isJoining && this.#link.name === 'down') void this.#relink(nowMs, JOIN_RETRY_MS);
      return;
    }
    if (nowMs >= run.liveUntilMs) {
      this.abandon(`no contact with the coordinator for ${Math.round(silentMs / 1000)} s`);
      return;
    }
    const link = this.#link;
    if (link.name === 'connecting' || nowMs < link.nextTryMs) return;
    if (link.name === 'down' || this.#watch.isSilent) void this.#relink(nowMs, run.rhythm.retryEveryMs);
  }

  async #relink(nowMs: number, retryEveryMs: number): Promise<void> {
    this.#channel?.close();
    const id = this.#link.id + 1;
    try {
      // A link that brings nothing is tried for as long as a new one would take.
      const timeoutMs = this.#watch.relinking();
      await this.#connect(timeoutMs, timeoutMs);
    } catch {
      // Not there yet: the lease decides how long we try.
      if (this.#link.id === id) this.#link = { name: 'down', id, nextTryMs: nowMs + retryEveryMs };
    }
  }
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
  const log = new AgentLog(options);
  for (;;) {
    const agent = new Agent(options, log, stopping.signal);
    log.runBegins();
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
