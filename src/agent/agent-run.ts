/**
 * Owns one host's share of one run: what it offers, its holders, what it counts, how it ends.
 * Must never own the control channel (agent.ts) or a target socket (holder.ts).
 */

import { type Clock, StandStill } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import type { AgentMessage, CoordinatorMessage, CoordinatorMessageOf } from '../control/message.ts';
import { runProgram } from '../host/command.ts';
import { gatherHostFacts } from '../host/facts-reader.ts';
import { untilClosed } from '../host/kernel-count.ts';
import { type KernelCount, synLadderSec } from '../host/kernel-evidence.ts';
import { type Allowance, allowedShare, checkAllowance } from '../plan/allowance.ts';
import { memoryFree } from '../plan/capacity.ts';
import { HOLDER_BYTES, holdersFor } from '../plan/cost.ts';
import { type LeaseEnds, leaseEndsOf, type Rhythm, rhythmOf } from '../run/lease.ts';
import type { HolderSpec, HostSpec, RunSpec } from '../run/run-spec.ts';
import { AliasLease } from '../sources/alias-lease.ts';
import { AliasRecords } from '../sources/alias-records.ts';
import { holderSpecs, type Preparation, prepareHost } from '../sources/preparation.ts';
import { ConnectTurns } from '../sources/route-check.ts';
import { secureSources } from '../sources/source-check.ts';
import type { Loss } from '../stats/loss.ts';
import { emptyStats, type Stats, statsNews } from '../stats/stats.ts';
import { after, every, type Timer } from '../time/timer.ts';
import { LossQueue, toWire, trimmed, type WireEvidence } from './agent-report.ts';
import { HolderPool } from './holder-pool.ts';
import { countBesideBooks, KernelWatch } from './kernel-watch.ts';
import { brokenRule, checkQuota, noMemoryFor, notStarted, startedLate } from './refusal.ts';

/** What counting and closing may take at the end of --max-duration. */
const CLOSING_MS = 2_000;
/** Closing 20,000 sockets takes a holder well under a second; the rest is for a loaded machine. */
const CLOSE_TIMEOUT_MS = 20_000;
/** How long the far ends may take to answer our FINs, and killed holders to end, before the aliases go. */
const SOCKETS_GONE_MS = 2_000;
/** Lost sources come in one note per second; what is beyond this many notes shows in the counts alone. */
const LOSS_NOTES_MAX = 32;

interface RunShareOptions {
  readonly agent: string;
  readonly hostSpec: HostSpec;
  readonly entryPath: string;
  /** what this host's owner allows, whatever the coordinator says */
  readonly allowance: Allowance;
  readonly clock: Clock;
  /** drops the message when there is no contact: what matters is said again by `resend` */
  readonly send: (message: AgentMessage) => void;
  /** the share takes no part, or no part any more: `wasRunning` when it had begun */
  readonly onRefused: (findings: readonly Finding[], wasRunning: boolean) => void;
  /** the share is over and everything is closed */
  readonly onOver: () => void;
}

/** What a coordinator says about the share itself; the link's own messages are the agent's. */
type ShareMessage = Exclude<CoordinatorMessage, { type: 'spec' | 'renew' | 'resumed' }>;

type SharePhase =
  | 'waiting'
  | 'offering'
  | 'offered'
  | 'refused'
  | 'preparing'
  | 'standing-by'
  | 'running'
  | 'closing'
  | 'over';

/** One share of one run. */
export class RunShare {
  readonly #options: RunShareOptions;
  readonly #specMessage: CoordinatorMessageOf<'spec'>;
  readonly #spec: RunSpec;
  readonly #notes: string[] = [];
  readonly #lease: AliasLease;
  #phase: SharePhase = 'waiting';
  #preparation: Preparation | null = null;
  #pool: HolderPool | null = null;
  #quota = 0;
  #offered = 0;
  /** how often the quota has grown */
  #growths = 0;
  #kernel: KernelCount[] = [];
  #watch: KernelWatch | null = null;
  #startedMs = 0;
  #counting: Promise<void> = Promise.resolve();
  /** may still add aliases after we were told to stop: these must go too */
  #preparing: Promise<void> = Promise.resolve();
  #isHolding = false;
  /** the books when closing began: what is closed by then is not lost */
  #atEnd: Stats | null = null;
  #statsTimer: Timer | null = null;
  readonly #still: StandStill;
  #durationTimer: Timer | null = null;
  #wasSettled = false;
  readonly #losses: LossQueue;
  /** holders for a quota that grew stand by */
  #hasMore = false;
  #ends: LeaseEnds;
  /** the stats that were said last on this channel */
  #told: Stats | null = null;
  /** the last message that the coordinator cannot do without */
  #lastSaid: AgentMessage | null = null;

