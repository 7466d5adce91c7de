/**
 * Owns the files that a run writes: a report, which can be written (said before the run) and leaves either the old file or the
 * whole new one, and the ledger of losses, which grows. Must never know what a report says.
 */

import { cleanJson } from '../base/clean-text.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { LedgerEntry } from '../coordinator/run-watch.ts';
import {
  appendToFile,
  followOutputPath,
  StreamFile,
  tryWholeFile,
  writeWholeFile,
} from '../host/output-file.ts';

/** A file that passed its check. */
export interface ReportFile {
  readonly path: string;
  /** whether it can be written more than once, each time as a whole; a pipe or a device cannot */
  readonly isReplaceable: boolean;
  /**
   * Writes the whole text.
   * @throws BenchError (exit code 5); what was at the path before is then untouched
   */
  write(text: string): void;
}

/**
 * Checks that a report can be written, without leaving a trace.
 * @param path as typed by the user
 * @param flag the flag that it was typed for
 * @throws BenchError (exit code 5) when it cannot
 */
export function checkReportFile(path: string, flag = '--json'): ReportFile {
  const attempt = <Result>(action: () => Result): Result => {
    try {
      return action();
    } catch (error) {
      const elsewhere = flag === '--json' ? ', or - for stdout' : '';
      const hint = `give ${flag} a file in a directory that you can write to${elsewhere}`;
      throw unwritable('report', path, error, hint);
    }
  };
  const isReplaceable = attempt(() => {
    const place = followOutputPath(path);
    if (place.kind === 'file') tryWholeFile(place, place.isPresent);
    else new StreamFile(place).check();
    return place.kind === 'file';
  });
  return { path, isReplaceable, write: (text) => attempt(() => writeReport(path, text)) };
}

/** Follows the path again: what was checked an hour ago may have been replaced since. */
function writeReport(path: string, text: string): void {
  const place = followOutputPath(path);
  if (place.kind === 'file') {
    writeWholeFile(place, text, place);
    return;
  }
  const stream = new StreamFile(place);
  stream.append(text);
  stream.finish();
}

const PLAIN: Readonly<Record<string, string>> = {
  ENOENT: 'its directory does not exist',
  ENOTDIR: 'a part of its path is not a directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EISDIR: 'it is a directory',
  EBUSY: 'it is a mount point: mount its directory instead',
  EPIPE: 'its reader has gone',
};

/** In words, for the message of a `BenchError`. */
export function describe(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return PLAIN[code ?? ''] ?? message;
}

function unwritable(what: string, path: string, error: unknown, hint: string): BenchError {
  return new BenchError(
    ErrorCode.reportUnwritable,
    ExitCode.reportUnwritten,
    `the ${what} cannot be written to ${path}: ${describe(error)}`,
    hint,
    error,
  );
}

/** A ledger on disk, or on its way to a reader. */
export class EventsFile {
  readonly path: string;
  readonly #append: (text: string) => void;
  readonly #finish: () => void;
  #failure: BenchError | null = null;

  /**
   * Empties the file, or makes it.
   * @throws BenchError (exit code 5) when it cannot be written
   */
  constructor(path: string) {
    this.path = path;
    try {
      const place = followOutputPath(path);
      if (place.kind === 'file') {
        writeWholeFile(place, '', place);
        this.#append = (text) => appendToFile(place, text, place.kept);
        this.#finish = () => {};
      } else {
        // Opened once: the reader of a pipe would take each closing for the end.
        const stream = new StreamFile(place);
        stream.check();
        this.#append = (text) => stream.append(text);
        this.#finish = () => stream.finish();
      }
    } catch (error) {
      throw eventsUnwritable(path, error);
    }
  }

  /** Adds losses. */
  append(entries: readonly LedgerEntry[]): void {
    if (entries.length === 0) return;
    this.#attempt(() =>
      this.#append(entries.map((entry) => `${cleanJson(JSON.stringify(entry))}\n`).join('')),
    );
  }

  /**
   * After the last batch.
   * @throws BenchError (exit code 5) when something could not be written
   */
  check(): void {
    this.#attempt(this.#finish);
    if (this.#failure !== null) throw this.#failure;
  }

  /** After a failure nothing more is written: a ledger with a hole would look whole. */
  #attempt(action: () => void): void {
    if (this.#failure !== null) return;
    try {
      action();
    } catch (error) {
      this.#failure = eventsUnwritable(this.path, error);
    }
  }
}

function eventsUnwritable(path: string, error: unknown): BenchError {
  const hint = 'give --events a file in a directory that you can write to and that has room';
  return unwritable('events', path, error, hint);
}
