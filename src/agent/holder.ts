/**
 * Owns a holder process: the shell around one engine that listens to the agent over IPC and reports each second, and what
 * it knows of its own load (CPU, waiting for a core, garbage collection) for the price of one small file a second.
 * Must never import what makes a holder big (ws, valibot, yargs), and never outlive its agent.
 *
 * The conversation is drawn in agent/process-pipe.ts.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import { type Clock, StandStill } from '../base/clock.ts';
import { Engine } from '../engine/engine.ts';
import { descriptorsMax, mapTablesApart } from '../engine/libc.ts';
import { bindToParent } from '../engine/parent-bond.ts';
import { releaseMemory, WarmUp } from '../engine/warm-up.ts';
import { lowerPriority } from '../host/command.ts';
import { coreWaitMs } from '../host/proc-file.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { LOSS_BATCH_MAX } from '../stats/loss.ts';
import { type HolderHealth, NO_LOAD, type PhaseLoad } from '../stats/stats.ts';
import { after, every, systemClock, type Timer } from '../time/timer.ts';
import type { AgentToHolder, HolderToAgent } from './process-pipe.ts';

const REPORT_EVERY_MS = 1_000;

/** What a holder is there for, once its agent has said so. */
interface Work {
  readonly spec: HolderSpec;
  readonly engine: Engine;
  /** descriptors that are no connections */
  readonly descriptorsOwn: number;
}

