/**
 * Owns a holder in a simulation: it says on its pipe what a holder says (src/agent/process-pipe.ts), keeps to its lease and its
 * share, and opens connections in the world instead of the kernel. Must never know more of the run than its agent has said.
 */
import type { AgentToHolder, Checked, HolderToAgent } from '../../src/agent/process-pipe.ts';
import type { Clock } from '../../src/base/clock.ts';
import { DropReason } from '../../src/base/outcome.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { type HolderHealth, newHolderHealth } from '../../src/stats/stats.ts';
import { SimConnections } from './sim-connections.ts';
import type { Due, SimProcess } from './virtual-time.ts';
import type { World } from './world.ts';

const LOOK_EVERY_MS = 25;
/** A load that changes is followed in steps. */
const FOLLOW_EVERY_MS = 80;
/** Connects that may be due at one moment, where no rate says fewer. */
const AT_ONCE_MAX = 40;
const WARM_UP_MS_MAX = 60;

/** One holder. */
export class SimHolder {
  readonly process: SimProcess;
  readonly parent: SimProcess;
  /** the run that it works for (world.ts) */
  readonly run: number;
  /** how its process ended, or is to end */
  how: string = 'SIGKILL';
  readonly #world: World;
  readonly #clock: Clock;
  readonly #say: (message: HolderToAgent) => void;
  /** null: it does not know yet what to open */
  connections: SimConnections | null = null;
  #health: HolderHealth = newHolderHealth('', 0, 0);
  /** its 0 on the host's clock */
  #originMs = 0;
  #runAtOriginMs = 0;
  #isStarted = false;
  #isReady = false;
  #isClosing = false;
  #ratePerSec: number | null = null;
  #credit = 1;
  #lookedMs = 0;
  #openUntilMs = Number.POSITIVE_INFINITY;
  #leaseTimer: Due | null = null;
  #lookAgain: Due | null = null;
  #isLooking = false;
  #hasBegun = false;
  #wasSettled = false;
  #isInTurns = false;
  isFrozen = false;
  #isFreezing = false;

  constructor(world: World, parent: SimProcess, say: (message: HolderToAgent) => void) {
    this.#world = world;
    this.parent = parent;
    this.run = parent.run;
    this.process = world.spawn(`holder ${world.nextPid()} of ${parent.name}`, parent.host);
    this.process.run = parent.run;
    this.#clock = world.clockOf(parent.host);
    this.#say = say;
    world.holders.push(this);
    this.process.onDeath.push(() => this.#closeAll(false));
  }

  /** Ends as a signal ends a process: immediately, and stopped or not. */
  killBy(signal: string): void {
    this.how = signal;
    this.process.die();
  }

  leave(): void {
    this.how = 'left';
    this.process.die();
  }

  get openNow(): number {
    return this.connections?.open.size ?? 0;
  }

  /** Milliseconds since the run began, by its own clock; null: it has not begun, or closes. */
  get runAtMs(): number | null {
    return !this.#isStarted || this.#isClosing ? null : this.sinceStartMs() + this.#runAtOriginMs;
  }

  /** The same; null also where it follows no line any more, from when it is told so: what is on its way then comes through. */
  get lineAtMs(): number | null {
    return this.isFrozen || this.#isFreezing ? null : this.runAtMs;
  }

  after(ms: number, call: () => void): Due {
    return this.#world.time.after(
      ms,
      this.process,
      () => {
        if (!this.#isClosing) call();
      },
      true,
    );
  }

  get #nowMs(): number {
    return this.#clock.monotonicMs();
  }

  sinceStartMs(): number {
    return this.#isStarted ? this.#nowMs - this.#originMs : 0;
  }

  mayOpen(): boolean {
    return this.#isReady && this.#nowMs < this.#openUntilMs;
  }

