/**
 * Owns one host's share of one run: what it offers, its holders, what it counts, how it ends.
 * Must never own the control channel (agent.ts) or a target socket (holder.ts).
 */
import type { AgentMessage, CoordinatorMessage, CoordinatorMessageOf } from '../control/message.ts';
import { type Allowance, allowedShare, checkAllowance } from '../core/allowance.ts';
import type { Finding } from '../core/finding.ts';
import type { KernelCount } from '../core/report.ts';
import type { HolderSpec, RunSpec } from '../core/run-spec.ts';
import { emptyStats, type Stats } from '../core/stats.ts';
import { countEstablished } from '../host/kernel-count.ts';
import { HolderPool } from './holder-pool.ts';
import { holderSpecs, type Preparation, prepareHost } from './preparation.ts';

const STATS_EVERY_MS = 1_000;
/** Closing 20,000 sockets takes a holder well under a second; the rest is for a loaded machine. */
const CLOSE_TIMEOUT_MS = 20_000;
const FRESH_REPORT_MS = 3_000;
/** More sources than this are told only in the final message, because stats go out every second. */
const SOURCES_EACH_SECOND_MAX = 1_024;

export interface RunShareOptions {
  readonly agent: string;
  readonly entryPath: string;
  /** what this host's owner allows, whatever the coordinator says */
  readonly allowance: Allowance;
  /** drops the message when there is no contact: what matters is said again by `resend` */
  readonly send: (message: AgentMessage) => void;
  /** the share is over and everything is closed */
  readonly onOver: () => void;
}

type SharePhase = 'waiting' | 'offering' | 'preparing' | 'standing-by' | 'running' | 'closing' | 'over';

/** One share of one run. */
export class RunShare {
  readonly #options: RunShareOptions;
  readonly #specMessage: CoordinatorMessageOf<'spec'>;
  readonly #spec: RunSpec;
  readonly #notes: string[] = [];
  #phase: SharePhase = 'waiting';
  #preparation: Preparation | null = null;
  #pool: HolderPool | null = null;
  #quota = 0;
  #kernel: KernelCount[] = [];
  #counting: Promise<void> = Promise.resolve();
  #isHolding = false;
  /** the books when closing began: what is closed by then is not lost */
  #atEnd: Stats | null = null;
  #statsTimer: NodeJS.Timeout | null = null;
  #durationTimer: NodeJS.Timeout | null = null;
  #wasSettled = false;
  /** the last message that the coordinator cannot do without */
  #lastSaid: AgentMessage | null = null;

  constructor(message: CoordinatorMessageOf<'spec'>, options: RunShareOptions) {
    this.#options = options;
    this.#specMessage = message;
    this.#spec = message.spec as RunSpec;
  }

  get leaseMs(): number {
    return this.#specMessage.leaseMs;
  }

