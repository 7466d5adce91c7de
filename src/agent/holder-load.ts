/**
 * Owns what a holder process knows of its own load: CPU, waiting for a core, garbage collection, by phase of the run.
 * Must never cost more than reading one small file a second.
 */
import { readFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import type { Clock } from '../base/clock.ts';
import { NO_LOAD, type PhaseLoad } from '../stats/stats.ts';

interface Reading {
  readonly atMs: number;
  readonly cpuMs: number;
  readonly waitMs: number;
}

/** The load of this process. */
export class HolderLoad {
  readonly #clock: Clock;
  readonly #observer: PerformanceObserver;
  #gcMs = 0;
  #rampFrom: Reading | null = null;
  #holdFrom: Reading | null = null;
  #rampLoad: PhaseLoad = NO_LOAD;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) this.#gcMs += entry.duration;
    });
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** Milliseconds that collections of garbage took since the start. */
  get gcMs(): number {
    return this.#gcMs;
  }

  rampBegins(): void {
    this.#rampFrom = this.#read();
  }

  /** Nothing is left to open: what comes is waiting for others, or holding. Once. */
  rampEnds(): void {
    if (this.#rampFrom === null || this.#rampLoad !== NO_LOAD) return;
    this.#rampLoad = loadBetween(this.#rampFrom, this.#read());
  }

  holdBegins(): void {
    this.rampEnds();
    this.#holdFrom ??= this.#read();
  }

  get ramp(): PhaseLoad {
    if (this.#rampFrom === null) return NO_LOAD;
    return this.#rampLoad === NO_LOAD ? loadBetween(this.#rampFrom, this.#read()) : this.#rampLoad;
  }

  get hold(): PhaseLoad {
    return this.#holdFrom === null ? NO_LOAD : loadBetween(this.#holdFrom, this.#read());
  }

  /** Since the start; null where the kernel keeps no account (CONFIG_SCHED_INFO). */
  get cpuWaitMs(): number | null {
    return readWaitMs();
  }

  end(): void {
    this.#observer.disconnect();
  }

  #read(): Reading {
    const { user, system } = process.cpuUsage();
    return { atMs: this.#clock.monotonicMs(), cpuMs: (user + system) / 1_000, waitMs: readWaitMs() ?? 0 };
  }
}

function loadBetween(from: Reading, to: Reading): PhaseLoad {
  return {
    wallMs: to.atMs - from.atMs,
    cpuMs: to.cpuMs - from.cpuMs,
    waitMs: Math.max(0, to.waitMs - from.waitMs),
  };
}

/**
 * Time that this process's main thread was ready to run and had no core: the second number of /proc/PID/schedstat, in
 * nanoseconds (Documentation/scheduler/sched-stats.rst).
 */
function readWaitMs(): number | null {
  try {
    const wait = Number(readFileSync('/proc/self/schedstat', 'latin1').split(' ')[1]);
    return Number.isFinite(wait) ? wait / 1e6 : null;
  } catch {
    return null;
  }
}
