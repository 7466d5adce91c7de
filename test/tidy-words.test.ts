/**
 * Owns plain words: no retired expression in the sources, in what the program prints, in the documents or in the titles
 * of tests. The list, with what to write instead, is test/retired-words.json.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type RetiredWord, retiredWordsIn, titlesOf } from './support/retired-words.ts';
import { filesBelow, ROOT, readAll } from './support/source-text.ts';

const LIST: readonly RetiredWord[] = JSON.parse(readFileSync(join(ROOT, 'test/retired-words.json'), 'utf8'));

function offencesIn(texts: ReadonlyMap<string, string>, partOf: (text: string) => string): string[] {
  return [...texts].flatMap(([path, text]) => [
    ...retiredWordsIn(path, partOf(text), LIST),
    ...retiredWordsIn(path, path, LIST),
  ]);
}

/** Fails with one line per offence, so that all are seen in one run. */
function assertNone(offences: readonly string[]): void {
  assert.deepEqual(offences, [], `\n  ${offences.join('\n  ')}`);
}

test('no retired expression in what the program is and says, in the documents or in titles of tests', () => {
  const atRoot = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'].filter((path) =>
    existsSync(join(ROOT, path)),
  );
  const whole = readAll([
    ...filesBelow('src', '.ts'),
    ...filesBelow('bin', '.js'),
    ...filesBelow('docs', '.md'),
    ...atRoot,
  ]);
  assert(whole.size > 100, `only ${whole.size} files were found`);
  const tests = readAll(filesBelow('test', '.test.ts'));
  assert(
    [...tests.values()].some((text) => titlesOf(text).length > 100),
    'titles were found',
  );
  assertNone([...offencesIn(whole, (text) => text), ...offencesIn(tests, titlesOf)]);
});

test('the search finds an expression in prose, over a line end, in names of every form, and no part of a word', () => {
  const list: readonly RetiredWord[] = [
    { retired: 'for want of', plain: 'for lack of' },
    { retired: 'books?', plain: 'own count' },
  ];
  const found = (text: string): string[] => retiredWordsIn('a.ts', text, list);
  assert.deepEqual(found('ended for want of memory'), ['a.ts:1: "for want of": write for lack of']);
  assert.deepEqual(found('one\n * ended for want\n * of memory'), [
    'a.ts:2: "for want of": write for lack of',
  ]);
  for (const text of [
    'agentBooks',
    'AGENT_BOOK',
    'agent-books.ts',
    "'our own books'",
    '/** Books */',
    'it.book()',
  ])
    assert.equal(found(text).length, 1, text);
  for (const text of ['bookmark', 'handbook', 'want of', 'for wanting of'])
    assert.deepEqual(found(text), [], text);
});

test('a field that keeps its name is left alone in code, and in prose only where it is set as code', () => {
  const list: readonly RetiredWord[] = [{ retired: 'troubles?', plain: 'protocol error', field: 'troubles' }];
  const text = 'a.troubles = { troubles };\n// the `troubles` of a\n// its troubles\nconst troublesOf = 1;\n';
  assert.deepEqual(
    retiredWordsIn('a.ts', text, list).map((line) => line.split(':')[1]),
    ['3', '4'],
  );
  assert.equal(retiredWordsIn('a.md', 'the field `"troubles"` has troubles', list).length, 1);
});

test('titles are found as strings of every form, behind a line end too, and nothing else is', () => {
  const text = "test('one', () => {\n  it(\n    `two`,\n  describe(\"it's three\", x);\n  run('four');\n";
  assert.deepEqual(titlesOf(text).split('\n').filter(Boolean), ['one', 'two', "it's three"]);
});

test('each entry of the list is an expression that finds itself, and says what to write', () => {
  for (const { retired, plain } of LIST) {
    const example = retired
      .split('|')[0]
      ?.replace(/\(\?:[^)]*\)\??/g, '')
      .replace(/(?:\w|\s)\?/g, '');
    assert.equal(retiredWordsIn('a.ts', example ?? '', LIST).length > 0, true, retired);
    assert.match(plain, /\w/);
  }
});
