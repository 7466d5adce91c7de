/**
 * Owns the rules on declarations, sizes and names that a compiler does not know: each takes the sources as text and
 * answers one line per offence. Must never read a file itself, so that each rule can be shown an example.
 */
import { posix } from 'node:path';
import { codeOf, resolveFrom, withoutComments } from './source-text.ts';

/** Path, from the root and with slashes, to text. */
export type Texts = ReadonlyMap<string, string>;

const DECLARED =
  /^export (?:declare )?(?:async )?(?:abstract )?(?:function\*?|class|const|let|interface|type|enum) +(\w+)/gm;
const NAMED_FROM = /\b(import|export)\s+(?:type\s+)?(?:\w+\s*,\s*)?\{([^}]*)\}\s*from\s*'(\.[^']+)'/g;
const NAMESPACE = /\bimport\s+(?:type\s+)?\*\s*as\s+(\w+)\s+from\s*'(\.[^']+)'/g;
const DYNAMIC = /\bimport\('(\.[^']+)'\)\s*\)?\s*\.(\w+)/g;

/** `a, type b as c` to `a`, `b`. */
function namesIn(list: string): string[] {
  return list
    .split(',')
    .map((item) =>
      item
        .trim()
        .replace(/^type\s+/, '')
        .replace(/\s+as\s+\w+$/, ''),
    )
    .filter((name) => name !== '');
}

/** Every `file#name` that another source imports, passes on, or reads through a namespace or a dynamic import. */
function importedNames(sources: Texts): Set<string> {
  const imported = new Set<string>();
  for (const [path, text] of sources) {
    const code = withoutComments(text);
    for (const [, , list = '', from = ''] of code.matchAll(NAMED_FROM))
      for (const name of namesIn(list)) imported.add(`${resolveFrom(path, from)}#${name}`);
    for (const [, space = '', from = ''] of code.matchAll(NAMESPACE))
      for (const [, name = ''] of code.matchAll(new RegExp(`\\b${space}\\.(\\w+)`, 'g')))
        imported.add(`${resolveFrom(path, from)}#${name}`);
    for (const [, from = '', name = ''] of code.matchAll(DYNAMIC))
      imported.add(`${resolveFrom(path, from)}#${name}`);
  }
  return imported;
}

/** What a file declares for others. */
function declaredIn(text: string): string[] {
  return [...new Set([...withoutComments(text).matchAll(DECLARED)].map((match) => match[1] ?? ''))];
}

/** What a file passes on from another. */
function passedOnIn(text: string): string[] {
  return [...withoutComments(text).matchAll(NAMED_FROM)]
    .filter((match) => match[1] === 'export')
    .flatMap((match) => namesIn(match[2] ?? ''));
}

/** What is imported from outside: by bin/ and by those who use the library. */
const ENTRIES: readonly string[] = ['src/main.ts', 'src/index.ts'];

/** Exports that no other source imports. */
export function exportsWithoutImporter(sources: Texts): string[] {
  const imported = importedNames(sources);
  return [...sources]
    .filter(([path]) => !ENTRIES.includes(path))
    .flatMap(([path, text]) =>
      [...declaredIn(text), ...passedOnIn(text)]
        .filter((name) => !imported.has(`${path}#${name}`))
        .map((name) => `${path}: ${name} is exported, and no source imports it`),
    );
}

/** Exports in a form that the rules above cannot follow. */
export function unnamedExports(sources: Texts): string[] {
  return [...sources].flatMap(([path, text]) =>
    [...codeOf(text).matchAll(/^export\s+(?:default\b|\*|\{[^}]*\}\s*;)/gm)].map(
      (match) => `${path}: ${match[0].split('\n')[0]}`,
    ),
  );
}

/** Groups by key; those with two members or more, as one line each. */
function twice(pairs: readonly (readonly [string, string])[]): string[] {
  const byKey = new Map<string, string[]>();
  for (const [key, path] of pairs) byKey.set(key, [...(byKey.get(key) ?? []), path]);
  return [...byKey]
    .filter(([, paths]) => paths.length > 1)
    .map(([key, paths]) => `${paths.join(', ')}: ${key}`);
}

