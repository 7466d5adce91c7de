/**
 * Owns the shell of a run: feeds the reducer (run/run-state.ts) with what happens, and has its parts act on what changed,
 * at the moments that the reducer waits for.
 * Must never decide anything itself, and never print.
 */
import { randomUUID } from 'node:crypto';
import { type Clock, StandStill } from '../base/clock.ts';
import { type AgentMessageOf, needsOf } from '../control/message.ts';
import { ControlServer } from '../control/server.ts';
import type { RunReport } from '../judge/report.ts';
import { holdersCpuMs } from '../judge/report-parts.ts';
import { makeReport, type RunFacts } from '../judge/run-report.ts';
import { verdictLine } from '../report/verdict-text.ts';
import type { AgentRecord } from '../run/agent-record.ts';
import { LEASE_TIMES, type LeaseTimes, rhythmOf } from '../run/lease.ts';
import type { EndReason, RunChange, RunEvent } from '../run/run-event.ts';
import { isChanging, namesBackends } from '../run/run-spec.ts';
import { step } from '../run/run-state.ts';
import { initialRunState, phaseEndsMs, type RunState } from '../run/run-transition.ts';
import { mergeAllStats, type Phase, type Stats } from '../stats/stats.ts';
import { DueTimer, every } from '../time/timer.ts';
import { AgentContact, CommandSender, holderOf } from './agent-contact.ts';
import { type AgentSession, AgentSessions } from './agent-session.ts';
import { Arrivals } from './arrivals.ts';
import { NeverRanError, neverRan, StartedAgents, waitingNote } from './expected-agents.ts';
import { RunLog, runFacts } from './run-facts.ts';
import { RunProgress, timelinePoint } from './run-progress.ts';
import { type RunOptions, termsOf } from './run-settings.ts';
import { lostWithAgent, RunWatch, UNWATCHED } from './run-watch.ts';

/** One run, from the first agent to the report. */
export class Run {
  readonly #options: RunOptions;
  readonly #clock: Clock;
  readonly #lease: LeaseTimes;
  readonly #startedMs: number;
  readonly #startedWallMs: number;
  readonly #sessions = new AgentSessions();
  readonly #sender: CommandSender;
  readonly #contact: AgentContact;
  readonly #startedAgents: StartedAgents;
  readonly #log: RunLog;
  readonly #arrivals: Arrivals;
  readonly #watch: RunWatch;
  readonly #progress: RunProgress;
  /** the hold ends when it is due, not at the next tick */
  readonly #holdEnd: DueTimer;
  /** of this process; what agents report ages only while it looks */
  readonly #still: StandStill;
  #state: RunState;
  #finish: (reason: EndReason) => void = () => {};

