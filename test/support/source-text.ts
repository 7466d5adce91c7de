/**
 * Owns reading the sources as text: files by folder, code without comments and strings, what a file imports.
 * Must never import the program.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Walks up to this project's package.json, from the compiled test and else from where the test was started. */
function findRoot(): string {
  for (const start of [dirname(fileURLToPath(import.meta.url)), process.cwd()]) {
    for (let folder = start; ; folder = dirname(folder)) {
      const manifest = join(folder, 'package.json');
      if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === 'c100k-bench')
        return folder;
      if (dirname(folder) === folder) break;
    }
  }
  throw new Error('no package.json of c100k-bench above this test or the current folder');
}

export const ROOT = findRoot();

export function filesBelow(folder: string, extension: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(extension))
    .map((path) => posix.join(folder, path.split(sep).join('/')))
    .sort();
}

/** Path, from the root and with slashes, to text. */
export function readAll(paths: readonly string[]): Map<string, string> {
  return new Map(paths.map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]));
}

const REGEX_MAY_FOLLOW = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\breturn|\btypeof|\bcase|=>)$/;

/** Where the string, template or regular expression that starts at `start` ends (exclusive). */
function endOfLiteral(text: string, start: number): number {
  const quote = text[start];
  let inClass = false;
  for (let at = start + 1; at < text.length; at += 1) {
    const character = text[at];
    if (character === '\\') at += 1;
    else if (quote === '/' && character === '[') inClass = true;
    else if (quote === '/' && character === ']') inClass = false;
    else if (character === quote && !inClass) return at + 1;
    else if (character === '\n' && quote !== '`') return at;
  }
  return text.length;
}

/** The code alone: comments become a space, strings, templates and regular expressions become `''`. */
export function codeOf(text: string): string {
  let code = '';
  let at = 0;
  while (at < text.length) {
    const two = text.slice(at, at + 2);
    const character = text[at] ?? '';
    if (two === '//') {
      const end = text.indexOf('\n', at);
      at = end < 0 ? text.length : end;
    } else if (two === '/*') {
      const end = text.indexOf('*/', at + 2);
      at = end < 0 ? text.length : end + 2;
      code += ' ';
    } else if ('\'"`'.includes(character) || (character === '/' && REGEX_MAY_FOLLOW.test(code.trimEnd()))) {
      at = endOfLiteral(text, at);
      code += "''";
    } else {
      code += character;
      at += 1;
    }
  }
  return code;
}

/** Comments blanked out, strings kept: imports and paths of forked files are strings. */
export function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/(^|\s)\/\/.*$/gm, '$1');
}

const IMPORT_PATTERN = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire(?:\.resolve)?\s*\(\s*)(['"])([^'"\s,]+)\1/g;
const ERASED_PATTERN = /\b(?:import|export)\s+type\b[^;]*;/g;
const DYNAMIC_PATTERN = /\bimport\s*\(\s*(['"])[^'"]+\1\s*\)/g;

/** What a file imports, statically, dynamically or for its types. */
export function importsOf(text: string): string[] {
  return [...withoutComments(text).matchAll(IMPORT_PATTERN)].map((match) => match[2] ?? '');
}

/** What a file loads when it runs: types are erased. */
export function loadsOf(text: string): string[] {
  return importsOf(withoutComments(text).replace(ERASED_PATTERN, ''));
}

/** What a file loads as soon as it is loaded itself. */
export function loadsAtOnceOf(text: string): string[] {
  return importsOf(withoutComments(text).replace(ERASED_PATTERN, '').replace(DYNAMIC_PATTERN, ''));
}

export function resolveFrom(path: string, specifier: string): string {
  return posix.join(posix.dirname(path), specifier).replace(/\.js$/, '.ts');
}

export function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

export function folderOf(path: string): string {
  const parts = path.split('/');
  return parts.length > 2 ? (parts[1] ?? '') : '';
}
