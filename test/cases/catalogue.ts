/** Owns the list of all cases. Must never have two of one name. */
import assert from 'node:assert/strict';
import type { CaseSpec } from './case.ts';
import { FIREWALL_CASES } from './catalogue/firewall.ts';
import { GONE_CASES } from './catalogue/gone.ts';
import { HANDSHAKE_CASES } from './catalogue/handshakes.ts';
import { HOLD_END_CASES } from './catalogue/hold-end.ts';
import { LIMIT_CASES } from './catalogue/limits.ts';
import { OWN_SIDE_CASES } from './catalogue/own-side.ts';
import { PLACE_CASES } from './catalogue/places.ts';
import { RIGHT_CASES } from './catalogue/right.ts';
import { TIMEOUT_CASES } from './catalogue/timeouts.ts';
import { WORD_CASES } from './catalogue/words.ts';

export const CASES: readonly CaseSpec[] = [
  ...TIMEOUT_CASES,
  ...WORD_CASES,
  ...PLACE_CASES,
  ...FIREWALL_CASES,
  ...LIMIT_CASES,
  ...GONE_CASES,
  ...OWN_SIDE_CASES,
  ...HANDSHAKE_CASES,
  ...HOLD_END_CASES,
  ...RIGHT_CASES,
];

const names = new Set(CASES.map(({ name }) => name));
assert.equal(names.size, CASES.length, 'two cases have one name');
for (const { name, looksLike } of CASES)
  assert(
    looksLike === undefined || names.has(looksLike),
    `${name} looks like ${looksLike}, which is no case`,
  );
