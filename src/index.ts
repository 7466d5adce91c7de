/**
 * Owns what a program gets that imports c100k-bench (docs/API.md). Must never have code of its own: the command line goes the
 * same way.
 */
export { type BenchHooks, plan, run } from './api/library.ts';
export type { BenchOptions, PlanOptions } from './api/options.ts';
export { BenchError, ErrorCode, ExitCode } from './base/errors.ts';
export { NeverRanError } from './coordinator/expected-agents.ts';
export type { AgentProgress, Progress } from './coordinator/run-progress.ts';
export type { RunReport } from './judge/report.ts';
export type { Plan } from './report/plan-text.ts';
export type { Phase } from './stats/stats.ts';
