/**
 * Owns the whoami proof: the target's first line names the address and port that the connection came from, and that
 * is compared with what was bound; and the counts of what a target observed. Must never send: a proxy that waits for the
 * client's first bytes is recognized by that.
 *
 *     target -> us : "192.168.0.1:40001\n"  or  "[2001:db8::1]:40001\n"
 *     target -> us : "at web1:8000\n"       which target it is; earlier ones leave it out.      Then both hold
 */
import { isAddress, unmapV4 } from '../../base/address.ts';
import { BACKEND_NAME_MAX, WHOAMI_NAME_PREFIX } from '../../base/backend-pattern.ts';
import { formatEndpoint } from '../../base/endpoint.ts';
import { DropReason, FailReason } from '../../base/outcome.ts';
import type { HolderSpec } from '../../run/run-spec.ts';
import { SEEN_OTHER, SEEN_PAIRS_MAX, type SeenCounts, seenKey } from '../../stats/observed-sources.ts';
import type { BackendTally } from './backend.ts';
import type { Protocol, ProtocolHost } from './protocol.ts';

/** `[` + 45 characters of an IPv6 literal + `]:65535` and a line end: nothing longer is a whoami line. */
const WHOAMI_LINE_BYTES_MAX = 64;

/** A name is cut where the tally cuts it; what is longer is none. */
const NAME_LINE_BYTES_MAX = WHOAMI_NAME_PREFIX.length + 4 * BACKEND_NAME_MAX;

const LINE_FEED = 10;

/** What has come of a slot: nothing whole, the line about us, or all that is looked at. */
const Heard = { nothing: 0, line: 1, all: 2 } as const;

/** What the connection of a slot was bound to. */
export interface BoundTuples {
  readonly sourceIndex: (slot: number) => number;
  readonly port: (slot: number) => number;
  readonly endpointIndex: (slot: number) => number;
}

/** What one line says; null when it is no whoami line. */
function parseWhoami(line: string): { readonly address: string; readonly port: number } | null {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})\r?$/.exec(line);
  const address = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (!isAddress(address) || !(port >= 1 && port <= 65_535)) return null;
  return { address: unmapV4(address), port };
}

/** A connection is open once the far application has said whom it sees. A line costs a string; what is held, nothing. */
export class WhoamiProtocol implements Protocol {
  readonly hasHandshake = true;
  readonly canProbe = false;
  readonly #host: ProtocolHost;
  /** whom the target says that it sees */
  readonly seen: SeenTally;
  readonly #bound: BoundTuples;
  /** by slot */
  readonly #heard: Uint8Array;
  /** lines that came in pieces, by slot; nearly always empty */
  readonly #partial = new Map<number, string>();
  readonly #backends: BackendTally | null;

  /** @param backends gets the name that a target calls itself; null: it is not looked at */
  constructor(
    host: ProtocolHost,
    tally: SeenTally,
    bound: BoundTuples,
    backends: BackendTally | null = null,
  ) {
    this.#host = host;
    this.seen = tally;
    this.#bound = bound;
    this.#backends = backends;
    this.#heard = new Uint8Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1;
  }

  onConnected(_slot: number): void {}

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    if (this.#heard[slot] !== Heard.nothing) {
      if (this.#heard[slot] === Heard.line) this.#takeName(slot, buffer, 0, length);
      else this.#host.said(slot, buffer, 0, length);
      return;
    }
    const end = buffer.subarray(0, length).indexOf(LINE_FEED);
    const piece = String.fromCharCode(
      ...buffer.subarray(0, Math.min(end < 0 ? length : end, WHOAMI_LINE_BYTES_MAX)),
    );
    const line = (this.#partial.get(slot) ?? '') + piece;
    if (end < 0 && line.length < WHOAMI_LINE_BYTES_MAX) {
      // A target may end the connection behind a text that has no line end.
      this.#host.said(slot, buffer, 0, length);
      this.#partial.set(slot, line);
      return;
    }
    const seen = end < 0 ? null : parseWhoami(line);
    if (seen === null) {
      this.#host.said(slot, buffer, 0, length);
      this.#host.lost(slot, FailReason.handshake, DropReason.protocol);
      return;
    }
    this.#partial.delete(slot);
    this.#heard[slot] = Heard.line;
    const { sourceIndex, port, endpointIndex } = this.#bound;
    this.seen.arrived(sourceIndex(slot), port(slot), endpointIndex(slot), seen.address, seen.port);
    this.#host.opened(slot);
    this.#host.verified(slot);
    if (length > end + 1) this.#takeName(slot, buffer, end + 1, length);
  }

  /** The line behind the first one: the name of the target, or anything else that it says. */
  #takeName(slot: number, buffer: Uint8Array, from: number, to: number): void {
    const lineFeed = buffer.subarray(from, to).indexOf(LINE_FEED);
    const end = lineFeed < 0 ? to : from + lineFeed;
    const before = this.#partial.get(slot) ?? '';
    const room = NAME_LINE_BYTES_MAX - before.length;
    const line = before + String.fromCharCode(...buffer.subarray(from, Math.min(end, from + room)));
    const isName = line.startsWith(WHOAMI_NAME_PREFIX.slice(0, line.length));
    if (isName && lineFeed < 0 && line.length < NAME_LINE_BYTES_MAX) {
      this.#partial.set(slot, line);
      return;
    }
    this.#partial.delete(slot);
    this.#heard[slot] = Heard.all;
    if (isName && lineFeed >= 0 && line.length < NAME_LINE_BYTES_MAX)
      this.#backends?.named(slot, line.slice(WHOAMI_NAME_PREFIX.length));
    else this.#host.said(slot, buffer, from, to);
  }

