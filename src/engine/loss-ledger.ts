/**
 * Owns the ledger of one engine: every loss counted by reason, source and endpoint, and the details of the last ones in a
 * ring of fixed size. Must never allocate for a loss whose kind was seen before, and never touch a socket.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import { DropReason } from '../base/outcome.ts';
import type { TupleMap } from '../base/tuple-space.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import {
  DROP_REASONS,
  LOSS_KEYS_MAX,
  type Loss,
  lossKey,
  type RecentLosses,
  RecentLossRing,
} from '../stats/loss.ts';

/** Losses of a connection that is younger than this were losses right after it was accepted. */
const YOUNG_MS = 1_000;

/** What a loss was like. */
export interface LossCircumstances {
  ageMs: number;
  /** a probe was out */
  isProbing: boolean;
  /** of a probe that timed out: the far kernel had acknowledged its bytes */
  isAcked: boolean;
}

/** Counts of all losses, details of the last ones. */
export class LossLedger {
  youngDrops = 0;
  resetsOnProbe = 0;
  probeTimeoutsAcked = 0;
  /** details that were overwritten before they were taken */
  cut = 0;
  readonly #spec: Pick<HolderSpec, 'id' | 'addresses' | 'endpoints'>;
  readonly #map: TupleMap;
  readonly #countByKind = new Map<number, number>();
  readonly #wantsDetails: boolean;
  readonly #atMs: Float64Array;
  readonly #ageMs: Float64Array;
  readonly #tuple: Float64Array;
  readonly #reason: Uint8Array;
  #first = 0;
  #kept = 0;
  readonly #recent = new RecentLossRing();
  /** how much later than the run this engine has started, milliseconds */
  #laterMs = 0;

  constructor(spec: HolderSpec, map: TupleMap) {
    this.#spec = spec;
    this.#map = map;
    this.#wantsDetails = spec.wantsLossDetails ?? false;
    // As many as can be lost at once. Only what is opened again and lost again before a report has taken the details out
    // can exceed it.
    const size = this.#wantsDetails ? Math.max(1, spec.connections) : 0;
    this.#atMs = new Float64Array(size);
    this.#ageMs = new Float64Array(size);
    this.#tuple = new Float64Array(size);
    this.#reason = new Uint8Array(size);
  }

  /** Details that wait to be taken. */
  get waiting(): number {
    return this.#kept;
  }

  /** Times of losses are given since the run's start. @param laterMs how much later this engine has started */
  startsLater(laterMs: number): void {
    this.#laterMs = Math.max(0, laterMs);
  }

  /** Counts of the last half minute. */
  recent(): RecentLosses {
    return this.#recent.list();
  }

  /**
   * Writes down one loss.
   * @param atMs since the start of the engine
   */
  add(reason: DropReason, tuple: number, atMs: number, how: Readonly<LossCircumstances>): void {
    const code = DROP_REASONS.indexOf(reason);
    this.#count(code, tuple);
    const isClosed = reason === DropReason.fin || reason === DropReason.rst;
    if (isClosed && how.ageMs < YOUNG_MS) this.youngDrops++;
    if (reason === DropReason.rst && how.isProbing && how.ageMs >= YOUNG_MS) this.resetsOnProbe++;
    if (reason === DropReason.probeTimeout && how.isAcked) this.probeTimeoutsAcked++;
    this.#recent.add(atMs + this.#laterMs);
    if (this.#wantsDetails) this.#keep(code, tuple, atMs + this.#laterMs, how.ageMs);
  }

  /** The key is one number: reason, source and endpoint; where there are too many keys the endpoint is left out. */
  #count(code: number, tuple: number): void {
    const endpoints = this.#spec.endpoints.length + 1;
    const source = this.#map.addressIndexAt(tuple);
    const base = (code * (this.#spec.addresses.length + 1) + source + 1) * endpoints;
    let key = base + this.#map.endpointIndexAt(tuple) + 1;
    if (this.#countByKind.size >= LOSS_KEYS_MAX && !this.#countByKind.has(key)) {
      key =
        this.#countByKind.size >= LOSS_KEYS_MAX * 2
          ? code * (this.#spec.addresses.length + 1) * endpoints
          : base;
    }
    this.#countByKind.set(key, (this.#countByKind.get(key) ?? 0) + 1);
  }

  #keep(code: number, tuple: number, atMs: number, ageMs: number): void {
    const size = this.#atMs.length;
    if (this.#kept === size) {
      this.#first = (this.#first + 1) % size;
      this.#kept--;
      this.cut++;
    }
    const at = (this.#first + this.#kept) % size;
    this.#atMs[at] = atMs;
    this.#ageMs[at] = ageMs;
    this.#tuple[at] = tuple;
    this.#reason[at] = code;
    this.#kept++;
  }

  /** Takes the oldest details out, at most `max`. */
  take(max: number): Loss[] {
    const losses: Loss[] = [];
    while (this.#kept > 0 && losses.length < max) {
      const at = this.#first;
      const tuple = this.#tuple[at]!;
      const address = this.#spec.addresses[this.#map.addressIndexAt(tuple)]!;
      const port = this.#map.portAt(tuple);
      losses.push({
        atMs: Math.round(this.#atMs[at]! * 10) / 10,
        holder: this.#spec.id,
        source: address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
        endpoint: formatEndpoint(this.#spec.endpoints[this.#map.endpointIndexAt(tuple)]!),
        ageMs: Math.round(this.#ageMs[at]! * 10) / 10,
        reason: DROP_REASONS[this.#reason[at]!]!,
        count: 1,
      });
      this.#first = (this.#first + 1) % this.#atMs.length;
      this.#kept--;
    }
    return losses;
  }

  /** Complete counts by `lossKey`. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    const endpoints = this.#spec.endpoints.length + 1;
    const addresses = this.#spec.addresses.length + 1;
    for (const [key, count] of this.#countByKind) {
      const endpoint = (key % endpoints) - 1;
      const source = (Math.floor(key / endpoints) % addresses) - 1;
      const reason = DROP_REASONS[Math.floor(key / endpoints / addresses)]!;
      const name = lossKey(
        reason,
        source < 0 ? '*' : this.#spec.addresses[source]!,
        endpoint < 0 ? '*' : formatEndpoint(this.#spec.endpoints[endpoint]!),
      );
      counts[name] = (counts[name] ?? 0) + count;
    }
    return counts;
  }
}
