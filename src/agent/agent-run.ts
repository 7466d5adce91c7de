/**
 * Owns one host's part of one run: it does what the coordinator's messages mean in each phase (agent-phase.ts) and holds
 * what outlives a phase: the lease, the aliases, the notes, the kernel's counts.
 * Must never own the control channel (agent.ts) or a target socket (holder.ts).
 */
import { type Clock, StandStill } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import type { AgentMessage, CoordinatorMessageOf } from '../control/message.ts';
import { runProgram } from '../host/command.ts';
import { untilClosed } from '../host/kernel-count.ts';
import type { KernelCount } from '../host/kernel-evidence.ts';
import { ownTasks } from '../host/proc-file.ts';
import { type Allowance, checkAllowance } from '../plan/allowance.ts';
import { type LeaseEnds, leaseEndsOf, type Rhythm, rhythmOf } from '../run/lease.ts';
import type { HostSpec, RunSpec } from '../run/run-spec.ts';
import { AliasLease } from '../sources/alias-lease.ts';
import { AliasRecords } from '../sources/alias-records.ts';
import { type Preparation, prepareHost } from '../sources/preparation.ts';
import { type ConnectLeave, ConnectTurns } from '../sources/route-check.ts';
import { secureSources } from '../sources/source-check.ts';
import type { Loss } from '../stats/loss.ts';
import { emptyStats, type Stats } from '../stats/stats.ts';
import { after, every, type Timer } from '../time/timer.ts';
import {
  type Active,
  activeOf,
  closing,
  connectionsOf,
  counting,
  grown,
  type Holding,
  holdersOf,
  holding,
  isActive,
  isSettled,
  isStarted,
  mayGrow,
  OFFERING,
  type Offered,
  OVER,
  offered,
  orderIn,
  type Ready,
  type RunMessage,
  type Running,
  type RunPhase,
  ready,
  refused,
  running,
  securing,
  starting,
  statsOf,
} from './agent-phase.ts';
import { AgentQuota, brokenRule, memoryLackFor, notStarted, startedLate } from './agent-quota.ts';
import { AgentReporter } from './agent-reporter.ts';
import { HolderPool } from './holder-pool.ts';
import { KernelWatch, watchedHost } from './kernel-watch.ts';
import { countHoldEnd, countOthers, countRampEnd, endOpening, evidenceAtEnd } from './phase-end.ts';

/** What counting and closing may take at the end of --max-duration. */
const CLOSING_MS = 2_000;
/** Closing 20,000 sockets takes a holder well under a second; the rest is for a loaded machine. */
const CLOSE_TIMEOUT_MS = 20_000;
/** How long the far ends may take to answer our FINs, and killed holders to end, before the aliases go. */
const SOCKETS_GONE_MS = 2_000;
/** Lost sources come in one note per second; what is beyond this many notes shows in the counts alone. */
const LOSS_NOTES_MAX = 32;

interface AgentRunOptions {
  readonly agent: string;
  readonly hostSpec: HostSpec;
  readonly entryPath: string;
  /** what this host's owner allows, whatever the coordinator says */
  readonly allowance: Allowance;
  readonly clock: Clock;
  /** drops the message when there is no contact: what matters is said again by `resend` */
  readonly send: (message: AgentMessage) => void;
  /** this host takes no part, or no part any more: `hasStarted` when it had begun */
  readonly onRefused: (findings: readonly Finding[], hasStarted: boolean) => void;
  /** the run is over here and everything is closed */
  readonly onOver: () => void;
}

/** One host's part of one run. */
export class AgentRun {
  readonly #options: AgentRunOptions;
  readonly #specMessage: CoordinatorMessageOf<'spec'>;
  readonly #spec: RunSpec;
  readonly #report: AgentReporter;
  readonly #quota: AgentQuota;
  readonly #aliases: AliasLease;
  readonly #still: StandStill;
  readonly #notes: string[] = [];
  readonly #kernel: KernelCount[] = [];
  #phase: RunPhase = OFFERING;
  #ends: LeaseEnds;
  #statsTimer: Timer | null = null;
  /** the owner's --max-duration */
  #durationTimer: Timer | null = null;

