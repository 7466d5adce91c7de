/**
 * Owns the shell of a run: feeds the reducer (core/run-state.ts) with what happens and carries out what it says.
 * Must never decide anything itself, and never print.
 */
import type { ChildProcess } from 'node:child_process';
import type { Channel } from '../control/channel.ts';
import type { AgentMessage, AgentMessageOf, CoordinatorMessage } from '../control/message.ts';
import { ControlServer, type StrangerReason } from '../control/server.ts';
import { generateToken, type Token } from '../control/token.ts';
import type { Clock } from '../core/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../core/errors.ts';
import { totalOf } from '../core/outcome.ts';
import type { Phase, Progress } from '../core/progress.ts';
import type { RunReport } from '../core/report.ts';
import type { RunSpec } from '../core/run-spec.ts';
import {
  type EndReason,
  initialRunState,
  type RunCommand,
  type RunEvent,
  type RunPlan,
  type RunState,
  step,
} from '../core/run-state.ts';
import type { Stats } from '../core/stats.ts';
import { EMPTY_TIMELINE, withPoint } from '../core/timeline.ts';
import { AgentBooks, totalProgress } from './agent-books.ts';
import { forkLocalAgent } from './local-agent.ts';
import { holdersCpuMs, makeReport } from './run-report.ts';

/** An agent without contact stops opening after the first, closes everything after the second. */
const QUIET_MS = 5_000;
const LEASE_MS = 15_000;
/** The coordinator waits longer than the agent: connections never have two owners, whatever the clocks say. */
const LEASE_MARGIN_MS = 5_000;
const TICK_MS = 1_000;
const GATHER_MS = 60_000;
const PREPARE_MS = 60_000;
const DRAIN_MS = 45_000;
const STALL_MS_MIN = 10_000;
const LOCAL_AGENT = 'local';

export interface RunOptions {
  readonly spec: RunSpec;
  /** the targets as the user typed them */
  readonly targetText: readonly string[];
  /** the script that agents are forked from */
  readonly entryPath: string;
  readonly toolVersion: string;
  readonly clock: Clock;
  readonly onProgress: (progress: Progress) => void;
  /** one line for a person */
  readonly onNote: (line: string) => void;
}

/** The silence after which a ramp counts as stalled: two connect timeouts, or ten intervals of a slow rate. */
function stallMsOf(spec: RunSpec): number {
  const slow = spec.ratePerSec === null ? 0 : 10_000 / spec.ratePerSec;
  return Math.max(STALL_MS_MIN, 2 * spec.connectTimeoutMs, slow);
}

function planOf(spec: RunSpec): RunPlan {
  return {
    connections: spec.connections,
    ratePerSec: spec.ratePerSec,
    pendingMax: spec.pendingMax,
    holdMs: spec.holdMs,
    agentsExpected: 1,
    gatherMs: GATHER_MS,
    prepareMs: PREPARE_MS,
    stallMs: stallMsOf(spec),
    drainMs: DRAIN_MS,
    leaseMs: LEASE_MS + LEASE_MARGIN_MS,
  };
}

/** One run, from the first agent to the report. */
export class Run {
  readonly #options: RunOptions;
  readonly #clock: Clock;
  readonly #token: Token = generateToken(LOCAL_AGENT);
  readonly #channels = new Map<string, Channel<CoordinatorMessage>>();
  readonly #books = new Map<string, AgentBooks>();
  readonly #strangers = new Map<StrangerReason, number>();
  readonly #startedMs: number;
  readonly #startedWallMs: number;
  #state: RunState;
  #timeline = EMPTY_TIMELINE;
  #rampStartedMs = 0;
  #holdStartedMs: number | null = null;
  #holdEndedMs: number | null = null;
  #holdCpu: { fromMs: number; fromCpuMs: number; toMs: number; toCpuMs: number } | null = null;
  #localAgent: ChildProcess | null = null;
  #localAgentEnd: string | null = null;
  #finish: (reason: EndReason) => void = () => {};