/** One holder; made by `runHolder`. */
class Holder {
  readonly #clock: Clock;
  readonly #load: HolderLoad;
  /** null: the agent has not said yet what to open */
  #work: Work | null = null;
  /** null: the agent has not said yet what to open, or that is known and done */
  #warmUp: { readonly work: WarmUp; readonly open: () => void } | null = null;
  /** what the agent has said while this holder was not ready */
  readonly #waiting: Exclude<AgentToHolder, { type: 'open' }>[] = [];
  /** its agent has more holders than may open at a time */
  #isInTurns = false;
  #reportTimer: Timer | null = null;
  #leaseTimer: Timer | null = null;
  /** null: not ready yet, or started */
  #standBy: StandBy | null = null;
  /** how long it stood still while others opened and its turn had not come */
  #stoodStillMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#load = new HolderLoad(clock);
  }

  readonly onMessage = (message: unknown): void => {
    this.#try(() => this.#take(message as AgentToHolder));
  };

  /** What fails is said to the agent, and is the end of this holder. */
  #try(step: () => void): void {
    try {
      step();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#send({ type: 'failed', message: text }, this.leave);
    }
  }

  #take(message: AgentToHolder): void {
    if (message.type === 'open') {
      this.#warm(message.spec);
      return;
    }
    if (this.#work !== null) this.#carryOut(message, this.#work);
    else if (this.#warmUp !== null) this.#wait(message, this.#warmUp.open);
    else if (message.type === 'lease') this.#liveUntil(message.liveUntilMs);
    else if (message.type === 'stop') this.leave();
  }

  #carryOut(message: Exclude<AgentToHolder, { type: 'open' }>, work: Work): void {
    const { engine, spec } = work;
    switch (message.type) {
      case 'start':
        this.#stoodStillMs = this.#standBy?.end(message.runStartedMs) ?? 0;
        this.#standBy = null;
        this.#load.rampBegins();
        this.#isInTurns = message.inTurns === true;
        engine.start(message.runStartedMs, message.elapsedMs);
        this.#reportTimer = every(spec.reportEveryMs ?? REPORT_EVERY_MS, this.#report);
        break;
      case 'report':
        this.#reportWith(message);
        break;
      case 'hold':
        engine.markHold();
        this.#load.holdBegins();
        break;
      case 'check': {
        const { which, perMs } = message;
        engine.checkFinally(which, perMs, () => {
          // What it has found is known before it is over.
          this.#report();
          this.#send({ type: 'checked', which });
        });
        break;
      }
      case 'freeze':
        engine.freeze(() => {
          this.#report();
          this.#send({ type: 'checked', which: 'freeze' });
        });
        break;
      case 'lose-sources':
        engine.loseSources(message.addresses);
        this.#report();
        break;
      case 'lease':
        engine.openUntil(message.openUntilMs);
        this.#liveUntil(message.liveUntilMs);
        break;
      case 'pace':
        engine.setPace(message.ratePerSec, message.pendingMax);
        break;
      case 'stop-opening':
        engine.stopOpening();
        break;
      case 'stop':
        engine.closeAll(() => this.#closed(work));
        break;
    }
  }

  #warm(spec: HolderSpec): void {
    const open = (): void => this.#try(() => this.#open(spec));
    this.#warmUp = { work: new WarmUp(spec, this.#clock, open), open };
    this.#warmUp.work.begin();
  }

  /** What comes in the warm-up is done after it; an end cuts it short, and the life of this process does not wait. */
  #wait(message: Exclude<AgentToHolder, { type: 'open' }>, open: () => void): void {
    this.#waiting.push(message);
    if (message.type === 'stop') open();
    else if (message.type === 'lease') this.#liveUntil(message.liveUntilMs);
  }

  #open(spec: HolderSpec): void {
    const salt = randomBytes(4).readUInt32LE();
    const engine = new Engine(spec, this.#clock, salt, {
      onBegun: () => this.#begun(engine),
      onOpened: () => {
        this.#load.rampEnds();
        releaseMemory();
      },
      onSettled: this.#report,
      onWarning: (message) => this.#send({ type: 'warning', message }),
    });
    this.#warmUp?.work.end();
    this.#warmUp = null;
    this.#work = { spec, engine, descriptorsOwn: readdirSync('/proc/self/fd').length };
    // Not before: beside programs that compute, a process of low priority does not even load in time.
    lowerPriority();
    this.#standBy = new StandBy(this.#clock);
    this.#send({ type: 'ready' });
    for (const message of this.#waiting.splice(0)) this.#carryOut(message, this.#work);
  }

  /** Others may open from here on: what it loses meanwhile it opens again when it has a share again. */
  #begun(engine: Engine): void {
    if (this.#isInTurns) engine.setPace(0, 0);
    this.#report();
  }

  /**
   * Without a further lease this process ends, and the kernel closes what it holds: an agent that is stopped, or too
   * busy, can neither renew the lease nor close anything.
   */
  #liveUntil(atMs: number): void {
    this.#leaseTimer?.cancel();
    const leftMs = Math.max(0, atMs - this.#clock.monotonicMs());
    this.#leaseTimer = after(leftMs, () => {
      // The clock decides: a timer may be early by the fraction of a millisecond.
      if (this.#clock.monotonicMs() < atMs) this.#liveUntil(atMs);
      // One that had no core reads first what has come meanwhile: a further lease cancels this.
      else this.#leaseTimer = after(0, () => this.leave());
    });
  }

  /** Details go before the stats that count them, so that a ledger is never behind its counts. */
  #sendLosses({ engine }: Work): void {
    for (;;) {
      const losses = engine.takeLosses(LOSS_BATCH_MAX);
      if (losses.length === 0) return;
      this.#send({ type: 'losses', losses });
    }
  }

  readonly #report = (): void => this.#reportWith(null);

  /** @param order what it answers; null: it comes by itself */
  #reportWith(order: Extract<AgentToHolder, { type: 'report' }> | null): void {
    const work = this.#work;
    if (work === null) return;
    this.#sendLosses(work);
    const { engine } = work;
    this.#send({
      type: 'stats',
      stats: engine.stats(),
      health: this.#health(work),
      settled: engine.settled,
      answers: order?.id ?? null,
      openTuples: order?.wantsTuples === true ? engine.openTuples() : null,
      begun: engine.hasBegun,
      ramp: engine.ramp,
    });
  }

  #closed(work: Work): void {
    this.#sendLosses(work);
    // Leaving before the message is written would lose it.
    const health = this.#health(work);
    const { ramp } = work.engine;
    this.#send({ type: 'done', stats: work.engine.stats(), health, ramp }, this.leave);
  }

  #health({ spec, engine, descriptorsOwn }: Work): HolderHealth {
    const cpu = process.cpuUsage();
    const load = engine.load();
    return {
      id: spec.id,
      pid: process.pid,
      alive: true,
      cpuUserMs: cpu.user / 1_000,
      cpuSystemMs: cpu.system / 1_000,
      residentBytes: residentBytes(),
      ...load,
      loopLagMsMax: Math.max(load.loopLagMsMax, this.#stoodStillMs),
      descriptorsUsed: descriptorsOwn + load.descriptorsUsed,
      descriptorsMax: descriptorsMax(),
      gcMs: this.#load.gcMs,
      cpuWaitMs: this.#load.cpuWaitMs,
      ramp: this.#load.ramp,
      hold: this.#load.hold,
    };
  }

  #send(message: HolderToAgent, then: () => void = () => {}): void {
    // `disconnect` reports a closed pipe; no process is left to report it to.
    if (process.connected) process.send?.(message, undefined, undefined, then);
    else then();
  }

  /**
   * Lets go of everything that keeps the process alive, so that it ends by itself: also in a busy ramp, because the
   * engine's loop looks before each turn. The kernel closes what is still open.
   */
  readonly leave = (): void => {
    this.#reportTimer?.cancel();
    this.#leaseTimer?.cancel();
    this.#standBy?.end();
    this.#warmUp?.work.end();
    this.#work?.engine.end();
    this.#load.end();
    process.off('message', this.onMessage);
    // Not immediately: Node cannot close the channel in the middle of handing a message out.
    setImmediate(() => {
      if (process.connected) process.disconnect();
    });
  };
}