  onWritable(_slot: number): void {}

  onProbeDue(_slot: number, _sequence: number): void {}

  onClosing(_slot: number): void {}

  onForgotten(slot: number): void {
    this.#heard[slot] = Heard.nothing;
    this.#partial.delete(slot);
    this.#backends?.forget(slot);
  }
}

/** Counts of the addresses that were seen for each of our own (a source, or an endpoint), bounded. */
class PairCounts {
  readonly #names: readonly string[];
  readonly #seenOf: Map<string, number>[];
  #pairs = 0;
  #other = 0;

  constructor(names: readonly string[]) {
    this.#names = names;
    this.#seenOf = names.map(() => new Map());
  }

  add(index: number, seen: string): void {
    const counts = this.#seenOf[index]!;
    const before = counts.get(seen);
    if (before === undefined && this.#pairs >= SEEN_PAIRS_MAX) {
      this.#other++;
      return;
    }
    if (before === undefined) this.#pairs++;
    counts.set(seen, (before ?? 0) + 1);
  }

  record(): Record<string, number> {
    const record: Record<string, number> = {};
    for (const [index, counts] of this.#seenOf.entries()) {
      for (const [seen, count] of counts) record[seenKey(this.#names[index]!, seen)] = count;
    }
    if (this.#other > 0) record[SEEN_OTHER] = this.#other;
    return record;
  }
}

/** One engine's `SeenCounts`. */
export class SeenTally {
  readonly #sources: readonly string[];
  readonly #bySource: PairCounts;
  readonly #byEndpoint: PairCounts;
  #sourceKept = 0;
  #sourceChanged = 0;
  #portKept = 0;
  #portChanged = 0;
  #portMin: number | null = null;
  #portMax: number | null = null;

  constructor(spec: Pick<HolderSpec, 'addresses' | 'endpoints'>) {
    this.#sources = spec.addresses;
    this.#bySource = new PairCounts(spec.addresses);
    this.#byEndpoint = new PairCounts(spec.endpoints.map(formatEndpoint));
  }

  /**
   * One connection arrived.
   * @param source index of the address that we bound
   * @param port the port that we bound
   * @param endpoint index of the endpoint
   * @param seenAddress canonical, as the target saw it
   */
  arrived(source: number, port: number, endpoint: number, seenAddress: string, seenPort: number): void {
    if (seenAddress === this.#sources[source]) this.#sourceKept++;
    else this.#sourceChanged++;
    if (seenPort === port) this.#portKept++;
    else this.#portChanged++;
    this.#portMin = Math.min(this.#portMin ?? seenPort, seenPort);
    this.#portMax = Math.max(this.#portMax ?? seenPort, seenPort);
    this.#bySource.add(source, seenAddress);
    this.#byEndpoint.add(endpoint, seenAddress);
  }

  /** A snapshot that later changes do not touch. */
  counts(): SeenCounts {
    return {
      sourceKept: this.#sourceKept,
      sourceChanged: this.#sourceChanged,
      portKept: this.#portKept,
      portChanged: this.#portChanged,
      portMin: this.#portMin,
      portMax: this.#portMax,
      bySource: this.#bySource.record(),
      byEndpoint: this.#byEndpoint.record(),
    };
  }
}
