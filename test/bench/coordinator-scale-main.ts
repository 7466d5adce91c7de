/**
 * Owns `npm run bench:scale`: measures the coordinator with few and with many agents, prints both beside the bounds,
 * and writes them to a file.
 *
 *   npm run bench:scale -- [--few 200] [--many 2000] [--seconds 15] [--conns 1000] [--probing] [--every 1000] [--wait 60] [--profile] [scale-result.json]
 */
import { writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { measureScale, type ScaleOptions, type ScaleResult } from './coordinator-scale.ts';
import { formatFigure } from './figure.ts';
import { aimFigures, scaleFigures } from './scale-figures.ts';

function line(result: ScaleResult): string {
  const { agents, joinSeconds, coresUsed, cpuMsPerAgentSecond, residentBytesMax, lagMs } = result;
  return [
    `${agents} agents`,
    `messages of ${result.statsBytes} bytes (${result.fullBytes} with histograms)`,
    `joined in ${joinSeconds.toFixed(1)} s (${result.joinRetries} retries)`,
    `${coresUsed.toFixed(3)} cores`,
    `${cpuMsPerAgentSecond.toFixed(3)} ms CPU per agent and second`,
    `${result.cpuMsPerMessage.toFixed(3)} ms per message`,
    `${Math.round(residentBytesMax / 1e6)} MB (${Math.round(result.residentBytesMaxAtEnd / 1e6)} MB with the final messages and the report)`,
    `${Math.round((result.heapBytesPerAgent ?? 0) / 1e3)} kB of heap per agent`,
    `lag p50 ${lagMs.p50.toFixed(1)} p99 ${lagMs.p99.toFixed(1)} max ${lagMs.max.toFixed(1)} ms`,
    `${result.lost.length} lost, ${result.cutOff.length} cut off`,
    result.verdict,
  ].join(', ');
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      few: { type: 'string', default: '200' },
      many: { type: 'string', default: '2000' },
      seconds: { type: 'string', default: '15' },
      conns: { type: 'string', default: '1000' },
      holders: { type: 'string', default: '2' },
      clients: { type: 'string', default: '3' },
      probing: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      wait: { type: 'string', default: '60' },
      every: { type: 'string', default: '1000' },
    },
    allowPositionals: true,
  });
  const path = positionals[0] ?? 'scale-result.json';
  const optionsFor = (agents: number): ScaleOptions => ({
    agents,
    steadyMs: Number(values.seconds) * 1_000,
    connectionsPerAgent: Number(values.conns),
    holdersPerAgent: Number(values.holders),
    clientProcesses: Number(values.clients),
    isProbing: values.probing,
    reportEveryMs: Number(values.every),
    coordinatorNodeArguments: values.profile
      ? ['--expose-gc', '--cpu-prof', '--cpu-prof-dir=scale-profile']
      : ['--expose-gc'],
    waitAgentsMs: Number(values.wait) * 1_000,
  });
  const results: ScaleResult[] = [];
  for (const agents of [Number(values.few), Number(values.many)]) {
    const result = await measureScale(optionsFor(agents));
    console.log(line(result));
    results.push(result);
  }
  const [few, many] = results as [ScaleResult, ScaleResult];
  const figures = [...scaleFigures(few, many), ...aimFigures(few, many)];
  for (const one of figures) console.log(formatFigure(one));
  const ok = figures.every((one) => one.ok);
  const machine = { cores: cpus().length, memoryBytes: totalmem(), kernel: release(), node: process.version };
  writeFileSync(path, `${JSON.stringify({ ok, machine, figures, results }, null, 2)}\n`);
  console.log(`written to ${path}`);
  process.exitCode = ok ? 0 : 1;
}

await main();
