/**
 * Owns the command `npm run torture`: every failure of every scenario, or a sample, or those whose line has a text.
 *
 *   npm run torture -- [--seed S] [--sample N] [--filter TEXT]
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { tortureRound } from './torture.ts';

const { values } = parseArgs({
  options: { seed: { type: 'string' }, sample: { type: 'string' }, filter: { type: 'string' } },
});
const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed);
const ends: (() => void)[] = [];
try {
  const began = performance.now();
  const { tried, missed, faults } = await tortureRound({
    after: { after: (end) => void ends.push(end as () => void) },
    seed,
    sample: values.sample === undefined ? null : Number(values.sample),
    filter: values.filter ?? null,
    onLine: (line) => console.log(line),
  });
  const seconds = Math.round((performance.now() - began) / 1_000);
  console.log(
    `seed ${seed}: ${tried} failures in ${seconds} s, ${missed} came too late, ${faults.length} faults`,
  );
  for (const fault of faults) console.log(`FAULT ${fault}`);
  process.exitCode = faults.length > 0 ? 1 : 0;
} finally {
  for (const end of ends) end();
}