  constructor(options: RunOptions) {
    const { clock, spec, lease = LEASE_TIMES } = options;
    const runId = randomUUID();
    this.#options = options;
    this.#clock = clock;
    this.#lease = lease;
    this.#startedMs = clock.monotonicMs();
    this.#startedWallMs = clock.wallMs();
    this.#state = initialRunState(spec, termsOf(options), this.#startedMs);
    this.#still = new StandStill(rhythmOf(lease).reportEveryMs, this.#startedMs);
    this.#holdEnd = new DueTimer(() => clock.monotonicMs());
    this.#log = new RunLog(spec);
    this.#arrivals = new Arrivals(options.onNote);
    this.#watch = new RunWatch(options.watch ?? UNWATCHED);
    this.#progress = new RunProgress(this.#startedMs);
    this.#sender = new CommandSender(options, runId, lease, this.#sessions);
    const shell = {
      state: () => this.#state,
      dispatch: (event: RunEvent) => this.#dispatch(event),
      note: (line: string) => this.#note(line),
    };
    this.#startedAgents = new StartedAgents(options, this.#still, shell);
    const { remoteAgents } = options;
    const contact = { clock, runId, lease, namesFindings: remoteAgents > 0, remoteAgents };
    this.#contact = new AgentContact(contact, this.#sessions, this.#sender, {
      ...shell,
      onNote: options.onNote,
      onTurnedAway: (who) => this.#arrivals.turnedAway(who),
      isImpostor: (name, identity) => this.#startedAgents.isImpostor(name, identity),
      onHeard: (id) => this.#startedAgents.heard(id),
      onStats: (agent, stats, atMs) => this.#noteLosses(agent, stats, atMs),
      onLosses: (agent, session, message) => this.#takeLosses(agent, session, message),
    });
  }

  /**
   * Runs to the end.
   * @returns the report, whatever the target did
   * @throws BenchError when no run was started: agents missing or not ready, no control channel
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
      keyFor: (identity) => this.#startedAgents.keyFor(identity),
      needs: needsOf(this.#options.spec),
      onAgent: (channel, hello, identity, from) => this.#contact.welcome(channel, hello, identity, from),
      onRefused: (reason, who) => {
        this.#log.connectionRefused(reason);
        this.#arrivals.turnedAway(who);
      },
    });
    const bound = await server.listen();
    onListening(bound);
    const timer = every(rhythmOf(this.#lease).reportEveryMs, () => this.#tick());
    try {
      void this.#watch.askTargetBefore();
      this.#showProgress(this.#clock.monotonicMs(), true);
      if (this.#state.phase === 'gathering') this.#startedAgents.start(bound.port);
      const reason = await finished;
      this.#options.onFinished?.();
      return this.#report(reason);
    } finally {
      timer.cancel();
      this.#holdEnd.cancel();
      await server.close();
      await this.#startedAgents.stop();
    }
  }

  /** First call: stop opening, drain, report. Second call: end immediately. */
  interrupt(signal: 'SIGINT' | 'SIGTERM'): void {
    this.#dispatch({ type: 'interrupted', atMs: this.#clock.monotonicMs(), signal });
  }

  /** @throws NeverRanError when no run was started */
  #report(reason: EndReason): RunReport {
    // What has passed since the last tick counts too.
    this.#still.look(this.#clock.monotonicMs());
    // Closing may take a moment after the waiting is over.
    const waitedMs = Math.min(this.#options.waitAgentsMs, this.#state.phaseSinceMs - this.#startedMs);
    const error = neverRan(reason, waitedMs, this.#startedAgents.bySsh);
    const report = makeReport(this.#facts(error === null ? {} : { neverRan: error.message }));
    this.#contact.end(verdictLine(report));
    if (error === null) return report;
    throw new NeverRanError(error, report);
  }

  #facts(change: Partial<Pick<RunFacts, 'isPartial' | 'neverRan'>> = {}): RunFacts {
    const sources = {
      options: this.#options,
      state: this.#state,
      log: this.#log,
      watch: this.#watch,
      startedWallMs: this.#startedWallMs,
      still: this.#still,
    };
    return runFacts(sources, change);
  }

  #note(line: string): void {
    this.#log.note(line);
    this.#options.onNote(line);
  }

  #dispatch(event: RunEvent): void {
    const before = this.#state;
    const { state, changes, commands } = step(before, event);
    this.#state = state;
    for (const change of changes) this.#act(change, event.atMs);
    for (const command of commands) this.#sender.carryOut(command);
    if (event.type === 'agent-reported') {
      const { agent, atMs, snapshot } = event;
      this.#log.reported(statsOf(before, agent), statsOf(state, agent), atMs, snapshot.stats.grown);
    }
    if (before.phase === 'holding' && event.type === 'agent-reported')
      this.#log.sampleHoldCpu(this.#clock.monotonicMs(), () => holdersCpuMs(this.#agents()));
    if (state.phase !== before.phase) this.#showProgress(event.atMs, true);
  }

  #act(change: RunChange, atMs: number): void {
    switch (change.type) {
      case 'agent-joined':
        break;
      case 'agent-turned-away':
        this.#turnAway(change);
        break;
      case 'agent-lost':
        this.#agentLost(change.agent, change.open, atMs);
        break;
      case 'quota-changed': {
        const { agent, from, to } = change;
        if (to < from) this.#note(`${from - to} connections of agent ${agent} were handed to others`);
        break;
      }
      case 'phase-changed':
        this.#phaseChanged(change.from, change.to, atMs);
        break;
      case 'run-ended':
        this.#finish(change.reason);
        break;
    }
  }

  #turnAway({ agent, reason }: Extract<RunChange, { type: 'agent-turned-away' }>): void {
    const session = this.#sessions.get(agent);
    session?.channel?.close(reason);
    this.#sessions.remove(agent);
    this.#arrivals.turnedAway({ from: session?.from ?? '', name: agent, why: reason });
  }

  #agentLost(agent: string, open: number, atMs: number): void {
    this.#watch.agentLost(agent, atMs - this.#log.rampStartedMs, open);
    if (open > 0) this.#log.lossDetails(lostWithAgent(atMs - this.#log.rampStartedMs, open), atMs);
    const session = this.#sessions.get(agent);
    session?.channel?.close('the lease is over');
    if (session !== undefined) session.channel = null;
    if (this.#state.phase !== 'ended') this.#note(`agent ${agent} is lost`);
  }

  #phaseChanged(from: Phase, to: Phase, atMs: number): void {
    this.#log.phaseChanged(from, to, atMs);
    if (to === 'ramping') this.#watch.rampBegins(atMs, this.#clock.wallMs());
    if (from === 'holding') this.#watch.holdEnds();
    if (to === 'holding') this.#watch.holdBegins();
    const endsMs = phaseEndsMs(this.#state);
    if (endsMs === null) return;
    this.#holdEnd.arm(endsMs, () => this.#dispatch({ type: 'ticked', atMs: this.#clock.monotonicMs() }));
  }

  #noteLosses(
    { id, startedMs }: AgentRecord,
    { recentLosses, recentReturns }: AgentMessageOf<'stats'>['stats'],
    atMs: number,
  ): void {
    if (startedMs !== null) this.#log.recentLosses(id, recentLosses ?? null, recentReturns, startedMs, atMs);
  }

  #takeLosses(
    { id, quota, startedMs }: AgentRecord,
    { lossAllowance, name }: AgentSession,
    { losses }: AgentMessageOf<'losses'>,
  ): void {
    const { rampStartedMs } = this.#log;
    if (rampStartedMs === 0) return;
    const rampedMs = this.#clock.monotonicMs() - rampStartedMs;
    const { spec } = this.#state;
    const reopenedForSec = spec.onDrop === 'reopen' || isChanging(spec) ? rampedMs / 1_000 : 0;
    const taken = lossAllowance.take(losses, quota, reopenedForSec);
    // Times are reported since the agent's own start: one that came later has begun later.
    const laterMs = Math.max(0, (startedMs ?? rampStartedMs) - rampStartedMs);
    const onRunTime = taken.map((loss) => ({
      ...loss,
      holder: holderOf(id, name, loss.holder),
      atMs: loss.atMs + laterMs,
    }));
    this.#log.lossDetails(onRunTime, this.#clock.monotonicMs());
    this.#watch.takeLosses(id, onRunTime);
  }

  #agents(): AgentRecord[] {
    return [...this.#state.agents.values()];
  }

  #tick(): void {
    const atMs = this.#clock.monotonicMs();
    // After a stand-still of ours every agent looks silent: what they said meanwhile has not been read yet.
    if (this.#still.look(atMs) > 0) return;
    this.#startedAgents.checkLocal();
    this.#dispatch({ type: 'ticked', atMs });
    this.#checkRequirements(atMs);
    this.#showProgress(atMs, false);
    const { phase } = this.#state;
    if (phase === 'gathering' || phase === 'preparing') void this.#watch.askTargetBefore();
    if (phase !== 'ramping' && phase !== 'holding') return;
    void this.#watch.askTarget();
    const problem = this.#watch.takeTargetProblem();
    if (problem !== null) this.#note(`the target does not report what it holds: ${problem}`);
    this.#watch.partial(atMs, () => makeReport(this.#facts({ isPartial: true })));
  }

  /** Ends the run early for a requirement that can no longer hold, where that is wanted. */
  #checkRequirements(atMs: number): void {
    const { phase } = this.#state;
    if (!this.#watch.isAbortingEarly || (phase !== 'ramping' && phase !== 'holding')) return;
    const stats = mergeAllStats(this.#agents().map((agent) => agent.stats));
    const broken = this.#watch.brokenRequirement(this.#log.metricFacts(stats, phase, atMs));
    if (broken !== null) this.#dispatch({ type: 'requirement-broken', atMs, requirement: broken.text });
  }

  #showProgress(atMs: number, isLandmark: boolean): void {
    const note = waitingNote(this.#state, this.#options.remoteAgents, this.#startedAgents.bySsh);
    const { seenByTarget, isTargetAsked } = this.#watch;
    const target = isTargetAsked ? { open: seenByTarget } : null;
    const progress = this.#progress.at(this.#state, atMs, { note, target });
    this.#options.onProgress(progress);
    this.#options.onTick?.(() => makeReport(this.#facts({ isPartial: true })));
    if (this.#log.rampStartedMs === 0) return;
    if (namesBackends(this.#state.spec))
      this.#log.backends(
        mergeAllStats(this.#agents().map(({ stats }) => stats)).backends,
        this.#state.phase,
        atMs,
      );
    this.#log.addPoint(atMs, timelinePoint(progress, this.#state.agents.values(), seenByTarget), isLandmark);
  }
}

/** What an agent has counted; null: it is not known. */
function statsOf(state: RunState, agent: string): Stats | null {
  return state.agents.get(agent)?.stats ?? null;
}
