/**
 * Owns run files: YAML in, texts of flags out, each with its place in the file; and where a file that is named in one lies.
 * Must never know a flag that is not in the table, nor take anything but names with their values: no anchors, no tags.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type Scalar,
  type YAMLError,
} from 'yaml';
import { BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import type { Flag } from './flags/flag.ts';
import { FLAGS, flagsOf, holdsCredential } from './flags/flags.ts';
import { nearestWord } from './flags/value-types.ts';

/** What a flag is given, as if it were typed. */
type FileValue = string | boolean | readonly string[];

/** What a run file says. */
export interface RunFile {
  /** by the name of the flag, with its place and name for messages: `soak.yaml:3:8: rate` */
  readonly values: ReadonlyMap<string, { readonly value: FileValue; readonly origin: string }>;
  /** one line each for a person */
  readonly warnings: readonly string[];
}

/** Ten thousand targets fit well; what is longer was not written as a run file. */
const FILE_BYTES_MAX = 1_048_576;
/** What `-` means. */
const STDIN = '/dev/stdin';
const OTHERS_MAY_READ = 0o044;
const EVERY_NAME = 'c100k-bench help run shows every name; c100k-bench init writes a file with all of them';

/**
 * Reads and checks a run file: every value is parsed by its flag.
 * @param path as typed; relative paths in the file begin in its folder
 * @throws BenchError exit 2: the first thing that is wrong, with file, line and column
 */
export function readRunFile(path: string): RunFile {
  const { text, isShared } = readText(path);
  return new RunFileReader(path, text).read(isShared);
}