  constructor(message: CoordinatorMessageOf<'spec'>, options: AgentRunOptions) {
    this.#options = options;
    this.#specMessage = message;
    // Last, so that nothing in the message stands in its place.
    this.#spec = { ...message.spec, ...options.hostSpec };
    this.#ends = leaseEndsOf(options.clock.monotonicMs(), message);
    this.#still = new StandStill(this.rhythm.reportEveryMs, options.clock.monotonicMs());
    this.#report = new AgentReporter(message, options.clock, options.send);
    this.#quota = new AgentQuota({ ...options, spec: this.#spec, mayGrow: message.mayGrow });
    this.#aliases = new AliasLease({
      run: runProgram,
      records: new AliasRecords(),
      leaseMs: this.#spec.sources.aliasLeaseMs,
      onLost: (addresses) => this.#loseSources(addresses),
    });
  }

  /** How often things happen in this run. */
  get rhythm(): Rhythm {
    return rhythmOf(this.#specMessage);
  }

  /** When everything must be closed unless there is further contact, on the host's monotonic clock. */
  get liveUntilMs(): number {
    return this.#ends.liveUntilMs;
  }

  /** @param contactMs when the last message that was answered was sent */
  extendLease(contactMs: number): void {
    this.#ends = leaseEndsOf(contactMs, this.#specMessage);
    holdersOf(this.#phase)?.lease(this.#ends);
  }

  /** What is not a connection of the run asks too: of a host that is not heard the target is to see nothing new. */
  readonly #mayConnect = (): boolean => this.#options.clock.monotonicMs() < this.#ends.openUntilMs;

  /** The run and epoch that this belongs to. */
  get identity(): { readonly runId: string; readonly epoch: number } {
    return { runId: this.#specMessage.runId, epoch: this.#specMessage.epoch };
  }

  /** What was last counted; for a file when there is no coordinator to report to. */
  partial(): { stats: Stats; quota: number; kernel: readonly KernelCount[]; notes: readonly string[] } {
    return {
      stats: statsOf(this.#phase),
      quota: connectionsOf(this.#phase),
      kernel: this.#kernel,
      notes: this.#notes,
    };
  }

  /** The phase now: asked after each wait, because other messages do not wait for us. */
  #now(): RunPhase {
    return this.#phase;
  }

  /** Carries out what the coordinator says. A message that came twice, after a cut, changes nothing. */
  take(message: RunMessage): void {
    const order = orderIn(this.#phase, message);
    // A rejected promise here is a bug of ours: it must end the process, and Node does that for us.
    switch (order.do) {
      case 'prepare':
        void this.#prepare(order.phase, order.quota);
        break;
      case 'grow':
        void this.#grow(order.phase, order.quota);
        break;
      case 'start':
        this.#start(order.phase, order.elapsedMs);
        break;
      case 'stop-opening':
        order.holders.stopOpening();
        break;
      case 'hold':
        this.#hold(order.phase);
        break;
      case 'stop':
        void this.#stop(order.phase, order.isHeld);
        break;
    }
  }

  /** After a cut: says again what the coordinator may have missed. */
  resend(): void {
    this.#report.sayAgain();
    if (isStarted(this.#phase)) this.#sendStats();
  }

  /** Finds out what this host can do, and says so. From now on it gives a sign of life each second. */
  async offer(): Promise<void> {
    this.#statsTimer = every(this.rhythm.reportEveryMs, () => {
      this.#still.look(this.#options.clock.monotonicMs());
      this.#sendStats();
    });
    const { allowance } = this.#options;
    // An agent that never gets `start` is held all the same.
    if (Number.isFinite(allowance.runMsMax)) {
      this.#durationTimer = after(allowance.runMsMax, () => this.#refuse([startedLate(allowance.runMsMax)]));
    }
    const forbidden = checkAllowance(allowance, this.#spec);
    if (forbidden.length > 0) {
      this.#refuse(forbidden);
      return;
    }
    const prepared = await prepareHost(this.#spec, this.#spec.connections, allowance, ownTasks());
    const phase = this.#now();
    if (phase.name !== 'offering') return;
    if (!('plan' in prepared) || prepared.blocked.length > 0) {
      this.#refuse('plan' in prepared ? prepared.blocked : prepared);
      return;
    }
    const { plan } = prepared;
    const connectionsMax = Math.min(plan.capacityMax, allowance.connectionsMax);
    this.#phase = offered(phase, prepared, connectionsMax);
    this.#report.say({
      type: 'offer',
      connectionsMax,
      boundBy: connectionsMax < plan.capacityMax ? 'max-conns' : plan.boundBy,
      engine: plan.engine,
      findings: [...plan.findings],
      sources: [...plan.addresses],
      notes: [...prepared.notes],
    });
  }

  /** From now on nothing that the coordinator says opens a connection here. What is open is closed in order. */
  #refuse(findings: readonly Finding[]): void {
    const phase = this.#phase;
    if (!isActive(phase)) return;
    const hasStarted = isStarted(phase);
    this.#report.say({ type: 'refuse', findings: [...findings] });
    this.#options.onRefused(findings, hasStarted);
    if (hasStarted) {
      void this.#stop(phase);
      return;
    }
    this.#phase = refused(phase);
    this.#durationTimer?.cancel();
    void this.#giveBackKilled();
  }

  /** The coordinator broke a rule of the channel, which closes: what is said before that. */
  violated(problem: string): void {
    this.#refuse([brokenRule(problem)]);
  }

  async #prepare(offer: Offered, quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    const problem = this.#quota.problem(quota, offer.connectionsMax, null);
    if (problem !== null) {
      this.#refuse([problem]);
      return;
    }
    const secured = this.#secure(offer, quota.connections);
    this.#phase = securing(offer, quota.connections, secured);
    const prepared = await secured;
    const phase = this.#now();
    if (phase.name !== 'securing') return;
    if (!('plan' in prepared)) {
      this.#refuse(prepared);
      return;
    }
    const refusals = prepared.plan.findings.filter((finding) => finding.severity === 'refuse');
    if (refusals.length > 0) {
      this.#refuse(refusals);
      return;
    }
    await this.#standBy(starting(phase, prepared, this.#makePool(prepared, quota)));
  }

  /**
   * Plans for the quota, adds what is missing and proves each source. The offer was planned for the whole; a smaller quota
   * may need fewer addresses and holders.
   */
  async #secure({ prepared }: Offered, connections: number): Promise<Preparation | readonly Finding[]> {
    const { allowance } = this.#options;
    const wanted = this.#quota.plannedFor(connections, prepared.plan.capacityMax);
    const planned =
      wanted === this.#spec.connections
        ? prepared
        : await prepareHost(this.#spec, wanted, allowance, ownTasks());
    if (!('plan' in planned)) return planned;
    const mayConnect = (): ConnectLeave => {
      if (!isActive(this.#phase)) return 'never';
      return this.#mayConnect() ? 'now' : 'later';
    };
    const turns = new ConnectTurns(allowance.ratePerSecMax, { mayConnect });
    return await secureSources(this.#spec, planned, this.#aliases, undefined, turns);
  }

  async #standBy(phase: ReturnType<typeof starting>): Promise<void> {
    this.#phase = phase;
    const [isReady, before] = await Promise.all([phase.holders.ready(), countOthers(this.#counted)]);
    const loaded = this.#now();
    if (loaded.name !== 'starting') return;
    if (!isReady) return this.#refuse([notStarted(this.#notes.at(-1))]);
    this.#phase = ready(loaded, before);
    const { plan, notes } = loaded.prepared;
    this.#report.say({
      type: 'ready',
      sources: [...plan.addresses],
      holders: loaded.holders.size,
      engine: plan.engine,
      findings: [...plan.findings],
      notes: [...notes],
    });
  }

  #makePool({ plan }: Preparation, quota: CoordinatorMessageOf<'quota'>): HolderPool {
    const { entryPath, clock } = this.#options;
    return new HolderPool({
      entryPath,
      specs: this.#quota.first(plan, quota),
      pendingMax: quota.pendingMax,
      reportEveryMs: this.rhythm.reportEveryMs,
      lease: this.#ends,
      age: { clock, silentMs: this.rhythm.holderSilentMs, lookEveryMs: this.rhythm.checkEveryMs },
      onChange: () => this.#changed(),
      onNote: (note) => this.#notes.push(note),
      onLosses: (losses) => this.#addLosses(losses),
    });
  }

  /** A lost agent's quota comes to us: new holders for the difference, from tuples that no holder has. */
  async #grow(phase: Ready | Running | Holding, quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    const problem = this.#quota.problem(quota, phase.offer.connectionsMax, phase);
    if (problem !== null) {
      this.#refuse([problem]);
      return;
    }
    this.#phase = grown(phase, quota.connections);
    const extra = quota.connections - phase.connections;
    const lack = await memoryLackFor(extra, phase.prepared.plan, this.#spec);
    if (!mayGrow(this.#now())) return;
    if (lack !== null) {
      this.#refuse([lack]);
      return;
    }
    const { holders, connections: before, prepared } = phase;
    const { specs, keptRatePerSec } = this.#quota.growth(prepared.plan, before, quota, holders);
    // What is opened again counts too, so those that have opened everything give up a part of the rate as well.
    if (before > 0) holders.pace(keptRatePerSec);
    holders.add(specs, quota.pendingMax);
    this.#report.expectOpening();
    this.#notes.push(`the quota grew from ${before} to ${quota.connections} because another agent was lost`);
    await holders.ready();
    const later = this.#now();
    if (!isStarted(later)) return;
    later.holders.start(later.startedMs);
    // The new holders count their own lowest number from now; what they have not opened yet was never held.
    if (later.name === 'holding') later.holders.hold();
  }

  #start(phase: Ready, elapsedMs: number): void {
    const startedMs = this.#options.clock.monotonicMs();
    const { facts } = phase.prepared.found;
    const { addresses } = phase.prepared.plan;
    const watch = new KernelWatch(watchedHost(facts, this.#spec.endpoints, addresses));
    watch.start();
    this.#phase = running(phase, startedMs, watch);
    this.#report.expectOpening();
    phase.holders.start(startedMs, elapsedMs);
    const { runMsMax } = this.#options.allowance;
    this.#durationTimer?.cancel();
    if (Number.isFinite(runMsMax)) {
      // Closing takes time, and the promise is that everything is closed by then.
      this.#durationTimer = after(runMsMax - Math.min(CLOSING_MS, runMsMax / 10), () => this.#endInTime());
    }
    if (phase.holders.size === 0) this.#sendStats();
  }

  #endInTime(): void {
    const phase = this.#phase;
    this.#notes.push(`agent ${this.#options.agent} ended at its own --max-duration`);
    if (isActive(phase)) void this.#stop(phase);
  }

  #hold(phase: Running): void {
    phase.holders.hold();
    this.#phase = holding(phase, countRampEnd(phase, this.#counted));
  }

  get #counted(): Parameters<typeof countRampEnd>[1] {
    return {
      agent: this.#options.agent,
      spec: this.#spec,
      kernel: this.#kernel,
      notes: this.#notes,
    };
  }

  /** Details are sent as they come, if they are wanted; the counts are in every stats message. */
  #addLosses(losses: readonly Loss[]): void {
    if (!this.#spec.wantsLossDetails) return;
    const nowMs = this.#options.clock.monotonicMs();
    const active = activeOf(this.#phase);
    const sinceMs = active !== null && isStarted(active) ? Math.max(0, nowMs - active.startedMs) : 0;
    this.#report.addLosses(losses.map((loss) => (loss.atMs < 0 ? { ...loss, atMs: sinceMs } : loss)));
  }

  /** Reports immediately when the holders settle, so that the barrier into the hold phase is not a second late. */
  #changed(): void {
    const phase = this.#phase;
    if (isStarted(phase) && this.#report.isChanged(isSettled(phase))) this.#sendStats();
  }

  #sendStats(): void {
    const holders = holdersOf(this.#phase);
    this.#report.sendStats({
      stats: statsOf(this.#phase),
      quota: connectionsOf(this.#phase),
      holders: holders?.health() ?? [],
      isSettled: isSettled(this.#phase),
      kernel: this.#kernel,
    });
  }

  /**
   * The orderly end: count, close, report.
   * @param isHeld the hold was over: nothing has ended it early
   */
  async #stop(phase: Parameters<typeof counting>[0], isHeld = false): Promise<void> {
    const ending = counting(phase);
    const { from } = ending;
    this.#phase = ending;
    this.#durationTimer?.cancel();
    const holders = holdersOf(ending);
    await endOpening(ending.from, this.#spec);
    if (from.name === 'holding') await from.counted;
    if (isStarted(from)) await countHoldEnd(from, isHeld, this.#counted);
    if (this.#now().name === 'over') return;
    // Read before closing: afterwards nothing is open by source, and every descriptor is spare.
    const atEnd = statsOf(ending);
    const healthAtEnd = holders?.health() ?? [];
    this.#phase = closing(ending, atEnd);
    const evidence = isStarted(from) ? await evidenceAtEnd(from, this.#spec, atEnd, this.#mayConnect) : null;
    if (isStarted(from)) from.watch.stop();
    await holders?.stop(CLOSE_TIMEOUT_MS);
    const closed = holders?.stats() ?? emptyStats();
    await this.#giveBack(from);
    if (this.#now().name === 'over') return;
    this.#still.look(this.#options.clock.monotonicMs());
    const still = this.#still.note(`agent ${this.#options.agent}`);
    if (still !== null) this.#notes.push(still);
    this.#report.sendDone({
      ...{ atEnd, closed, holders: healthAtEnd, evidence },
      ...{ kernel: this.#kernel, notes: this.#notes },
    });
    this.#end();
  }

  /** The disorderly end: there is no coordinator to report to, or we must go. Sockets close with their processes. */
  abandon(): void {
    void this.#giveBackKilled();
    this.#end();
  }

  /** Sockets first, then aliases: an address that goes earlier would leave them silent on the target. */
  async #giveBack(from: Active): Promise<void> {
    if (from.name === 'securing') await from.secured;
    const addresses = this.#aliases.held.map((alias) => alias.address);
    if (this.#spec.close === 'fin' && addresses.length > 0) await untilClosed(addresses, SOCKETS_GONE_MS);
    this.#notes.push(...(await this.#aliases.release()));
  }

  async #giveBackKilled(): Promise<void> {
    const phase = this.#phase;
    const from = activeOf(phase);
    const holders = holdersOf(phase);
    holders?.kill();
    if (from?.name === 'securing') await from.secured;
    await holders?.gone(SOCKETS_GONE_MS);
    await this.#aliases.release();
  }

  #loseSources(addresses: readonly string[]): void {
    holdersOf(this.#phase)?.loseSources(addresses);
    // The final message carries a bounded number of notes.
    if (this.#notes.length >= LOSS_NOTES_MAX) return;
    const shown = addresses.slice(0, 8).join(', ');
    const more = addresses.length > 8 ? ` and ${addresses.length - 8} more` : '';
    this.#notes.push(
      `the source address ${shown}${more} disappeared from this host during the run: its connections count as dropped (alias-lost)`,
    );
  }

  #end(): void {
    const from = activeOf(this.#phase);
    if (from === null) return;
    if (isStarted(from)) from.watch.stop();
    this.#statsTimer?.cancel();
    this.#durationTimer?.cancel();
    this.#phase = OVER;
    this.#options.onOver();
  }
}
