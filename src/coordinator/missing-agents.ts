/**
 * Owns who was expected, who came and who is missing, in words for a person. Must never decide how long to wait.
 */
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { RunReport } from '../judge/report.ts';
import type { EndReason } from '../run/run-event.ts';
import type { RunState } from '../run/run-state.ts';

/** No run was started. There is a report all the same: one that asked for it reads there which agents were missing. */
export class NeverRanError extends BenchError {
  readonly report: RunReport;

  constructor({ code, exitCode, message, hint }: BenchError, report: RunReport) {
    super(code, exitCode, message, hint);
    this.report = report;
  }
}

/** Names of agents in one line for a person at most. */
const NAMES_SHOWN_MAX = 10;

/** Names of agents that are here. */
type Present = Pick<ReadonlySet<string>, 'has'>;

/** What is known of the hosts that ssh starts agents on. */
interface StartedBySsh {
  /** hosts where no agent could be started */
  readonly failed: readonly string[];
  /** names that were to come and are not among those present */
  missing(present: Present): readonly string[];
}

/** Some names, and how many more there are. */
function namesOf(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN_MAX;
  return names.slice(0, NAMES_SHOWN_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/**
 * Who has come and how many are missing.
 * @param ssh null: none was started by ssh
 * @returns null once all are here, or where none is waited for
 */
export function waitingNote(state: RunState, remoteAgents: number, ssh: StartedBySsh | null): string | null {
  const { phase, terms } = state;
  if (phase !== 'gathering' || remoteAgents === 0) return null;
  const agents = [...state.agents.values()];
  const missing = terms.agentsExpected - agents.length;
  if (missing === 0 && !agents.some((agent) => agent.isCut)) return null;
  const names = agents.map((agent) => (agent.isCut ? `${agent.id} (cut off)` : agent.id));
  const here = names.length === 0 ? 'none' : namesOf(names);
  const started = ssh?.missing(state.agents) ?? [];
  const named = started.length === 0 ? '' : `: ${namesOf(started)}`;
  return `waiting for agents: ${here} here, ${missing} of ${terms.agentsExpected} missing${named}`;
}

/**
 * The error of a run that was never started.
 * @param waitedMs how long agents were waited for
 * @param ssh null: none was started by ssh
 * @returns null when it did
 */
export function neverRan(reason: EndReason, waitedMs: number, ssh: StartedBySsh | null): BenchError | null {
  if (reason.type === 'agents-missing') return missingError(reason, waitedMs, ssh);
  if (reason.type !== 'agents-not-ready') return null;
  return new BenchError(
    ErrorCode.agentLost,
    ExitCode.incomplete,
    `not ready in time: ${reason.missing.join(', ')}`,
    'see what these agents say on their own stderr',
  );
}

function missingError(
  { joined, silent, expected }: Extract<EndReason, { type: 'agents-missing' }>,
  waitedMs: number,
  ssh: StartedBySsh | null,
): BenchError {
  const seconds = Math.ceil(waitedMs / 1000);
  const came = joined.length === 0 ? 'none came' : `only ${namesOf(joined)} came`;
  const quiet = silent.length === 0 ? '' : `; ${namesOf(silent)} came and stopped answering`;
  const missing = ssh?.missing(new Set([...joined, ...silent])) ?? [];
  const failed = ssh?.failed ?? [];
  const named =
    failed.length > 0
      ? `; none could be started on ${namesOf(failed)}`
      : missing.length > 0
        ? `; missing: ${namesOf(missing)}`
        : '';
  return new BenchError(
    ErrorCode.agentMissing,
    ExitCode.incomplete,
    `${expected} agent(s) expected, ${came} in ${seconds} s${quiet}${named}`,
    ssh === null
      ? 'start the missing ones with the join line above, or wait longer: --wait-agents 5m'
      : 'see what ssh said above, and try by hand: ssh -o BatchMode=yes user@host true',
  );
}
