/**
 * Owns what must hold of a run with stages: shares that sum exactly, no more open than the line asks for, and PASS only where every flat
 * stage was held, by what the world had. Must never ask the ledger of the stages (engine/stage-ledger.ts).
 */
import { type LoadShare, type Stage, type StageSpan, spansOf, targetOf } from '../../src/run/schedule.ts';
import type { SimHolder } from './sim-holder.ts';

/** A holder looks at its line so often at most: it may be behind by as much. */
const BEHIND_MS = 200;

interface SharedOut {
  readonly agent: string;
  readonly quota: number;
  readonly shares: readonly LoadShare[];
}

/** A number of the run, and whether it is in some share. */
function taken(shares: readonly LoadShare[], total: number): Uint8Array {
  const times = new Uint8Array(total + 1);
  for (const { from, to } of shares)
    for (let number = from; number < to; number += 1) times[Math.min(number, total)]! += 1;
  return times;
}

/** The stages of one run. */
export class InvariantLine {
  readonly #spans: readonly StageSpan[];
  readonly #broken: (what: string) => void;
  /** by stage: holders that had as many as were asked of them, and how many that was */
  readonly #reached = new Map<number, Map<SimHolder, number>>();
  /** by stage: those of them that had nothing on its way, which is when a stage is reached */
  readonly #quiet = new Map<number, Set<SimHolder>>();
  /** flat stages in which one was lost after that */
  readonly #lossy = new Set<number>();

  constructor(stages: readonly Stage[], broken: (what: string) => void) {
    this.#spans = spansOf(stages);
    this.#broken = broken;
  }

  /** A quota was given: each connection of the run is at most in one share of those who may act. */
  given({ agent, quota, shares }: SharedOut, live: readonly SharedOut[], total: number): void {
    const size = shares.reduce((sum, { from, to }) => sum + to - from, 0);
    if (size !== quota) this.#broken(`${agent} has a quota of ${quota} and shares of ${size}`);
    const times = taken(
      live.flatMap((each) => each.shares),
      total,
    );
    const twice = times.subarray(0, total).findIndex((count) => count > 1);
    if (twice >= 0) this.#broken(`connection ${twice} of the run is in two shares`);
    if (times[total] !== 0) this.#broken(`${agent} has a share beyond ${total} connections`);
  }

  #stageAt(atMs: number): number {
    return this.#spans.findIndex(({ fromMs, toMs }) => fromMs <= atMs && atMs < toMs);
  }

  /** What is on its way as the line goes down is closed as soon as it is there. */
  above(established: number, holders: readonly SimHolder[], nowMs: number): void {
    let [earliest, latest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const { lineAtMs, process, openNow } of holders) {
      const isLate = process.state !== 'running' || nowMs - process.wentOnMs < BEHIND_MS;
      if (isLate || (lineAtMs === null && openNow > 0)) return;
      if (lineAtMs === null) continue;
      earliest = Math.min(earliest, lineAtMs);
      latest = Math.max(latest, lineAtMs);
    }
    const from = earliest - BEHIND_MS;
    let most = Math.max(targetOf(this.#spans, from), targetOf(this.#spans, latest));
    for (const { fromMs, toMs, connections, connectionsBefore } of this.#spans) {
      if (from <= fromMs && fromMs <= latest) most = Math.max(most, connectionsBefore);
      if (from <= toMs && toMs <= latest) most = Math.max(most, connections);
    }
    if (established > most)
      this.#broken(`${established} connections are open, where the line asks for ${most}`);
  }

  /** Whether a holder has what a flat stage asks of it. */
  looked(holder: SimHolder): void {
    const { runAtMs, connections } = holder;
    if (runAtMs === null || connections === null) return;
    const stage = this.#stageAt(runAtMs);
    const span = this.#spans[stage];
    if (span?.isFlat !== true) return;
    const asked = connections.askedOf(span.connections);
    // One that is opened anew in its turn is there.
    const inTurn = connections.spec.churn === undefined ? 0 : connections.begun.size;
    if (connections.open.size + inTurn < asked) return;
    const reached = this.#reached.get(stage) ?? new Map<SimHolder, number>();
    this.#reached.set(stage, reached.set(holder, asked));
    if (connections.isOpening && !this.#wentOn(stage, holder)) return;
    const quiet = this.#quiet.get(stage) ?? new Set<SimHolder>();
    this.#quiet.set(stage, quiet.add(holder));
  }

  /** Whether a stage asks of a holder what the one before did, and it had that. */
  #wentOn(stage: number, holder: SimHolder): boolean {
    const before = this.#spans[stage - 1];
    return (
      before?.isFlat === true &&
      before.connections === this.#spans[stage]?.connections &&
      holder.connections?.tally.missing === 0 &&
      this.#quiet.get(stage - 1)?.has(holder) === true
    );
  }

  /** What was in its turn while a stage waited for it may be lost with the rest: none of it was held yet. */
  lost(holder: SimHolder): void {
    const stage = holder.runAtMs === null ? -1 : this.#stageAt(holder.runAtMs);
    const reached = holder.connections?.spec.churn === undefined ? this.#reached : this.#quiet;
    if (reached.get(stage)?.has(holder) === true) this.#lossy.add(stage);
  }

  /** Where all are in one flat stage and nothing is missing, as many are open as it asks for. */
  exact(established: number, holders: readonly SimHolder[], live: readonly SharedOut[], total: number): void {
    const given = live.reduce((sum, { quota }) => sum + quota, 0);
    if (given !== total || holders.length === 0) return;
    let stage: number | null = null;
    let ofHolders = 0;
    for (const { lineAtMs, connections, process } of holders) {
      if (lineAtMs === null || connections === null || process.state !== 'running') return;
      const now = this.#stageAt(lineAtMs);
      if (now < 0 || this.#stageAt(lineAtMs - BEHIND_MS) !== now || (stage !== null && stage !== now)) return;
      stage = now;
      const { tally, isOpening, spec } = connections;
      if (tally.missing !== 0 || isOpening) return;
      ofHolders += spec.connections;
    }
    const span = this.#spans[stage ?? -1];
    if (span?.isFlat !== true || ofHolders !== total || established === span.connections) return;
    this.#broken(
      `${established} connections are open in stage ${(stage ?? 0) + 1}, which asks for ${span.connections}`,
    );
  }

  /** @param reported rows of the report */
  passed(reported: readonly { readonly held: number | null }[]): void {
    for (const [stage, { isFlat, connections }] of this.#spans.entries()) {
      if (!isFlat) continue;
      const name = `stage ${stage + 1}`;
      const reached = [...(this.#reached.get(stage)?.values() ?? [])].reduce((sum, asked) => sum + asked, 0);
      if (reached !== connections)
        this.#broken(`PASS, but ${reached} of ${connections} were open in ${name}`);
      if (this.#lossy.has(stage)) this.#broken(`PASS, but some were lost in ${name}`);
      const held = reported[stage]?.held ?? null;
      if (held !== connections) this.#broken(`PASS, but ${name} reports ${held} held of ${connections}`);
    }
  }
}