/** Names that two files declare for others. A type and a value of one name in one file are one thing. */
export function namesExportedTwice(sources: Texts): string[] {
  return twice([...sources].flatMap(([path, text]) => declaredIn(text).map((name) => [name, path] as const)));
}

/** File names that stand in two folders. */
export function fileNamesTwice(sources: Texts): string[] {
  return twice([...sources.keys()].map((path) => [posix.basename(path), path] as const));
}

const NO_FUNCTION = /^\s*(?:\}\s*)?(?:if|for|while|switch|catch|else|class|interface)\b/;
const FUNCTION_OPENS = /(?:\)(?::[^{}=]*(?:\{[^{}]*\})?[^{}=]*)?|=>) \{$/;

/**
 * Functions with more lines than that, from the line of the name to the closing brace. The sources are formatted, so
 * the brace that closes stands under the line that opened.
 */
export function longFunctions(sources: Texts, linesMax: number): string[] {
  const offences: string[] = [];
  for (const [path, text] of sources) {
    const lines = text.split('\n');
    for (const [index, line] of lines.entries()) {
      if (!FUNCTION_OPENS.test(line) || NO_FUNCTION.test(line)) continue;
      const indent = /^\s*/.exec(line)?.[0] ?? '';
      // A signature of several lines ends in `) {`; it began at the last line above with this indent.
      const closesSignature = /^\s*[)}]/.test(line);
      let first = index;
      if (closesSignature)
        for (first -= 1; first > 0 && !new RegExp(`^${indent}\\S`).test(lines[first] ?? ''); ) first -= 1;
      if (first !== index && NO_FUNCTION.test(lines[first] ?? '')) continue;
      const last = lines.findIndex((other, at) => at > index && other.startsWith(`${indent}}`));
      const count = last - first + 1;
      if (count > linesMax) offences.push(`${path}:${first + 1}: a function of ${count} lines`);
    }
  }
  return offences;
}

/** Files with more lines than that. */
export function longFiles(texts: Texts, linesMax: number): string[] {
  return [...texts]
    .map(([path, text]) => ({ path, lines: text.trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > linesMax)
    .map(({ path, lines }) => `${path}: ${lines} lines`);
}

/** Folders with more files of their own than that. */
export function fullFolders(sources: Texts, filesMax: number): string[] {
  const counts = new Map<string, number>();
  for (const path of sources.keys()) {
    const folder = posix.dirname(path);
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  return [...counts]
    .filter(([, count]) => count > filesMax)
    .map(([folder, count]) => `${folder}: ${count} files`);
}

/**
 * Places where a type is claimed that the compiler cannot see: a cast over `unknown`, a `!` behind a value. In the files
 * given, a `!` right behind an index is allowed: they keep their state in typed arrays, a read below their length has a
 * number, and `noUncheckedIndexedAccess` does not know the length.
 */
export function unprovenTypes(sources: Texts, mayIndex: readonly string[]): string[] {
  return [...sources].flatMap(([path, text]) =>
    [...codeOf(text).matchAll(/\bas\s+unknown\s+as\b|[\w\])'"]!(?![=\w(])/g)]
      .filter((match) => !(match[0] === ']!' && mayIndex.some((start) => path.startsWith(start))))
      .map((match) => `${path}: ${match[0].trim()}`),
  );
}

/** Tests without a source of their path, and sources of more lines than that without a test of theirs. */
export function unmirrored(sources: Texts, tests: readonly string[], linesMax: number): string[] {
  const sourceOf = (path: string): string => path.replace(/^test\//, 'src/').replace(/\.test\.ts$/, '.ts');
  const tested = new Set(tests.map(sourceOf));
  return [
    ...tests.filter((path) => !sources.has(sourceOf(path))).map((path) => `${path}: no source of this name`),
    ...[...sources]
      .filter(([path, text]) => !tested.has(path) && text.trimEnd().split('\n').length > linesMax)
      .map(([path, text]) => `${path}: ${text.trimEnd().split('\n').length} lines and no test of this name`),
  ];
}
