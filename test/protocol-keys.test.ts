/**
 * Owns that each line of the lists in docs/PROTOCOL.md, of what one side may make the other do, has a test: the line has a
 * key, and a comment with the key stands above the test. Must never judge what the test shows.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { filesBelow, ROOT, readAll } from './support/source-text.ts';

const LISTS: readonly string[] = [
  'What an agent may make a coordinator do',
  'What a coordinator may make an agent do',
];

/** The keys of one list: the first cell of each row, as code. A row without one gives an empty key. */
function keysIn(text: string, heading: string): string[] {
  const from = text.indexOf(`\n## ${heading}\n`);
  assert(from >= 0, `no heading ${heading}`);
  const section = text.slice(from + 1).split(/\n## /)[0] ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('| '));
  return rows
    .slice(1)
    .filter((line) => !/^\| *---/.test(line))
    .map((line) => /^\| `([a-z]+(?:-[a-z]+)*)` \|/.exec(line)?.[1] ?? '');
}

/** A comment with keys, and whether a test, or a case of a table of tests, begins in the line below it. */
interface Mark {
  readonly key: string;
  readonly isAboveATest: boolean;
}

function marksIn(text: string): Mark[] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) => {
    const keys = /^\s*\/\/ PROTOCOL\.md: ([a-z-]+(?:, [a-z-]+)*)$/.exec(line)?.[1];
    if (keys === undefined) return [];
    const below = lines.slice(index + 1).find((each) => !/^\s*\/\//.test(each)) ?? '';
    const isAboveATest = /^\s*(?:test|it|describe|networkTest)\(|^\s*for \(const |^\s*\[/.test(below);
    return keys.split(', ').map((key) => ({ key, isAboveATest }));
  });
}

/** What is wrong between lines and marks, one line each. */
function offencesOf(keys: readonly string[], marks: readonly Mark[]): string[] {
  const marked = new Set(marks.filter(({ isAboveATest }) => isAboveATest).map(({ key }) => key));
  return [
    ...keys.filter((key) => key === '').map(() => 'a line without a key'),
    ...keys.filter((key, index) => key !== '' && keys.indexOf(key) !== index).map((key) => `${key}: twice`),
    ...keys.filter((key) => key !== '' && !marked.has(key)).map((key) => `${key}: no test`),
    ...marks.filter(({ key }) => !keys.includes(key)).map(({ key }) => `${key}: no such line`),
    ...marks.filter(({ isAboveATest }) => !isAboveATest).map(({ key }) => `${key}: stands above no test`),
  ];
}

test('each line of the lists of PROTOCOL.md has a key and a test, and each mark a line', () => {
  const text = readFileSync(join(ROOT, 'docs', 'PROTOCOL.md'), 'utf8');
  const lists = LISTS.map((heading) => keysIn(text, heading));
  for (const [index, keys] of lists.entries()) assert(keys.length >= 20, `${LISTS[index]}: ${keys.length}`);
  const marks = [...readAll(filesBelow('test', '.test.ts')).values()].flatMap(marksIn);
  const offences = offencesOf(lists.flat(), marks);
  assert.deepEqual(offences, [], `\n  ${offences.join('\n  ')}`);
});

test('the check finds a line without key or test, a mark without line, and one above no test', () => {
  const text =
    '\n## A list\n\n| key | what |\n| --- | --- |\n| `one` | x |\n| two | y |\n| `three` | z |\n| `one` | w |\n\n## More\n\n| `four` | v |\n';
  const keys = keysIn(text, 'A list');
  assert.deepEqual(keys, ['one', '', 'three', 'one']);
  // Put together from parts, so that these are no marks of this file.
  const mark = ['// PROTOCOL', 'md: '].join('.');
  const marks = marksIn(
    [`${mark}one`, '// why', "test('a', x);", `  ${mark}five, one`, 'const a = 1;'].join('\n'),
  );
  assert.deepEqual(offencesOf(keys, marks), [
    'a line without a key',
    'one: twice',
    'three: no test',
    'five: no such line',
    'five: stands above no test',
    'one: stands above no test',
  ]);
});