  constructor(message: CoordinatorMessageOf<'spec'>, options: RunShareOptions) {
    this.#options = options;
    this.#specMessage = message;
    // Last, so that nothing in the message stands in its place.
    this.#spec = { ...message.spec, ...options.hostSpec };
    this.#ends = leaseEndsOf(options.clock.monotonicMs(), message);
    this.#still = new StandStill(this.rhythm.reportEveryMs, options.clock.monotonicMs());
    this.#losses = new LossQueue((losses) =>
      options.send({ type: 'losses', epoch: message.epoch, losses: [...losses] }),
    );
    this.#lease = new AliasLease({
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
    this.#pool?.lease(this.#ends);
  }

  /** The run and epoch that this share belongs to. */
  get identity(): { readonly runId: string; readonly epoch: number } {
    return { runId: this.#specMessage.runId, epoch: this.#specMessage.epoch };
  }

  /** What was last counted; for a file when nobody is left to tell. */
  partial(): { stats: Stats; quota: number; kernel: readonly KernelCount[]; notes: readonly string[] } {
    return {
      stats: this.#pool?.stats() ?? emptyStats(),
      quota: this.#quota,
      kernel: this.#kernel,
      notes: this.#notes,
    };
  }

  /** Carries out what the coordinator says. A message that came twice, after a cut, changes nothing. */
  take(message: ShareMessage): void {
    // A rejected promise here is a bug of ours: it must end the process, and Node does that for us.
    switch (message.type) {
      case 'quota':
        void this.#takeQuota(message);
        break;
      case 'start':
        this.#start();
        break;
      case 'stop-opening':
        this.#pool?.stopOpening();
        break;
      case 'hold':
        this.#hold();
        break;
      case 'stop':
        void this.stop();
        break;
    }
  }

  /** After a cut: says again what the coordinator may have missed. */
  resend(): void {
    // What was on its way when contact was cut may be lost.
    this.#told = null;
    if (this.#lastSaid !== null) this.#options.send(this.#lastSaid);
    if (this.#phase === 'running') this.#report();
  }

  #say(message: AgentMessage): void {
    this.#lastSaid = message;
    this.#options.send(message);
  }

  /** Finds out what this host can do, and says so. From now on it gives a sign of life each second. */
  async offer(): Promise<void> {
    this.#phase = 'offering';
    this.#statsTimer = every(this.rhythm.reportEveryMs, () => {
      this.#still.look(this.#options.clock.monotonicMs());
      this.#report();
    });
    const { allowance } = this.#options;
    // Who is never told to start is held all the same.
    if (Number.isFinite(allowance.runMsMax)) {
      this.#durationTimer = after(allowance.runMsMax, () => this.#refuse([startedLate(allowance.runMsMax)]));
    }
    const forbidden = checkAllowance(allowance, this.#spec);
    if (forbidden.length > 0) {
      this.#refuse(forbidden);
      return;
    }
    const prepared = await prepareHost(this.#spec, this.#spec.connections, allowance);
    if (this.#isEnding) return;
    if (!('plan' in prepared)) {
      this.#refuse(prepared);
      return;
    }
    if (prepared.blocked.length > 0) {
      this.#refuse(prepared.blocked);
      return;
    }
    this.#preparation = prepared;
    this.#phase = 'offered';
    const { plan } = prepared;
    const isCapped = allowance.connectionsMax < plan.capacityMax;
    this.#offered = Math.min(plan.capacityMax, allowance.connectionsMax);
    this.#say({
      type: 'offer',
      connectionsMax: this.#offered,
      boundBy: isCapped ? 'max-conns' : plan.boundBy,
      findings: [...plan.findings],
      sources: [...plan.addresses],
      notes: [...prepared.notes],
    });
  }

  /** Whether the end has begun; asked after each wait, because `stop` and a refusal do not wait for us. */
  get #isEnding(): boolean {
    return this.#phase === 'refused' || this.#phase === 'closing' || this.#phase === 'over';
  }

  /** From now on nothing that the coordinator says opens a connection here. What is open is closed in order. */
  #refuse(findings: readonly Finding[]): void {
    if (this.#isEnding) return;
    const wasRunning = this.#phase === 'running';
    this.#say({ type: 'refuse', findings: [...findings] });
    this.#options.onRefused(findings, wasRunning);
    if (wasRunning) {
      void this.stop();
      return;
    }
    this.#phase = 'refused';
    this.#durationTimer?.cancel();
    void this.#giveBackKilled();
  }

  /** The coordinator broke a rule of the channel, which closes: the last word before that. */
  violated(problem: string): void {
    this.#refuse([brokenRule(problem)]);
  }

  async #takeQuota(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    const isFirst = this.#phase === 'offered';
    const isMore =
      (this.#phase === 'running' || this.#phase === 'standing-by') && quota.connections > this.#quota;
    if (!isFirst && !isMore) return;
    const finding = checkQuota(quota, {
      connectionsMax: this.#options.allowance.connectionsMax,
      offered: this.#offered,
      wholeRun: this.#spec.connections,
      pendingMax: this.#spec.pendingMax,
      mayGrow: this.#specMessage.mayGrow,
      current: isFirst ? null : this.#quota,
      growths: this.#growths,
    });
    if (finding !== null) {
      this.#refuse([finding]);
      return;
    }
    if (isFirst) {
      this.#preparing = this.#prepare(quota);
      await this.#preparing;
    } else {
      await this.#extend(quota);
    }
  }

  async #prepare(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    this.#phase = 'preparing';
    const planned = await this.#planFor(quota.connections);
    const turns = new ConnectTurns(this.#options.allowance.ratePerSecMax);
    const prepared =
      'plan' in planned ? await secureSources(this.#spec, planned, this.#lease, undefined, turns) : planned;
    if (this.#isEnding) return;
    if (!('plan' in prepared)) {
      this.#refuse(prepared);
      return;
    }
    const refusals = prepared.plan.findings.filter((finding) => finding.severity === 'refuse');
    if (refusals.length > 0) {
      this.#refuse(refusals);
      return;
    }
    this.#preparation = prepared;
    this.#quota = quota.connections;
    if (quota.connections > 0) {
      this.#pool = this.#makePool(
        holderSpecs(
          this.#options.agent,
          this.#spec,
          prepared.plan,
          this.#capped(quota),
          this.#keepFree(quota),
        ),
      );
      const isReady = await this.#pool.ready();
      if (this.#isEnding) return;
      if (!isReady) {
        this.#refuse([notStarted(this.#notes.at(-1))]);
        return;
      }
    }
    this.#phase = 'standing-by';
    this.#say({
      type: 'ready',
      sources: [...prepared.plan.addresses],
      holders: this.#pool?.size ?? 0,
      findings: [...prepared.plan.findings],
      notes: [...prepared.notes],
    });
  }

  /** The offer was planned for the whole; a smaller quota may need fewer addresses and holders. */
  async #planFor(connections: number): Promise<Preparation | readonly Finding[]> {
    const { connections: whole } = this.#spec;
    const offered = this.#preparation;
    const { connectionsMax } = this.#options.allowance;
    const mayReach = Math.min(whole, offered?.plan.capacityMax ?? whole, connectionsMax);
    const wanted = this.#specMessage.mayGrow ? Math.max(connections, mayReach) : connections;
    if (offered !== null && wanted === whole) return offered;
    return prepareHost(this.#spec, wanted, this.#options.allowance);
  }

  #capped<Quota extends { connections: number; ratePerSec: number | null }>(quota: Quota): Quota {
    return { ...quota, ratePerSec: allowedShare(this.#options.allowance, quota.ratePerSec) };
  }

  /** A quota that may grow leaves as many tuples free as it can ever grow by. */
  #keepFree(quota: { connections: number }): number {
    return this.#specMessage.mayGrow ? this.#spec.connections - quota.connections : 0;
  }

  #makePool(specs: readonly HolderSpec[]): HolderPool {
    return new HolderPool({
      entryPath: this.#options.entryPath,
      specs,
      reportEveryMs: this.rhythm.reportEveryMs,
      lease: this.#ends,
      age: {
        clock: this.#options.clock,
        silentMs: this.rhythm.holderSilentMs,
        lookEveryMs: this.rhythm.checkEveryMs,
      },
      onChange: () => this.#changed(),
      onNote: (note) => this.#notes.push(note),
      onLosses: (losses) => this.#tellLosses(losses),
    });
  }

  /** The plan had memory for the holders of the whole; each growth brings more of them. */
  async #memoryLack(holders: number): Promise<Finding | null> {
    const freeBytes = memoryFree(await gatherHostFacts(this.#spec.endpoints));
    const neededBytes = holders * HOLDER_BYTES;
    return freeBytes === null || neededBytes <= freeBytes
      ? null
      : noMemoryFor(holders, neededBytes, freeBytes);
  }

  /** A lost agent's quota comes to us: new holders for the difference, from tuples that no holder has. */
  async #extend(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    const extra = quota.connections - this.#quota;
    const before = this.#quota;
    this.#quota = quota.connections;
    this.#growths += 1;
    const { plan } = this.#preparation!;
    const lack = await this.#memoryLack(holdersFor(extra, plan.shape));
    if (this.#isEnding) return;
    if (lack !== null) {
      this.#refuse([lack]);
      return;
    }
    const part = extra / quota.connections;
    const { ratePerSec } = this.#capped(quota);
    const share = {
      connections: extra,
      ratePerSec: ratePerSec === null ? null : ratePerSec * part,
      pendingMax: Math.max(1, Math.floor(quota.pendingMax * part)),
    };
    const taken = this.#pool?.tuplesEnd ?? 0;
    const specs = holderSpecs(this.#options.agent, this.#spec, plan, share, this.#keepFree(quota), {
      tuplesFrom: taken,
      indexFrom: this.#pool?.size ?? 0,
    });
    this.#pool ??= this.#makePool([]);
    // What is opened again counts too, so those that have opened everything give up a part of the rate as well.
    if (before > 0) this.#pool.pace(ratePerSec === null ? null : ratePerSec * (1 - part));
    this.#pool.add(specs);
    this.#wasSettled = false;
    this.#notes.push(`the quota grew from ${before} to ${quota.connections} because another agent was lost`);
    await this.#pool.ready();
    this.#hasMore = true;
    this.#startMore();
  }

  #startMore(): void {
    if (!this.#hasMore || this.#phase !== 'running' || this.#pool === null) return;
    this.#hasMore = false;
    this.#pool.start(this.#startedMs);
    // The new holders count their own lowest number from now; what they have not opened yet was never held.
    if (this.#isHolding) this.#pool.hold();
  }

  #start(): void {
    if (this.#phase !== 'standing-by') return;
    this.#phase = 'running';
    this.#startedMs = this.#options.clock.monotonicMs();
    const { facts } = this.#preparation!.sourcing;
    this.#watch = new KernelWatch({
      hasLocalEndpoint: facts.routes.some(({ local }) => local),
      synLadderSec: synLadderSec(facts.synLinearTimeouts),
    });
    this.#watch.start();
    this.#pool?.start(this.#startedMs);
    const { runMsMax } = this.#options.allowance;
    this.#durationTimer?.cancel();
    if (Number.isFinite(runMsMax)) {
      // Closing takes time, and the promise is that everything is closed by then.
      this.#durationTimer = after(runMsMax - Math.min(CLOSING_MS, runMsMax / 10), () => {
        this.#notes.push(`agent ${this.#options.agent} ended at its own --max-duration`);
        void this.stop();
      });
    }
    if (this.#pool === null) this.#report();
  }

  #hold(): void {
    if (this.#isHolding || this.#phase !== 'running') return;
    this.#isHolding = true;
    this.#pool?.hold();
    this.#counting = this.#countKernel('ramp-end');
  }

  /** Details are told as they come, if anybody wants them; the counts are in every stats message. */
  #tellLosses(losses: readonly Loss[]): void {
    if (!this.#spec.wantsLossDetails) return;
    const nowMs = this.#options.clock.monotonicMs() - this.#startedMs;
    const told = losses.map((loss) => (loss.atMs < 0 ? { ...loss, atMs: Math.max(0, nowMs) } : loss));
    this.#losses.add(told);
  }

  /** Tells at once when the holders settle, so that the barrier into the hold phase is not a second late. */
  #changed(): void {
    if (this.#phase !== 'running' || this.#pool === null) return;
    this.#startMore();
    const settled = this.#pool.settled;
    if (settled !== this.#wasSettled) this.#report();
    this.#wasSettled = settled;
  }

  #report(): void {
    this.#losses.nextReport();
    const stats = this.#withCut(this.#atEnd ?? this.#pool?.stats() ?? emptyStats());
    this.#options.send({
      type: 'stats',
      epoch: this.identity.epoch,
      sentAtMs: this.#options.clock.monotonicMs(),
      quota: this.#quota,
      stats: trimmed(statsNews(stats, this.#told)),
      holders: this.#pool?.health() ?? [],
      settled: this.#pool?.settled ?? true,
      kernel: [...this.#kernel],
    });
    this.#told = stats;
  }

  /** Details that the holders had and this agent has not told are cut too. */
  #withCut(stats: Stats): Stats {
    return { ...stats, lossDetailsCut: stats.lossDetailsCut + this.#losses.cut };
  }

  async #freshOpen(): Promise<number> {
    await this.#pool?.freshReport();
    return this.#pool?.stats().open ?? 0;
  }

  /** Asks the kernel, between two looks into our own books. */
  async #countKernel(when: KernelCount['when']): Promise<void> {
    if (this.#pool === null || this.#preparation === null) return;
    const { plan } = this.#preparation;
    const query = { sources: plan.addresses, ports: plan.ports, endpoints: this.#spec.endpoints };
    const counted = await countBesideBooks(query, () => this.#freshOpen());
    this.#kernel.push({ agent: this.#options.agent, when, ...counted });
  }

  /** The orderly end: count, close, tell. */
  async stop(): Promise<void> {
    if (this.#phase === 'closing' || this.#phase === 'over') return;
    const wasRunning = this.#phase === 'running';
    this.#phase = 'closing';
    this.#durationTimer?.cancel();
    this.#pool?.stopOpening();
    await this.#counting;
    if (wasRunning) await this.#countKernel('hold-end');
    // Read before closing: afterwards nothing is open by source, and every descriptor is spare.
    const atEnd = this.#pool?.stats() ?? emptyStats();
    this.#atEnd = atEnd;
    const healthAtEnd = this.#pool?.health() ?? [];
    const evidence = this.#watch?.evidence() ?? null;
    this.#watch?.stop();
    await this.#pool?.stop(CLOSE_TIMEOUT_MS);
    const closed = this.#pool?.stats() ?? emptyStats();
    await this.#giveBack(this.#spec.close === 'fin');
    this.#losses.lastWord();
    this.#still.look(this.#options.clock.monotonicMs());
    const still = this.#still.note(`agent ${this.#options.agent}`);
    if (still !== null) this.#notes.push(still);
    this.#say({
      type: 'done',
      epoch: this.identity.epoch,
      stats: toWire({
        ...this.#withCut(atEnd),
        closed: closed.closed,
        bytesIn: closed.bytesIn,
        bytesOut: closed.bytesOut,
      }),
      holders: healthAtEnd,
      kernel: [...this.#kernel],
      evidence: evidence as WireEvidence,
      notes: [...this.#notes],
    });
    this.#end();
  }

  /** The disorderly end: nobody is left to report to, or we must go. Sockets close with their processes. */
  abandon(): void {
    this.#pool?.kill();
    void this.#giveBackKilled();
    this.#end();
  }

  /** Sockets first, then aliases: an address that goes earlier would leave them silent on the target. */
  async #giveBack(hasFins: boolean): Promise<void> {
    await this.#preparing;
    const addresses = this.#lease.held.map((alias) => alias.address);
    if (hasFins && addresses.length > 0) await untilClosed(addresses, SOCKETS_GONE_MS);
    this.#notes.push(...(await this.#lease.release()));
  }

  async #giveBackKilled(): Promise<void> {
    await this.#preparing;
    this.#pool?.kill();
    await this.#pool?.gone(SOCKETS_GONE_MS);
    await this.#lease.release();
  }

  #loseSources(addresses: readonly string[]): void {
    this.#pool?.loseSources(addresses);
    // The final message carries a bounded number of notes.
    if (this.#notes.length >= LOSS_NOTES_MAX) return;
    const shown = addresses.slice(0, 8).join(', ');
    const more = addresses.length > 8 ? ` and ${addresses.length - 8} more` : '';
    this.#notes.push(
      `the source address ${shown}${more} disappeared from this host in mid-run: its connections count as dropped (alias-lost)`,
    );
  }

  #clearTimers(): void {
    this.#watch?.stop();
    this.#statsTimer?.cancel();
    this.#durationTimer?.cancel();
  }

  #end(): void {
    this.#clearTimers();
    if (this.#phase === 'over') return;
    this.#phase = 'over';
    this.#options.onOver();
  }
}
