/** Owns the proof that docs/TOPOLOGIES.md says what was measured and what the networks' descriptions say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FULL } from './lab/description.ts';
import { NETWORKS } from './lab/networks/all.ts';
import { documentsOf, readFigures } from './lab/topologies.ts';
import { repositoryRoot } from './support/run-cli.ts';

test('both documents are what the figures and the descriptions make: npm run lab -- document', () => {
  for (const { file, text } of documentsOf(readFigures())) {
    assert.equal(readFileSync(join(repositoryRoot, file), 'utf8'), text, file);
  }
});

test('every case of every network was measured as it is described now, and went well', () => {
  const { results } = readFigures();
  const asked = results.map(({ network, label, asked: count }) => [network, label?.en ?? null, count]);
  const described = NETWORKS.flatMap(({ name, cases }) =>
    cases(FULL).map((lab) => [name, lab.label?.en ?? null, lab.asked]),
  );
  assert.deepEqual(asked, described);
  for (const { problems } of results) assert.deepEqual(problems, []);
});

test('what was measured is what the plan of the path predicts, within 1 %', () => {
  for (const { network, onServer, predicted } of readFigures().results) {
    assert.ok(Math.abs(onServer - predicted) <= 0.01 * predicted, `${network}: ${onServer} and ${predicted}`);
  }
});
