/**
 * Owns the holder processes of one agent: forking them, their last stats, their loss.
 * Must never own a target socket, and never leave a holder behind.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import pLimit from 'p-limit';
import { type Clock, formatSeconds, StandStill } from '../base/clock.ts';
import { DropReason } from '../base/outcome.ts';
import { bindChild } from '../engine/parent-bond.ts';
import {
  type AgentToHolder,
  HOLDER_ENTRY,
  HOLDER_EXEC_ARGV,
  type HolderToAgent,
} from '../run/holder-message.ts';
import type { LeaseEnds } from '../run/lease.ts';
import { splitRate } from '../run/quota.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import type { Loss } from '../stats/loss.ts';
import {
  emptyStats,
  type HolderHealth,
  mergeAllStats,
  newHolderHealth,
  type Stats,
  withAllLost,
} from '../stats/stats.ts';
import { after, every, type Timer } from '../time/timer.ts';

/** How long a holder may take to fork, load and answer, counted from its own fork. */
const READY_TIMEOUT_MS = 20_000;
/** Holders named in one note. */
const NAMED_MAX = 4;
/** A fresh report is waited for until its holder is lost for its silence; this many times that bound is the last word. */
const FRESH_LOOKS = 2;
/**
 * Holders that load at the same time: each takes a core until it is ready. With all at once none is ready for long, and
 * the agent itself finds no core to say that it lives.
 */
const STARTING_MAX = Math.max(2, availableParallelism());

interface HolderEntry {
  readonly spec: HolderSpec;
  /** null: not forked yet, because others load before it */
  process: ChildProcess | null;
  ready: boolean;
  started: boolean;
  settled: boolean;
  finished: boolean;
  lost: boolean;
  /** lost because it was silent for too long */
  isGivenUp: boolean;
  stats: Stats;
  health: HolderHealth;
  /** how many stats messages have come; `freshReport` waits for it to grow */
  reports: number;
  /** when it said something last, in attended time */
  heardMs: number;
}

/** How old what a holder has said may become. */
interface AgeLimit {
  readonly clock: Clock;
  /** a holder that has started and says nothing for so long is lost */
  readonly silentMs: number;
  /** how often that is looked at */
  readonly lookEveryMs: number;
}

interface HolderPoolOptions {
  readonly entryPath: string;
  readonly specs: readonly HolderSpec[];
  /** how often each holder tells its stats; absent: as its spec says */
  readonly reportEveryMs?: number;
  /** until when the holders may act, unless `lease` says more; absent: as long as the agent lives */
  readonly lease?: LeaseEnds;
  readonly age: AgeLimit;
  /** how long one holder may take to become ready; absent: 20 s */
  readonly readyTimeoutMs?: number;
  /** after every message or loss that changes what `stats()` or `settled` says */
  readonly onChange: () => void;
  /** a holder that died unasked, or that has something to say; in words */
  readonly onNote: (note: string) => void;
  /** details of lost connections, a batch at a time */
  readonly onLosses: (losses: readonly Loss[]) => void;
}

/** The holders of one quota. */
export class HolderPool {
  readonly #options: HolderPoolOptions;
  readonly #holders: HolderEntry[];
  readonly #waiting = new Set<() => void>();
  readonly #turns = pLimit(STARTING_MAX);
  #stopping = false;
  #hasStoppedOpening = false;
  /** one did not become ready: the rest is not started */
  #hasFailed = false;
  #lease: LeaseEnds | null;
  readonly #looking: Timer;
  /** without the time in which this process itself could hear nobody */
  readonly #attention: StandStill;

  /** Forks one process per spec, a few at a time; they open nothing before `start`. */
  constructor(options: HolderPoolOptions) {
    this.#options = options;
    this.#lease = options.lease ?? null;
    const { clock, lookEveryMs } = options.age;
    this.#attention = new StandStill(lookEveryMs, clock.monotonicMs());
    this.#looking = every(lookEveryMs, () => this.#look(), { isUnref: true });
    this.#holders = options.specs.map((spec) => this.#enqueue(spec));
  }

