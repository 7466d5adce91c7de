/**
 * Owns the command `npm run torture`: every failure of every scenario, or one part of so many, or a sample, or those whose line an
 * expression matches.
 *
 *   npm run torture -- [--list] [--part K/N] [--labs N] [--seed S] [--sample N] [--filter EXPRESSION]
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { type RoundOptions, tortureRound } from './torture.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    sample: { type: 'string' },
    filter: { type: 'string' },
    part: { type: 'string' },
    labs: { type: 'string' },
    list: { type: 'boolean' },
  },
});

/** `2/6`. */
function readPart(text: string | undefined): RoundOptions['part'] {
  if (text === undefined) return null;
  const [which = 0, of = 0] = text.split('/').map(Number);
  if (!(which >= 1 && which <= of)) throw new Error(`--part is K/N with K from 1 to N, not ${text}`);
  return { which, of };
}

const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed);
const ends: (() => void)[] = [];
try {
  const began = performance.now();
  const { tried, missed, faults } = await tortureRound({
    after: { after: (end) => void ends.push(end as () => void) },
    seed,
    sample: values.sample === undefined ? null : Number(values.sample),
    filter: values.filter ?? null,
    part: readPart(values.part),
    labs: values.labs === undefined ? null : Number(values.labs),
    isList: values.list === true,
    onLine: (line) => console.log(line),
  });
  const seconds = Math.round((performance.now() - began) / 1_000);
  for (const fault of faults) console.log(`FAULT ${fault}`);
  console.log(
    `seed ${seed}: ${tried} failures tried in ${seconds} s, ${missed} came too late, ${faults.length} faults`,
  );
  process.exitCode = faults.length > 0 ? 1 : 0;
} finally {
  for (const end of ends) end();
}
