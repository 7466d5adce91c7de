/**
 * Owns the proof that recordings and cases fit, and the replay of each recording through the rules as they are now. Must
 * never play a case.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { diagnose } from '../../src/judge/diagnosis.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { CASES } from './catalogue.ts';
import { gradeDiagnoses, gradeRun } from './expectation.ts';
import { KNOWN_WRONG } from './known-wrong.ts';
import type { Recording } from './recording.ts';

const FOLDER = join(repositoryRoot, 'test', 'cases', 'recordings');

function recordingNamed(name: string): Recording {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Recording;
}

test('every case has a recording, and every recording its case', () => {
  const recorded = readdirSync(FOLDER).map((file) => file.replace(/\.json$/, ''));
  assert.deepEqual(recorded.toSorted(), CASES.map(({ name }) => name).toSorted());
});

test('the list of what is known to be wrong names cases, and only those whose recording is wrong', () => {
  const wrong = CASES.filter(
    ({ name, expected }) => gradeRun(recordingNamed(name), expected).offences.length > 0,
  );
  assert.deepEqual([...KNOWN_WRONG].toSorted(), wrong.map(({ name }) => name).toSorted());
});

for (const { name, expected } of CASES) {
  const recording = recordingNamed(name);
  const { report } = recording;
  if (report === null || KNOWN_WRONG.has(name)) continue;
  test(`${name}: the rules say the same of the recording`, () => {
    assert.deepEqual(gradeDiagnoses(diagnose(report), expected, recording), []);
  });
}

test('recordings are small', () => {
  for (const file of readdirSync(FOLDER)) {
    const { length } = readFileSync(join(FOLDER, file));
    assert(length < 20_000, `${file} has ${length} bytes`);
  }
});
