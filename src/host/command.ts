/**
 * Owns running another program (`ip`, `ss`): no shell, bounded time, bounded output; the lines that a child process writes; and the
 * priority of processes that do the heavy work.
 * Must never decide what the output means, and must never throw because a program failed or is missing.
 */
import { ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { after } from '../time/timer.ts';

/** Processes that take whole cores let the agent and the coordinator go first, which must answer in time. */
const HEAVY_NICE = 5;

/** Those two do little: they go before whatever else wants the cores, as far as the host lets them. */
const ANSWERING_NICE = -5;

/** Whether this process has raised itself, and so may do it again. */
let isRaised = false;

/**
 * Gives this process the priority of one that must answer in time, where it may (CAP_SYS_NICE, RLIMIT_NICE: setpriority(2)) and
 * none was chosen. What it starts begins without that.
 */
export function raisePriority(): void {
  if (getPriority() !== 0) return;
  try {
    setPriority(ANSWERING_NICE);
    isRaised = true;
  } catch {
    // EACCES: without that right it waits its turn.
  }
}

/** A child has the priority that its parent has at the fork, also those of its threads that start before its first line. */
function withoutRaise(start: () => ChildProcess): ChildProcess {
  if (!isRaised) return start();
  setPriority(0);
  try {
    return start();
  } finally {
    setPriority(ANSWERING_NICE);
  }
}

/** Gives this process, and the threads that it starts later, the priority of heavy work; never a better one than it has. */
export function lowerPriority(): void {
  setPriority(Math.max(HEAVY_NICE, getPriority()));
}

interface CommandOptions {
  /** the program is killed after this many milliseconds */
  readonly timeoutMs: number;
  /** text for its standard input; absent: empty input */
  readonly input?: string;
}

interface CommandResult {
  /** exit code; null: not found, killed by its time limit, or by a signal */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** the program is not installed (or may not be run) */
  readonly missing: boolean;
  /** output passed `OUTPUT_BYTES_MAX`: the rest was thrown away */
  readonly truncated: boolean;
}

export type RunProgram = (
  file: string,
  args: readonly string[],
  options: CommandOptions,
) => Promise<CommandResult>;

interface CountOptions {
  readonly timeoutMs: number;
  /** which lines count; absent: every line that is not empty. Called with the line without its line break. */
  readonly matches?: (line: string) => boolean;
}

interface CountResult {
  readonly code: number | null;
  readonly count: number;
  readonly missing: boolean;
}

/** `ip -j addr` with 10,000 addresses is 3 MB; more than this is not ours to hold. */
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

/** A line longer than this is no line of a table: it is cut. */
const LINE_CHARS_MAX = 65_536;

interface Ended {
  readonly code: number | null;
  readonly missing: boolean;
}

/**
 * Runs a program to its end.
 * @param file name (looked up in PATH and in the sbin folders, which a plain user's PATH often lacks) or path
 * @param args its arguments, passed as they are
 * @param options time limit in milliseconds, and input
 * @returns what it said; never throws for a failed, missing or slow program
 */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  const outputs = { stdout: new BoundedText(), stderr: new BoundedText() };
  const ended = await runStreaming(file, args, options, {
    stdout: (chunk) => outputs.stdout.add(chunk),
    stderr: (chunk) => outputs.stderr.add(chunk),
  });
  return {
    ...ended,
    stdout: outputs.stdout.text(),
    stderr: outputs.stderr.text(),
    truncated: outputs.stdout.truncated || outputs.stderr.truncated,
  };
}

/**
 * Runs a program and counts its lines as they come, so that 130,000 lines of `ss` never become one string.
 * @param file name or path of the program
 * @param args its arguments
 * @param options time limit in milliseconds, and which lines count
 * @returns the number of lines that match; with `code` not 0 the number is not to be trusted
 */
export async function countLines(
  file: string,
  args: readonly string[],
  options: CountOptions,
): Promise<CountResult> {
  const counter = new LineCounter(options.matches ?? ((line) => line.length > 0));
  const ended = await runStreaming(file, args, options, {
    stdout: (chunk) => counter.add(chunk),
    stderr: () => {},
  });
  return { ...ended, count: counter.end() };
}

