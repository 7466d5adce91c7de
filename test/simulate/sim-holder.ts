/**
 * Owns a holder in a simulation: it says on its pipe what a holder says (src/agent/process-pipe.ts), keeps to its lease and its
 * share, and opens connections in the world instead of the kernel. Must never know more of the run than its agent has said.
 */
import { EventEmitter } from 'node:events';
import type { AgentToHolder, HolderToAgent } from '../../src/agent/process-pipe.ts';
import { DropReason, FailReason } from '../../src/base/outcome.ts';
import { TupleMap } from '../../src/base/tuple-space.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { lossKey } from '../../src/stats/loss.ts';
import { emptyStats, type HolderHealth, newHolderHealth, type Stats } from '../../src/stats/stats.ts';
import type { Due, SimProcess } from './virtual-time.ts';
import type { ConnectAnswer, World } from './world.ts';

const LOOK_EVERY_MS = 25;
/** Connects begun at one look, where no rate says fewer. */
const AT_ONCE_MAX = 40;
/** A source that is gone is not tried again and again at one moment. */
const UNBOUND_AGAIN_MS = 200;
const PIPE_MS_MAX = 1;
const WARM_UP_MS_MAX = 60;

/** The agent's end of a holder: what the pool knows of a `ChildProcess`. */
export class SimChild extends EventEmitter {
  readonly pid: number;
  readonly #holder: SimHolder;
  readonly #parent: SimProcess;
  readonly #world: World;
  #lastMs = 0;
  connected = true;
  exitCode: number | null = null;
  signalCode: string | null = null;

  constructor(world: World) {
    super();
    this.#world = world;
    this.#parent = world.time.current;
    this.pid = world.nextPid();
    this.#holder = new SimHolder(world, this.#parent, (message) =>
      this.#fromHolder(() => this.emit('message', message)),
    );
    this.#holder.process.onDeath.push(() => this.#ended());
    this.#parent.onDeath.push(() => this.#holder.process.die());
  }

  #fromHolder(call: () => void): void {
    const { time, random } = this.#world;
    // A pipe keeps the order.
    this.#lastMs = Math.max(this.#lastMs, time.nowMs + random.between(0, PIPE_MS_MAX));
    time.at(this.#lastMs, this.#parent, call);
  }

  #ended(): void {
    const { how } = this.#holder;
    // What was on the pipe comes first.
    this.#fromHolder(() => {
      this.connected = false;
      if (how === 'left') this.exitCode = 0;
      else this.signalCode = how;
      this.emit('exit', this.exitCode, this.signalCode);
    });
  }

  send(message: AgentToHolder): boolean {
    this.#world.time.after(PIPE_MS_MAX, this.#holder.process, () => this.#holder.take(message));
    return true;
  }

  kill(signal: string): boolean {
    this.#holder.killBy(signal);
    return true;
  }

  disconnect(): void {
    this.connected = false;
    this.#world.time.after(PIPE_MS_MAX, this.#holder.process, () => this.#holder.leave());
  }
}

/** A connect in flight. */
interface Begun {
  readonly name: string;
  readonly index: number;
  /** in place of a lost connection */
  readonly isAgain: boolean;
}

/** One holder. */
export class SimHolder {
  readonly process: SimProcess;
  readonly parent: SimProcess;
  /** how its process ended, or is to end */
  how: string = 'SIGKILL';
  readonly #world: World;
  readonly #say: (message: HolderToAgent) => void;
  #spec: HolderSpec | null = null;
  #map: TupleMap | null = null;
  #health: HolderHealth = newHolderHealth('', 0, 0);
  #counts = emptyStats();
  /** open ones: tuple index by its name */
  readonly #open = new Map<string, number>();
  /** how many of them each source address has */
  readonly #openBySource = new Map<string, number>();
  /** in flight, by the name of the tuple */
  readonly #begun = new Map<string, Begun>();
  readonly #free: number[] = [];
  #nextTuple = 0;
  #toBegin = 0;
  #toReopen = 0;
  #pending = 0;
  #isStarted = false;
  #isHolding = false;
  #isReady = false;
  #isClosing = false;
  #mayReopen = true;
  #ratePerSec: number | null = null;
  #pendingMax = 1;
  #credit = 1;
  #lookedMs = 0;
  #openUntilMs = Number.POSITIVE_INFINITY;
  #leaseTimer: Due | null = null;
  #lookAgain: Due | null = null;
  #firstMs = 0;
  #hasBegun = false;
  #wasSettled = false;
  #isInTurns = false;

