/**
 * Owns `c100k-bench init`: a run file to begin with, every flag in it with what it means. Must never write over a file that is
 * there unless that was asked for.
 */
import { writeFileSync } from 'node:fs';
import { dirname, relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { stringify } from 'yaml';
import type { Flag } from '../../api/flags/flag.ts';
import { flagsOf } from '../../api/flags/flags.ts';
import { BenchError, ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { formatDuration } from '../../base/units.ts';
import { ownPackage } from '../../host/own-package.ts';
import { wrapText } from '../../report/layout.ts';
import type { CommandContext } from '../command-line.ts';
import { flagText } from '../help.ts';
import { tell, writeResult } from '../output.ts';
import { runFileSchemaJson } from '../run-file-schema.ts';

const DEFAULT_PATH = 'c100k-bench.yaml';
/** What `-` means. */
const STDOUT = '/dev/stdout';
const COMMENT_COLUMNS = 100;

/** What the file says as it is written: a run that works on any host, against the built-in target. */
const SAID: Readonly<Record<string, string | number | readonly string[]>> = {
  target: ['echo://self'],
  conns: 1_000,
  duration: '30s',
  require: ['held>=99.9%'],
};

/** What stands for a value that has no default, by placeholder; each is one that its flags take. */
const EXAMPLES: Readonly<Record<string, string>> = {
  RATE: '5k/s',
  TIME: '10s',
  ADDRESSES: '10.0.0.102-10.0.0.105',
  PORTS: '1024-32767',
  CIDR: '10.1.0.0/20',
  DEVICE: 'auto',
  REQUIREMENT: 'connect_p99<250ms',
  HOST: 'www.example.com',
  NAME: 'example',
  HEADER: '@headers.txt',
  KINDS: 'local,remote',
  'ADDRESS:PORT': '127.0.0.1:7100',
  'HOST:PORT': '10.0.0.1:7100',
  'USER@HOST': 'root@10.0.0.2',
  URL: 'http://127.0.0.1:8001',
  OPTION: '-p 2222',
};

/**
 * Writes the file, or prints it (`-`), or prints the schema.
 * @returns 0
 * @throws BenchError exit 2 for a file that is there, 5 for one that cannot be written
 */
export async function initCommand({ values, files }: CommandContext): Promise<ExitCode> {
  if (files.length > 1) {
    throw usageError(
      ErrorCode.usage,
      `init writes one file, not ${files.length}`,
      `for example: c100k-bench init ${files[0]}`,
    );
  }
  if (values.on('schema')) {
    await writeResult(runFileSchemaJson());
    return ExitCode.held;
  }
  const path = files[0] ?? DEFAULT_PATH;
  const text = runFileText(path, schemaReference(path));
  if (path === STDOUT) await writeResult(text);
  else {
    write(path, text, values.on('force'));
    tell(`written: ${path}\n  next: c100k-bench run ${path}`);
  }
  return ExitCode.held;
}

function write(path: string, text: string, isForced: boolean): void {
  try {
    writeFileSync(path, text, { flag: isForced ? 'w' : 'wx' });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    if (code === 'EEXIST') {
      throw usageError(
        ErrorCode.usage,
        `${path} is there already`,
        `give another name, or write over it: c100k-bench init ${path} --force`,
      );
    }
    throw new BenchError(
      ErrorCode.reportUnwritable,
      ExitCode.reportUnwritten,
      `${path} cannot be written (${code})`,
      'give a file in a folder where this user can write',
      error,
    );
  }
}

/** How an editor finds the schema: beside a project that has this package it is a path, otherwise a URL of this host. */
function schemaReference(path: string): string {
  const schema = ownPackage().runFileSchemaPath;
  const folder = path === STDOUT ? process.cwd() : dirname(resolve(path));
  const modules = schema.lastIndexOf(`${sep}node_modules${sep}`);
  const project = modules < 0 ? null : schema.slice(0, modules);
  const isWithin = project !== null && (folder === project || folder.startsWith(`${project}${sep}`));
  const beside = relative(folder, schema);
  // A blank would end the comment's word.
  if (isWithin && !/\s/.test(beside)) return beside.startsWith('.') ? beside : `./${beside}`;
  return pathToFileURL(schema).href;
}

/** A run file with every flag of a run, those that are not said as comments. */
function runFileText(path: string, schema: string): string {
  const flags = flagsOf('run');
  const groups = [...new Set(flags.map(({ group }) => group))];
  const name = path === STDOUT ? 'FILE' : path;
  const head = [
    `# yaml-language-server: $schema=${schema}`,
    ...comment(
      `A run of c100k-bench: c100k-bench run ${name}. The names are those of the flags. A flag that is typed beside the file wins, then its environment variable, then the file. A relative path begins in the folder of this file. Lines below that begin with # are not in effect.`,
    ),
  ];
  const blocks = groups.flatMap((group) => [
    [`# ${group.replace(/:$/, '')} ${'-'.repeat(60)}`],
    ...flags
      .filter((flag) => flag.group === group)
      .map((flag) => [...comment(flagText(flag)), ...linesOf(flag)]),
  ]);
  return `${[head, ...blocks].map((lines) => lines.join('\n')).join('\n\n')}\n`;
}

function comment(text: string): string[] {
  return wrapText(text, COMMENT_COLUMNS).map((line) => `# ${line}`);
}

function linesOf(flag: Flag): string[] {
  const said = SAID[flag.name];
  const value = said ?? (flag.kind === 'switch' ? true : exampleOf(flag));
  const yaml = stringify({ [flag.name]: flag.kind === 'list' ? [value].flat() : value }, { lineWidth: 0 });
  const lines = yaml.trimEnd().split('\n');
  return said === undefined ? lines.map((line) => `#${line}`) : lines;
}

/** A value that the flag takes: its default, or one that its words or its placeholder name. */
function exampleOf(flag: Flag): string | number {
  const { default: fallback, choices, bounds, bare, name, placeholder, file, describe } = flag;
  const known = fallback ?? choices?.[0] ?? bare;
  if (known !== null && known !== undefined) return /^\d+$/.test(known) ? Number(known) : known;
  if (file === true) return `${name}.out`;
  if (bounds?.kind === 'count') return bounds.min;
  if (bounds?.kind === 'duration')
    return formatDuration(Math.min(bounds.maxMs, Math.max(bounds.minMs, 10_000)));
  const named = [...describe.matchAll(/(?:such as|:|or|,) '?([^\s',;]+)/g)].map(([, word = '']) => word);
  const words = [EXAMPLES[placeholder] ?? '', 'text', ...named, ...placeholder.split('|')];
  return words.find((word) => word !== '' && isTaken(flag, word)) ?? placeholder;
}

function isTaken(flag: Flag, text: string): boolean {
  try {
    flag.parse(text, flag.name);
    return true;
  } catch {
    return false;
  }
}