/** Counts matching lines of a text that comes in pieces. ASCII tables only: bytes are read as Latin-1. */
export class LineCounter {
  private readonly matches: (line: string) => boolean;
  private rest = '';
  private count = 0;

  constructor(matches: (line: string) => boolean) {
    this.matches = matches;
  }

  /** @param chunk the next piece, cut anywhere */
  add(chunk: Buffer): void {
    const text = this.rest + chunk.toString('latin1');
    let from = 0;
    for (let to = text.indexOf('\n', from); to >= 0; to = text.indexOf('\n', from)) {
      if (this.matches(text.slice(from, to))) this.count++;
      from = to + 1;
    }
    this.rest = text.slice(from, from + LINE_CHARS_MAX);
  }

  /** The number of matching lines, a last line without line break included. */
  end(): number {
    if (this.rest.length > 0 && this.matches(this.rest)) this.count++;
    this.rest = '';
    return this.count;
  }
}

/** Text up to `OUTPUT_BYTES_MAX`; what comes after is read, so that the program can end, and thrown away. */
class BoundedText {
  truncated = false;
  private readonly chunks: Buffer[] = [];
  private bytes = 0;

  add(chunk: Buffer): void {
    const room = OUTPUT_BYTES_MAX - this.bytes;
    if (chunk.length > room) this.truncated = true;
    if (room <= 0) return;
    this.chunks.push(chunk.subarray(0, room));
    this.bytes += Math.min(room, chunk.length);
  }

  text(): string {
    return Buffer.concat(this.chunks).toString('utf8');
  }
}

/** What says that a program is not installed, or not for us; everything else is of the moment. */
const NOT_THERE: ReadonlySet<string> = new Set(['ENOENT', 'EACCES']);

/**
 * Starts another program so that one that cannot be started says so by its `error` alone. Node throws for some reasons (no memory), and
 * for others (no descriptor) gives a process without pipes: `stdin`, `stdout` and `stderr` are to be taken for missing ones.
 */
export function startProgram(start: () => ChildProcess): ChildProcess {
  try {
    return withoutRaise(start);
  } catch (error) {
    const never = new ChildProcess();
    process.nextTick(() => never.emit('error', error));
    return never;
  }
}

function runStreaming(
  file: string,
  args: readonly string[],
  options: CommandOptions,
  take: { stdout: (chunk: Buffer) => void; stderr: (chunk: Buffer) => void },
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = startProgram(() => spawn(file, args, { env: commandEnv(), stdio: 'pipe', shell: false }));
    const killer = after(options.timeoutMs, () => {
      child.kill('SIGKILL');
      // One that it has started may keep its output open: that is not waited for.
      child.stdout?.destroy();
      child.stderr?.destroy();
    });
    const finish = (ended: Ended): void => {
      killer.cancel();
      resolve(ended);
    };
    child.stdout?.on('data', take.stdout);
    child.stderr?.on('data', take.stderr);
    // A program that ends without reading its input gives EPIPE here: its exit code tells more.
    child.stdin?.on('error', () => {});
    child.on('error', (error: NodeJS.ErrnoException) =>
      finish({ code: null, missing: NOT_THERE.has(error.code ?? '') }),
    );
    child.on('close', (code) => finish({ code, missing: false }));
    child.stdin?.end(options.input ?? '');
  });
}

/** English messages and plain numbers whatever the user's locale. */
function commandEnv(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: searchPath(), LC_ALL: 'C' };
}

/** With the sbin folders, which a plain user's PATH often lacks. */
function searchPath(): string {
  return `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin`;
}

/**
 * Which of these programs are not installed, or may not be run by us.
 * @param names without a path
 */
export function missingPrograms(names: readonly string[]): string[] {
  const folders = searchPath().split(':');
  return names.filter((name) => !folders.some((folder) => isProgram(join(folder, name))));
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Calls with each line that a child writes.
 * @param stream null or none: the child has no such pipe
 */
export function eachLine(stream: Readable | null | undefined, onLine: (line: string) => void): void {
  if (!stream) return;
  // What cannot be read is the end of it: the child itself says by its exit what became of it.
  stream.on('error', () => {});
  createInterface({ input: stream }).on('line', onLine);
}
