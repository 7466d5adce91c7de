/**
 * Owns the connections of one simulated holder: which are begun, open, lost and opened again, in the world instead of the kernel. What it
 * counts, and how a load changes, are the program's own (engine/tally.ts, load-follower.ts). Must never speak to an agent.
 */
import { DropReason, FailReason, SkipReason } from '../../src/base/outcome.ts';
import { TupleMap } from '../../src/base/tuple-space.ts';
import { Backlog } from '../../src/engine/backlog.ts';
import { OpenStep, openOutcomeOf } from '../../src/engine/drivers/driver.ts';
import { LoadFollower } from '../../src/engine/load-follower.ts';
import { LossLedger } from '../../src/engine/loss-ledger.ts';
import type { Opener } from '../../src/engine/opener.ts';
import { Tally } from '../../src/engine/tally.ts';
import { IMMEDIATE, reopenWaitMs, TRIES_MAX } from '../../src/run/reopen-policy.ts';
import { type HolderSpec, isChanging } from '../../src/run/run-spec.ts';
import { ShareOfLine } from '../../src/run/schedule.ts';
import type { Stats } from '../../src/stats/stats.ts';
import { Answer, type ConnectAnswer } from './answers.ts';
import type { SimHolder } from './sim-holder.ts';
import type { World } from './world.ts';

/** A source that is gone is not tried again and again at one moment. */
const UNBOUND_AGAIN_MS = 200;
/** A tuple that was in use rests. */
const REST_MS = 1_000;
/** One that was opened again and is lost within this has not come back (engine/connections.ts). */
const SHORT_MS = 1_000;
/** Connects begun at one look, where no rate says fewer. */
const AT_ONCE_MAX = 40;

/** Stands in for none. */
const NEW = -1;

/** One connection, on its way or open. */
export interface SimConnection {
  readonly name: string;
  /** of its tuple */
  readonly index: number;
  /** how many tries have failed since the connection was lost that it stands in for; NEW: for none */
  readonly tries: number;
  /** while it is open */
  slot: number;
  openedMs: number;
}

/** The connections of one quota. */
export class SimConnections {
  readonly spec: HolderSpec;
  readonly tally: Tally;
  readonly load: LoadFollower | null;
  readonly open = new Map<string, SimConnection>();
  readonly begun = new Map<string, SimConnection>();
  readonly losses: LossLedger;
  mayReopen = true;
  pendingMax: number;
  readonly #world: World;
  readonly #holder: SimHolder;
  readonly #map: TupleMap;
  readonly #backlog: Backlog;
  readonly #bySlot: (SimConnection | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #freeTuples: number[] = [];
  readonly #resting: { readonly index: number; readonly untilMs: number }[] = [];
  #nextTuple: number;
  #line: ShareOfLine | null = null;
  #comingBack = 0;
  /** another number: what waited to be opened again is forgotten */
  #waits = 0;

  constructor(world: World, holder: SimHolder, spec: HolderSpec) {
    this.#world = world;
    this.#holder = holder;
    this.spec = spec;
    this.#map = new TupleMap(spec);
    this.tally = new Tally(spec);
    this.losses = new LossLedger(spec, this.#map);
    this.#backlog = new Backlog(spec.stages === undefined ? spec.connections : 0);
    this.#nextTuple = spec.sliceFrom;
    this.pendingMax = spec.pendingMax;
    for (let slot = Math.max(1, spec.connections) - 1; slot >= 0; slot -= 1) this.#freeSlots.push(slot);
    this.load = isChanging(spec) ? this.#makeLoad() : null;
  }

  #makeLoad(): LoadFollower {
    const asked = {
      ask: (count: number) => this.#backlog.grow(count),
      askLess: (count: number) => {
        const less = Math.min(count, this.#backlog.fresh);
        this.#backlog.grow(-less);
        return less;
      },
    };
    const comingBack = (): number => this.#comingBack;
    const hasRoom = (): boolean =>
      this.#backlog.size < this.pendingMax - this.tally.pending && this.#holder.mayOpen();
    const opener = {
      ...asked,
      get comingBack() {
        return comingBack();
      },
      get hasRoom() {
        return hasRoom();
      },
    };
    return new LoadFollower(this.spec, {
      capacity: Math.max(1, this.spec.connections),
      tally: this.tally,
      // Of an opener it asks for no more.
      opener: opener as unknown as Opener,
      salt: this.#world.random.whole(1, 2 ** 31),
      close: (slot) => this.#closeInRun(slot),
    });
  }

  /** What its share is of so many connections of the run. */
  askedOf(connections: number): number {
    this.#line ??= new ShareOfLine(
      this.spec.stages ?? [],
      this.spec.shares ?? [{ from: 0, to: this.spec.connections }],
    );
    return this.#line.of(connections);
  }