  constructor(options: RunOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#startedMs = this.#clock.monotonicMs();
    this.#startedWallMs = this.#clock.wallMs();
    this.#state = initialRunState(planOf(options.spec), this.#startedMs);
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
    const server = new ControlServer({
      host: '127.0.0.1',
      port: 0,
      keyFor: (identity) => (identity === this.#token.identity ? this.#token.key : null),
      onAgent: (channel, hello) => this.#welcome(channel, hello),
      onStranger: (reason) => this.#strangers.set(reason, (this.#strangers.get(reason) ?? 0) + 1),
    });
    const { port } = await server.listen();
    const timer = setInterval(() => this.#tick(), TICK_MS);
    try {
      if (this.#state.phase === 'gathering') this.#forkLocal(port);
      const reason = await finished;
      this.#throwIfNeverRan(reason);
      return makeReport(this.#facts(), this.#clock);
    } finally {
      clearInterval(timer);
      await server.close();
      await this.#reapLocalAgent();
    }
  }

  /** First call: stop opening, drain, report. Second call: end at once. */
  interrupt(signal: 'SIGINT' | 'SIGTERM'): void {
    this.#dispatch({ type: 'interrupted', atMs: this.#clock.monotonicMs(), signal });
  }

  #forkLocal(port: number): void {
    this.#localAgent = forkLocalAgent({
      entryPath: this.#options.entryPath,
      name: LOCAL_AGENT,
      port,
      token: this.#token,
      onExit: (how) => {
        this.#localAgentEnd = how;
        this.#leave(LOCAL_AGENT, `agent ${LOCAL_AGENT} ${how}`);
        // It died before it could join: nobody else will come.
        if (this.#state.phase === 'gathering') {
          this.#dispatch({
            type: 'ticked',
            atMs: this.#clock.monotonicMs() + this.#state.plan.gatherMs,
          });
        }
      },
    });
  }

  /** The local agent ends by itself when its channel closes; one that does not is killed. */
  async #reapLocalAgent(): Promise<void> {
    const child = this.#localAgent;
    if (child === null || this.#localAgentEnd !== null) return;
    if (child.connected) child.disconnect();
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const killer = setTimeout(() => child.kill('SIGKILL'), 2_000);
    await exited;
    clearTimeout(killer);
  }

  #throwIfNeverRan(reason: EndReason): void {
    if (reason.type === 'agents-missing') {
      const came = reason.joined.length === 0 ? 'none came' : `only ${reason.joined.join(', ')} came`;
      const why = this.#localAgentEnd === null ? '' : ` (the local agent ${this.#localAgentEnd})`;
      throw new BenchError(
        ErrorCode.agentMissing,
        ExitCode.incomplete,
        `${reason.expected} agent(s) expected, ${came}${why}`,
        'run again; if it stays so, start it with NODE_DEBUG=net and report it',
      );
    }
    if (reason.type === 'agents-not-ready') {
      throw new BenchError(
        ErrorCode.agentLost,
        ExitCode.incomplete,
        `not ready in time: ${reason.missing.join(', ')}`,
        'see the lines above; fewer --holders need less memory and time to start',
      );
    }
  }

  /** A new agent's channel: what comes over it becomes events. */
  #welcome(
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
  ): { onMessage: (message: AgentMessage) => void; onClose: (problem: string | null) => void } {
    const agent = hello.name;
    if (this.#channels.has(agent)) {
      channel.close();
      return { onMessage: () => {}, onClose: () => {} };
    }
    this.#channels.set(agent, channel);
    this.#books.set(agent, new AgentBooks(agent));
    this.#dispatch({ type: 'agent-joined', atMs: this.#clock.monotonicMs(), agent });
    return {
      onMessage: (message) => this.#take(agent, message),
      onClose: (problem) =>
        this.#leave(agent, `agent ${agent} left${problem === null ? '' : `: ${problem}`}`),
    };
  }

  #leave(agent: string, note: string): void {
    const known = this.#state.agents.find((each) => each.name === agent);
    if (known === undefined || known.stage === 'done' || known.stage === 'lost') return;
    if (this.#state.phase !== 'ended') this.#options.onNote(note);
    this.#channels.delete(agent);
    this.#books.get(agent)?.lose();
    this.#dispatch({ type: 'agent-left', atMs: this.#clock.monotonicMs(), agent });
  }

  #take(agent: string, message: AgentMessage): void {
    const books = this.#books.get(agent);
    if (books === undefined || books.lost) return;
    const atMs = this.#clock.monotonicMs();
    switch (message.type) {
      case 'hello':
        break;
      case 'offer':
        books.capacity = message.connectionsMax;
        books.boundBy = message.boundBy;
        books.sources = message.sources;
        books.findings = message.findings;
        books.notes = message.notes;
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
        this.#dispatch({ type: 'agent-refused', atMs, agent, findings: message.findings });
        break;
      case 'ready':
        books.sources = message.sources;
        books.findings = message.findings;
        books.notes = message.notes;
        this.#dispatch({ type: 'agent-ready', atMs, agent });
        break;
      case 'stats':
        this.#keep(books, message);
        this.#dispatch({
          type: 'agent-reported',
          atMs,
          agent,
          settled: message.settled,
          open: message.stats.open,
          established: message.stats.established,
        });
        break;
      case 'done':
        this.#keep(books, message);
        books.notes = [...books.notes, ...message.notes];
        this.#dispatch({ type: 'agent-done', atMs, agent });
        break;
    }
  }

  #keep(books: AgentBooks, message: AgentMessageOf<'stats'> | AgentMessageOf<'done'>): void {
    books.stats = message.stats as unknown as Stats;
    books.holders = message.holders;
    books.kernel = message.kernel;
    if (this.#state.phase === 'holding') this.#sampleHoldCpu();
  }

  /** From the first report of the hold phase, not from its start: the ramp's last second is not holding. */
  #sampleHoldCpu(): void {
    const toMs = this.#clock.monotonicMs();
    const toCpuMs = holdersCpuMs([...this.#books.values()]);
    this.#holdCpu ??= { fromMs: toMs, fromCpuMs: toCpuMs, toMs, toCpuMs };
    this.#holdCpu = { ...this.#holdCpu, toMs, toCpuMs };
  }

  #tick(): void {
    const atMs = this.#clock.monotonicMs();
    for (const channel of this.#channels.values()) channel.send({ type: 'renew' });
    this.#dispatch({ type: 'ticked', atMs });
    this.#showProgress(atMs, false);
  }

  #dispatch(event: RunEvent): void {
    const before = this.#state.phase;
    const { state, commands } = step(this.#state, event);
    this.#state = state;
    if (state.phase !== before) this.#enter(state.phase, before, event.atMs);
    for (const command of commands) this.#carryOut(command);
    if (state.phase !== before) this.#showProgress(event.atMs, true);
  }

  #enter(phase: Phase, before: Phase, atMs: number): void {
    for (const agent of this.#state.agents) {
      const books = this.#books.get(agent.name);
      if (books !== undefined) books.quota = agent.quota;
    }
    if (phase === 'ramping') this.#rampStartedMs = atMs;
    if (phase === 'holding') this.#holdStartedMs = atMs;
    if (before === 'holding') this.#holdEndedMs = atMs;
  }

  #carryOut(command: RunCommand): void {
    switch (command.type) {
      case 'send-spec':
        this.#send(command.agent, {
          type: 'spec',
          spec: toWire(this.#options.spec),
          agentsExpected: this.#state.plan.agentsExpected,
          leaseMs: LEASE_MS,
          quietMs: QUIET_MS,
        });
        break;
      case 'send-quota':
        this.#send(command.agent, {
          type: 'quota',
          connections: command.connections,
          ratePerSec: command.ratePerSec,
          pendingMax: command.pendingMax,
        });
        break;
      case 'send-start':
        this.#send(command.agent, { type: 'start' });
        break;
      case 'send-stop-opening':
        this.#send(command.agent, { type: 'stop-opening' });
        break;
      case 'send-hold':
        this.#send(command.agent, { type: 'hold' });
        break;
      case 'send-stop':
        this.#send(command.agent, { type: 'stop', reason: command.reason });
        break;
      case 'finish':
        this.#finish(command.reason);
        break;
    }
  }

  #send(agent: string, message: CoordinatorMessage): void {
    this.#channels.get(agent)?.send(message);
  }

  #showProgress(atMs: number, isLandmark: boolean): void {
    const { phase, plan, phaseSinceMs } = this.#state;
    const agents = [...this.#books.values()].map((books) => books.progress(atMs));
    const total = totalProgress(agents);
    this.#options.onProgress({
      phase,
      elapsedMs: atMs - this.#startedMs,
      holdLeftMs: phase === 'holding' ? Math.max(0, plan.holdMs - (atMs - phaseSinceMs)) : null,
      asked: plan.connections,
      total,
      agents,
      note: null,
    });
    if (this.#rampStartedMs === 0) return;
    const point = {
      atSec: Math.round(atMs - this.#rampStartedMs) / 1000,
      phase,
      open: total.open,
      established: total.established,
      pending: total.pending,
      failed: total.failed,
      dropped: total.dropped,
      verified: [...this.#books.values()].reduce((sum, books) => sum + books.stats.verified, 0),
    };
    this.#timeline = withPoint(this.#timeline, point, isLandmark);
  }

  #facts(): Parameters<typeof makeReport>[0] {
    const notes = this.#strangers.size === 0 ? [] : [strangersNote(this.#strangers)];
    return {
      spec: this.#options.spec,
      targetText: this.#options.targetText,
      toolVersion: this.#options.toolVersion,
      state: this.#state,
      books: [...this.#books.values()],
      timeline: this.#timeline,
      startedWallMs: this.#startedWallMs,
      holdStartedMs: this.#holdStartedMs,
      holdEndedMs: this.#holdEndedMs,
      holdCpu:
        this.#holdCpu === null
          ? null
          : {
              cpuMs: this.#holdCpu.toCpuMs - this.#holdCpu.fromCpuMs,
              elapsedMs: this.#holdCpu.toMs - this.#holdCpu.fromMs,
            },
      notes,
    };
  }
}

type WireSpec = Extract<CoordinatorMessage, { type: 'spec' }>['spec'];

/** The spec as the schema types it: plain mutable arrays; the values are the same. */
function toWire(spec: RunSpec): WireSpec {
  return spec as unknown as WireSpec;
}

function strangersNote(strangers: ReadonlyMap<StrangerReason, number>): string {
  const counts = Object.fromEntries(strangers);
  const parts = [...strangers].map(([reason, count]) => `${reason} ${count}`);
  return `${totalOf(counts)} strangers knocked at the control channel and were refused (${parts.join(', ')})`;
}