function readText(path: string): { text: string; isShared: boolean } {
  let file: number | null = null;
  try {
    // A stdin that is a socket cannot be opened again.
    file = path === STDIN ? 0 : openSync(path, 'r');
    const bytes = readBounded(file);
    if (bytes.length > FILE_BYTES_MAX) {
      throw usageError(
        ErrorCode.badRunFile,
        `the run file ${path} has more than ${formatCount(FILE_BYTES_MAX)} bytes`,
        'c100k-bench init writes one',
      );
    }
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const stat = fstatSync(file);
    return { text, isShared: stat.isFile() && (stat.mode & OTHERS_MAY_READ) !== 0 };
  } catch (error) {
    if (error instanceof BenchError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    const isEncoding = code === 'ERR_ENCODING_INVALID_ENCODED_DATA';
    throw usageError(
      ErrorCode.badRunFile,
      `the run file ${path} ${isEncoding ? 'is not text in UTF-8' : `cannot be read (${code})`}`,
      isEncoding || code === 'EISDIR' || code === 'EACCES'
        ? 'give a file that this user can read, in UTF-8'
        : `c100k-bench init ${path} writes one`,
    );
  } finally {
    if (file !== null && file !== 0) closeSync(file);
  }
}

/** Up to one byte more than a run file may have: /dev/zero has no end. */
function readBounded(file: number): Buffer {
  const buffer = Buffer.alloc(FILE_BYTES_MAX + 1);
  let length = 0;
  while (length < buffer.length) {
    const count = readSync(file, buffer, length, buffer.length - length, null);
    if (count === 0) break;
    length += count;
  }
  return buffer.subarray(0, length);
}

class RunFileReader {
  readonly #path: string;
  readonly #text: string;
  readonly #lines = new LineCounter();
  readonly #flags = new Map(flagsOf('run').map((flag) => [flag.name, flag]));

  constructor(path: string, text: string) {
    this.#path = path;
    this.#text = text;
  }

  read(isShared: boolean): RunFile {
    const values = new Map<string, { value: FileValue; origin: string }>();
    const lineOf = new Map<string, number>();
    const warnings: string[] = [];
    for (const { flag, value, node, line } of this.#entries()) {
      const earlier = lineOf.get(flag.name);
      if (earlier !== undefined) {
        throw this.#error(
          node,
          `${flag.name} stands in line ${earlier} already`,
          flag.kind === 'list' ? `give ${flag.name} one list` : `give ${flag.name} once`,
        );
      }
      lineOf.set(flag.name, line);
      const origin = this.#origin(flag, value ?? node);
      values.set(flag.name, { value: this.#valueOf(flag, value, node), origin });
      const texts = [values.get(flag.name)?.value ?? ''].flat();
      if (isShared && texts.some((text) => holdsCredential(flag, String(text)))) {
        warnings.push(
          `${origin} is a credential in a file that others may read: ${flag.name}: '@FILE' names a file with it, or chmod 600`,
        );
      }
    }
    return { values, warnings };
  }

  /** Each name with the node of its value; null: nothing stands behind it. */
  *#entries(): Generator<{ flag: Flag; value: Node | null; node: Node; line: number }> {
    const { contents } = this.#parsed();
    if (contents === null) return;
    // A file with nothing but comments, whose flags are all typed.
    if (isScalar(contents) && contents.value === null && (contents.source ?? '') === '') return;
    if (!isMap(contents)) {
      const what = isSeq(contents) ? 'a list' : 'a text';
      throw this.#error(
        contents,
        `a run file has names with values, not ${what}`,
        'for example: conns: 130k',
      );
    }
    this.#refuseExtras(contents);
    for (const pair of contents.items as readonly Pair<unknown, unknown>[]) {
      const key = pair.key;
      if (!isNode(key)) throw this.#error(contents, 'a name is missing', EVERY_NAME);
      const flag = this.#flagOf(key);
      const value = isNode(pair.value) && !isNothing(pair.value) ? pair.value : null;
      yield { flag, value, node: key, line: this.#lineOf(key) };
    }
  }

  #parsed(): Document {
    let document: Document;
    try {
      document = parseDocument(this.#text, {
        lineCounter: this.#lines,
        uniqueKeys: false,
        prettyErrors: false,
        // With `silent` a second document is not an error.
        logLevel: 'error',
      });
    } catch {
      // Ten thousand brackets in each other are more than the parser's stack.
      throw usageError(ErrorCode.badRunFile, `the run file ${this.#path} is not YAML`, EVERY_NAME);
    }
    const [problem] = [...document.errors, ...document.warnings].toSorted((a, b) => a.pos[0] - b.pos[0]);
    if (problem !== undefined) {
      const [message, hint] = wordsFor(problem.code, problem.message);
      const isIndented = document.errors.some(({ code }) => code === 'MULTILINE_IMPLICIT_KEY');
      throw this.#errorAt(this.#causeOf(document, problem, isIndented), message, hint);
    }
    return document;
  }

  /** Where it went wrong: the parser says where it noticed. */
  #causeOf({ contents }: Document, { pos: [at], message }: YAMLError, isIndented: boolean): number {
    // A name that is indented goes on with the value before it.
    if (isIndented) return at + (/^[^\n]*\n\s*/.exec(this.#text.slice(at))?.[0].length ?? 0);
    if (!/closing|must .*end with/.test(message) || !isMap(contents)) return at;
    const starts = contents.items.map(({ value }) => (isNode(value) ? (value.range?.[0] ?? 0) : 0));
    return starts.findLast((start) => start <= at) ?? at;
  }

  #flagOf(key: Node): Flag {
    this.#refuseExtras(key);
    const name = isScalar(key) ? (key.source ?? String(key.value)) : '';
    if (!isScalar(key)) throw this.#error(key, 'a name is one word, not a list', EVERY_NAME);
    const flag = this.#flags.get(name);
    if (flag !== undefined) return flag;
    if (name === '<<') throw this.#error(key, 'merge keys are not taken', 'write each name with its value');
    const bare = name.replace(/^-+/, '');
    const known = FLAGS.find((one) => one.name === bare);
    if (known !== undefined && !known.commands.includes('run')) {
      throw this.#error(
        key,
        `${bare} is not a name of a run`,
        `it is a flag of ${known.commands.join(', ')}`,
      );
    }
    const lettered =
      bare.length === 1 ? [...this.#flags.values()].find(({ letter }) => letter === bare) : null;
    const near = lettered?.name ?? nearestName(bare, [...this.#flags.keys()]);
    throw this.#error(
      key,
      `${name === '' ? 'an empty name' : name} is not a name of a run`,
      near === null ? EVERY_NAME : `did you mean ${near}?`,
    );
  }

  #valueOf(flag: Flag, value: Node | null, key: Node): FileValue {
    if (value === null) throw this.#error(key, `${flag.name} has no value`, exampleHint(flag));
    this.#refuseExtras(value);
    if (flag.kind === 'switch') {
      if (isScalar(value) && typeof value.value === 'boolean') return value.value;
      throw this.#error(value, `${flag.name} is true or false, not ${described(value)}`, exampleHint(flag));
    }
    if (flag.kind === 'list' && isSeq(value)) {
      if (value.items.length === 0)
        throw this.#error(value, `${flag.name} is an empty list`, exampleHint(flag));
      return value.items.map((item) => this.#textOf(flag, isNode(item) ? item : value));
    }
    const text = this.#textOf(flag, value);
    return flag.kind === 'list' ? [text] : text;
  }

  /** The text of one value, checked by its flag. */
  #textOf(flag: Flag, node: Node): string {
    this.#refuseExtras(node);
    const text = textOf(flag, node);
    if (text === null) {
      const wanted = flag.kind === 'list' ? 'a value or a list of values' : 'one value';
      throw this.#error(node, `${flag.name} takes ${wanted}, not ${described(node)}`, exampleHint(flag));
    }
    const origin = this.#origin(flag, node);
    try {
      flag.parse(text, origin);
    } catch (error) {
      if (!(error instanceof BenchError)) throw error;
      // Some types say the name of their flag, and some say what is wrong alone.
      const [message, hint] = [error.message, error.hint].map((words) => inFileWords(flag, words)) as [
        string,
        string,
      ];
      throw new BenchError(
        error.code,
        error.exitCode,
        message.startsWith(origin) ? message : `${origin}: ${message.replace(`${flag.name}: `, '')}`,
        hint,
        error,
      );
    }
    return this.#inFolder(flag, text);
  }

  /** A path that is not absolute begins in the folder of the run file; a stream (stdin, `<(...)`) has none. */
  #inFolder(flag: Flag, text: string): string {
    const folder = this.#path.startsWith('/dev/') ? '.' : dirname(this.#path);
    const within = (path: string): string =>
      path === '' || path === '-' || isAbsolute(path) ? path : join(folder, path);
    if (flag.file === true) return within(text);
    return flag.fileAt === true && text.startsWith('@') ? `@${within(text.slice(1))}` : text;
  }

  #refuseExtras(node: Node): void {
    if (isAlias(node) || ('anchor' in node && node.anchor !== undefined)) {
      throw this.#error(node, 'anchors and aliases are not taken', 'write each name with its own value');
    }
    if (node.tag !== undefined) {
      throw this.#error(node, 'tags are not taken', 'quotes make a text of a value');
    }
  }

  #lineOf(node: Node): number {
    return this.#lines.linePos(node.range?.[0] ?? 0).line;
  }

  #origin(flag: Flag, node: Node): string {
    return `${this.#placeAt(node.range?.[0] ?? 0)}: ${flag.name}`;
  }

  #placeAt(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.#path}:${Math.max(1, line)}:${Math.max(1, col)}`;
  }

  #error(node: Node, message: string, hint: string): BenchError {
    return this.#errorAt(node.range?.[0] ?? 0, message, hint);
  }

  #errorAt(offset: number, message: string, hint: string): BenchError {
    return usageError(ErrorCode.badRunFile, `${this.#placeAt(offset)}: ${message}`, hint);
  }
}

