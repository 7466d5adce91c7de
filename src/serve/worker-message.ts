/**
 * Owns the messages between the target's parent and its workers, over Node's IPC.
 * Must never hold behaviour.
 *
 *   parent --> worker : listen      address, port, mode, backlog (first message, once)
 *   parent <-- worker : listening   the port that it got          | failed: the call and its errno (then it ends)
 *   parent <-- worker : totals      when counts changed, at most every 200 ms
 *   parent <-- worker : stood-still for how long it did nothing, when that was seconds
 *   parent --> worker : count       request number
 *   parent <-- worker : counts      request number, totals, source addresses
 *   parent --> worker : stop
 *   parent <-- worker : stopped     final totals and source addresses, taken before it closes; then it ends
 *
 * A worker whose parent is gone (IPC disconnect) ends at once.
 */
import type { ServeMode, SourceCount, WorkerTotals } from './serve-counts.ts';

export type ToWorker =
  | {
      readonly type: 'listen';
      readonly host: string;
      readonly port: number;
      readonly mode: ServeMode;
      readonly backlog: number;
      /** refuse a port on which another process listens with SO_REUSEPORT; only the first worker asks for it */
      readonly alone: boolean;
    }
  | { readonly type: 'count'; readonly request: number }
  | { readonly type: 'stop' };

export type FromWorker =
  | { readonly type: 'listening'; readonly port: number }
  /** `errno` is positive, such as 98 for EADDRINUSE */
  | { readonly type: 'failed'; readonly call: string; readonly errno: number }
  | { readonly type: 'totals'; readonly totals: WorkerTotals }
  | { readonly type: 'stood-still'; readonly forMs: number }
  | {
      readonly type: 'counts';
      readonly request: number;
      readonly totals: WorkerTotals;
      readonly sources: readonly SourceCount[];
    }
  | { readonly type: 'stopped'; readonly totals: WorkerTotals; readonly sources: readonly SourceCount[] };
