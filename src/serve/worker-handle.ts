/**
 * Owns one worker as its parent sees it: the forked process, what it said last, and its end. It is the parent's
 * end of serve-counts.ts. Must never add up workers (serve.ts).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { type Clock, StandStill } from '../base/clock.ts';
import { bindChild } from '../engine/parent-bond.ts';
import { whenOver } from '../host/child-end.ts';
import { eachLine } from '../host/command.ts';
import { isStopped } from '../host/proc-file.ts';
import { every } from '../time/timer.ts';
import {
  type FromWorker,
  readWorkerMessage,
  type SourceCount,
  type ToWorker,
  type WorkerTotals,
  ZERO_TOTALS,
} from './serve-counts.ts';

/** The hidden first argument that makes the program a worker of the target (main.ts); its parent's pid follows. */
const SERVE_WORKER_ENTRY = 'serve-worker';
/** A small young generation keeps a worker small: it allocates nearly nothing. */
const WORKER_EXEC_ARGV = ['--max-semi-space-size=1'];
/** A worker loads in well under a second. One that is silent for longer is lost if the kernel says that it is stopped. */
const STOPPED_DEADLINE_MS = 10_000;
/** So long a machine that is many times too busy may take. */
const LISTEN_DEADLINE_MS = 30_000;
const ANSWER_DEADLINE_MS = 2_000;
const END_DEADLINE_MS = 2_000;
/** How often it is looked whether a deadline is over. */
const LOOK_EVERY_MS = 250;

/** What came of asking a worker to listen. */
export type Listening =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'failed'; readonly call: string; readonly errno: number }
  /** it ended, or said nothing in time */
  | { readonly type: 'lost'; readonly how: string };

/** Called as a worker's story goes on. */
export interface WorkerEvents {
  /** new totals came */
  totals(worker: WorkerHandle): void;
  /** it did nothing for seconds, and says so afterwards */
  stoodStill(worker: WorkerHandle, forMs: number): void;
  /** it was asked for its counts and did not answer in time: they are what it said before */
  silent(worker: WorkerHandle, forMs: number): void;
  /** the process ended; `wasAsked` says whether it was asked to */
  ended(worker: WorkerHandle, wasAsked: boolean): void;
}

/** One forked worker. */
export class WorkerHandle {
  readonly index: number;
  /** what it said last; `openNow` becomes 0 when it ends without being asked, because the kernel closed all */
  totals: WorkerTotals = ZERO_TOTALS;
  /** open connections by source, as of the last answer */
  sources: readonly SourceCount[] = [];
  /** how the process ended; null while it lives */
  how: string | null = null;
  readonly #child: ChildProcess;
  readonly #events: WorkerEvents;
  readonly #clock: Clock;
  #isAsked = false;
  #lastRequest = 0;
  /** those who wait for a message, or for the end (null) */
  readonly #waiting = new Set<(message: FromWorker | null) => void>();

  /**
   * Forks the process; it does nothing before `listen`.
   * @param onLine gets what it writes to stderr, line by line; null: it writes to ours
   */
  constructor(
    entryPath: string,
    index: number,
    clock: Clock,
    events: WorkerEvents,
    onLine: ((line: string) => void) | null,
  ) {
    this.index = index;
    this.#clock = clock;
    this.#events = events;
    this.#child = bindChild('kill', (bond) =>
      fork(entryPath, [SERVE_WORKER_ENTRY, String(process.pid)], {
        execArgv: WORKER_EXEC_ARGV,
        stdio: ['ignore', 'ignore', onLine === null ? 'inherit' : 'pipe', 'ipc', bond],
        // A process group of its own: Ctrl-C in the terminal must not end it before the process that holds connections to it
        // has drained. It ends with its parent, so it never outlives the parent.
        detached: true,
      }),
    );
    if (onLine !== null) eachLine(this.#child.stderr, onLine);
    this.#child.on('message', (said) => this.#hear(said));
    this.#child.on('error', (error) => this.#gone(`could not be started: ${error.message}`));
    whenOver(this.#child, (code, signal) =>
      this.#gone(signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`),
    );
  }

  /** 0 when it could not be started */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isAlive(): boolean {
    return this.how === null;
  }

