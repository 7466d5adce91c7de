/**
 * Owns `npm run bench`: runs the measurements one after the other, prints them, and writes them to a file.
 *
 *   npm run bench -- [--quick] [bench-result.json]
 */
import { writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureConnectCost } from './connect-cost.ts';
import { measureEndOfRun } from './end-of-run.ts';
import { type Figure, formatFigure } from './figure.ts';
import { measureFillRate } from './fill-rate.ts';
import { measureHoldCost } from './hold-cost.ts';
import { measureJoinInFlood } from './join-in-flood.ts';
import { measureManyCost } from './many-cost.ts';
import { measureMessageCost } from './message-cost.ts';
import { measurePageCost } from './page-cost.ts';
import { measurePeers } from './peers.ts';
import { measureProbeCost } from './probe-cost.ts';
import { Yardstick } from './yardstick.ts';

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { quick: { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const isQuick = values.quick;
  const path = positionals[0] ?? 'bench-result.json';
  // npm runs scripts in the folder of package.json, where the sources are too.
  const yardstick = new Yardstick(join(process.cwd(), 'test', 'bench'));
  const figures: Figure[] = [];
  const skipped: string[] = [];
  const add = (measured: readonly Figure[]): void => {
    figures.push(...measured);
    for (const one of measured) console.log(formatFigure(one));
  };
  try {
    add(await measureConnectCost(yardstick, isQuick ? 3 : 7));
    add(await measureFillRate(yardstick));
    add(await measureHoldCost(yardstick, isQuick ? 10_000 : 60_000));
    add(await measureManyCost(yardstick, isQuick ? 10_000 : 60_000, isQuick));
    add(await measureEndOfRun());
    add(await measureJoinInFlood());
    add(await measurePageCost());
    add(await measureProbeCost(yardstick, join(process.cwd(), 'test', 'bench')));
    add(await measureMessageCost(yardstick, isQuick ? 1 : 5, 10_000));
    add(
      await measurePeers(yardstick, (line) => {
        skipped.push(line);
        console.log(line);
      }),
    );
  } finally {
    yardstick.remove();
  }
  const ok = figures.every((one) => one.ok);
  const machine = { cores: cpus().length, memoryBytes: totalmem(), kernel: release(), node: process.version };
  writeFileSync(path, `${JSON.stringify({ ok, isQuick, machine, figures, skipped }, null, 2)}\n`);
  console.log(`written to ${path}`);
  process.exitCode = ok ? 0 : 1;
}

await main();
