/**
 * Owns the recording of real runs as fixtures of the diagnoses: `node build/test/support/record-faults.js [name]` runs the
 * faults (as root, for those with networks) and writes what the program reported to test/judge/fixtures.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { RunReport } from '../../src/judge/report.ts';
import { SCENARIOS } from './fault-scenarios.ts';
import { repositoryRoot } from './run-cli.ts';

/** What a diagnosis rests on, and how it came about. */
function fixtureOf(fault: string, command: string, report: RunReport): unknown {
  const { asked, connections, probes, losses, hold, kernel, target, agents, generator } = report;
  return {
    fault,
    command,
    recordedOn: `Linux ${release()}`,
    verdict: report.verdict,
    exitCode: report.exitCode,
    reason: report.reason,
    whoRanOut: report.whoRanOut,
    diagnosed: report.diagnoses.map(({ what }) => what),
    facts: {
      asked,
      connections,
      probes,
      losses: { ...losses, counts: losses.counts.slice(0, 8) },
      hold,
      kernel,
      target,
      agents: agents.map((agent) => ({ ...agent, sources: agent.sources.slice(0, 4), holders: [] })),
      generator: { limits: generator.limits, loopLagMsMax: generator.loopLagMsMax },
    },
  };
}

const folder = process.env.FIXTURES ?? join(repositoryRoot, 'test', 'judge', 'fixtures');
mkdirSync(folder, { recursive: true });
const filter = process.argv[2] ?? '';
for (const [name, scenario] of Object.entries(SCENARIOS)) {
  if (!name.includes(filter)) continue;
  const cleanups: (() => unknown)[] = [];
  try {
    const { command, report } = await scenario.run({
      after: (cleanup) => cleanups.push(cleanup as () => unknown),
    });
    writeFileSync(
      join(folder, `${name}.json`),
      `${JSON.stringify(fixtureOf(scenario.fault, command, report), null, 2)}\n`,
    );
    console.log(
      `${name}: ${report.verdict} ${report.whoRanOut} [${report.diagnoses.map(({ what }) => what).join(', ')}] ${report.reason}`,
    );
  } catch (error) {
    console.log(`${name}: ${(error as Error).message}`);
    process.exitCode = 1;
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}