  get quietMs(): number {
    return this.#specMessage.quietMs;
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
  take(message: CoordinatorMessage): void {
    // A rejected promise here is a bug of ours: it must end the process, and Node does that for us.
    switch (message.type) {
      case 'spec':
      case 'renew':
        break;
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
    if (this.#lastSaid !== null) this.#options.send(this.#lastSaid);
    if (this.#phase === 'running') this.#report();
  }

  /** Too long without contact: opens nothing until `resume`. */
  pause(): void {
    this.#pool?.pause();
  }

  resume(): void {
    this.#pool?.resume();
  }

  #say(message: AgentMessage): void {
    this.#lastSaid = message;
    this.#options.send(message);
  }

  /** Finds out what this host can do, and says so. From now on it gives a sign of life each second. */
  async offer(): Promise<void> {
    this.#phase = 'offering';
    this.#statsTimer = setInterval(() => this.#report(), STATS_EVERY_MS);
    const { allowance } = this.#options;
    const forbidden = checkAllowance(allowance, this.#spec);
    if (forbidden.length > 0) {
      this.#refuse(forbidden);
      return;
    }
    const prepared = await prepareHost(this.#spec, this.#spec.connections);
    if (!('plan' in prepared)) {
      this.#refuse(prepared);
      return;
    }
    this.#preparation = prepared;
    const { plan } = prepared;
    const isCapped = allowance.connectionsMax < plan.capacityMax;
    this.#say({
      type: 'offer',
      connectionsMax: Math.min(plan.capacityMax, allowance.connectionsMax),
      boundBy: isCapped ? 'max-conns' : plan.boundBy,
      findings: [...plan.findings],
      sources: [...plan.addresses],
      notes: [...prepared.notes],
    });
  }

  #refuse(findings: readonly Finding[]): void {
    this.#say({ type: 'refuse', findings: [...findings] });
  }

  async #takeQuota(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    const isFirst = this.#phase === 'offering';
    const isMore =
      (this.#phase === 'running' || this.#phase === 'standing-by') && quota.connections > this.#quota;
    if (isFirst) await this.#prepare(quota);
    else if (isMore) await this.#extend(quota);
  }

  async #prepare(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    this.#phase = 'preparing';
    const prepared = await this.#planFor(quota.connections);
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
      if (!(await this.#pool.ready())) {
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
    const mayReach = offered === null ? whole : Math.min(whole, offered.plan.capacityMax);
    const wanted = this.#specMessage.mayGrow ? Math.max(connections, mayReach) : connections;
    if (offered !== null && wanted === whole) return offered;
    return prepareHost(this.#spec, wanted);
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
      onChange: () => this.#changed(),
      onNote: (note) => this.#notes.push(note),
    });
  }

  /** A lost agent's quota comes to us: new holders for the difference, from tuples that no holder has. */
  async #extend(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    const extra = quota.connections - this.#quota;
    const before = this.#quota;
    this.#quota = quota.connections;
    const { plan } = this.#preparation!;
    const share = this.#capped({
      connections: extra,
      ratePerSec: quota.ratePerSec === null ? null : (quota.ratePerSec * extra) / quota.connections,
      pendingMax: Math.max(1, Math.floor((quota.pendingMax * extra) / quota.connections)),
    });
    const taken = this.#pool?.tuplesEnd ?? 0;
    const specs = holderSpecs(this.#options.agent, this.#spec, plan, share, this.#keepFree(quota), {
      tuplesFrom: taken,
      indexFrom: this.#pool?.size ?? 0,
    });
    this.#pool ??= this.#makePool([]);
    this.#pool.add(specs);
    this.#wasSettled = false;
    this.#notes.push(`the quota grew from ${before} to ${quota.connections} because another agent was lost`);
    await this.#pool.ready();
    if (this.#phase !== 'running') return;
    this.#pool.start();
    // The new holders count their own lowest number from now; what they have not opened yet was never held.
    if (this.#isHolding) this.#pool.hold();
  }

  #start(): void {
    if (this.#phase !== 'standing-by') return;
    this.#phase = 'running';
    this.#pool?.start();
    const { runMsMax } = this.#options.allowance;
    if (Number.isFinite(runMsMax)) {
      this.#durationTimer = setTimeout(() => {
        this.#notes.push(`agent ${this.#options.agent} ended at its own --max-duration`);
        void this.stop();
      }, runMsMax);
    }
    if (this.#pool === null) this.#report();
  }

  #hold(): void {
    if (this.#isHolding || this.#phase !== 'running') return;
    this.#isHolding = true;
    this.#pool?.hold();
    this.#counting = this.#countKernel('ramp-end');
  }

  /** Tells at once when the holders settle, so that the barrier into the hold phase is not a second late. */
  #changed(): void {
    if (this.#phase !== 'running' || this.#pool === null) return;
    const settled = this.#pool.settled;
    if (settled !== this.#wasSettled) this.#report();
    this.#wasSettled = settled;
  }

  #report(): void {
    const stats = this.#atEnd ?? this.#pool?.stats() ?? emptyStats();
    this.#options.send({
      type: 'stats',
      epoch: this.identity.epoch,
      quota: this.#quota,
      stats: trimmed(stats),
      holders: this.#pool?.health() ?? [],
      settled: this.#pool?.settled ?? true,
      kernel: [...this.#kernel],
    });
  }

  /** Asks the kernel, with our own books read right after it. */
  async #countKernel(when: KernelCount['when']): Promise<void> {
    if (this.#pool === null || this.#preparation === null) return;
    const { plan } = this.#preparation;
    const counted = await countEstablished({
      sources: plan.addresses,
      ports: plan.ports,
      endpoints: this.#spec.endpoints,
    });
    await this.#pool.freshReport(FRESH_REPORT_MS);
    this.#kernel.push({
      agent: this.#options.agent,
      when,
      established: counted.established,
      open: this.#pool.stats().open,
      method: counted.method,
    });
  }

  /** The orderly end: count, close, tell. */
  async stop(): Promise<void> {
    if (this.#phase === 'closing' || this.#phase === 'over') return;
    const wasRunning = this.#phase === 'running';
    this.#phase = 'closing';
    if (this.#durationTimer !== null) clearTimeout(this.#durationTimer);
    this.#pool?.stopOpening();
    await this.#counting;
    if (wasRunning) await this.#countKernel('hold-end');
    // Read before closing: afterwards nothing is open by source, and every descriptor is spare.
    const atEnd = this.#pool?.stats() ?? emptyStats();
    this.#atEnd = atEnd;
    const healthAtEnd = this.#pool?.health() ?? [];
    await this.#pool?.stop(CLOSE_TIMEOUT_MS);
    const closed = this.#pool?.stats() ?? emptyStats();
    this.#say({
      type: 'done',
      epoch: this.identity.epoch,
      stats: toWire({ ...atEnd, closed: closed.closed, bytesIn: closed.bytesIn, bytesOut: closed.bytesOut }),
      holders: healthAtEnd,
      kernel: [...this.#kernel],
      notes: [...this.#notes],
    });
    this.#end();
  }

  /** The disorderly end: nobody is left to report to, or we must go. Sockets close with their processes. */
  abandon(): void {
    this.#pool?.kill();
    this.#end();
  }

  #clearTimers(): void {
    if (this.#statsTimer !== null) clearInterval(this.#statsTimer);
    if (this.#durationTimer !== null) clearTimeout(this.#durationTimer);
  }

  #end(): void {
    this.#clearTimers();
    if (this.#phase === 'over') return;
    this.#phase = 'over';
    this.#options.onOver();
  }
}

type WireStats = Extract<AgentMessage, { type: 'stats' }>['stats'];

/** Stats as the schema types them: plain mutable records; the values are the same. */
function toWire(stats: Stats): WireStats {
  return stats as unknown as WireStats;
}

/** Leaves out the long tables that only the final message carries. */
function trimmed(stats: Stats): WireStats {
  const sources = Object.keys(stats.openBySource).length;
  const endpoints = Object.keys(stats.openByEndpoint).length;
  return toWire({
    ...stats,
    openBySource: sources > SOURCES_EACH_SECOND_MAX ? {} : stats.openBySource,
    openByEndpoint: endpoints > SOURCES_EACH_SECOND_MAX ? {} : stats.openByEndpoint,
  });
}

function notStarted(why: string | undefined): Finding {
  return {
    what: 'holders',
    severity: 'refuse',
    needed: null,
    available: null,
    unit: 'holders',
    message: why ?? 'the holder processes did not start in time',
    fix: 'see the lines above; fewer --holders need less memory and time to start',
  };
}
