/**
 * Owns time in a simulation: one clock, the events that are due, and the processes that they belong to. One event runs after
 * the other, each with all the promises that it settles, so that one seed gives one history.
 * Must never ask the real clock.
 */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';

/** One call that is due. */
export interface Due {
  readonly atMs: number;
  readonly order: number;
  readonly process: SimProcess;
  readonly call: () => void;
  /** Node runs timers before it reads what has come meanwhile */
  readonly isTimer: boolean;
  isCancelled: boolean;
}

/** One simulated process: what it is called for waits while it is stopped, and is dropped when it is dead. */
export class SimProcess extends EventEmitter {
  readonly name: string;
  readonly host: string;
  /** among those of its world */
  readonly number: number;
  state: 'running' | 'stopped' | 'dead' = 'running';
  /** the run that it works for: of an agent the one whose coordinator it reached last */
  run = 0;
  /** when it went on last after a stop */
  wentOnMs = Number.NEGATIVE_INFINITY;
  /** what the other end of its pipe hears; null: nobody started it */
  parentPipe: ((message: unknown) => void) | null = null;
  /** what has come while it was stopped */
  readonly held: Due[] = [];
  /** called once, when it is dead: the kernel closes what it had */
  readonly onDeath: (() => void)[] = [];

  constructor(name: string, host: string, number: number) {
    super();
    this.setMaxListeners(0);
    this.number = number;
    this.name = name;
    this.host = host;
  }

  die(): void {
    if (this.state === 'dead') return;
    this.state = 'dead';
    this.held.length = 0;
    for (const call of this.onDeath.splice(0)) call();
  }
}

function isBefore(one: Due, other: Due): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}

/** Calls of `setImmediate` in one turn of Node's loop, each with one event: a turn asks the kernel what has come. */
const TURNS_AT_ONCE = 64;

/** The events of one simulation, the next one first. */
export class VirtualTime {
  /** milliseconds since the simulation began */
  nowMs = 0;
  /** the process whose event is running, or ran last */
  current: SimProcess;
  /** gets what an event threw */
  onError: (error: unknown) => void = (error) => {
    throw error;
  };
  /** events that have run */
  events = 0;
  /** of when each event ran, in which process and in which order they were planned: another history has another one */
  digest = 0;
  readonly #heap: Due[] = [];
  #order = 0;

  /** @param outside what belongs to no simulated process, such as the faults themselves */
  constructor(outside: SimProcess) {
    this.current = outside;
  }

  /** Calls in a process, after a delay. */
  after(delayMs: number, process: SimProcess, call: () => void, isTimer = false): Due {
    return this.at(this.nowMs + Math.max(0, delayMs), process, call, isTimer);
  }

  /**
   * Calls in a process, at a moment: those of one moment in the order in which they were planned. A moment that is computed back from a delay
   * is another one in its last bit.
   */
  at(atMs: number, process: SimProcess, call: () => void, isTimer = false): Due {
    assert(atMs >= this.nowMs, 'a moment is a number, and to come');
    this.#order += 1;
    const due = { atMs, order: this.#order, process, call, isTimer, isCancelled: false };
    if (Number.isFinite(atMs)) this.#push(due);
    return due;
  }

  /** Stops a process, as SIGSTOP does: nothing is lost, nothing runs. */
  stop(process: SimProcess): void {
    if (process.state === 'running') process.state = 'stopped';
  }

  /** Lets a stopped process go on: first its timers, then what has come. */
  go(process: SimProcess): void {
    if (process.state !== 'stopped') return;
    process.state = 'running';
    process.wentOnMs = this.nowMs;
    const held = process.held.splice(0);
    for (const isTimer of [true, false])
      for (const due of held)
        if (due.isTimer === isTimer && !due.isCancelled) this.after(0, process, due.call, isTimer);
  }

  /**
   * Runs events until none is left, the time is up, or `isOver` says so.
   * @param untilMs on this clock
   */
  run(untilMs: number, isOver: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      let isEnded = false;
      let left = 0;
      const turn = (): void => {
        left -= 1;
        if (isEnded) return;
        try {
          if (this.#turn(untilMs, isOver)) {
            if (left === 0) more();
            return;
          }
          resolve();
        } catch (error) {
          reject(error);
        }
        isEnded = true;
      };
      const more = (): void => {
        for (left = 0; left < TURNS_AT_ONCE; left += 1) setImmediate(turn);
      };
      more();
    });
  }

  /** One event. Node settles its promises before the next call of `setImmediate`, in the same turn of its loop too. */
  #turn(untilMs: number, isOver: () => boolean): boolean {
    while (!isOver()) {
      const due = this.#pop();
      if (due === undefined || due.atMs > untilMs) return false;
      if (due.isCancelled || due.process.state === 'dead') continue;
      this.nowMs = due.atMs;
      if (due.process.state === 'stopped') {
        due.process.held.push(due);
        continue;
      }
      this.events += 1;
      this.current = due.process;
      this.#mix(due.order);
      this.#mix(Math.round(due.atMs * 1_000) | 0);
      this.#mix(due.process.number);
      try {
        due.call();
      } catch (error) {
        this.onError(error);
      }
      return true;
    }
    return false;
  }

  /** One step of FNV-1a, on words. */
  #mix(word: number): void {
    this.digest = Math.imul(this.digest ^ word, 0x01000193) >>> 0;
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(due);
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above] as Due;
      if (isBefore(parent, due)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = due;
  }

  #pop(): Due | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      const right = heap[below + 1];
      if (right !== undefined && isBefore(right, heap[below] as Due)) below += 1;
      const child = heap[below] as Due;
      if (isBefore(last, child)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = last;
    return first;
  }
}
