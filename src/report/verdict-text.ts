/** Owns the verdict of a report in one line, why it is that one, and the counts of messages in words. Must never decide it (judge/verdict.ts). */
import { ExitCode } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import type { RunReport } from '../judge/report.ts';
import { formatWholeSeconds } from './layout.ts';

/**
 * One line, such as `PASS (kernel only) held 130,000 of 130,000 for 30 s`.
 * @param report the final numbers
 */
export function verdictLine(report: RunReport): string {
  const { held } = report.connections;
  const asked = report.asked.connections;
  const word = `${report.verdict.toUpperCase()}${isKernelOnly(report) ? ' (kernel only)' : ''}`;
  if (report.verdict === 'refused') return `${word} nothing was opened`;
  const time = report.hold.seconds > 0 ? ` for ${formatWholeSeconds(report.hold.seconds)}` : '';
  return `${word} held ${formatCount(held)} of ${formatCount(asked)}${time}`;
}

/** Whether a pass rests on nothing but kernels: no application has answered, and none has counted as many itself. */
function isKernelOnly({ verdict, hold, target, connections }: RunReport): boolean {
  const isCounted = target !== null && target.openNow >= connections.held;
  return verdict === 'pass' && hold.proof === 'kernel-only' && !isCounted;
}

/** Why the verdict is what it is, without the counts that its line has. */
export function reasonText(report: RunReport): string {
  const { held } = report.connections;
  const repeated = `${formatCount(held)} of ${formatCount(report.asked.connections)} held: `;
  return report.reason.startsWith(repeated) ? report.reason.slice(repeated.length) : report.reason;
}

/** Whether a person or a supervisor has ended the run: that is no failure of either side. */
export function isInterrupted({ exitCode }: RunReport): boolean {
  return exitCode === ExitCode.interrupted || exitCode === ExitCode.terminated;
}

/** What became of the messages that were asked for; empty: none was. */
export function messagePieces({ messages }: Pick<RunReport, 'messages'>): string[] {
  if (messages == null) return [];
  const { sent, answered, wrong, late, missing, ratePerSec, areAnswered } = messages;
  const answers = [
    `answered ${formatCount(answered)}`,
    `wrong ${formatCount(wrong)}`,
    `late ${formatCount(late)}`,
    `missing ${formatCount(missing)}`,
  ];
  return [
    `sent ${formatCount(sent)}`,
    ...(areAnswered ? answers : ['no answer asked for']),
    `${formatCount(Math.round(ratePerSec))}/s while holding`,
  ];
}
