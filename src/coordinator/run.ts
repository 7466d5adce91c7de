/**
 * Owns the shell of a run: feeds the reducer (run/run-state.ts) with what happens and carries out what it says.
 * Must never decide anything itself, and never print.
 */
import { randomUUID } from 'node:crypto';
import { type Clock, formatSeconds, StandStill } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import type { Channel, ChannelEvents } from '../control/channel.ts';
import type { AgentMessage, AgentMessageOf, CoordinatorMessage } from '../control/message.ts';
import { ControlServer } from '../control/server.ts';
import { agentToken, generateToken, type KnownKey, knownKeyOf, type Token } from '../control/token.ts';
import type { RunReport } from '../judge/report.ts';
import { holdersCpuMs } from '../judge/report-parts.ts';
import { makeReport, type RunFacts } from '../judge/run-report.ts';
import { type AgentState, isLive } from '../run/agent-state.ts';
import { LEASE_TIMES, type LeaseTimes, rhythmOf } from '../run/lease.ts';
import type { EndReason, RunEvent } from '../run/run-event.ts';
import { initialRunState, type RunState, step } from '../run/run-state.ts';
import { mergeAllStats } from '../stats/stats.ts';
import { after, every } from '../time/timer.ts';
import { AgentBooks, totalProgress } from './agent-counts.ts';
import { type AgentSession, AgentSessions, type Credentials, resumeRefusal } from './agent-session.ts';
import { wrongClaim } from './claims.ts';
import { DueTimer } from './due-timer.ts';
import { LocalAgent } from './local-agent.ts';
import { NeverRanError, neverRan, waitingNote } from './missing-agents.ts';
import { Outbox } from './outbox.ts';
import { Chronicle } from './run-log.ts';
import { LOCAL_AGENT, planOf, type RunOptions } from './run-settings.ts';
import { RunWatch, type RunWatchOptions, UNWATCHED } from './run-watch.ts';
import { SshAgents } from './ssh-agents.ts';

/** The local agent gives a sign each second, and loads in well under one: so long on the busiest machine. */
const LOCAL_SILENT_MS = 10_000;
/** Lines about cuts and returns of one agent. */
const LINK_NOTES_MAX = 20;

/** For a channel that is closed already. */
const UNHEARD: ChannelEvents<AgentMessage> = { onMessage: () => {}, onClose: () => {} };

