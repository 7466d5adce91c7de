/**
 * Owns what the coordinator knows of one agent: its quota, its last stats, what its kernel counted.
 * Must never decide what the run does next (run/run-state.ts).
 */

import type { Finding } from '../base/errors.ts';
import { DropReason, totalOf } from '../base/outcome.ts';
import type { AgentMessageOf } from '../control/message.ts';
import type { KernelEvidence } from '../host/kernel-evidence.ts';
import type { AgentReport, KernelCount } from '../judge/report.ts';
import {
  type AgentProgress,
  emptyStats,
  type HolderHealth,
  type Stats,
  type StatsNews,
  withAllLost,
  withNews,
} from '../stats/stats.ts';

/** One agent's books. */
export class AgentBooks {
  readonly name: string;
  quota = 0;
  capacity = 0;
  boundBy = 'none';
  sources: readonly string[] = [];
  findings: readonly Finding[] = [];
  notes: readonly string[] = [];
  stats: Stats = emptyStats();
  holders: readonly HolderHealth[] = [];
  kernel: readonly KernelCount[] = [];
  /** null until the agent is done */
  evidence: KernelEvidence | null = null;
  lost = false;
  #before = { atMs: 0, established: 0, ratePerSec: 0 };

  constructor(name: string) {
    this.name = name;
  }

  offered(offer: AgentMessageOf<'offer'>): void {
    this.capacity = offer.connectionsMax;
    this.boundBy = offer.boundBy;
    this.prepared(offer);
  }

  prepared(ready: AgentMessageOf<'offer'> | AgentMessageOf<'ready'>): void {
    this.sources = ready.sources;
    this.findings = ready.findings;
    this.notes = ready.notes;
  }

  /** Takes the newest stats; what they leave out has not changed. */
  reported(said: StatsNews): void {
    this.stats = withNews(this.stats, said);
  }

  /** Moves everything that it held to `dropped: agent-lost`. */
  lose(): void {
    if (this.lost) return;
    this.lost = true;
    this.stats = withAllLost(this.stats, DropReason.agentLost, this.quota);
    this.holders = this.holders.map((holder) => ({ ...holder, alive: false }));
  }

  /** Others attempt now what it did not: `quota` is what stays with it. */
  handedOver(): void {
    const unattempted = Math.max(0, this.quota - this.stats.attempted);
    this.stats = { ...this.stats, unattempted: Math.min(this.stats.unattempted, unattempted) };
  }

  /** A snapshot for the progress display; the rate is taken over at least half a second. */
  progress(atMs: number): AgentProgress {
    const { stats } = this;
    const elapsedMs = atMs - this.#before.atMs;
    if (elapsedMs >= 500) {
      const ratePerSec = ((stats.established - this.#before.established) * 1000) / elapsedMs;
      this.#before = { atMs, established: stats.established, ratePerSec: Math.max(0, ratePerSec) };
    }
    return {
      name: this.name,
      quota: this.quota,
      open: stats.open,
      established: stats.established,
      pending: stats.pending,
      failed: totalOf(stats.failed),
      dropped: totalOf(stats.dropped),
      ratePerSec: this.#before.ratePerSec,
      lost: this.lost,
    };
  }

  report(): AgentReport {
    const { stats } = this;
    return {
      name: this.name,
      quota: this.quota,
      established: stats.established,
      open: stats.open,
      held: stats.openMin,
      verified: stats.verified,
      failed: stats.failed,
      dropped: stats.dropped,
      capacity: this.capacity,
      boundBy: this.boundBy,
      sources: this.sources,
      lost: this.lost,
      holders: this.holders,
    };
  }
}

/** The sum over agents, named `total`. */
export function totalProgress(agents: readonly AgentProgress[]): AgentProgress {
  const sum = (pick: (agent: AgentProgress) => number): number =>
    agents.reduce((total, agent) => total + pick(agent), 0);
  return {
    name: 'total',
    quota: sum((agent) => agent.quota),
    open: sum((agent) => agent.open),
    established: sum((agent) => agent.established),
    pending: sum((agent) => agent.pending),
    failed: sum((agent) => agent.failed),
    dropped: sum((agent) => agent.dropped),
    ratePerSec: sum((agent) => agent.ratePerSec),
    lost: agents.length > 0 && agents.every((agent) => agent.lost),
  };
}
