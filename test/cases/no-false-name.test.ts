/**
 * Owns the proof that no run with one known cause has another party named, over 100,000 draws: whatever the number of connections,
 * the ramp, the evidence that is missing, and what else goes on on the host.
 */
import assert from 'node:assert/strict';
import process from 'node:process';
import { test } from 'node:test';
import { diagnose } from '../../src/judge/diagnosis.ts';
import { DRAWN_CAUSES } from './drawn-causes.ts';
import { drawRun, factsOf, randomFrom } from './drawn-run.ts';

const DRAWS = Number(process.env.DRAWS ?? 100_000);
const OLDER_SHARE = 0.1;

/** From here nothing tells these from what another party does. */
const NEVER_TOLD_APART: readonly string[] = [
  'one back end is silent',
  'the host of one endpoint is down',
  'everything is dropped',
  'a router rejects by reset',
  'a NAT forgets and resets',
];

interface Sums {
  right: number;
  unknown: number;
  nothing: number;
}

test(`${DRAWS.toLocaleString('en-US')} drawn runs with one cause: no other party is named, and each cause is known at times`, () => {
  const sums = new Map<string, Sums>(
    DRAWN_CAUSES.map(({ name }) => [name, { right: 0, unknown: 0, nothing: 0 }]),
  );
  const wrong: string[] = [];
  for (let seed = 0; seed < DRAWS; seed++) {
    const random = randomFrom(seed);
    const cause = DRAWN_CAUSES[seed % DRAWN_CAUSES.length]!;
    const draw = drawRun(random);
    cause.apply(draw);
    const facts = factsOf(draw, random() >= OLDER_SHARE);
    const list = diagnose(facts);
    const sum = sums.get(cause.name)!;
    sum[list.length === 0 ? 'nothing' : list[0]!.party === cause.party ? 'right' : 'unknown'] += 1;
    const others = list.filter(({ party }) => party !== cause.party && party !== 'unknown');
    for (const { what, count, message } of others)
      if (wrong.length < 20)
        wrong.push(`seed ${seed}: ${cause.name} (${cause.party}): ${what} for ${count}: ${message}`);
    const explained = list.reduce((total, { count }) => total + count, 0);
    const { failed, dropped, open, verified, held } = facts.connections;
    const missing = [...Object.values(failed), ...Object.values(dropped)].reduce(
      (total, count) => total + count,
      0,
    );
    const unanswered = facts.asked.probeEveryMs === null ? 0 : open - verified;
    const unheld = facts.asked.probeEveryMs === null && facts.hold.seconds > 0 ? open - held : 0;
    assert.equal(explained, missing + unanswered + unheld, `seed ${seed}: each connection is explained once`);
  }
  assert.deepEqual(wrong, []);
  if (process.env.SUMS !== undefined)
    console.log([...sums].map(([name, one]) => `${name}: ${JSON.stringify(one)}`).join('\n'));
  const neverNamed = [...sums].filter(([, { right }]) => right === 0).map(([name]) => name);
  assert.deepEqual(neverNamed, NEVER_TOLD_APART);
});
