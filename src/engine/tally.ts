/**
 * Owns the counts of one engine: every count and latency, and the `Stats` that they add up to.
 * Must never touch a socket or decide anything.
 *
 * At any time: attempted = established + failed + pending; established = open + dropped + closed; and the quota is
 * attempted + unattempted + what is still to be attempted.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import type { Counts, DropReason, FailReason, SkipReason } from '../base/outcome.ts';
import { type HolderSpec, isChanging } from '../run/run-spec.ts';
import { LatencyRecorder } from '../stats/histogram.ts';
import type { MessageCounts } from '../stats/load-counts.ts';
import type { Stats } from '../stats/stats.ts';
import type { LossLedger } from './loss-ledger.ts';

/** Plain numbers for the hot loop; `stats` makes records of them. */
export class Tally {
  attempted = 0;
  established = 0;
  open = 0;
  verified = 0;
  /** of `verified`, those that have proven themselves since the hold began */
  verifiedInHold = 0;
  pending = 0;
  closed = 0;
  unattempted = 0;
  synRetransmits = 0;
  retransmittedConnects = 0;
  bytesIn = 0;
  bytesOut = 0;
  probesSent = 0;
  probesAnswered = 0;
  messagesSent = 0;
  messagesSentInHold = 0;
  messagesWrong = 0;
  messagesLate = 0;
  messagesMissing = 0;
  reopened = 0;
  /** tries to open a lost connection again that failed; neither attempted nor failed */
  reopenFailed = 0;
  /** closed by us: in its turn, and because the line went down */
  churned = 0;
  lowered = 0;
  /** of a load that changes: opened since the hold began, in place of none that was lost */
  openedLater = 0;
  /** places without a connection, and without one on its way that stands in for none that was lost */
  missing = 0;
  /** the highest of it since the hold began, or since a stage was reached */
  worstMissing = 0;
  /** of a schedule: the connects of the stage that goes on */
  stageConnectUs: LatencyRecorder | null = null;
  firstConnectAtMs = -1;
  lastEstablishedAtMs = -1;
  readonly connectUs = new LatencyRecorder();
  readonly connectFromIntendedUs = new LatencyRecorder();
  readonly probeUs = new LatencyRecorder();
  readonly #failed: Counts<FailReason> = {};
  readonly #dropped: Counts<DropReason> = {};
  readonly #localSkips: Counts<SkipReason> = {};
  readonly #sourceNames: readonly string[];
  readonly #endpointNames: readonly string[];
  readonly #openBySource: Int32Array;
  readonly #openByEndpoint: Int32Array;
  /** the load changes: what is held follows from the places that are empty */
  readonly #isChanging: boolean;
  #isHolding = false;
  #openAtHold = 0;
  #missingAtHold = 0;
  #openMin = 0;
  #verifiedMin = 0;

  constructor(spec: Pick<HolderSpec, 'addresses' | 'endpoints' | 'stages' | 'churn'>) {
    this.#isChanging = isChanging(spec);
    this.#sourceNames = spec.addresses;
    this.#endpointNames = spec.endpoints.map(formatEndpoint);
    this.#openBySource = new Int32Array(this.#sourceNames.length);
    this.#openByEndpoint = new Int32Array(this.#endpointNames.length);
  }

  /** From now on the lowest `open` and `verified` are remembered; a second call changes nothing. */
  markHold(): void {
    if (this.#isHolding) return;
    this.#isHolding = true;
    this.#openAtHold = this.open;
    this.#openMin = this.open;
    this.#verifiedMin = this.verified;
    this.#missingAtHold = this.missing;
    // `hold` may be late: what was lost since a stage was reached counts against it all the same.
    if (this.stageConnectUs === null) this.worstMissing = this.missing;
  }

  get failedBy(): Counts<FailReason> {
    return this.#failed;
  }

  get droppedBy(): Counts<DropReason> {
    return this.#dropped;
  }

  #miss(count: number): void {
    this.missing += count;
    if (this.missing > this.worstMissing) this.worstMissing = this.missing;
  }

  get isHolding(): boolean {
    return this.#isHolding;
  }

