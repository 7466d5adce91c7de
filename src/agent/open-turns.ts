/**
 * Owns whose turn it is to open among the holders of one agent, and how its rate and its cap on connects in flight are shared: with more holders
 * than cores as many open at a time as there are cores, the others stand by, and one starts as another has begun all of its own.
 * Must never know a process (holder-pool.ts), or read a clock.
 */
import type { EngineRamp } from '../engine/engine.ts';
import { splitPending, splitRate } from '../run/quota.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import type { AgentToHolder } from './process-pipe.ts';

/** Where a holder stands. `begun`: nothing of its quota is left to begin, some may be in flight. */
type Turn = 'standby' | 'opening' | 'begun';

/** What is known of a holder that is to open, or has. */
interface Opener {
  readonly turn: Turn;
  /** connections of its quota */
  readonly quota: number;
  /** connects in flight when it reported last; no more of them come once it has begun all */
  readonly pending: number;
  /** what it may have in flight since its last share */
  readonly pendingMax: number;
}

/** What belongs to the agent. */
interface Limits {
  /** null: no limit */
  readonly ratePerSec: number | null;
  /** connects in flight at most, at least 1 */
  readonly pendingMax: number;
  /** holders that open at a time, at least 1 */
  readonly openersMax: number;
}

/** What one holder may do from now on. */
interface Share {
  readonly turn: Turn;
  /** 0: none; null: no limit */
  readonly ratePerSec: number | null;
  readonly pendingMax: number;
}

const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, each) => sum + each, 0);

/** Each may open at any time: what is lost, too, is opened again. */
function sharesOfAll(openers: readonly Opener[], { ratePerSec, pendingMax }: Limits): Share[] {
  const quotas = openers.map(({ quota }) => quota);
  const pendings = splitPending(pendingMax, quotas);
  const rates = splitRate(ratePerSec, quotas);
  return openers.map(({ turn }, index) => ({
    turn: turn === 'standby' ? 'opening' : turn,
    ratePerSec: rates[index] === undefined ? 0 : rates[index],
    pendingMax: pendings[index] ?? 0,
  }));
}

/**
 * What one may have in flight is never taken from it while it opens: it may have as many. Those that start get what others no longer need, so
 * that all together never have more than the cap.
 */
function sharesInTurns(openers: readonly Opener[], { ratePerSec, pendingMax, openersMax }: Limits): Share[] {
  const taken = sumOf(
    openers.map((each) =>
      each.turn === 'opening' ? each.pendingMax : each.turn === 'begun' ? each.pending : 0,
    ),
  );
  const spare = Math.max(0, pendingMax - taken);
  let places = Math.min(spare, openersMax - openers.filter(({ turn }) => turn === 'opening').length);
  const starting = openers.map(({ turn }) => turn === 'standby' && places-- > 0);
  const isAnyStarting = starting.includes(true);
  const isGiven = (index: number): boolean =>
    isAnyStarting ? starting[index] === true : openers[index]?.turn === 'opening';
  const given =
    spare === 0
      ? []
      : splitSpare(
          spare,
          openers.map(({ quota }, index) => (isGiven(index) ? quota : 0)),
        );
  const isOpening = openers.map(({ turn }, index) => turn === 'opening' || starting[index] === true);
  const rates = splitRate(
    ratePerSec,
    openers.map(({ quota }, index) => (isOpening[index] ? quota : 0)),
  );
  return openers.map(({ turn, pending, pendingMax: before }, index) => {
    if (!isOpening[index]) return { turn, ratePerSec: 0, pendingMax: turn === 'begun' ? pending : 0 };
    return {
      turn: 'opening',
      ratePerSec: rates[index] === undefined ? 0 : rates[index],
      pendingMax: (turn === 'opening' ? before : 0) + (given[index] ?? 0),
    };
  });
}

/** Fewer than there are parts go to the first of them. */
function splitSpare(spare: number, quotas: readonly number[]): number[] {
  const parts = quotas.filter((quota) => quota > 0).length;
  if (spare >= parts) return splitPending(spare, quotas);
  let left = spare;
  return quotas.map((quota) => (quota > 0 && left-- > 0 ? 1 : 0));
}

/** Whether a new share is another one than that of before. */
function isOtherShare(now: Omit<Share, 'turn'>, next: Omit<Share, 'turn'>): boolean {
  if (now.ratePerSec === 0 && next.ratePerSec === 0) return false;
  if (now.pendingMax !== next.pendingMax) return true;
  if (now.ratePerSec === null || next.ratePerSec === null) return now.ratePerSec !== next.ratePerSec;
  // The same share, added up in another order.
  return Math.abs(now.ratePerSec - next.ratePerSec) > 1e-6 * Math.max(now.ratePerSec, next.ratePerSec);
}

/** What a holder is sent of its turn. */
type TurnMessage = Extract<AgentToHolder, { type: 'start' | 'pace' }>;

interface OpenerState {
  turn: Turn;
  readonly quota: number;
  pending: number;
  pendingMax: number;
  ratePerSec: number | null;
  /** on the host's clock */
  readonly runStartedMs: number | undefined;
}