  /** Makes it listen, and waits until it does; one that says nothing in time is killed, as it may be stopped. */
  async listen(message: ToWorker & { type: 'listen' }): Promise<Listening> {
    this.#say(message);
    const isAnswer = (said: FromWorker): boolean => said.type === 'listening' || said.type === 'failed';
    let silentMs = STOPPED_DEADLINE_MS;
    let answer = await this.#answer(isAnswer, silentMs);
    const isLost = this.how !== null || isStopped('/proc', this.pid);
    if (answer === null && !isLost) {
      answer = await this.#answer(isAnswer, LISTEN_DEADLINE_MS - silentMs);
      silentMs = LISTEN_DEADLINE_MS;
    }
    if (answer?.type === 'listening' || answer?.type === 'failed') return answer;
    if (this.how !== null) return { type: 'lost', how: this.how };
    this.#child.kill('SIGKILL');
    const as = isLost ? 'is stopped' : 'has no core or hangs';
    return { type: 'lost', how: `said nothing for ${silentMs / 1_000} s, because it ${as}, and was killed` };
  }

  /** Brings `totals` and `sources` up to date; a worker that does not answer in 2 s keeps its last ones. */
  async count(): Promise<void> {
    if (!this.isAlive) return;
    const request = ++this.#lastRequest;
    this.#say({ type: 'count', request });
    const isAnswer = (said: FromWorker): boolean => said.type === 'counts' && said.request === request;
    const answer = await this.#answer(isAnswer, ANSWER_DEADLINE_MS);
    if (answer === null && this.isAlive) this.#events.silent(this, ANSWER_DEADLINE_MS);
  }

  /** Takes its final counts and ends it, with SIGKILL if it does not end in 2 s. */
  async stop(): Promise<void> {
    if (!this.isAlive) return;
    this.#isAsked = true;
    this.#say({ type: 'stop' });
    await this.#answer(() => false, END_DEADLINE_MS);
    if (!this.isAlive) return;
    this.#child.kill('SIGKILL');
    await this.#answer(() => false, END_DEADLINE_MS);
  }

  #say(message: ToWorker): void {
    // A worker that is going away takes no messages; its end tells the rest.
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  #hear(said: unknown): void {
    const message = readWorkerMessage(said);
    if (message !== null) {
      this.#take(message);
      return;
    }
    // What it still says does not count.
    this.#child.removeAllListeners('message');
    this.#gone('said what no worker says, and was killed');
    this.#child.kill('SIGKILL');
  }

  #take(message: FromWorker): void {
    if (message.type === 'counts' || message.type === 'stopped') this.sources = message.sources;
    if ('totals' in message) {
      this.totals = message.totals;
      this.#events.totals(this);
    }
    if (message.type === 'stood-still') this.#events.stoodStill(this, message.forMs);
    for (const wake of this.#waiting) wake(message);
  }

  #gone(how: string): void {
    if (!this.isAlive) return;
    this.how = how;
    if (!this.#isAsked) {
      this.totals = { ...this.totals, openNow: 0 };
      this.sources = [];
    }
    for (const wake of this.#waiting) wake(null);
    this.#events.ended(this, this.#isAsked);
  }

  /**
   * The first message that `isIt` accepts; null at the process's end and after the deadline. That counts the time in which
   * this process looked: one that was stopped itself takes no other for silent because of what it has not read.
   */
  #answer(isIt: (message: FromWorker) => boolean, deadlineMs: number): Promise<FromWorker | null> {
    if (!this.isAlive) return Promise.resolve(null);
    return new Promise((resolve) => {
      const finish = (answer: FromWorker | null): void => {
        timer.cancel();
        this.#waiting.delete(wake);
        resolve(answer);
      };
      const wake = (message: FromWorker | null): void => {
        if (message === null || isIt(message)) finish(message);
      };
      const still = new StandStill(LOOK_EVERY_MS, this.#clock.monotonicMs());
      const timer = every(LOOK_EVERY_MS, () => {
        still.look(this.#clock.monotonicMs());
        if (still.attendedMs >= deadlineMs) finish(null);
      });
      this.#waiting.add(wake);
    });
  }
}
