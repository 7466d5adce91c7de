/**
 * Owns the file that a report goes to: whether it can be written, told before the run, and the write at the end,
 * which leaves either the old file or the whole new one. Must never know what a report says.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';

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
  const present = statOf(path, flag);
  if (present?.isDirectory()) throw unwritable(path, flag, 'it is a directory', null);
  if (present !== null && !present.isFile()) return checkDevice(path, flag, present);
  // A rename would replace a symbolic link instead of what it points to.
  const real = present === null ? path : attempt(path, flag, () => realpathSync(path));
  const temporary = join(dirname(real), `.${basename(real)}.${process.pid}.tmp`);
  attempt(path, flag, () => {
    writeAll(temporary, 'wx', '\n');
    unlinkSync(temporary);
    if (present !== null) closeSync(openSync(real, 'r+'));
  });
  return {
    path,
    isReplaceable: true,
    write: (text) => {
      try {
        writeAll(temporary, 'w', text);
        renameSync(temporary, real);
      } catch (error) {
        removeQuietly(temporary);
        throw unwritable(path, flag, describe(error), error);
      }
    },
  };
}

/** A pipe or a character device (`/dev/stdout`, `/dev/fd/3`): written in place, for it cannot be replaced. */
function checkDevice(path: string, flag: string, present: Stats): ReportFile {
  if (present.isSocket() || present.isBlockDevice()) throw unwritable(path, flag, 'it is not a file', null);
  // A line break in front of JSON changes nothing, and a device that is full says so here. A pipe is not tried:
  // opening one waits for its reader.
  if (present.isCharacterDevice()) attempt(path, flag, () => writeAll(path, 'w', '\n'));
  return {
    path,
    isReplaceable: false,
    write: (text) => attempt(path, flag, () => writeAll(path, 'w', text)),
  };
}

function statOf(path: string, flag: string): Stats | null {
  try {
    return statSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw unwritable(path, flag, describe(error), error);
  }
}

/** Writes every byte, then asks the disk to have it; `writeSync` alone may write a part. */
function writeAll(path: string, flags: 'w' | 'wx', text: string): void {
  const fd = openSync(path, flags);
  try {
    const bytes = Buffer.from(text);
    let written = 0;
    while (written < bytes.length) written += writeSync(fd, bytes, written);
    try {
      fsyncSync(fd);
    } catch (error) {
      // Devices and pipes have no disk behind them.
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    }
  } finally {
    closeSync(fd);
  }
}

function attempt<Result>(path: string, flag: string, action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    throw unwritable(path, flag, describe(error), error);
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was never made.
  }
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
};

function describe(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return PLAIN[code ?? ''] ?? message;
}

function unwritable(path: string, flag: string, why: string, cause: unknown): BenchError {
  return new BenchError(
    ErrorCode.reportUnwritable,
    ExitCode.reportUnwritten,
    `the report cannot be written to ${path}: ${why}`,
    flag === '--json'
      ? 'give --json a file in a directory that you can write to, or - for stdout'
      : `give ${flag} a file in a directory that you can write to`,
    cause ?? undefined,
  );
}