  take(message: AgentToHolder): void {
    const { connections } = this;
    switch (message.type) {
      case 'open':
        this.#warm(message.spec);
        break;
      case 'start':
        this.#isInTurns = message.inTurns === true;
        this.#start(message.runStartedMs, message.elapsedMs ?? 0);
        break;
      case 'report':
        this.#report(message.id, message.wantsTuples);
        break;
      case 'lease':
        this.#openUntilMs = message.openUntilMs;
        this.#liveUntil(message.liveUntilMs);
        this.look();
        break;
      case 'pace':
        this.#ratePerSec = message.ratePerSec;
        if (connections !== null) connections.pendingMax = message.pendingMax;
        this.look();
        break;
      case 'stop-opening':
        connections?.giveUp();
        if (this.#isStarted) this.look();
        break;
      case 'hold':
        connections?.tally.markHold();
        connections?.load?.holds(this.sinceStartMs());
        this.look();
        break;
      case 'freeze':
        connections?.load?.freeze(this.sinceStartMs());
        this.#isFreezing = true;
        if (this.#isStarted) this.look();
        else this.#checked('freeze');
        break;
      case 'check':
        if (message.which === 'holdEnd' && connections !== null) connections.mayReopen = false;
        this.after(this.#world.random.between(1, 40), () => this.#checked(message.which));
        break;
      case 'lose-sources':
        connections?.loseSources(new Set(message.addresses));
        break;
      case 'stop':
        this.#stop();
        break;
    }
  }

  #checked(which: Checked): void {
    this.#report(null, false);
    this.#say({ type: 'checked', which });
  }

  #warm(spec: HolderSpec): void {
    this.connections = new SimConnections(this.#world, this, spec);
    this.#health = newHolderHealth(spec.id, this.#world.nextPid(), spec.sliceTo - spec.sliceFrom);
    this.#ratePerSec = spec.ratePerSec;
    this.after(this.#world.random.between(1, WARM_UP_MS_MAX), () => {
      this.#isReady = true;
      this.#say({ type: 'ready' });
      this.look();
    });
  }

  #start(runStartedMs: number | undefined, elapsedMs: number): void {
    const { connections } = this;
    if (connections === null || this.#isStarted) return;
    const { load, losses, spec } = connections;
    this.#isStarted = true;
    this.#originMs = this.#nowMs;
    const laterMs = this.#originMs - (runStartedMs ?? this.#originMs);
    this.#runAtOriginMs = laterMs + elapsedMs;
    losses.startsLater(laterMs);
    load?.begin(this.#runAtOriginMs);
    const everyMs = spec.reportEveryMs ?? 1_000;
    const again = (): void => {
      this.after(everyMs, () => {
        this.#report(null, false);
        again();
      });
    };
    again();
    this.look();
  }

  /** One turn of an engine; again when something is due. */
  look(): void {
    // What closes or loses a connection within a turn is a part of it.
    if (this.#isClosing || !this.#isStarted || this.#isLooking) return;
    this.#isLooking = true;
    if (this.#lookAgain !== null) this.#lookAgain.isCancelled = true;
    this.#lookAgain = null;
    if (this.connections !== null) this.#turn(this.connections);
    this.#isLooking = false;
  }

  #turn(connections: SimConnections): void {
    const nowMs = this.sinceStartMs();
    const { load } = connections;
    load?.turn(nowMs, !connections.isOpening);
    this.#earn(nowMs);
    const mayOpen = this.mayOpen();
    if (mayOpen && connections.due > 0) this.#credit -= connections.begin(Math.floor(this.#credit));
    this.#checkFrozen(connections, nowMs);
    if (connections.hasBegunAll && !this.#hasBegun && this.#isReady) {
      this.#hasBegun = true;
      if (this.#isInTurns) [this.#ratePerSec, connections.pendingMax] = [0, 0];
      this.#report(null, false);
    }
    this.#settle(connections);
    const againMs = Math.min(this.#openAgainMs(connections, mayOpen), this.#loadAgainMs(connections, nowMs));
    if (Number.isFinite(againMs)) this.#lookAgain = this.after(againMs, () => this.look());
  }

  #earn(nowMs: number): void {
    const earned =
      this.#ratePerSec === null ? AT_ONCE_MAX : (this.#ratePerSec * (nowMs - this.#lookedMs)) / 1_000;
    this.#credit = Math.min(AT_ONCE_MAX, this.#credit + earned);
    this.#lookedMs = nowMs;
  }

  /** A renewed lease, another pace, an answer and a loss each make it look, too. */
  #openAgainMs({ due, tally, pendingMax }: SimConnections, mayOpen: boolean): number {
    if (!mayOpen || due === 0 || tally.pending >= pendingMax || this.#ratePerSec === 0)
      return Number.POSITIVE_INFINITY;
    const perMs = this.#ratePerSec === null ? 1 : this.#ratePerSec / 1_000;
    return Math.max(LOOK_EVERY_MS, (1 - this.#credit) / perMs);
  }

  #loadAgainMs({ load }: SimConnections, nowMs: number): number {
    if (load === null) return Number.POSITIVE_INFINITY;
    return Math.max(FOLLOW_EVERY_MS, load.nextAtMs(nowMs) - nowMs);
  }

  #checkFrozen(connections: SimConnections, nowMs: number): void {
    if (!this.#isFreezing || connections.isOpening || connections.load?.hasStopped(nowMs) === false) return;
    this.#isFreezing = false;
    this.isFrozen = true;
    this.#checked('freeze');
  }

  #settle(connections: SimConnections): void {
    if (this.#wasSettled || connections.isOpening || !this.#isReady) return;
    // A line that begins at 0 has nothing on its way at first.
    if (connections.load?.isByLine === true && !connections.tally.isHolding) return;
    this.#wasSettled = true;
    this.#report(null, false);
  }

  /** The target, or the way, ends some of its connections. */
  loseSome(count: number): void {
    if (this.#isClosing || this.process.state === 'dead') return;
    const { connections } = this;
    connections?.lose(DropReason.rst, [...connections.open.values()].slice(0, count));
  }

  /** Another host resets those whose address it has. */
  loseWhere(isMeant: (name: string) => boolean): void {
    if (this.#isClosing || this.process.state === 'dead') return;
    const { connections } = this;
    connections?.lose(
      DropReason.rst,
      [...connections.open.values()].filter(({ name }) => isMeant(name)),
    );
  }

  #report(answers: number | null, wantsTuples: boolean): void {
    const { connections } = this;
    if (this.#isClosing || connections === null) return;
    this.#say({
      type: 'stats',
      stats: connections.stats(),
      health: this.#health,
      settled: this.#wasSettled,
      answers,
      openTuples: wantsTuples ? connections.openTuples() : null,
      begun: this.#hasBegun,
      ramp: null,
    });
  }

  #liveUntil(atMs: number): void {
    if (this.#leaseTimer !== null) this.#leaseTimer.isCancelled = true;
    this.#leaseTimer = this.after(atMs - this.#nowMs, () => this.leave());
  }

  #stop(): void {
    const { connections } = this;
    if (this.#isClosing) return;
    if (connections === null) {
      this.leave();
      return;
    }
    connections.giveUp();
    this.#world.closing(this);
    this.#closeAll(true);
    const done: HolderToAgent = {
      type: 'done',
      stats: connections.stats(),
      health: this.#health,
      ramp: null,
    };
    this.#world.time.after(this.#world.random.between(0.5, 20), this.process, () => {
      this.#say(done);
      this.leave();
    });
  }

  #closeAll(isCounted: boolean): void {
    this.#isClosing = true;
    this.connections?.closeAll(isCounted);
  }
}
