/**
 * Owns the proof that recordings and cases fit, and the replay of each recording through the rules as they are now. Must
 * never play a case.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { junitXml } from '../../src/report/formats.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { CASES } from './catalogue.ts';
import { diagnosisPage } from './confusion.ts';
import { gradeRun } from './expectation.ts';
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

for (const { name, expected } of CASES)
  test(`${name}: party, rule, counts, exit code and words are right`, () => {
    assert.deepEqual(gradeRun(replayed(recordingNamed(name)), expected).offences, []);
  });

test('text, JSON, exit code and JUnit of each recording say the same', () => {
  for (const { name } of CASES) {
    const recording = recordingNamed(name);
    const { report, exitCode, text } = recording;
    if (report === null) continue;
    const { verdict, whoRanOut, diagnoses } = report;
    assert.equal(exitCode, report.exitCode, `${name}: the exit code of the process and of the JSON`);
    const [main] = diagnoses;
    if (verdict === 'fail' && main !== undefined) assert.equal(whoRanOut, main.party, name);
    if (verdict === 'pass') assert.deepEqual([whoRanOut, exitCode], [null, 0], name);
    if (verdict === 'fail') assert.equal(exitCode, 1, name);
    if (whoRanOut === 'unknown' || whoRanOut === 'path' || whoRanOut === 'target')
      assert.equal(exitCode, 1, name);
    // The last line of a run, where only the path of its report follows; in older recordings the first.
    const line = `${verdict.toUpperCase()} (?:\\(kernel only\\) )?(?:held|nothing)\\b[^:]*`;
    assert.match(text, new RegExp(`^${verdict.toUpperCase()}\\b| ${line}(?:report: \\S+)?\\s*$`), name);
    if (whoRanOut !== null) assert.match(text, new RegExp(`who ran out: ${whoRanOut}\\b`), name);
    const junit = junitXml(report);
    assert.equal(/<(?:failure|error)\b/.test(junit), exitCode !== 0, `${name}: JUnit`);
    if (whoRanOut !== null && main !== undefined)
      assert.ok(junit.includes(whoRanOut), `${name}: JUnit does not name the ${whoRanOut}`);
  }
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