/** Nothing, or a `~` or `null`. */
function isNothing(node: Node): boolean {
  return isScalar(node) && node.value === null && node.tag === undefined;
}

/** A value as it would be typed; null: it is none that can be. */
function textOf(flag: Flag, node: Node): string | null {
  if (!isScalar(node)) return null;
  const { value, source } = node as Scalar;
  if (typeof value === 'string') return value;
  // A number of a flag that takes numbers is a number in whatever form YAML has; of another it is the text that it looks like.
  if (typeof value === 'number' || typeof value === 'bigint')
    return flag.bounds === undefined ? (source ?? String(value)) : String(value);
  return value === true && flag.bare !== null ? flag.bare : null;
}

function described(node: Node): string {
  if (isSeq(node)) return 'a list';
  if (isMap(node)) return 'names with values';
  const { value } = node as Scalar;
  if (typeof value === 'string') return `the text ${JSON.stringify(value.slice(0, 64))}`;
  if (typeof value === 'boolean') return `${value} (in quotes it is a text)`;
  return value === null ? 'nothing' : String(value).slice(0, 64);
}

function exampleHint(flag: Flag): string {
  if (flag.kind === 'switch') return `for example: ${flag.name}: true`;
  const example = flag.choices?.[0] ?? flag.default;
  return example === null
    ? `${flag.name} takes ${flag.placeholder}: ${flag.describe}`
    : `for example: ${flag.name}: ${example}`;
}

/** `--rate 5k/s` as a line of the file. */
function inFileWords({ name }: Flag, text: string): string {
  return text.replaceAll(new RegExp(`--${name}(?![\\w-])(?:[ =](?=[^\\s(]))?`, 'g'), (whole) =>
    whole.endsWith(' ') || whole.endsWith('=') ? `${name}: ` : name,
  );
}

/** `connectTimeout` and `connect_timeout` are near too. */
function nearestName(typed: string, names: readonly string[]): string | null {
  const dashed = typed
    .replaceAll(/([a-z])([A-Z])/g, '$1-$2')
    .replaceAll(/[_ ]/g, '-')
    .toLowerCase();
  return nearestWord(dashed, names);
}

/** What the parser found, in words; its own words for what is rare. */
function wordsFor(code: string, message: string): readonly [string, string] {
  switch (code) {
    case 'MULTIPLE_DOCS':
      return ['a second document begins here, and a run file is one', 'write one file for each run'];
    case 'TAB_AS_INDENT':
      return ['a tab: YAML is indented with spaces', 'put two spaces in place of each tab'];
    case 'TAG_RESOLVE_FAILED':
      return ['tags are not taken', 'quotes make a text of a value'];
    case 'BAD_ALIAS':
      return ['anchors and aliases are not taken', 'write each name with its own value'];
    case 'BLOCK_AS_IMPLICIT_KEY':
      return [
        'not YAML: names begin in the first column, and a value with a colon and a blank in it stands in quotes',
        "for example: header: 'X-Room: blue'",
      ];
    case 'BAD_SCALAR_START':
      return [`not YAML: ${lowerFirst(message)}`, "put the value in quotes, as in: body: '@body.json'"];
    default:
      return [
        `not YAML: ${lowerFirst(message.split('\n')[0] ?? '')}`,
        'names and values are written as in: conns: 130k',
      ];
  }
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