/** Resident bytes now; the highest so far when no descriptor is left to read them from /proc with. */
function residentBytes(): number {
  try {
    return process.memoryUsage.rss();
  } catch {
    return process.resourceUsage().maxRSS * 1_024;
  }
}

/**
 * Runs this process as a holder until its agent says `stop` or goes away. Returns immediately; the process ends by itself.
 * @param parentPid the agent's pid as the agent said it; null: unknown
 * @param dependencies what a test may replace
 */
export function runHolder(
  parentPid: number | null = null,
  dependencies: { readonly clock: Clock } = { clock: systemClock },
): void {
  mapTablesApart();
  const holder = new Holder(dependencies.clock);
  if (!bindToParent('kill', parentPid)) {
    holder.leave();
    return;
  }
  // The terminal sends Ctrl-C to the whole group, and a service manager SIGTERM; the agent decides what they mean.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.on('disconnect', holder.leave);
  process.on('message', holder.onMessage);
}

interface Reading {
  readonly atMs: number;
  readonly cpuMs: number;
  readonly waitMs: number;
}

/** The time between `ready` and `start`, in which the loop of the engine does not turn and so is not late. */
class StandBy {
  readonly #clock: Clock;
  readonly #still: StandStill;
  readonly #timer: Timer;
  readonly #stood: { readonly untilMs: number; readonly forMs: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#still = new StandStill(REPORT_EVERY_MS, clock.monotonicMs());
    this.#timer = every(REPORT_EVERY_MS, () => this.#look(), { isUnref: true });
  }

  #look(): void {
    const untilMs = this.#clock.monotonicMs();
    const forMs = this.#still.look(untilMs);
    if (forMs > 0) this.#stood.push({ untilMs, forMs });
  }

  /**
   * @param runStartedMs when the run began for the agent; absent: now
   * @returns the longest time that it stood still for since then, milliseconds; before it nothing was late
   */
  end(runStartedMs = Number.POSITIVE_INFINITY): number {
    this.#timer.cancel();
    // The order to start may be read before the timer that is overdue.
    this.#look();
    return this.#stood.reduce(
      (longest, { untilMs, forMs }) => Math.max(longest, Math.min(forMs, untilMs - runStartedMs)),
      0,
    );
  }
}

/** The load of this process. */
class HolderLoad {
  readonly #clock: Clock;
  readonly #observer: PerformanceObserver;
  #gcMs = 0;
  #rampFrom: Reading | null = null;
  #holdFrom: Reading | null = null;
  #rampLoad: PhaseLoad = NO_LOAD;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) this.#gcMs += entry.duration;
    });
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** Milliseconds that collections of garbage took since the start. */
  get gcMs(): number {
    return this.#gcMs;
  }

  rampBegins(): void {
    this.#rampFrom = this.#read();
  }

  /** Nothing is left to open: what comes is waiting for others, or holding. Once. */
  rampEnds(): void {
    if (this.#rampFrom === null || this.#rampLoad !== NO_LOAD) return;
    this.#rampLoad = loadBetween(this.#rampFrom, this.#read());
  }

  holdBegins(): void {
    this.rampEnds();
    this.#holdFrom ??= this.#read();
  }

  get ramp(): PhaseLoad {
    if (this.#rampFrom === null) return NO_LOAD;
    return this.#rampLoad === NO_LOAD ? loadBetween(this.#rampFrom, this.#read()) : this.#rampLoad;
  }

  get hold(): PhaseLoad {
    return this.#holdFrom === null ? NO_LOAD : loadBetween(this.#holdFrom, this.#read());
  }

  /** Since the start; null where the kernel keeps no account (CONFIG_SCHED_INFO). */
  get cpuWaitMs(): number | null {
    return coreWaitMs('/proc', 'self');
  }

  end(): void {
    this.#observer.disconnect();
  }

  #read(): Reading {
    const { user, system } = process.cpuUsage();
    return {
      atMs: this.#clock.monotonicMs(),
      cpuMs: (user + system) / 1_000,
      waitMs: coreWaitMs('/proc', 'self') ?? 0,
    };
  }
}

function loadBetween(from: Reading, to: Reading): PhaseLoad {
  return {
    wallMs: to.atMs - from.atMs,
    cpuMs: to.cpuMs - from.cpuMs,
    waitMs: Math.max(0, to.waitMs - from.waitMs),
  };
}
