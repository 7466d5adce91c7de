/**
 * Owns the search for how long a path remembers a silent connection: which gaps are tried next, and the connections of each: a
 * few, opened together, silent for their gap, then asked once. Must never print.
 */

import net from 'node:net';
import type { Endpoint } from '../base/endpoint.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { formatDuration } from '../base/units.ts';
import { after, type Timer } from '../time/timer.ts';
import {
  formatInterval,
  type IdleAnswer,
  type IdleBounds,
  type IdleEnd,
  type IdleInterval,
  isRoundOver,
  NOTHING_KNOWN,
  nextGaps,
  withAnswers,
} from './idle-search.ts';

/** Connections of one gap: one lost packet must not decide. */
const CONNECTIONS_PER_GAP = 3;
/** Two retransmits (0.2 s and more, RFC 6298) fit: what is silent for longer is forgotten. */
const ANSWER_WITHIN_MS = 3_000;
const CONNECT_WITHIN_MS = 5_000;
/** Rounds narrow the interval 16 times each: more than this cannot be needed. */
const ROUNDS_MAX = 8;
const PROBE = 'c100k-bench idle probe\n';

interface IdleFinderOptions {
  /** must send back what it gets */
  readonly endpoint: Endpoint;
  readonly bounds: IdleBounds;
  /** null: the kernel's choice */
  readonly sourceAddress: string | null;
  /** one line for a person at each step */
  readonly onProgress: (line: string) => void;
}

/**
 * Finds after how long the path forgets an idle connection.
 * @returns the interval, as narrow as the bounds ask for; `forgottenMs` null when even the longest gap lived
 * @throws BenchError `usage` when the target does not echo immediately, whatever the path, or no longer when the search is over
 */
export async function findIdleTimeout(options: IdleFinderOptions): Promise<IdleInterval> {
  const first = await look(options);
  if (first === 'dead')
    throw deaf(
      options,
      'is dead: it takes no connection (nothing listens there, or something on the way drops or rejects it)',
    );
  if (first === 'deaf') throw deaf(options, 'does not send back what it gets');
  let known = NOTHING_KNOWN;
  for (let round = 1; round <= ROUNDS_MAX; round += 1) {
    const gaps = nextGaps(known, options.bounds);
    if (gaps.length === 0) break;
    const longest = formatDuration(gaps[gaps.length - 1] ?? 0);
    options.onProgress(
      `round ${round}: ${gaps.length} gaps from ${formatDuration(gaps[0] ?? 0)} to ${longest}, all at the same time`,
    );
    known = withAnswers(known, await tryGaps(gaps, options));
    options.onProgress(formatInterval(known));
  }
  // A target that has ended closes or silences every connection, and no gap was found.
  const last = known.forgottenMs === null ? 'echoes' : await look(options);
  if (last !== 'echoes')
    throw deaf(
      options,
      `${last === 'dead' ? 'is dead: it takes no new connection any more' : 'no longer answers a new connection'}: it ended during the search, and no idle timeout was found`,
    );
  return known;
}

/** Without an idle time first: a target that does not echo would look like a path that forgets immediately. */
async function look(options: IdleFinderOptions): Promise<'dead' | 'deaf' | 'echoes'> {
  const cohort = new Cohort(options);
  const isOpen = await cohort.open();
  const isAlive = isOpen && (await cohort.ask());
  cohort.close();
  return isAlive ? 'echoes' : isOpen ? 'deaf' : 'dead';
}

function deaf({ endpoint }: IdleFinderOptions, what: string): BenchError {
  return new BenchError(
    ErrorCode.usage,
    ExitCode.usage,
    `${endpoint.address}:${endpoint.port} ${what}`,
    'start an echo target there: c100k-bench serve --mode echo',
  );
}

async function tryGaps(gaps: readonly number[], options: IdleFinderOptions): Promise<readonly IdleAnswer[]> {
  const answers: IdleAnswer[] = [];
  const cohorts: Cohort[] = [];
  const timers: Timer[] = [];
  try {
    await new Promise<void>((resolve) => {
      for (const gapMs of gaps) {
        const cohort = new Cohort(options);
        cohorts.push(cohort);
        const answered = (alive: boolean): void => {
          const ended = cohort.ended;
          answers.push(alive ? { gapMs, alive } : { gapMs, alive, ended });
          options.onProgress(`idle for ${formatDuration(gapMs)}: ${alive ? 'still known' : WORDS[ended]}`);
          if (isRoundOver(gaps, answers)) resolve();
        };
        void cohort.open().then((isOpen) => {
          if (!isOpen) answered(false);
          else timers.push(after(gapMs, () => void cohort.ask().then(answered)));
        });
      }
    });
  } finally {
    for (const timer of timers) timer.cancel();
    for (const cohort of cohorts) cohort.close();
  }
  return [...answers];
}

const WORDS: Readonly<Record<IdleEnd, string>> = {
  fin: 'closed by the far side',
  rst: 'forgotten (reset)',
  silence: 'forgotten (no answer)',
};

/** The connections of one gap. */
class Cohort {
  readonly #options: IdleFinderOptions;
  #sockets: net.Socket[] = [];
  #ended: IdleEnd = 'silence';

  constructor(options: IdleFinderOptions) {
    this.#options = options;
  }

  /** @returns whether at least one connection is open */
  async open(): Promise<boolean> {
    const opened = await Promise.all(Array.from({ length: CONNECTIONS_PER_GAP }, () => this.#openOne()));
    return opened.some((isOpen) => isOpen);
  }

  #openOne(): Promise<boolean> {
    const { endpoint, sourceAddress } = this.#options;
    return new Promise((resolve) => {
      const socket = net.connect({
        host: endpoint.address,
        port: endpoint.port,
        ...(sourceAddress === null ? {} : { localAddress: sourceAddress }),
      });
      this.#sockets.push(socket);
      const timer = after(CONNECT_WITHIN_MS, () => resolve(false));
      socket.on('connect', () => {
        timer.cancel();
        resolve(true);
      });
      socket.on('end', () => {
        this.#ended = 'fin';
      });
      socket.on('error', () => {
        if (this.#ended === 'silence') this.#ended = 'rst';
        timer.cancel();
        resolve(false);
      });
    });
  }

  /** How those that did not answer ended. */
  get ended(): IdleEnd {
    return this.#ended;
  }

  /** @returns whether at least one connection answered in time */
  async ask(): Promise<boolean> {
    const answers = await Promise.all(this.#sockets.map((socket) => askOne(socket)));
    return answers.some((isAlive) => isAlive);
  }

  close(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.#sockets = [];
  }
}

function askOne(socket: net.Socket): Promise<boolean> {
  if (socket.destroyed) return Promise.resolve(false);
  return new Promise((resolve) => {
    const timer = after(ANSWER_WITHIN_MS, () => resolve(false));
    const done = (isAlive: boolean): void => {
      timer.cancel();
      resolve(isAlive);
    };
    socket.on('data', () => done(true));
    socket.on('error', () => done(false));
    socket.on('close', () => done(false));
    socket.write(PROBE);
  });
}
