/**
 * Owns the proof that recordings and cases fit, and the replay of each recording through the rules as they are now. Must
 * never play a case.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { repositoryRoot } from '../support/run-cli.ts';
import { CASES } from './catalogue.ts';
import { diagnosisPage } from './confusion.ts';
import { gradeRun } from './expectation.ts';
import { KNOWN_WRONG, NAMED_WRONG } from './known-wrong.ts';
import type { Recording } from './recording.ts';
import { replayed } from './replay.ts';

const FOLDER = join(repositoryRoot, 'test', 'cases', 'recordings');

function recordingNamed(name: string): Recording {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Recording;
}

test('every case has a recording, and every recording its case', () => {
  const recorded = readdirSync(FOLDER).map((file) => file.replace(/\.json$/, ''));
  assert.deepEqual(recorded.toSorted(), CASES.map(({ name }) => name).toSorted());
});

test('the list of what is known to be wrong names cases, and only those whose replay is wrong', () => {
  const wrong = CASES.filter(
    ({ name, expected }) => gradeRun(replayed(recordingNamed(name)), expected).offences.length > 0,
  );
  assert.deepEqual([...KNOWN_WRONG].toSorted(), wrong.map(({ name }) => name).toSorted());
});

for (const { name, expected } of CASES)
  test(`${name}: no other party is named`, () => {
    const run = replayed(recordingNamed(name));
    if (NAMED_WRONG.has(name)) assert.equal(gradeRun(run, expected).party, 'wrong');
    else assert.notEqual(gradeRun(run, expected).party, 'wrong');
  });

test('docs/DIAGNOSIS.md says what comes out', () => {
  const page = diagnosisPage(CASES.map((spec) => [spec, recordingNamed(spec.name)] as const));
  const written = readFileSync(join(repositoryRoot, 'docs', 'DIAGNOSIS.md'), 'utf8');
  assert.equal(written, page, 'write it anew: npm run cases -- --page');
});

test('recordings are small', () => {
  for (const file of readdirSync(FOLDER)) {
    const { length } = readFileSync(join(FOLDER, file));
    assert(length < 20_000, `${file} has ${length} bytes`);
  }
});