  /** A pending connect became an open connection. One that was opened again does not make the ramp longer. */
  opened(source: number, endpoint: number, atMs: number, isReopened: boolean): void {
    this.pending--;
    this.established++;
    this.open++;
    if (isReopened) {
      this.reopened++;
      this.missing--;
    } else if (this.#isChanging && this.#isHolding) this.openedLater++;
    else this.lastEstablishedAtMs = atMs;
    this.#openBySource[source]!++;
    this.#openByEndpoint[endpoint]!++;
  }

  /** `count` connections of the quota failed; those that were pending are taken off `pending` by the caller. */
  failed(reason: FailReason, count: number): void {
    this.#failed[reason] = (this.#failed[reason] ?? 0) + count;
    this.#miss(count);
  }

  skipped(reason: SkipReason): void {
    this.#localSkips[reason] = (this.#localSkips[reason] ?? 0) + 1;
  }

  /** The far application of an open connection proved itself for the first time. */
  proved(): void {
    this.verified++;
  }

  /** An open connection was lost. */
  dropped(reason: DropReason, source: number, endpoint: number, wasVerified: boolean): void {
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + 1;
    this.#leave(source, endpoint, wasVerified);
    this.#miss(1);
    if (!this.#isHolding) return;
    this.#openMin = Math.min(this.#openMin, this.open);
    this.#verifiedMin = Math.min(this.#verifiedMin, this.verified);
  }

  /** An open connection was closed by us: that lowers no minimum. */
  closedByUs(source: number, endpoint: number, wasVerified: boolean): void {
    this.closed++;
    this.#leave(source, endpoint, wasVerified);
  }

  #leave(source: number, endpoint: number, wasVerified: boolean): void {
    this.open--;
    if (wasVerified) this.verified--;
    this.#openBySource[source]!--;
    this.#openByEndpoint[endpoint]!--;
  }

  #messages(): MessageCounts {
    return {
      sent: this.messagesSent,
      sentInHold: this.messagesSentInHold,
      wrong: this.messagesWrong,
      late: this.messagesLate,
      missing: this.messagesMissing,
    };
  }

  /** The lowest number open since the hold began, where those that are opened anew in their turn are no loss. */
  #openByPlaces(): number {
    return Math.max(0, this.#openAtHold - (this.worstMissing - this.#missingAtHold));
  }

  /** A snapshot that later changes do not touch. */
  stats(losses: LossLedger): Stats {
    return {
      attempted: this.attempted,
      established: this.established,
      open: this.open,
      openAtHold: this.#openAtHold,
      openMin: this.#isChanging ? this.#openByPlaces() : this.#openMin,
      verified: this.verified,
      verifiedMin: this.#verifiedMin,
      verifiedInHold: this.verifiedInHold,
      pending: this.pending,
      closed: this.closed,
      unattempted: this.unattempted,
      failed: { ...this.#failed },
      dropped: { ...this.#dropped },
      localSkips: { ...this.#localSkips },
      droppedBy: losses.counts(),
      lossDetailsCut: losses.cut,
      youngDrops: losses.youngDrops,
      resetsOnProbe: losses.resetsOnProbe,
      probeTimeoutsAcked: losses.probeTimeoutsAcked,
      recentLosses: losses.recent(),
      reopened: this.reopened,
      reopenFailed: this.reopenFailed,
      synRetransmits: this.synRetransmits,
      retransmittedConnects: this.retransmittedConnects,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      probesSent: this.probesSent,
      probesAnswered: this.probesAnswered,
      ...(this.messagesSent === 0 ? {} : { messages: this.#messages() }),
      connectUs: this.connectUs.sparse(),
      connectFromIntendedUs: this.connectFromIntendedUs.sparse(),
      probeUs: this.probeUs.sparse(),
      openBySource: recordOf(this.#sourceNames, this.#openBySource),
      openByEndpoint: recordOf(this.#endpointNames, this.#openByEndpoint),
      rampMs: this.lastEstablishedAtMs < 0 ? 0 : this.lastEstablishedAtMs - this.firstConnectAtMs,
    };
  }
}

/** Counts by name; names that count 0 are left out, because a host may have thousands of addresses. */
function recordOf(names: readonly string[], counts: Int32Array): Record<string, number> {
  const record: Record<string, number> = {};
  for (let index = 0; index < names.length; index++) {
    const count = counts[index]!;
    if (count > 0) record[names[index]!] = (record[names[index]!] ?? 0) + count;
  }
  return record;
}
