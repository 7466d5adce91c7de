/**
 * Owns that the documents for those who change the program, and the comments of the sources, name files that exist.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { filesBelow, ROOT, readAll } from './support/source-text.ts';

const DOCUMENTS = ['docs/ARCHITECTURE.md', 'docs/RECIPES.md', 'CONTRIBUTING.md', 'SECURITY.md'];

function textOf(document: string): string {
  return readFileSync(join(ROOT, document), 'utf8');
}

/** Paths that a text names: code spans below the folders of the project, and targets of links. */
function pathsIn(text: string): string[] {
  const spans = [...text.matchAll(/`((?:src|test|docs|bin|\.ci)\/[\w./-]*)`/g)].map(
    (match) => match[1] ?? '',
  );
  const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map((match) => match[1] ?? '');
  return [...spans, ...links];
}

/** The lines of a way: `**A quota**, ...:` and the files behind it, up to the next empty line. */
function waysIn(text: string): Map<string, string[]> {
  return new Map(
    [...text.matchAll(/^\*\*(An? [\w' ]+)\*\*[^:]*:\n((?:.+\n)+)/gm)].map((match) => [
      match[1] ?? '',
      pathsIn(match[2] ?? ''),
    ]),
  );
}

function missingIn(document: string, text: string): string[] {
  const from = document.includes('/') ? 'docs' : '';
  return pathsIn(text)
    .filter((path) => !existsSync(join(ROOT, path)) && !existsSync(join(ROOT, from, path)))
    .map((path) => `${document}: ${path}`);
}

test('every file that these documents name exists', () => {
  const missing = DOCUMENTS.flatMap((document) => missingIn(document, textOf(document)));
  assert.deepEqual(missing, [], `\n  ${missing.join('\n  ')}`);
  assert(pathsIn(textOf('CONTRIBUTING.md')).length > 20, 'the names were read');
});

test('ARCHITECTURE has the way of four things, each through at least three folders', () => {
  const ways = waysIn(textOf('docs/ARCHITECTURE.md'));
  assert.deepEqual([...ways.keys()], ['A quota', "A connection's tuple", 'A loss', 'A finding']);
  for (const [thing, files] of ways) {
    assert(files.length >= 8, `${thing}: ${files.length} files`);
    assert(new Set(files.map((file) => file.split('/')[1])).size >= 3, thing);
  }
});

test('ARCHITECTURE has a row for each folder of src/, and none for another', () => {
  const rows = [...textOf('docs/ARCHITECTURE.md').matchAll(/^\| `(src\/\w+)` \|/gm)].map(
    (match) => match[1] ?? '',
  );
  assert(rows.length > 10, 'the table was read');
  const tidy = readFileSync(join(ROOT, 'test/tidy.test.ts'), 'utf8');
  const layers = [...(/const LAYERS[^[]*\[\][^[]*\[([^\]]*)\]/.exec(tidy)?.[1] ?? '').matchAll(/'(\w+)'/g)];
  assert.deepEqual(rows.toSorted(), layers.map((match) => `src/${match[1]}`).toSorted());
});

test('the search finds a name that does not exist, in a span and in a link', () => {
  const text =
    'see `src/nowhere.ts`, [a page](docs/nowhere.md), `src/main.ts` and [the web](https://example.org/x)';
  assert.deepEqual(missingIn('A.md', text), ['A.md: src/nowhere.ts', 'A.md: docs/nowhere.md']);
});

/** Sources that comments name, as paths or by their last part, and that do not exist: one line each. */
function goneIn(texts: ReadonlyMap<string, string>, known: readonly string[]): string[] {
  return [...texts].flatMap(([path, text]) =>
    text.split('\n').flatMap((line) => {
      if (!/^\s*(?:\/?\*|\/\/)/.test(line)) return [];
      const named = [...line.matchAll(/(?<![\w./*-])(?:[\w-]+\/)*[\w-]+\.ts\b/g)].map((match) => match[0]);
      return named
        .filter((name) => !known.some((file) => `/${file}`.endsWith(`/${name}`)))
        .map((name) => `${path}: ${name}`);
    }),
  );
}

test('every source that a comment names exists', () => {
  const sources = readAll([...filesBelow('src', '.ts'), ...filesBelow('test', '.ts')]);
  const missing = goneIn(sources, [...sources.keys()]);
  assert.deepEqual(missing, [], `\n  ${missing.join('\n  ')}`);
});

test('the rule on comments finds a file that is gone, and leaves code and patterns alone', () => {
  const text = "/** As engine/gone.ts and kept.ts; not *.ts. */\n// gone.ts\nimport './other.ts';";
  assert.deepEqual(goneIn(new Map([['src/a.ts', text]]), ['src/engine/kept.ts']), [
    'src/a.ts: engine/gone.ts',
    'src/a.ts: gone.ts',
  ]);
});
