/**
 * Owns `--target self`: the built-in target on a free loopback port, for one run. Must never outlive the process
 * that started it: its workers end when their IPC channel closes, however that process ends.
 *
 * The workers are children of the caller, without a process between: one process less to start and to lose. They
 * have process groups of their own, so Ctrl-C in the terminal reaches the caller alone, and it stops the target
 * after the holders have drained.
 */
import type { Clock } from '../base/clock.ts';
import { type ServeHandle, serveTarget } from './serve.ts';
import type { ServeMode } from './serve-counts.ts';

/** Exactly this address: the generator's loopback sources begin at 127.0.0.2, so no port of theirs can clash. */
const SELF_ADDRESS = '127.0.0.1';

export interface SelfTargetOptions {
  /** how many connections the run will open, at least 1 */
  readonly connections: number;
  /** `echo` when the run's protocol needs answers */
  readonly mode: ServeMode;
  /** the script to fork; with the argument `serve-worker` it must call `runServeWorker` (worker.ts) */
  readonly entryPath: string;
  readonly clock: Clock;
  /** told what a person should know, one line each: a lost worker, descriptors used up */
  readonly onNotice?: (line: string) => void;
  /** ends the start */
  readonly signal?: AbortSignal;
}

/**
 * Starts the built-in target for one run; returns once it listens.
 * @throws BenchError `serve-failed`, exit 3
 */
export function startSelfTarget(options: SelfTargetOptions): Promise<ServeHandle> {
  const { connections, ...rest } = options;
  return serveTarget({ ...rest, host: SELF_ADDRESS, port: 0, workers: null, connectionsMax: connections });
}
