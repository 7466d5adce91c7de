/**
 * Owns the file that the ledger of losses goes to (`--events`): one JSON object a line. Each batch opens it anew, so that
 * a program that rotates logs may move it away. Must never stop a run: what cannot be written is told at the end.
 */
import { appendFileSync, statSync, writeFileSync } from 'node:fs';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { LedgerEntry } from '../coordinator/run-watch.ts';

/** A ledger on disk. */
export class EventsFile {
  readonly path: string;
  #failure: BenchError | null = null;

  /**
   * Empties the file, or makes it.
   * @throws BenchError (exit code 5) when it cannot be written
   */
  constructor(path: string) {
    this.path = path;
    try {
      // A device that is full says so only when something is written to it.
      writeFileSync(path, isDevice(path) ? '\n' : '');
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  /** Adds losses. */
  append(entries: readonly LedgerEntry[]): void {
    if (this.#failure !== null || entries.length === 0) return;
    try {
      appendFileSync(this.path, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    } catch (error) {
      this.#failure = unwritable(this.path, error);
    }
  }

  /** @throws BenchError (exit code 5) when something could not be written */
  check(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

function isDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isCharacterDevice() ?? false;
}

function unwritable(path: string, error: unknown): BenchError {
  return new BenchError(
    ErrorCode.reportUnwritable,
    ExitCode.reportUnwritten,
    `the events cannot be written to ${path}: ${(error as Error).message}`,
    'give --events a file in a directory that you can write to and that has room',
    error,
  );
}