/** The turns of one agent's holders. */
export class OpenTurns<Holder> {
  readonly #openersMax: number;
  readonly #tell: (holder: Holder, message: TurnMessage) => void;
  readonly #openers = new Map<Holder, OpenerState>();
  /** there are, or were in this ramp, more holders than may open at a time */
  #isInTurns = false;
  #ratePerSec: number | null = 0;
  #pendingMax = 0;

  /**
   * @param openersMax holders that open at a time, at least 1
   * @param tell what a holder is to hear, in order
   */
  constructor(openersMax: number, tell: (holder: Holder, message: TurnMessage) => void) {
    this.#openersMax = openersMax;
    this.#tell = tell;
  }

  /**
   * Further holders bring their part of the agent's rate and cap.
   * @param pendingMax the cap of all together; absent: their parts are added
   */
  bring(specs: readonly HolderSpec[], pendingMax?: number): void {
    for (const spec of specs) {
      const isUnlimited = this.#ratePerSec === null || spec.ratePerSec === null;
      this.#ratePerSec = isUnlimited ? null : (this.#ratePerSec ?? 0) + (spec.ratePerSec ?? 0);
      this.#pendingMax += spec.pendingMax;
    }
    if (pendingMax !== undefined) this.#pendingMax = pendingMax;
  }

  /** The rate of all together from now on. */
  pace(ratePerSec: number | null): void {
    this.#ratePerSec = ratePerSec;
    this.share();
  }

  /** A holder is to open as soon as it is its turn; `share` gives turns. */
  join(holder: Holder, { connections, ratePerSec, pendingMax }: HolderSpec, runStartedMs?: number): void {
    this.#openers.set(holder, {
      turn: 'standby',
      quota: connections,
      pending: 0,
      pendingMax,
      ratePerSec,
      runStartedMs,
    });
  }

  /** Whether it may open, or has. */
  hasTurn(holder: Holder): boolean {
    return (this.#openers.get(holder)?.turn ?? 'standby') !== 'standby';
  }

  /** @param begun nothing of its quota is left to begin */
  reported(holder: Holder, begun: boolean, pending: number): void {
    const opener = this.#openers.get(holder);
    if (opener === undefined) return;
    opener.pending = pending;
    if (begun && opener.turn === 'opening') opener.turn = 'begun';
    this.share();
  }

  /** It is not there any more: its connects in flight have ended with it. */
  left(holder: Holder): void {
    if (this.#openers.delete(holder)) this.share();
  }

  /** What was said to a holder that had no process yet. */
  said(holder: Holder): TurnMessage[] {
    const opener = this.#openers.get(holder);
    return opener === undefined || opener.turn === 'standby' ? [] : [paceOf(opener), this.#startOf(opener)];
  }

  /** Nothing is opened any more: what stands by begins, and finds that. */
  stopOpening(): void {
    for (const [holder, opener] of this.#openers) {
      if (opener.turn !== 'standby') continue;
      opener.turn = 'opening';
      this.#tell(holder, this.#startOf(opener));
    }
  }

  /** Gives turns and shares, as far as they are others than before. */
  share(): void {
    const openers = [...this.#openers];
    if (openers.length === 0) return;
    const limits = {
      ratePerSec: this.#ratePerSec,
      pendingMax: Math.max(1, this.#pendingMax),
      openersMax: this.#openersMax,
    };
    const states = openers.map(([, opener]) => opener);
    // Also where so many have ended that there is a core for each: what they have in flight came by turns. When all have begun it is over as
    // nothing is in flight, and then stays so: what is opened again is no ramp.
    this.#isInTurns = states.every(({ turn }) => turn === 'begun')
      ? this.#isInTurns && states.some(({ pending }) => pending > 0)
      : this.#isInTurns || openers.length > this.#openersMax;
    const shares = this.#isInTurns ? sharesInTurns(states, limits) : sharesOfAll(states, limits);
    for (const [index, [holder, opener]] of openers.entries()) {
      const share = shares[index];
      if (share === undefined || share.turn === 'standby') continue;
      const isStarting = opener.turn === 'standby';
      const isOther = isOtherShare(opener, share);
      Object.assign(opener, share);
      if (isOther) this.#tell(holder, paceOf(opener));
      if (isStarting) this.#tell(holder, this.#startOf(opener));
    }
  }

  #startOf({ runStartedMs }: OpenerState): TurnMessage {
    return {
      type: 'start',
      inTurns: this.#isInTurns,
      ...(runStartedMs === undefined ? {} : { runStartedMs }),
    };
  }
}

function paceOf({ ratePerSec, pendingMax }: OpenerState): TurnMessage {
  return { type: 'pace', ratePerSec, pendingMax };
}

/**
 * How long several have opened, one after the other: from the first connect of all to the last.
 * @returns milliseconds; null: at most one has, and says so itself
 */
export function rampMsOf(openers: readonly { readonly ramp: EngineRamp | null }[]): number | null {
  const ramps = openers.flatMap(({ ramp }) => (ramp === null ? [] : [ramp]));
  if (ramps.length < 2) return null;
  return Math.max(...ramps.map(({ toMs }) => toMs)) - Math.min(...ramps.map(({ fromMs }) => fromMs));
}
