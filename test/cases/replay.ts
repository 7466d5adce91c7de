/**
 * Owns playing a recording through the rules and the verdict as they are now. Must never judge anew what no rule decides: a pass, a
 * refusal, a run that never came about.
 */
import { diagnose } from '../../src/judge/diagnosis.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { judgeRun } from '../../src/judge/verdict.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import type { JudgedRun } from './expectation.ts';
import type { Recording } from './recording.ts';
import { factsOf } from './witness.ts';

function judgedAnew(report: RunReport, diagnoses: RunReport['diagnoses']): ReturnType<typeof judgeRun> {
  const { connections } = report;
  return judgeRun({
    connections: report.asked.connections,
    stats: {
      ...emptyStats(),
      failed: connections.failed,
      dropped: connections.dropped,
      established: connections.established,
      open: connections.open,
      openMin: connections.open,
      unattempted: connections.unattempted,
    },
    held: connections.held,
    provable: connections.held,
    isChanging: false,
    interrupted: null,
    refusals: [],
    agentsLost: report.agents.filter(({ lost }) => lost).length,
    withoutFinalCounts: [],
    kernelMismatch: false,
    blindHolder: null,
    targetProof: null,
    targetAddresses: 1,
    endedBeforeHold: report.hold.seconds === 0,
    requirements: report.requirements,
    abortedFor: null,
    generatorLimits: report.generator.limits,
    diagnoses,
  });
}

/** What would come out of the same run today, with the words that a person reads of it. */
export function replayed(recording: Recording): JudgedRun {
  const { report } = recording;
  if (report === null || report.diagnoses.length === 0) return recording;
  const diagnoses = diagnose(factsOf(recording, report));
  const judged = judgedAnew(report, diagnoses);
  const words = diagnoses.map(({ party, message, next }) => `${party}: ${message} next: ${next}`);
  const said = (report.evidence?.said.texts ?? []).map(({ text }) => text);
  return {
    ...recording,
    exitCode: judged.exitCode,
    report: { ...report, ...judged, diagnoses },
    text: [judged.verdict.toUpperCase(), judged.reason, ...words, ...report.notes, ...said].join(' '),
  };
}