  /** Connections that are due to be begun. */
  get due(): number {
    return this.#backlog.size;
  }

  get hasBegunAll(): boolean {
    return !this.#backlog.hasNew;
  }

  get isOpening(): boolean {
    return this.#backlog.size > 0 || this.tally.pending > 0;
  }

  /** Begins up to so many. @returns how many it were */
  begin(count: number): number {
    const begun: SimConnection[] = [];
    const room = Math.min(count, AT_ONCE_MAX, this.#backlog.size, this.pendingMax - this.tally.pending);
    for (let left = room; left > 0; left -= 1) {
      const tuple = this.#tuple();
      if (tuple === null) {
        this.#failUnopened(FailReason.sourceExhausted, this.#backlog.size);
        break;
      }
      begun.push({ ...tuple, tries: this.#backlog.take(), slot: -1, openedMs: 0 });
    }
    const { tally } = this;
    tally.attempted += begun.length;
    tally.pending += begun.length;
    if (begun.length > 0 && tally.firstConnectAtMs < 0) tally.firstConnectAtMs = this.#holder.sinceStartMs();
    for (const each of begun) {
      this.begun.set(each.name, each);
      this.#world.begun(this.#holder, each.name);
    }
    if (begun.length > 0) this.#send(begun);
    return begun.length;
  }

  #tuple(): { name: string; index: number } | null {
    const { spec } = this;
    const nowMs = this.#holder.sinceStartMs();
    for (;;) {
      let index = this.#freeTuples.pop();
      if (index === undefined && this.#nextTuple < spec.sliceTo) index = this.#nextTuple++;
      if (index === undefined && (this.#resting[0]?.untilMs ?? Number.POSITIVE_INFINITY) <= nowMs)
        index = this.#resting.shift()?.index;
      if (index === undefined) return null;
      const address = spec.addresses[this.#map.addressIndexAt(index)];
      const name = `${address}:${this.#map.portAt(index)} ${this.#map.endpointIndexAt(index)}`;
      const owner = this.#world.ownerOf(this.#holder.process.host, name);
      // The kernel gives no tuple of another agent's. Of one of the same agent the plan is to blame.
      if (owner === undefined || owner.parent === this.#holder.parent) return { index, name };
      this.tally.skipped(SkipReason.portInUse);
      this.#resting.push({ index, untilMs: nowMs + REST_MS });
    }
  }

  #send(begun: readonly SimConnection[]): void {
    const { random } = this.#world;
    const host = this.#world.host(this.#holder.process.host);
    const { ip } = host;
    // What has no address of this host to be bound to fails before it is on its way.
    const unbound = ip.isChanged ? begun.filter(({ name }) => !ip.has(sourceOf(name))) : [];
    if (unbound.length > 0)
      this.#holder.after(UNBOUND_AGAIN_MS, () => this.#answered(unbound, Answer.sourceGone));
    let bound = unbound.length === 0 ? begun : begun.filter((each) => !unbound.includes(each));
    if (ip.answeredElsewhere.size > 0) {
      const lost = bound.filter(({ name }) => ip.answeredElsewhere.has(sourceOf(name)));
      bound = bound.filter((each) => !lost.includes(each));
      if (lost.length > 0)
        this.#holder.after(this.spec.connectTimeoutMs, () => this.#answered(lost, Answer.timedOut));
    }
    if (bound.length === 0) return;
    const answer = host.connects ?? this.#world.connects;
    const takesMs =
      answer.errno === Answer.timedOut.errno
        ? this.spec.connectTimeoutMs
        : random.between(0.1, this.#world.connectMsMax);
    this.#holder.after(takesMs, () => this.#answered(bound, answer));
  }

  #answered(asked: readonly SimConnection[], answer: ConnectAnswer): void {
    const begun = asked.filter((each) => this.begun.get(each.name) === each);
    if (begun.length === 0) return;
    this.load?.turnBegins(this.#holder.sinceStartMs());
    for (const each of begun) {
      this.begun.delete(each.name);
      if (answer.errno === 0) this.#opened(each);
      else this.#failed(each, answer);
    }
    this.#holder.look();
  }

  #opened(connection: SimConnection): void {
    const { tally, load } = this;
    const nowMs = this.#holder.sinceStartMs();
    const isReopened = connection.tries !== NEW;
    connection.slot = this.#freeSlots.pop() ?? 0;
    connection.openedMs = nowMs;
    this.#bySlot[connection.slot] = connection;
    this.open.set(connection.name, connection);
    const { index } = connection;
    tally.opened(this.#map.addressIndexAt(index), this.#map.endpointIndexAt(index), nowMs, isReopened);
    if (isReopened) this.#comingBack -= 1;
    load?.opened(connection.slot, nowMs);
    this.#world.established(this.#holder);
  }

  /** As engine/opener.ts and engine/connections.ts have it. */
  #failed(connection: SimConnection, { step, errno }: ConnectAnswer): void {
    const { tally } = this;
    const outcome = openOutcomeOf(step, errno);
    tally.pending -= 1;
    this.#world.closed(this.#holder, connection.name, 'failed');
    if (outcome.kind === 'skipped') {
      tally.skipped(outcome.skip);
      tally.attempted -= 1;
      this.#resting.push({ index: connection.index, untilMs: this.#holder.sinceStartMs() + REST_MS });
      this.#putBack(connection);
      return;
    }
    this.#freeTuples.unshift(connection.index);
    if (step === OpenStep.connect) {
      if (connection.tries === NEW) tally.failed(outcome.fail, 1);
      else {
        tally.attempted -= 1;
        this.#notReopened(connection.tries);
      }
      return;
    }
    tally.attempted -= 1;
    this.#putBack(connection);
    this.#failUnopened(outcome.fail, outcome.isFinal ? this.#backlog.size : 1);
  }

  #putBack({ tries }: SimConnection): void {
    this.#backlog.putBack(tries);
  }

  #failUnopened(reason: FailReason, count: number): void {
    let unopened = 0;
    for (let each = 0; each < count; each += 1) {
      const tries = this.#backlog.take();
      if (tries < 0) unopened += 1;
      else this.#notReopened(tries);
    }
    this.tally.attempted += unopened;
    if (unopened > 0) this.tally.failed(reason, unopened);
  }

  #notReopened(tries: number): void {
    this.tally.reopenFailed += 1;
    this.#wait(Math.min(TRIES_MAX, tries + 1));
  }

  #wait(tries: number): void {
    const waitMs = reopenWaitMs(this.spec.reopen ?? IMMEDIATE, tries, this.#world.random.next());
    if (waitMs === 0) {
      this.#backlog.reopen(tries);
      return;
    }
    const of = this.#waits;
    this.#holder.after(waitMs, () => {
      if (of !== this.#waits) return;
      this.#backlog.reopen(tries);
      this.#holder.look();
    });
  }

  /** These are lost, and opened again where that is wanted. */
  lose(reason: DropReason, lost: readonly SimConnection[]): void {
    const { tally } = this;
    const nowMs = this.#holder.sinceStartMs();
    for (const connection of lost) {
      const { index, tries, openedMs } = connection;
      const ageMs = nowMs - openedMs;
      tally.dropped(reason, this.#map.addressIndexAt(index), this.#map.endpointIndexAt(index), false);
      this.losses.add(reason, index, nowMs, { ageMs, isProbing: false, isAcked: false });
      this.#leave(connection, 'lost');
      this.#freeTuples.unshift(index);
      const mayReopen = this.mayReopen && (tally.isHolding || this.load?.isByLine === true);
      if (!mayReopen || this.spec.onDrop !== 'reopen') continue;
      this.#comingBack += 1;
      const wasShort = tries !== NEW && ageMs < SHORT_MS;
      const isPatient = (this.spec.reopen ?? IMMEDIATE).kind !== 'immediate';
      this.#wait(wasShort && isPatient ? Math.min(TRIES_MAX, tries + 1) : 0);
    }
    if (lost.length > 0) this.#holder.look();
  }

  /** What is bound to these addresses, or was to be. */
  loseSources(addresses: ReadonlySet<string>): void {
    this.lose(
      DropReason.aliasLost,
      [...this.open.values()].filter(({ name }) => addresses.has(sourceOf(name))),
    );
    const begun = [...this.begun.values()].filter(({ name }) => addresses.has(sourceOf(name)));
    this.#answered(begun, Answer.sourceGone);
  }

  #leave(connection: SimConnection, why: 'lost' | 'ours'): void {
    this.open.delete(connection.name);
    this.load?.left(connection.slot);
    this.#bySlot[connection.slot] = undefined;
    this.#freeSlots.push(connection.slot);
    this.#world.closed(this.#holder, connection.name, why);
  }

  #closeInRun(slot: number): void {
    const connection = this.#bySlot[slot];
    if (connection === undefined) throw new Error(`nothing is open in slot ${slot}`);
    const { index } = connection;
    this.tally.closedByUs(this.#map.addressIndexAt(index), this.#map.endpointIndexAt(index), false);
    this.#leave(connection, 'ours');
    this.#freeTuples.unshift(index);
  }

  /** As the engine does: connects in flight are given up too. */
  giveUp(): void {
    const { tally } = this;
    this.load?.stop();
    this.#comingBack = 0;
    this.#waits += 1;
    tally.unattempted += this.#backlog.clear();
    for (const connection of this.begun.values()) {
      tally.pending -= 1;
      tally.attempted -= 1;
      if (connection.tries === NEW) tally.unattempted += 1;
      this.#freeTuples.unshift(connection.index);
      this.#world.closed(this.#holder, connection.name, 'failed');
    }
    this.begun.clear();
  }

  /** The end of all: of the process, or of its work. @param isCounted it can still say so */
  closeAll(isCounted: boolean): void {
    for (const connection of this.begun.values()) this.#world.closed(this.#holder, connection.name, 'failed');
    this.begun.clear();
    for (const connection of [...this.open.values()]) {
      const { index } = connection;
      if (isCounted)
        this.tally.closedByUs(this.#map.addressIndexAt(index), this.#map.endpointIndexAt(index), false);
      this.#leave(connection, isCounted ? 'ours' : 'lost');
    }
  }

  stats(): Stats {
    const stats = this.tally.stats(this.losses);
    return this.load === null ? stats : { ...stats, load: this.load.counts() };
  }

  /** Which tuples of the slice are open: base64 of one bit for each, the first one lowest. */
  openTuples(): string {
    const { sliceFrom } = this.spec;
    const bits = Buffer.alloc(Math.ceil((this.#nextTuple - sliceFrom) / 8));
    for (const { index } of this.open.values()) {
      const at = index - sliceFrom;
      bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
    }
    return bits.toString('base64');
  }
}

/** The address in a tuple's name. */
export function sourceOf(name: string): string {
  return name.slice(0, name.lastIndexOf(':'));
}
