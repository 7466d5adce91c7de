/**
 * Owns the facts of one agent that a report is made from. Must never know how the coordinator gathers them.
 */
import type { Finding } from '../base/finding.ts';
import type { KernelEvidence } from '../host/kernel-evidence.ts';
import type { HolderHealth, Stats } from '../stats/stats.ts';
import type { AgentReport, KernelCount } from './report.ts';

/** What is known of one agent. */
export interface AgentFacts {
  readonly stats: Stats;
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
  /** null until the agent is done */
  readonly evidence: KernelEvidence | null;
  readonly name: string;
  readonly lost: boolean;
  /** its row in the report */
  report(): AgentReport;
}
