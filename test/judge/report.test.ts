/**
 * Owns the promise that a report of an earlier version is still one: recorded reports validate against today's schema.
 * They were written by `c100k-bench --json` of commit 1218a22, before agents got one record and flags one table.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { repositoryRoot } from '../support/run-cli.ts';

const FOLDER = join(repositoryRoot, 'test', 'judge', 'recorded-reports');

function recorded(name: string): RunReport {
  return JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as RunReport;
}

test('reports of an earlier version validate against the schema', () => {
  const names = readdirSync(FOLDER).toSorted();
  assert.deepEqual(names, ['fail-refused.json', 'pass.json']);
  assert.deepEqual(names.map((name) => recorded(name).verdict).toSorted(), ['fail', 'pass']);
  for (const name of names) assert.deepEqual(schemaErrors(recorded(name)), [], name);
});

test('the schema refuses a report in which a field is missing or has another type', () => {
  const { connections, ...withoutConnections } = recorded('pass.json');
  assert.notDeepEqual(schemaErrors(withoutConnections), []);
  assert.notDeepEqual(
    schemaErrors({ ...withoutConnections, connections: { ...connections, held: '200' } }),
    [],
  );
});
