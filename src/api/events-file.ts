/**
 * Owns the file that the ledger of losses goes to (`--events`): one JSON object a line. Each batch opens it anew, so that
 * a program that rotates logs may move it away. Must never stop a run: what cannot be written is told at the end.
 */
import { cleanJson } from '../base/clean-text.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { LedgerEntry } from '../coordinator/run-watch.ts';
import { followOutputPath } from '../host/output-path.ts';
import { StreamFile } from '../host/stream-file.ts';
import { appendToFile, writeWholeFile } from '../host/whole-file.ts';
import { describe } from './report-file.ts';

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
      throw unwritable(path, error);
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
      this.#failure = unwritable(this.path, error);
    }
  }
}

function unwritable(path: string, error: unknown): BenchError {
  return new BenchError(
    ErrorCode.reportUnwritable,
    ExitCode.reportUnwritten,
    `the events cannot be written to ${path}: ${describe(error)}`,
    'give --events a file in a directory that you can write to and that has room',
    error,
  );
}