  /** The entry at once, the process when it is its turn. */
  #enqueue(spec: HolderSpec): HolderEntry {
    const entry: HolderEntry = {
      spec,
      process: null,
      ready: false,
      started: false,
      settled: false,
      finished: false,
      lost: false,
      isGivenUp: false,
      stats: emptyStats(),
      health: newHolderHealth(spec.id, 0, spec.sliceTo - spec.sliceFrom),
      reports: 0,
      heardMs: this.#attention.attendedMs,
    };
    void this.#turns(async () => {
      if (this.#stopping || this.#hasFailed) return;
      this.#fork(entry);
      await this.#until(() => entry.ready || entry.lost || this.#stopping, this.#readyTimeoutMs);
      if (entry.ready || this.#stopping) return;
      this.#hasFailed = true;
      this.#changed();
    });
    return entry;
  }

  #fork(entry: HolderEntry): void {
    const { spec } = entry;
    const child = bindChild('kill', (bond) =>
      fork(this.#options.entryPath, [HOLDER_ENTRY, String(process.pid)], {
        execArgv: [...HOLDER_EXEC_ARGV],
        stdio: ['ignore', 'ignore', 'inherit', 'ipc', bond],
      }),
    );
    entry.process = child;
    entry.heardMs = this.#attention.attendedMs;
    entry.health = { ...entry.health, pid: child.pid ?? 0 };
    child.on('message', (message) => this.#take(entry, message as HolderToAgent));
    child.on('error', () => this.#gone(entry, 'could not be started'));
    child.on('exit', (code, signal) =>
      this.#gone(entry, signal === null ? `exited with ${code}` : `killed by ${signal}`),
    );
    const { reportEveryMs = spec.reportEveryMs } = this.#options;
    this.#send(entry, {
      type: 'open',
      spec: reportEveryMs === undefined ? spec : { ...spec, reportEveryMs },
    });
    if (this.#lease !== null) this.#send(entry, { type: 'lease', ...this.#lease });
    // Told before it was its turn.
    if (entry.started) this.#send(entry, { type: 'start' });
    if (this.#hasStoppedOpening) this.#send(entry, { type: 'stop-opening' });
  }

  #send(entry: HolderEntry, message: AgentToHolder): void {
    // A holder that is going away cannot take messages; its exit event tells the rest.
    if (entry.process?.connected === true) entry.process.send(message, () => {});
  }

  #sendAll(message: AgentToHolder): void {
    for (const entry of this.#holders) this.#send(entry, message);
  }

  /** What is told has an age: beyond its bound nobody knows what a holder still holds. */
  #look(): void {
    this.#attention.look(this.#options.age.clock.monotonicMs());
    for (const entry of this.#holders) {
      if (!entry.started || entry.process === null || entry.lost || entry.finished) continue;
      const silentMs = this.#attention.attendedMs - entry.heardMs;
      if (silentMs <= this.#options.age.silentMs) continue;
      entry.isGivenUp = true;
      this.#gone(
        entry,
        `it said nothing for ${formatSeconds(silentMs)}, as a stopped process does, and was killed`,
      );
      // SIGKILL ends a stopped process too. Its connections must not outlive the books that gave them up.
      entry.process.kill('SIGKILL');
    }
  }

  #take(entry: HolderEntry, message: HolderToAgent): void {
    // What one says that was given up already is no part of the books any more.
    if (entry.isGivenUp) return;
    entry.heardMs = this.#attention.attendedMs;
    switch (message.type) {
      case 'ready':
        entry.ready = true;
        break;
      case 'stats':
        entry.stats = message.stats;
        entry.health = message.health;
        entry.settled = message.settled;
        entry.reports++;
        break;
      case 'losses':
        this.#options.onLosses(message.losses);
        return;
      case 'done':
        entry.stats = message.stats;
        entry.health = message.health;
        entry.settled = true;
        entry.finished = true;
        break;
      case 'warning':
        this.#options.onNote(`holder ${entry.spec.id}: ${message.message}`);
        break;
      case 'failed':
        this.#options.onNote(`holder ${entry.spec.id}: ${message.message}`);
        break;
    }
    this.#changed();
  }

  #gone(entry: HolderEntry, how: string): void {
    entry.health = { ...entry.health, alive: false };
    if (entry.finished || entry.lost) return;
    entry.lost = true;
    entry.settled = true;
    const { open } = entry.stats;
    entry.stats = withAllLost(entry.stats, DropReason.holderLost, entry.spec.connections);
    if (!this.#stopping) {
      if (open > 0) this.#options.onLosses([lossOf(entry.spec.id, open)]);
      this.#options.onNote(`holder ${entry.spec.id} (pid ${entry.health.pid}) was lost: ${how}`);
    }
    this.#changed();
  }

  #changed(): void {
    for (const check of this.#waiting) check();
    this.#options.onChange();
  }

  /** Resolves with true once `done` says so, with false after `timeoutMs`. */
  #until(done: () => boolean, timeoutMs: number): Promise<boolean> {
    if (done()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        timer.cancel();
        this.#waiting.delete(check);
        resolve(result);
      };
      const check = (): void => {
        if (done()) finish(true);
      };
      const timer = after(timeoutMs, () => finish(false));
      this.#waiting.add(check);
    });
  }

  get #readyTimeoutMs(): number {
    return this.#options.readyTimeoutMs ?? READY_TIMEOUT_MS;
  }

  /** Whether every holder has answered in time and is still there. */
  async ready(): Promise<boolean> {
    // The last one waits for all before it, and each has its own time: the bound only grows with their number.
    const rounds = Math.ceil(this.#holders.length / STARTING_MAX);
    await this.#until(
      () => this.#hasFailed || this.#stopping || this.#holders.every((entry) => entry.ready || entry.lost),
      (rounds + 1) * this.#readyTimeoutMs,
    );
    const late = this.#holders.filter((entry) => entry.process !== null && !entry.ready && !entry.lost);
    if (late.length > 0 && !this.#stopping) this.#options.onNote(notReady(late, this.#readyTimeoutMs));
    return this.#holders.every((entry) => entry.ready && !entry.lost);
  }

  /**
   * All holders that have not begun to connect do so now.
   * @param runStartedMs when the agent was told to start, on the host's clock: times of losses count from it; absent: now
   */
  start(runStartedMs?: number): void {
    for (const entry of this.#holders) {
      if (entry.started) continue;
      this.#send(entry, { type: 'start', ...(runStartedMs === undefined ? {} : { runStartedMs }) });
      entry.started = true;
      // From now on it reports each second.
      entry.heardMs = this.#attention.attendedMs;
    }
  }

  /** The ramp is over: `openMin` counts from now, in every holder that does not count it yet. */
  hold(): void {
    this.#sendAll({ type: 'hold' });
  }

  /** The rate of all holders together from now on, shared by their quotas. */
  pace(ratePerSec: number | null): void {
    const rates = splitRate(
      ratePerSec,
      this.#holders.map(({ spec }) => spec.connections),
    );
    for (const [index, entry] of this.#holders.entries()) {
      this.#send(entry, { type: 'pace', ratePerSec: rates[index]! });
    }
  }

  /** Further holders for a quota that grew; they open nothing before the next `start`. */
  add(specs: readonly HolderSpec[]): void {
    for (const spec of specs) this.#holders.push(this.#enqueue(spec));
  }

  get size(): number {
    return this.#holders.length;
  }

  /** The first tuple index that no holder has. */
  get tuplesEnd(): number {
    return Math.max(0, ...this.#holders.map((entry) => entry.spec.sliceTo));
  }

  /** Until when the holders may act; those that are added later are told too. */
  lease(ends: LeaseEnds): void {
    this.#lease = ends;
    this.#sendAll({ type: 'lease', ...ends });
  }

  /** These addresses are no longer on this host: what is bound to them counts as dropped. */
  loseSources(addresses: readonly string[]): void {
    this.#sendAll({ type: 'lose-sources', addresses });
  }

  /** What is not open yet is given up. */
  stopOpening(): void {
    this.#hasStoppedOpening = true;
    this.#sendAll({ type: 'stop-opening' });
  }

  /**
   * Asks every live holder for stats and waits until all have come: one that does not answer is lost when what it told
   * last is too old.
   */
  async freshReport(): Promise<void> {
    const before = this.#holders.map((entry) => entry.reports);
    this.#sendAll({ type: 'report' });
    await this.#until(
      () =>
        this.#holders.every(
          (entry, index) =>
            entry.process === null || entry.lost || entry.finished || entry.reports > before[index]!,
        ),
      FRESH_LOOKS * this.#options.age.silentMs,
    );
  }

  /**
   * Closes every connection and ends every holder; those that do not end in time are killed.
   * @param timeoutMs for closing
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    this.#sendAll({ type: 'stop' });
    const isOver = (entry: HolderEntry): boolean => entry.finished || entry.lost || entry.process === null;
    await this.#until(() => this.#holders.every(isOver), timeoutMs);
    this.kill();
  }

  /**
   * Waits until the processes themselves are gone, and with them every socket.
   * @param timeoutMs after `stop` or `kill`
   */
  async gone(timeoutMs: number): Promise<void> {
    const isGone = ({ process: child }: HolderEntry): boolean =>
      child?.pid === undefined || child.exitCode !== null || child.signalCode !== null;
    for (const { process: child } of this.#holders) child?.once('exit', () => this.#changed());
    if (await this.#until(() => this.#holders.every(isGone), timeoutMs)) return;
    // One that has said `done` and still does not end has nothing to lose.
    for (const entry of this.#holders) if (!isGone(entry)) entry.process?.kill('SIGKILL');
  }

  /** Ends every holder at once; the kernel closes their sockets. */
  kill(): void {
    this.#stopping = true;
    this.#looking.cancel();
    for (const { process: child, finished } of this.#holders) {
      if (child === null) continue;
      if (child.exitCode === null && child.signalCode === null && !finished) child.kill('SIGKILL');
      if (child.connected) child.disconnect();
    }
    // Whoever waits for a turn finds that there is none.
    for (const check of this.#waiting) check();
  }

  /** The sum over all holders, lost ones included. */
  stats(): Stats {
    return mergeAllStats(this.#holders.map((entry) => entry.stats));
  }

  health(): HolderHealth[] {
    return this.#holders.map((entry) => entry.health);
  }

  /** Whether no holder has anything left to open. */
  get settled(): boolean {
    return this.#holders.every((entry) => entry.settled);
  }
}

/** Who did not become ready, for a person. */
function notReady(late: readonly HolderEntry[], timeoutMs: number): string {
  const named = late.slice(0, NAMED_MAX).map(({ spec, health }) => `${spec.id} (pid ${health.pid})`);
  const more = late.length > NAMED_MAX ? ` and ${late.length - NAMED_MAX} more` : '';
  return `not ready within ${timeoutMs / 1_000} s: holder ${named.join(', ')}${more}`;
}

/** A process that died cannot say which connections it had, only how many it last told of; the time is the agent's. */
function lossOf(holder: string, count: number): Loss {
  return { atMs: -1, holder, source: '*', endpoint: '*', ageMs: null, reason: DropReason.holderLost, count };
}