/** One run, from the first agent to the report. */
export class Run {
  readonly #options: RunOptions;
  readonly #clock: Clock;
  readonly #runId = randomUUID();
  readonly #sessions = new AgentSessions();
  readonly #outbox: Outbox;
  readonly #chronicle: Chronicle;
  readonly #startedMs: number;
  readonly #startedWallMs: number;
  readonly #lease: LeaseTimes;
  readonly #watching: RunWatchOptions;
  readonly #watch: RunWatch;
  /** the hold ends when it is due, not at the next tick */
  readonly #holdEnd: DueTimer;
  #state: RunState;
  #localAgent: LocalAgent | null = null;
  #sshAgents: SshAgents | null = null;
  /** of a key that nobody but the agent that this run forks is given */
  readonly #localToken: Token = agentToken(generateToken(), {
    name: LOCAL_AGENT,
    expiresSec: null,
    targets: null,
  });
  /** of this process; what is told ages only while it looks */
  readonly #still: StandStill;
  /** when the local agent said something last, in attended time */
  #localHeardMs = 0;
  #finish: (reason: EndReason) => void = () => {};

  constructor(options: RunOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#holdEnd = new DueTimer(options.clock);
    this.#lease = options.lease ?? LEASE_TIMES;
    this.#startedMs = this.#clock.monotonicMs();
    this.#still = new StandStill(rhythmOf(this.#lease).reportEveryMs, this.#startedMs);
    this.#startedWallMs = this.#clock.wallMs();
    this.#watching = options.watch ?? UNWATCHED;
    this.#watch = new RunWatch(this.#watching);
    this.#outbox = new Outbox(options, this.#runId, this.#lease, this.#sessions);
    this.#chronicle = new Chronicle(options.spec);
    this.#state = initialRunState(planOf(options), this.#startedMs);
  }

  /**
   * Runs to the end.
   * @returns the report, whatever the target did
   * @throws BenchError when no run came about: agents missing or not ready, no control channel
   */
  async start(): Promise<RunReport> {
    const finished = new Promise<EndReason>((resolve) => {
      this.#finish = resolve;
    });
    const { listen, clock, onListening } = this.#options;
    const server = new ControlServer({
      clock,
      host: listen.host,
      port: listen.port,
      keyFor: (identity) => this.#keyFor(identity),
      onAgent: (channel, hello, identity) => this.#welcome(channel, hello, identity),
      onStranger: (reason) => this.#chronicle.stranger(reason),
    });
    const bound = await server.listen();
    onListening(bound);
    const timer = every(rhythmOf(this.#lease).reportEveryMs, () => this.#tick());
    try {
      if (this.#state.phase === 'gathering') this.#startAgents(bound.port);
      const reason = await finished;
      // Closing may take a moment after the waiting is over.
      const waitedMs = Math.min(this.#options.waitAgentsMs, this.#state.phaseSinceMs - this.#startedMs);
      const error = neverRan(reason, waitedMs, this.#sshAgents);
      if (error !== null)
        throw new NeverRanError(error, makeReport({ ...this.#facts(), neverRan: error.message }, clock));
      return makeReport(this.#facts(), clock);
    } finally {
      timer.cancel();
      this.#holdEnd.cancel();
      await server.close();
      await Promise.all([this.#localAgent?.reap(), this.#sshAgents?.stop()]);
    }
  }

  /** First call: stop opening, drain, report. Second call: end at once. */
  interrupt(signal: 'SIGINT' | 'SIGTERM'): void {
    this.#dispatch({ type: 'interrupted', atMs: this.#clock.monotonicMs(), signal });
  }

  #startAgents(port: number): void {
    const { spec, hasLocalAgent, entryPath, token, ssh, listen } = this.#options;
    if (hasLocalAgent) {
      this.#localAgent = new LocalAgent({
        entryPath,
        name: LOCAL_AGENT,
        host: localHostOf(listen.host),
        port,
        token: this.#localToken,
        hostSpec: { sources: spec.sources, holders: spec.holders },
        onExit: (how) => this.#localAgentGone(how),
      });
    }
    if (ssh !== null) {
      this.#sshAgents = new SshAgents(ssh, port, (name) =>
        agentToken(token, { name, expiresSec: null, targets: null }),
      );
      this.#sshAgents.start(
        (line) => this.#note(line),
        () => this.#sshAgentsGone(),
      );
    }
  }

  /** The key of an identity; that of the local agent is made for this run, so that no holder of the master token has it. */
  #keyFor(identity: string): KnownKey | null {
    if (this.#options.hasLocalAgent && identity === this.#localToken.identity)
      return { key: this.#localToken.key, isExpired: false };
    return knownKeyOf(this.#options.token, identity, this.#clock.wallMs());
  }

  /** What several agents may say must say which one said it. */
  #named(findings: readonly Finding[], agent: string): Finding[] {
    if (this.#options.remoteAgents === 0) return [...findings];
    return findings.map((finding) => ({ ...finding, message: `agent ${agent}: ${finding.message}` }));
  }

  #note(line: string): void {
    this.#chronicle.note(line);
    this.#options.onNote(line);
  }

  /** Its holders end with it, so its connections are gone for sure and no lease has to be waited for. */
  #localAgentGone(how: string): void {
    const isGathering = this.#state.phase === 'gathering';
    if (isGathering) this.#note(`the local agent ${how}`);
    this.#dispatch({ type: 'agent-left', atMs: this.#clock.monotonicMs(), agent: LOCAL_AGENT });
    // Nobody will come in its place.
    if (isGathering) this.#endGathering();
  }

  /** Some of the hosts that ssh was to start agents on will never come: nobody can take their place by hand. */
  #sshAgentsGone(): void {
    const missing = this.#sshAgents?.missing(this.#state.agents.map((agent) => agent.name)) ?? [];
    if (this.#state.phase === 'gathering' && missing.length > 0) this.#endGathering();
  }

  /** Who is missing can come no more, so there is nothing to wait for. */
  #endGathering(): void {
    this.#dispatch({ type: 'gathering-hopeless', atMs: this.#clock.monotonicMs() });
  }

  /** A new channel: a new agent, or one that is back after a cut. */
  #welcome(
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
    identity: string,
  ): ChannelEvents<AgentMessage> {
    const atMs = this.#clock.monotonicMs();
    const { resume, name } = hello;
    const credentials = { identity, secret: hello.secret };
    if (resume !== null) return this.#takeBack(channel, hello, resume, credentials);
    // The sources that the user typed are for the agent that we forked: its name is no other's.
    const isOurs = name === LOCAL_AGENT && this.#options.hasLocalAgent;
    if (this.#sessions.isPresent(name) || (isOurs && identity !== this.#localToken.identity)) {
      channel.close(`an agent named ${name} is already here; choose another --name`);
      return UNHEARD;
    }
    this.#forgetCut(name, atMs);
    const session = this.#sessions.add(name, credentials, channel, (id) => new AgentBooks(id));
    this.#outbox.record(session, hello);
    this.#dispatch({ type: 'agent-joined', atMs, agent: session.id });
    return this.#eventsOf(session, channel);
  }

  #takeBack(
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
    resume: { readonly runId: string; readonly epoch: number },
    credentials: Credentials,
  ): ChannelEvents<AgentMessage> {
    const session =
      resume.runId === this.#runId ? this.#sessions.resumable(hello.name, resume.epoch) : undefined;
    const refusal = session === undefined ? null : resumeRefusal(session, credentials);
    if (refusal !== null) {
      channel.close(refusal);
      return UNHEARD;
    }
    const known = this.#agentOf(session?.id);
    if (session === undefined || known === undefined || session.books.lost) {
      // Its lease is over here: whatever it still carries is not part of the run any more.
      channel.send({ type: 'stop', reason: 'lease-over' });
      after(this.#lease.leaseMs, () => channel.close('your lease is over'), { isUnref: true });
      return { onMessage: (message) => void (message.type === 'done' && channel.close()), onClose: () => {} };
    }
    if (known.stage === 'done') {
      channel.close();
      return UNHEARD;
    }
    this.#outbox.record(session, hello);
    const old = session.channel;
    session.channel = channel;
    old?.close();
    this.#linkNote(session, `agent ${session.id} is back`);
    this.#dispatch({ type: 'agent-resumed', atMs: this.#clock.monotonicMs(), agent: session.id });
    return this.#eventsOf(session, channel);
  }

  /** Before the quotas an agent that was started anew takes the place of the one that is cut off. */
  #forgetCut(name: string, atMs: number): void {
    const old = this.#sessions.get(name);
    if (old === undefined || this.#state.phase !== 'gathering') return;
    this.#dispatch({ type: 'agent-left', atMs, agent: old.id });
  }

  #eventsOf(session: AgentSession, channel: Channel<CoordinatorMessage>): ChannelEvents<AgentMessage> {
    return {
      onMessage: (message) => {
        if (session.channel === channel) this.#take(session, message);
      },
      onClose: (problem, end) => {
        if (session.channel !== channel) return;
        if (end === 'violated') this.#expel(session, problem ?? 'it broke the protocol');
        else this.#cut(session, problem);
      },
    };
  }

  /** Contact is cut: the lease decides whether that is the end of it. */
  #cut(session: AgentSession, problem: string | null): void {
    session.channel = null;
    const { phase } = this.#state;
    const known = this.#agentOf(session.id);
    if (known === undefined || known.stage === 'done' || known.stage === 'lost' || phase === 'ended') return;
    const why = problem === null ? '' : ` (${problem})`;
    this.#linkNote(
      session,
      `agent ${session.id}: contact is cut${why}; it has ${this.#lease.leaseMs / 1000} s to come back`,
    );
    this.#dispatch({ type: 'agent-cut', atMs: this.#clock.monotonicMs(), agent: session.id });
  }

  #agentOf(id: string | undefined): AgentState | undefined {
    return this.#state.agents.find((agent) => agent.name === id);
  }

  /** A line for whoever watches; an agent that comes and goes all the time does not fill the screen. */
  #linkNote(session: AgentSession, line: string): void {
    session.linkNotes += 1;
    if (session.linkNotes < LINK_NOTES_MAX) this.#options.onNote(line);
    if (session.linkNotes === LINK_NOTES_MAX) {
      this.#options.onNote(`agent ${session.id} comes and goes: further cuts are not shown`);
    }
  }

  /** It said what no agent of this protocol says: the run goes on without it, as `--on-agent-loss` has it. */
  #expel(session: AgentSession, problem: string): void {
    const { channel } = session;
    session.channel = null;
    channel?.close(problem);
    const known = this.#agentOf(session.id);
    if (known === undefined || !isLive(known) || this.#state.phase === 'ended') return;
    this.#note(`agent ${session.id} broke the protocol (${problem}): the run goes on without it`);
    this.#dispatch({ type: 'agent-left', atMs: this.#clock.monotonicMs(), agent: session.id });
  }

  #take(session: AgentSession, message: AgentMessage): void {
    const { books, id: agent } = session;
    if (agent === LOCAL_AGENT) this.#localHeardMs = this.#still.attendedMs;
    if (books.lost) return;
    const wrong = wrongClaim(message, { name: session.name, quota: books.quota });
    if (wrong !== null) {
      this.#expel(session, wrong);
      return;
    }
    this.#outbox.record(session, message);
    const atMs = this.#clock.monotonicMs();
    switch (message.type) {
      case 'hello':
        break;
      case 'offer':
        // Once: what was agreed on does not change after it.
        if (this.#agentOf(agent)?.stage === 'joined') books.offered(message);
        this.#dispatch({
          type: 'agent-offered',
          atMs,
          agent,
          capacity: message.connectionsMax,
          boundBy: message.boundBy,
          findings: message.findings,
        });
        break;
      case 'refuse':
        this.#dispatch({
          type: 'agent-refused',
          atMs,
          agent,
          findings: this.#named(message.findings, agent),
        });
        break;
      case 'ready':
        if (this.#agentOf(agent)?.stage === 'quoted') books.prepared(message);
        this.#dispatch({ type: 'agent-ready', atMs, agent });
        break;
      case 'stats': {
        if (message.epoch !== session.epoch) break;
        this.#outbox.send(agent, { type: 'renew', sentAtMs: message.sentAtMs });
        this.#keep(session, message, atMs);
        const { open, established } = message.stats;
        const { settled, quota } = message;
        this.#dispatch({ type: 'agent-reported', atMs, agent, quota, settled, open, established });
        break;
      }
      case 'losses':
        if (message.epoch === session.epoch) this.#takeLosses(session, message, atMs);
        break;
      case 'done':
        if (message.epoch !== session.epoch) break;
        this.#keep(session, message, atMs);
        books.evidence = message.evidence;
        books.notes = [...books.notes, ...message.notes];
        this.#dispatch({ type: 'agent-done', atMs, agent });
        // The agent waits for this: without it `done` would be said again after a new link.
        session.channel?.close();
        session.channel = null;
        break;
    }
  }

  #takeLosses(session: AgentSession, { losses }: AgentMessageOf<'losses'>, atMs: number): void {
    const { rampStartedMs } = this.#chronicle;
    if (rampStartedMs === 0) return;
    const reopenedForSec = this.#state.plan.canReopen ? (atMs - rampStartedMs) / 1_000 : 0;
    const told = session.lossAllowance.take(losses, session.books.quota, reopenedForSec);
    // Times are told since the agent's own start: one that came later has begun later.
    const laterMs = Math.max(0, (session.startedMs ?? rampStartedMs) - rampStartedMs);
    this.#watch.takeLosses(
      session.id,
      told.map((loss) => ({ ...loss, atMs: loss.atMs + laterMs })),
    );
  }

  #keep(
    session: AgentSession,
    message: AgentMessageOf<'stats'> | AgentMessageOf<'done'>,
    atMs: number,
  ): void {
    const { books, id, startedMs } = session;
    const { recentLosses } = message.stats;
    if (startedMs !== null) this.#chronicle.recentLosses(id, recentLosses ?? null, startedMs, atMs);
    books.reported({ ...message.stats, recentLosses: recentLosses ?? [] });
    books.holders = message.holders;
    // Under its own name, whatever it says.
    books.kernel = message.kernel.map((count) => ({ ...count, agent: books.name }));
    if (this.#state.phase !== 'holding') return;
    this.#chronicle.sampleHoldCpu(this.#clock.monotonicMs(), () => holdersCpuMs(this.#allBooks()));
  }

  #allBooks(): AgentBooks[] {
    return this.#sessions.all().map((session) => session.books);
  }

  #tick(): void {
    const atMs = this.#clock.monotonicMs();
    // After a stand-still of ours everybody looks silent: what they said meanwhile has not been read yet.
    if (this.#still.look(atMs) > 0) return;
    this.#checkLocalAgent();
    this.#dispatch({ type: 'ticked', atMs });
    this.#checkRequirements(atMs);
    this.#showProgress(atMs, false);
    const { phase } = this.#state;
    if (phase !== 'ramping' && phase !== 'holding') return;
    void this.#watch.askTarget();
    const trouble = this.#watch.takeTargetTrouble();
    if (trouble !== null) this.#note(`the target does not tell what it holds: ${trouble}`);
    this.#watch.partial(atMs, () => makeReport(this.#facts(true), this.#clock));
  }

  /** Before anything is open there is no lease to wait for: one that is silent is not there. */
  #checkLocalAgent(): void {
    const { phase } = this.#state;
    if (this.#localAgent === null || (phase !== 'gathering' && phase !== 'preparing')) return;
    const silentMs = this.#still.attendedMs - this.#localHeardMs;
    if (silentMs <= LOCAL_SILENT_MS) return;
    this.#localAgent.giveUp(`said nothing for ${formatSeconds(silentMs)}, as a stopped process does`);
  }

  /** Ends the run early for a requirement that can no longer hold, where that is wanted. */
  #checkRequirements(atMs: number): void {
    const { phase } = this.#state;
    if (!this.#watching.abortEarly || (phase !== 'ramping' && phase !== 'holding')) return;
    const stats = mergeAllStats(this.#allBooks().map((books) => books.stats));
    const broken = this.#watch.brokenRequirement(this.#chronicle.metricFacts(stats, phase, atMs));
    if (broken !== null) this.#dispatch({ type: 'requirement-broken', atMs, requirement: broken.text });
  }

  #dispatch(event: RunEvent): void {
    const before = this.#state;
    const { state, commands } = step(before, event);
    this.#state = state;
    // A report changes no quota and no stage, and thousands of agents report each second.
    if (event.type !== 'agent-reported') this.#noteAgents(before, event.atMs);
    this.#notePhase(before, event.atMs);
    for (const command of commands) {
      if (command.type === 'finish') this.#finish(command.reason);
      else this.#outbox.carryOut(command, event.atMs);
    }
    if (state.phase !== before.phase) this.#showProgress(event.atMs, true);
  }

  /** Brings the books in line with what the reducer decided: quotas and losses. */
  #noteAgents(before: RunState, atMs: number): void {
    for (const [index, agent] of this.#state.agents.entries()) {
      // The reducer copies what it changes, so what is the same object has not changed.
      if (agent === before.agents[index]) continue;
      const session = this.#sessions.get(agent.name);
      if (session === undefined) continue;
      const wasQuota = session.books.quota;
      if (agent.stage === 'lost' && !session.books.lost) {
        this.#watch.agentLost(agent.name, atMs - this.#chronicle.rampStartedMs, session.books.stats.open);
        session.books.lose();
        session.channel?.close('the lease is over');
        session.channel = null;
        if (this.#state.phase !== 'ended') this.#note(`agent ${agent.name} is lost`);
      }
      session.books.quota = agent.quota;
      if (agent.stage === 'lost' && agent.quota < wasQuota) {
        session.books.handedOver();
        this.#note(`${wasQuota - agent.quota} connections of agent ${agent.name} were handed to others`);
      }
    }
  }

  #notePhase(before: RunState, atMs: number): void {
    const { phase } = this.#state;
    if (phase === before.phase) return;
    this.#chronicle.phaseChanged(before.phase, phase, atMs);
    if (phase === 'ramping') this.#watch.rampBegins(atMs, this.#clock.wallMs());
    if (before.phase === 'holding') this.#watch.holdEnds();
    if (phase === 'holding') {
      this.#watch.holdBegins();
      this.#holdEnd.arm(atMs + this.#state.plan.holdMs, () =>
        this.#dispatch({ type: 'ticked', atMs: this.#clock.monotonicMs() }),
      );
    }
  }

  #showProgress(atMs: number, isLandmark: boolean): void {
    const { phase, plan, phaseSinceMs } = this.#state;
    const agents = this.#allBooks().map((books) => books.progress(atMs));
    const total = totalProgress(agents);
    this.#options.onProgress({
      phase,
      elapsedMs: atMs - this.#startedMs,
      holdLeftMs: phase === 'holding' ? Math.max(0, plan.holdMs - (atMs - phaseSinceMs)) : null,
      asked: plan.connections,
      total,
      agents,
      note: waitingNote(this.#state, this.#options.remoteAgents, this.#sshAgents),
    });
    if (this.#chronicle.rampStartedMs === 0) return;
    const point = {
      phase,
      open: total.open,
      established: total.established,
      pending: total.pending,
      failed: total.failed,
      dropped: total.dropped,
      verified: this.#allBooks().reduce((sum, books) => sum + books.stats.verified, 0),
      seenByTarget: this.#watch.seenByTarget,
    };
    this.#chronicle.addPoint(atMs, point, isLandmark);
  }

  #facts(isPartial = false): RunFacts {
    // What has passed since the last tick counts too.
    if (!isPartial) this.#still.look(this.#clock.monotonicMs());
    return {
      spec: this.#options.spec,
      targetText: this.#options.targetText,
      toolVersion: this.#options.toolVersion,
      state: this.#state,
      books: this.#allBooks(),
      startedWallMs: this.#startedWallMs,
      ...this.#chronicle.facts(this.#still),
      requirements: this.#watching.requirements,
      target: this.#watch.target,
      targetProof: this.#watch.targetProof,
      ledgerEntries: this.#watching.onLosses === null ? null : this.#watch.ledgerEntries,
      isPartial,
      neverRan: null,
    };
  }
}

/** Where an agent on this host finds a listener: the unspecified address listens on loopback too. */
function localHostOf(listenHost: string): string {
  if (listenHost === '0.0.0.0') return '127.0.0.1';
  return listenHost === '::' ? '::1' : listenHost;
}