  constructor(world: World, parent: SimProcess, say: (message: HolderToAgent) => void) {
    this.#world = world;
    this.parent = parent;
    this.process = world.spawn(`holder ${world.nextPid()} of ${parent.name}`, parent.host);
    this.#say = say;
    world.holders.push(this);
    this.process.onDeath.push(() => this.#closeAll());
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
    return this.#open.size;
  }

  #after(ms: number, call: () => void): Due {
    return this.#world.time.after(ms, this.process, call, true);
  }

  get #nowMs(): number {
    return this.#world.clockOf(this.process.host).monotonicMs();
  }

  take(message: AgentToHolder): void {
    switch (message.type) {
      case 'open':
        this.#warm(message.spec);
        break;
      case 'start':
        this.#isInTurns = message.inTurns === true;
        this.#start();
        break;
      case 'report':
        this.#report(message.id, message.wantsTuples);
        break;
      case 'lease':
        this.#openUntilMs = message.openUntilMs;
        this.#liveUntil(message.liveUntilMs);
        this.#look();
        break;
      case 'pace':
        this.#ratePerSec = message.ratePerSec;
        this.#pendingMax = message.pendingMax;
        this.#look();
        break;
      case 'stop-opening':
        this.#stopOpening();
        break;
      case 'hold':
        this.#isHolding = true;
        this.#set({ openAtHold: this.#open.size, openMin: this.#open.size });
        break;
      case 'check':
        if (message.which === 'holdEnd') this.#mayReopen = false;
        this.#after(this.#world.random.between(1, 40), () => {
          this.#report(null, false);
          this.#say({ type: 'checked', which: message.which });
        });
        break;
      case 'lose-sources': {
        const lost = new Set(message.addresses);
        this.#loseThose(
          DropReason.aliasLost,
          [...this.#open].filter(([name]) => lost.has(sourceOf(name))),
        );
        break;
      }
      case 'stop':
        this.#stop();
        break;
    }
  }

  #warm(spec: HolderSpec): void {
    this.#spec = spec;
    this.#map = new TupleMap(spec);
    this.#health = newHolderHealth(spec.id, this.#world.nextPid(), spec.sliceTo - spec.sliceFrom);
    this.#nextTuple = spec.sliceFrom;
    this.#toBegin = spec.connections;
    this.#ratePerSec = spec.ratePerSec;
    this.#pendingMax = spec.pendingMax;
    this.#after(this.#world.random.between(1, WARM_UP_MS_MAX), () => {
      this.#isReady = true;
      this.#say({ type: 'ready' });
      this.#look();
    });
  }

  #start(): void {
    if (this.#spec === null || this.#isStarted) return;
    this.#isStarted = true;
    this.#lookedMs = this.#nowMs;
    this.#firstMs = this.#nowMs;
    const everyMs = this.#spec.reportEveryMs ?? 1_000;
    const again = (): void => {
      this.#after(everyMs, () => {
        this.#report(null, false);
        again();
      });
    };
    again();
    this.#look();
  }

  /** Begins what the rate, the pending cap and the lease allow, and looks again when they may allow more. */
  #look(): void {
    if (this.#lookAgain !== null) this.#lookAgain.isCancelled = true;
    this.#lookAgain = null;
    if (this.#isClosing || !this.#isStarted) return;
    const nowMs = this.#nowMs;
    const mayOpen = this.#isReady && nowMs < this.#openUntilMs;
    const earned =
      this.#ratePerSec === null ? AT_ONCE_MAX : (this.#ratePerSec * (nowMs - this.#lookedMs)) / 1_000;
    this.#credit = Math.min(AT_ONCE_MAX, this.#credit + earned);
    this.#lookedMs = nowMs;
    const wanted = this.#toBegin + this.#toReopen;
    const room = Math.min(wanted, Math.floor(this.#credit), this.#pendingMax - this.#pending);
    if (mayOpen && room > 0) this.#connect(room);
    // A renewed lease, another pace, an answer and a loss each make it look.
    if (!mayOpen || this.#toBegin + this.#toReopen === 0 || this.#pending >= this.#pendingMax) return;
    const perMs = this.#ratePerSec === null ? 1 : this.#ratePerSec / 1_000;
    const earnedInMs = (1 - this.#credit) / perMs;
    this.#lookAgain = this.#after(Math.max(LOOK_EVERY_MS, earnedInMs), () => this.#look());
  }

  #tuple(): { name: string; index: number } | null {
    const map = this.#map;
    const spec = this.#spec;
    if (map === null || spec === null) return null;
    for (;;) {
      const index = this.#free.pop() ?? (this.#nextTuple < spec.sliceTo ? this.#nextTuple++ : null);
      if (index === null) return null;
      const name = `${spec.addresses[map.addressIndexAt(index)]}:${map.portAt(index)} ${map.endpointIndexAt(index)}`;
      const owner = this.#world.host(this.process.host).tuples.get(name);
      // The kernel gives no tuple of another agent's. Of one of the same agent the plan is to blame.
      if (owner === undefined || owner.parent === this.parent) return { index, name };
      const skips = this.#counts.localSkips;
      this.#set({ localSkips: { ...skips, 'port-in-use': (skips['port-in-use'] ?? 0) + 1 } });
    }
  }

  #connect(count: number): void {
    const { random } = this.#world;
    const answer = this.#world.host(this.process.host).connects ?? this.#world.connects;
    const begun: Begun[] = [];
    for (let left = count; left > 0; left -= 1) {
      const tuple = this.#tuple();
      if (tuple === null) break;
      const isAgain = this.#toBegin === 0;
      if (isAgain) this.#toReopen -= 1;
      else this.#toBegin -= 1;
      begun.push({ ...tuple, isAgain });
    }
    this.#credit -= begun.length;
    this.#pending += begun.length;
    this.#set({ attempted: this.#counts.attempted + begun.length });
    for (const each of begun) {
      this.#begun.set(each.name, each);
      this.#world.opened(this, each.name);
    }
    const takesMs =
      answer === 'timeout'
        ? (this.#spec?.connectTimeoutMs ?? 0)
        : random.between(0.1, this.#world.connectMsMax);
    const { ip } = this.#world.host(this.process.host);
    // What has no address of this host to be bound to fails before it is on its way.
    const unbound = begun.filter(({ name }) => !ip.has(sourceOf(name)));
    if (unbound.length > 0)
      this.#after(UNBOUND_AGAIN_MS, () => this.#answered(unbound, FailReason.sourceLost));
    const bound = unbound.length === 0 ? begun : begun.filter((each) => !unbound.includes(each));
    if (bound.length > 0) this.#after(takesMs, () => this.#answered(bound, answer));
    if (this.#toBegin === 0 && !this.#hasBegun) {
      this.#hasBegun = true;
      if (this.#isInTurns) [this.#ratePerSec, this.#pendingMax] = [0, 0];
      this.#report(null, false);
    }
  }

  #answered(asked: readonly Begun[], answer: ConnectAnswer): void {
    if (this.#isClosing) return;
    const begun = asked.filter((each) => this.#begun.get(each.name) === each);
    this.#pending -= begun.length;
    for (const { name } of begun) this.#begun.delete(name);
    const again = begun.filter(({ isAgain }) => isAgain).length;
    if (answer === 'established') {
      for (const { name, index } of begun) {
        this.#open.set(name, index);
        this.#counted(name, 1);
      }
      const { established, reopened } = this.#counts;
      this.#set({
        established: established + begun.length,
        reopened: reopened + again,
        rampMs: this.#isHolding ? this.#counts.rampMs : this.#nowMs - this.#firstMs,
      });
    } else {
      const reason: FailReason = answer;
      for (const { name, index } of begun) this.#freed(name, index);
      this.#toReopen += again;
      const failed = { ...this.#counts.failed };
      const firsts = begun.length - again;
      if (firsts > 0) failed[reason] = (failed[reason] ?? 0) + firsts;
      const { attempted, reopenFailed } = this.#counts;
      this.#set({ failed, attempted: attempted - again, reopenFailed: reopenFailed + again });
    }
    this.#settle();
    this.#look();
  }

  #counted(name: string, change: 1 | -1): void {
    const source = sourceOf(name);
    this.#openBySource.set(source, (this.#openBySource.get(source) ?? 0) + change);
  }

  #freed(name: string, index: number): void {
    this.#free.unshift(index);
    this.#world.closed(this, name);
  }

  /** The target, or the way, ends some of its connections. */
  loseSome(count: number): void {
    if (this.#isClosing || this.process.state === 'dead') return;
    this.#loseThose(DropReason.rst, [...this.#open].slice(0, count));
  }

  #loseThose(reason: DropReason, lost: readonly [string, number][]): void {
    for (const [name, index] of lost) {
      this.#open.delete(name);
      this.#counted(name, -1);
      this.#freed(name, index);
    }
    if (lost.length === 0) return;
    const { dropped, droppedBy } = this.#counts;
    const by = { ...droppedBy };
    for (const [name] of lost) {
      const key = lossKey(reason, sourceOf(name), ENDPOINT);
      by[key] = (by[key] ?? 0) + 1;
    }
    this.#set({ dropped: { ...dropped, [reason]: (dropped[reason] ?? 0) + lost.length }, droppedBy: by });
    if (this.#spec?.onDrop === 'reopen' && this.#isHolding && this.#mayReopen) this.#toReopen += lost.length;
    if (this.#isHolding) this.#set({ openMin: Math.min(this.#counts.openMin, this.#open.size) });
    this.#look();
  }

  /** As the engine does: connects in flight are given up too. */
  #stopOpening(): void {
    const inFlight = [...this.#begun.values()];
    const firsts = inFlight.filter(({ isAgain }) => !isAgain).length;
    const { attempted, unattempted } = this.#counts;
    this.#set({
      attempted: attempted - inFlight.length,
      unattempted: unattempted + this.#toBegin + firsts,
    });
    this.#begun.clear();
    this.#pending = 0;
    this.#toBegin = 0;
    this.#toReopen = 0;
    for (const { name, index } of inFlight) this.#freed(name, index);
    if (this.#isStarted) this.#settle();
  }

  get #isSettled(): boolean {
    return this.#isStarted && this.#toBegin === 0 && this.#pending === 0;
  }

  #settle(): void {
    if (this.#wasSettled || !this.#isSettled) return;
    this.#wasSettled = true;
    this.#report(null, false);
  }

  #set(change: Partial<Stats>): void {
    this.#counts = { ...this.#counts, ...change };
  }

  #stats(): Stats {
    const bySource: Record<string, number> = {};
    for (const [source, count] of this.#openBySource) if (count > 0) bySource[source] = count;
    const open = this.#open.size;
    return {
      ...this.#counts,
      open,
      pending: this.#pending,
      openBySource: bySource,
      openByEndpoint: open === 0 ? {} : { [ENDPOINT]: open },
    };
  }

  #openTuples(): string {
    const { sliceFrom, sliceTo } = this.#spec ?? { sliceFrom: 0, sliceTo: 0 };
    const bits = Buffer.alloc(Math.ceil(Math.min(sliceTo - sliceFrom, 4_096) / 8));
    for (const index of this.#open.values()) {
      const at = index - sliceFrom;
      bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
    }
    return bits.toString('base64');
  }

  #report(answers: number | null, wantsTuples: boolean): void {
    if (this.#isClosing || this.#spec === null) return;
    this.#say({
      type: 'stats',
      stats: this.#stats(),
      health: this.#health,
      settled: this.#isSettled,
      answers,
      openTuples: wantsTuples ? this.#openTuples() : null,
      begun: this.#toBegin === 0,
      ramp: null,
    });
  }

  #liveUntil(atMs: number): void {
    if (this.#leaseTimer !== null) this.#leaseTimer.isCancelled = true;
    this.#leaseTimer = this.#after(atMs - this.#nowMs, () => this.leave());
  }

  #stop(): void {
    if (this.#isClosing) return;
    this.#stopOpening();
    const stats = this.#stats();
    this.#isClosing = true;
    const { open } = stats;
    this.#closeAll();
    const done: HolderToAgent = {
      type: 'done',
      stats: {
        ...stats,
        open: 0,
        closed: stats.closed + open,
        openBySource: {},
        openByEndpoint: {},
      },
      health: this.#health,
      ramp: null,
    };
    this.#after(this.#world.random.between(0.5, 20), () => {
      this.#say(done);
      this.leave();
    });
  }

  #closeAll(): void {
    for (const name of [...this.#open.keys(), ...this.#begun.keys()]) this.#world.closed(this, name);
    this.#open.clear();
    this.#openBySource.clear();
    this.#begun.clear();
    this.#isClosing = true;
  }
}

const ENDPOINT = '127.0.0.1:8000';

/** The address in a tuple's name. */
function sourceOf(name: string): string {
  return name.slice(0, name.lastIndexOf(':'));
}
