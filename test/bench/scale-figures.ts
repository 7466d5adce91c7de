/**
 * Owns what the coordinator must show with many agents, as figures with bounds. Must never measure.
 */
import type { ScaleResult } from './coordinator-scale.ts';
import { type Figure, figure } from './figure.ts';

const RESIDENT_BYTES_MAX = 500_000_000;

/**
 * Judges two measurements.
 * @param few with a tenth of the agents, for the cost of one
 * @param many what the bounds are for
 */
export function scaleFigures(few: ScaleResult, many: ScaleResult): readonly Figure[] {
  const falselyLost = many.lost.length + many.cutOff.length + few.lost.length + few.cutOff.length;
  return [
    figure({
      name: 'join-seconds',
      meaning: `${many.agents} agents have joined and are ready`,
      value: many.joinSeconds,
      unit: 's',
      bound: 60,
      boundIs: 'at-most',
      samples: [few.joinSeconds, many.joinSeconds],
    }),
    figure({
      name: 'coordinator-cores',
      meaning: `CPU of the coordinator while ${many.agents} agents report each second`,
      value: many.coresUsed,
      unit: 'cores',
      bound: 1,
      boundIs: 'at-most',
      samples: [few.coresUsed, many.coresUsed],
    }),
    figure({
      name: 'coordinator-resident',
      meaning: 'highest resident size of the coordinator',
      value: many.residentBytesMax / 1e6,
      unit: 'MB',
      bound: RESIDENT_BYTES_MAX / 1e6,
      boundIs: 'at-most',
      samples: [few.residentBytesMax / 1e6, many.residentBytesMax / 1e6],
    }),
    figure({
      name: 'falsely-lost',
      meaning: 'agents declared lost or cut off though they reported',
      value: falselyLost,
      unit: 'agents',
      bound: 0,
      boundIs: 'at-most',
      samples: [],
    }),
    figure({
      name: 'cost-per-agent-ratio',
      meaning: `CPU per agent with ${many.agents} against ${few.agents}`,
      value: many.cpuMsPerAgentSecond / few.cpuMsPerAgentSecond,
      unit: '',
      bound: 1.5,
      boundIs: 'at-most',
      samples: [few.cpuMsPerAgentSecond, many.cpuMsPerAgentSecond],
    }),
  ];
}

/** What one coordinator is to carry: so many agents, each of which reports once a second. */
const AIM_AGENTS = 10_000;

/**
 * Judges what two measurements say of 10,000 agents: what a message costs, and what each further agent adds to the resident size.
 * @param few with fewer agents than `many`
 * @param many the more the nearer; with 10,000 nothing is foretold
 */
export function aimFigures(few: ScaleResult, many: ScaleResult): readonly Figure[] {
  const perAgent = (many.residentBytesMax - few.residentBytesMax) / (many.agents - few.agents);
  const resident = many.residentBytesMax + perAgent * (AIM_AGENTS - many.agents);
  return [
    figure({
      name: 'cores-at-10000',
      meaning: `CPU of the coordinator for ${AIM_AGENTS} messages a second, each as with ${many.agents} agents`,
      value: (many.cpuMsPerMessage * AIM_AGENTS) / 1_000,
      unit: 'cores',
      bound: 1,
      boundIs: 'at-most',
      samples: [few.cpuMsPerMessage, many.cpuMsPerMessage],
    }),
    figure({
      name: 'resident-at-10000',
      meaning: `highest resident size with ${AIM_AGENTS} agents, by what each one beyond ${few.agents} added`,
      value: resident / 1e6,
      unit: 'MB',
      bound: RESIDENT_BYTES_MAX / 1e6,
      boundIs: 'at-most',
      samples: [few.residentBytesMax / 1e6, many.residentBytesMax / 1e6],
    }),
  ];
}
