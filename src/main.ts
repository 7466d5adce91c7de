/**
 * Owns the way from argv to the exit code: the one place where an error becomes an exit code.
 * Must never load the command line's packages for a holder or a serve worker: those processes stay small.
 */
import { cleanLines } from './base/clean-text.ts';
import { BenchError, ErrorCode, ExitCode, usageError } from './base/errors.ts';

/**
 * Runs one process of c100k-bench.
 * @param argv as Node gives it: the runtime, the script, then what was typed
 * @returns the exit code; the process ends by itself when its last work is done
 */
export async function main(argv: readonly string[]): Promise<number> {
  // A reader that goes away (`| head -c 10`) must not end a run: without listeners a failed write would.
  process.stdout.on('error', ignoreWriteError);
  process.stderr.on('error', ignoreWriteError);
  process.on('uncaughtException', exitOnBug);
  try {
    switch (argv[2]) {
      case 'holder':
        requireParent(argv[2]);
        (await import('./agent/holder.ts')).runHolder(await parentPid(argv[3]));
        return ExitCode.held;
      case 'serve-worker':
        requireParent(argv[2]);
        (await import('./serve/worker.ts')).runServeWorker(await parentPid(argv[3]));
        return ExitCode.held;
      default:
        return await (await import('./cli/cli.ts')).runCli(argv);
    }
  } catch (error) {
    return explain(error);
  }
}

/** Two entries are for our own child processes alone: they live by the messages of the parent that forked them. */
function requireParent(entry: string): void {
  if (process.connected) return;
  // It had a parent, which ended while this process was loading: there is no reader and nothing to do.
  if (process.connected === false) process.exit(ExitCode.held);
  throw usageError(
    ErrorCode.usage,
    `${entry} is not a command: it is started by other processes of c100k-bench`,
    'c100k-bench help all shows every command and flag',
  );
}

/** What our parent said its pid is. */
async function parentPid(text: string | undefined): Promise<number | null> {
  return (await import('./engine/parent-bond.ts')).parentPidOf(text);
}

function ignoreWriteError(): void {}

/** A throw that no code awaits. Node would end with 1, which means that the target did not hold. */
function exitOnBug(error: unknown): void {
  process.exit(explain(error));
}

/** A package that an import did not find, as after a clone without `npm ci`; null: the error is another one. */
function missingPackage(error: unknown): string | null {
  const { code, message = '' } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'ERR_MODULE_NOT_FOUND'
    ? (/^Cannot find package '([^']+)'/.exec(message)?.[1] ?? null)
    : null;
}

/** The kernel refused what a part of the program is made of, or goes by: by name, because their files are loaded by few processes. */
const REFUSED_CALLS: ReadonlySet<string> = new Set(['CallError', 'RingError']);

/** Prints an error on stderr: one line and a hint when the user can fix it, the stack when it is ours. */
function explain(error: unknown): ExitCode {
  if (error instanceof BenchError) {
    process.stderr.write(cleanLines(`c100k-bench: ${error.message}\n  hint: ${error.hint}\n`));
    return error.exitCode;
  }
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === 'EMFILE' || code === 'ENFILE') {
    process.stderr.write(
      `c100k-bench: no descriptor is left for a file of the program itself (${code})\n  hint: ulimit -n 1024, and see who has them: cat /proc/sys/fs/file-nr\n`,
    );
    return ExitCode.refused;
  }
  if (error instanceof Error && REFUSED_CALLS.has(error.name)) {
    process.stderr.write(
      `c100k-bench: ${error.message}\n  hint: see whether this host has memory and descriptors left: free -m; cat /proc/sys/fs/file-nr; ulimit -n\n`,
    );
    return ExitCode.incomplete;
  }
  const missing = missingPackage(error);
  if (missing !== null) {
    process.stderr.write(
      `c100k-bench: the package ${missing} is not installed\n  hint: run npm ci where c100k-bench is, or install c100k-bench again\n`,
    );
    return ExitCode.refused;
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const where = stack?.split('\n').slice(1).join('\n') ?? '';
  process.stderr.write(cleanLines(`c100k-bench: this is a bug: ${message.split('\n')[0]}\n${where}\n`));
  return ExitCode.bug;
}
