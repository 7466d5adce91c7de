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
import { whenOver } from '../host/child-end.ts';
import { coreWaitMs } from '../host/proc-file.ts';
import type { LeaseEnds } from '../run/lease.ts';
import { type HolderSpec, isChanging } from '../run/run-spec.ts';
import type { FinalCheckName } from '../stats/evidence.ts';
import type { Loss } from '../stats/loss.ts';
import { type HolderHealth, mergeAllStats, type Stats, withAllLost } from '../stats/stats.ts';
import { after, every, type Timer } from '../time/timer.ts';
import { notReady } from './agent-quota.ts';
import {
  type HolderEntry,
  type HolderPhase,
  isAtWork,
  isLost,
  lossOf,
  newHolderEntry,
  processOf,
} from './holder-entry.ts';
import { readHolderMessage } from './holder-message.ts';
import { OpenTurns, rampMsOf } from './open-turns.ts';
import {
  type AgentToHolder,
  type Checked,
  HOLDER_ENTRY,
  HOLDER_EXEC_ARGV,
  type HolderToAgent,
} from './process-pipe.ts';

/**
 * How long a holder may take to fork, load and answer, counted from its own fork. What it waited for a core is not counted:
 * beside many programs that compute it loads for as long as it takes.
 */
const READY_TIMEOUT_MS = 20_000;
/** A fresh report is waited for until its holder is lost for its silence; this many times that bound is the limit. */
const FRESH_LOOKS = 2;
/**
 * Holders that load at the same time: each takes a core until it is ready. With all together none is ready for long, and
 * the agent itself finds no core to say that it lives.
 */
const STARTING_MAX = Math.max(2, availableParallelism());

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
  /** connects in flight of all holders together; absent: the sum of what each may have */
  readonly pendingMax?: number;
  /** holders that open at a time; absent: one for each core */
  readonly openersMax?: number;
  /** how often each holder reports; absent: as its spec says */
  readonly reportEveryMs?: number;
  /** until when the holders may act, unless `lease` says more; absent: as long as the agent lives */
  readonly lease?: LeaseEnds;
  readonly age: AgeLimit;
  /** how long one holder may take to become ready, without what it waits for a core; absent: 20 s */
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
  readonly #loading = pLimit(STARTING_MAX);
  readonly #turns: OpenTurns<HolderEntry>;
  #stopping = false;
  /** how long the run had gone on for others when this agent was started */
  #elapsedMs = 0;
  /** how often a report was asked for */
  #asked = 0;
  #hasStoppedOpening = false;
  /** one did not become ready: the rest is not started */
  #hasFailed = false;
  #lease: LeaseEnds | null;
  readonly #looking: Timer;
  /** without the time in which this process itself could hear no holder */
  readonly #attention: StandStill;

  /** Forks one process per spec, a few at a time; they open nothing before `start`. */
  constructor(options: HolderPoolOptions) {
    this.#options = options;
    this.#lease = options.lease ?? null;
    const { clock, lookEveryMs } = options.age;
    this.#attention = new StandStill(lookEveryMs, clock.monotonicMs());
    // Each follows a load that changes all the time.
    const openersMax = options.specs.some(isChanging) ? Number.MAX_SAFE_INTEGER : availableParallelism();
    this.#turns = new OpenTurns(options.openersMax ?? openersMax, (entry, message) => {
      // From its start on it reports each second.
      if (message.type === 'start') entry.heardMs = this.#attention.attendedMs;
      this.#send(entry, message.type === 'start' ? { ...message, elapsedMs: this.#elapsedMs } : message);
    });
    this.#turns.bring(options.specs, options.pendingMax);
    this.#looking = every(lookEveryMs, () => this.#look(), { isUnref: true });
    this.#holders = options.specs.map((spec) => this.#enqueue(spec));
  }

  /** The entry immediately, the process when it is its turn. */
  #enqueue(spec: HolderSpec): HolderEntry {
    const entry = newHolderEntry(spec, this.#attention.attendedMs);
    void this.#loading(async () => {
      if (this.#stopping || this.#hasFailed) return;
      this.#fork(entry);
      await this.#loaded(entry);
      if (entry.phase.name === 'ready' || entry.phase.name === 'finished' || this.#stopping) return;
      this.#hasFailed = true;
      this.#changed();
    });
    return entry;
  }

  /** Until it is ready or lost, the pool stops, or its time is over. */
  async #loaded(entry: HolderEntry): Promise<void> {
    const { clock } = this.#options.age;
    const forkedMs = clock.monotonicMs();
    const isDone = (): boolean => entry.phase.name !== 'loading' || this.#stopping;
    let leftMs = this.#readyTimeoutMs;
    while (leftMs > 0 && !(await this.#until(isDone, leftMs))) {
      const waitedMs = coreWaitMs('/proc', entry.health.pid) ?? 0;
      leftMs = this.#readyTimeoutMs - (clock.monotonicMs() - forkedMs - waitedMs);
    }
  }

  #fork(entry: HolderEntry): void {
    const { spec } = entry;
    const child = bindChild('kill', (bond) =>
      fork(this.#options.entryPath, [HOLDER_ENTRY, String(process.pid)], {
        execArgv: [...HOLDER_EXEC_ARGV],
        stdio: ['ignore', 'ignore', 'inherit', 'ipc', bond],
      }),
    );
    entry.phase = { name: 'loading', process: child };
    entry.heardMs = this.#attention.attendedMs;
    entry.health = { ...entry.health, pid: child.pid ?? 0 };
    child.on('message', (said) => this.#hear(entry, child, said));
    child.on('error', ({ message }) =>
      this.#lose(entry, { name: 'gone', process: child }, `could not be started: ${message}`),
    );
    whenOver(child, (code, signal) =>
      this.#lose(
        entry,
        { name: 'gone', process: child },
        signal === null ? `exited with ${code}` : `killed by ${signal}`,
      ),
    );
    const { reportEveryMs = spec.reportEveryMs } = this.#options;
    this.#send(entry, {
      type: 'open',
      spec: reportEveryMs === undefined ? spec : { ...spec, reportEveryMs },
    });
    if (this.#lease !== null) this.#send(entry, { type: 'lease', ...this.#lease });
    // Said before it had a process.
    if (this.#hasStoppedOpening) this.#send(entry, { type: 'stop-opening' });
    for (const message of this.#turns.said(entry)) this.#send(entry, message);
  }

  #send(entry: HolderEntry, message: AgentToHolder): void {
    // A holder that is going away cannot take messages; its exit event reports the rest.
    const child = processOf(entry);
    if (child?.connected === true) child.send(message, () => {});
  }

  #sendAll(message: AgentToHolder): void {
    for (const entry of this.#holders) this.#send(entry, message);
  }

  /** What was said has an age: beyond its bound it is not known what a holder still holds. */
  #look(): void {
    this.#attention.look(this.#options.age.clock.monotonicMs());
    for (const entry of this.#holders) {
      const { phase } = entry;
      if (!this.#turns.hasTurn(entry) || (phase.name !== 'loading' && phase.name !== 'ready')) continue;
      const silentMs = this.#attention.attendedMs - entry.heardMs;
      if (silentMs <= this.#options.age.silentMs) continue;
      this.#lose(
        entry,
        { name: 'given-up', process: phase.process },
        `it said nothing for ${formatSeconds(silentMs)}, as a stopped process does, and was killed`,
      );
      // SIGKILL ends a stopped process too. Its connections must not outlive the count that gave them up.
      phase.process.kill('SIGKILL');
    }
  }

  #hear(entry: HolderEntry, child: ChildProcess, said: unknown): void {
    if (entry.phase.name === 'given-up') return;
    const message = readHolderMessage(said);
    if (message !== null) {
      this.#take(entry, child, message);
      return;
    }
    this.#lose(entry, { name: 'given-up', process: child }, 'it said what no holder says, and was killed');
    child.kill('SIGKILL');
  }

  #take(entry: HolderEntry, child: ChildProcess, message: HolderToAgent): void {
    entry.heardMs = this.#attention.attendedMs;
    switch (message.type) {
      case 'ready':
        if (entry.phase.name === 'loading') entry.phase = { name: 'ready', process: child };
        break;
      case 'stats':
        // What comes after the end of its process was on its way before: its connections are lost already.
        if (isLost(entry)) return;
        entry.stats = message.stats;
        entry.health = message.health;
        entry.isSettled = message.settled;
        if (message.openTuples !== null) entry.openTuples = message.openTuples;
        entry.ramp = message.ramp;
        entry.answered = message.answers ?? entry.answered;
        if (!this.#stopping) this.#turns.reported(entry, message.begun, message.stats.pending);
        break;
      case 'checked':
        entry.checked = message.which;
        break;
      case 'losses':
        this.#options.onLosses(message.losses);
        return;
      case 'done':
        // It may come after the end of its process: then nothing was lost after all.
        entry.stats = message.stats;
        entry.health = message.health;
        entry.isSettled = true;
        entry.ramp = message.ramp;
        entry.phase = { name: 'finished', process: child };
        break;
      case 'failed':
        entry.failure = message.message;
        if (this.#stopping) this.#options.onNote(`holder ${entry.spec.id}: ${message.message}`);
        return;
      case 'warning':
        this.#options.onNote(`holder ${entry.spec.id}: ${message.message}`);
        break;
    }
    this.#changed();
  }

  #lose(entry: HolderEntry, phase: HolderPhase, how: string): void {
    entry.health = { ...entry.health, alive: false };
    if (entry.phase.name === 'finished' || isLost(entry)) return;
    entry.phase = phase;
    entry.isSettled = true;
    const { open } = entry.stats;
    entry.stats = withAllLost(entry.stats, DropReason.holderLost, entry.spec.connections);
    if (!this.#stopping) {
      if (open > 0) this.#options.onLosses([lossOf(entry.spec.id, open)]);
      const name = `holder ${entry.spec.id} (pid ${entry.health.pid})`;
      this.#options.onNote(`${name} was lost: ${entry.failure ?? how}`);
      this.#turns.left(entry);
    }
    this.#changed();
  }

  #changed(): void {
    for (const check of this.#waiting) check();
    this.#options.onChange();
  }

  /** Resolves with true once `done` says so, with false after `timeoutMs`; absent: what is waited for has an end in any case. */
  #until(done: () => boolean, timeoutMs?: number): Promise<boolean> {
    if (done()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        timer?.cancel();
        this.#waiting.delete(check);
        resolve(result);
      };
      const check = (): void => {
        if (done()) finish(true);
      };
      const timer = timeoutMs === undefined ? null : after(timeoutMs, () => finish(false));
      this.#waiting.add(check);
    });
  }

  get #readyTimeoutMs(): number {
    return this.#options.readyTimeoutMs ?? READY_TIMEOUT_MS;
  }

  /** Whether every holder has answered in time and is still there. */
  async ready(): Promise<boolean> {
    // Each has its own time, and so all together have one.
    await this.#until(
      () =>
        this.#hasFailed ||
        this.#stopping ||
        this.#holders.every(({ phase }) => phase.name !== 'queued' && phase.name !== 'loading'),
    );
    const late = this.health().filter((_, index) => this.#holders[index]?.phase.name === 'loading');
    if (late.length > 0 && !this.#stopping) this.#options.onNote(notReady(late, this.#readyTimeoutMs));
    return this.#holders.every(({ phase }) => phase.name === 'ready' || phase.name === 'finished');
  }

  /**
   * All holders that have not begun to connect do so now, those for which there is a core; the others as it is their turn.
   * @param runStartedMs when the agent got `start`, on the host's clock: times of losses count from it; absent: now
   * @param elapsedMs how long the run had gone on for others then; absent: as was said before
   */
  start(runStartedMs?: number, elapsedMs = this.#elapsedMs): void {
    this.#elapsedMs = elapsedMs;
    for (const entry of this.#holders) {
      if (entry.hasStart || isLost(entry)) continue;
      entry.hasStart = true;
      this.#turns.join(entry, entry.spec, runStartedMs);
    }
    if (this.#hasStoppedOpening) this.#turns.stopOpening();
    else this.#turns.share();
  }

  /** The ramp is over: `openMin` counts from now, in every holder that does not count it yet. */
  hold(): void {
    this.#sendAll({ type: 'hold' });
  }

  /**
   * Each open connection is asked once more; those that do not answer are lost.
   * @param timeoutMs at most so long: a holder that takes longer has not asked all of its own
   * @param perMs how many connections all holders together may ask within a millisecond
   * @returns whether all have been asked
   */
  async checkFinally(which: FinalCheckName, timeoutMs: number, perMs: number): Promise<boolean> {
    const holders = Math.max(1, this.#holders.filter(isAtWork).length);
    this.#sendAll({ type: 'check', which, perMs: perMs / holders });
    return await this.#untilChecked(which, timeoutMs);
  }

  /** A load that changes stays as it is. @param timeoutMs what is on its way then counts as it is */
  async freeze(timeoutMs: number): Promise<void> {
    this.#sendAll({ type: 'freeze' });
    await this.#untilChecked('freeze', timeoutMs);
  }

  #untilChecked(which: Checked, timeoutMs: number): Promise<boolean> {
    const isChecked = (entry: HolderEntry): boolean => !isAtWork(entry) || entry.checked === which;
    return this.#until(() => this.#stopping || this.#holders.every(isChecked), timeoutMs);
  }

  /** The rate of all holders together from now on; those that are added bring theirs. */
  pace(ratePerSec: number | null): void {
    this.#turns.pace(ratePerSec);
  }

  /**
   * Further holders for a quota that grew; they open nothing before the next `start`.
   * @param pendingMax connects in flight of all holders together; absent: theirs come on top
   */
  add(specs: readonly HolderSpec[], pendingMax?: number): void {
    this.#turns.bring(specs, pendingMax);
    for (const spec of specs) this.#holders.push(this.#enqueue(spec));
  }

  get size(): number {
    return this.#holders.length;
  }

  /** Connections that holders were given, lost ones included. */
  get quota(): number {
    return this.#holders.reduce((sum, { spec }) => sum + spec.connections, 0);
  }

  /** The first tuple index that no holder has. */
  get tuplesEnd(): number {
    return Math.max(0, ...this.#holders.map((entry) => entry.spec.sliceTo));
  }

  /** Until when the holders may act; also of those that are added later. */
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
    this.#turns.stopOpening();
  }

  /**
   * Asks every live holder for stats and waits until all have come: one that does not answer is lost when what it said
   * last is too old.
   * @param wantsTuples `openTuples` is to be of the same moment
   */
  async freshReport(wantsTuples = false): Promise<void> {
    const id = ++this.#asked;
    this.#sendAll({ type: 'report', id, wantsTuples });
    await this.#until(
      () => this.#holders.every((entry) => !isAtWork(entry) || entry.answered >= id),
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
    await this.#until(() => !this.#holders.some(isAtWork), timeoutMs);
    this.kill();
  }

  /**
   * Waits until the processes themselves are gone, and with them every socket.
   * @param timeoutMs after `stop` or `kill`
   */
  async gone(timeoutMs: number): Promise<void> {
    const isGone = (entry: HolderEntry): boolean => {
      const child = processOf(entry);
      return child?.pid === undefined || child.exitCode !== null || child.signalCode !== null;
    };
    for (const entry of this.#holders) processOf(entry)?.once('exit', () => this.#changed());
    if (await this.#until(() => this.#holders.every(isGone), timeoutMs)) return;
    // One that has said `done` and still does not end has nothing to lose.
    for (const entry of this.#holders) if (!isGone(entry)) processOf(entry)?.kill('SIGKILL');
  }

  /** Ends every holder immediately; the kernel closes their sockets. */
  kill(): void {
    this.#stopping = true;
    this.#looking.cancel();
    for (const entry of this.#holders) {
      const child = processOf(entry);
      if (child === null) continue;
      const hasEnded = child.exitCode !== null || child.signalCode !== null;
      if (!hasEnded && entry.phase.name !== 'finished') child.kill('SIGKILL');
      if (child.connected) child.disconnect();
    }
    // What waits for a turn finds that there is none.
    for (const check of this.#waiting) check();
  }

  /** The sum over all holders, lost ones included. */
  stats(): Stats {
    const stats = mergeAllStats(this.#holders.map((entry) => entry.stats));
    return { ...stats, rampMs: rampMsOf(this.#holders) ?? stats.rampMs };
  }

  /** Which tuples were open at the last fresh report, by holder; of one that is lost none is. */
  openTuples(): readonly { readonly from: number; readonly bits: string }[] {
    return this.#holders
      .filter((entry) => !isLost(entry))
      .map(({ spec, openTuples }) => ({ from: spec.sliceFrom, bits: openTuples }));
  }

  health(): HolderHealth[] {
    return this.#holders.map((entry) => entry.health);
  }

  /** Whether no holder has anything left to open. */
  get settled(): boolean {
    return this.#holders.every((entry) => entry.isSettled);
  }
}
