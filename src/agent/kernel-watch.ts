/**
 * Owns what one agent asks its kernel during a run: counters since the ramp began, readings every few seconds, and the
 * count of our sockets, tuple by tuple, against what the holders count. Must never read often enough to cost anything.
 */

import type { Endpoint } from '../base/endpoint.ts';
import { TupleMap, type TupleSpace } from '../base/tuple-space.ts';
import { FarSideWatch } from '../host/far-side.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { countEstablished, type SocketQuery } from '../host/kernel-count.ts';
import {
  type KernelCount,
  type KernelEvidence,
  type KernelSample,
  keptCounters,
  OwnNetworkWatch,
  readCounters,
  readKernel,
  synLadderSec,
  tcpExtDelta,
  withReadings,
} from '../host/kernel-evidence.ts';
import { addressKey, type SocketName } from '../host/sock-diag.ts';
import { every, realWaiting, systemClock, type Timer, type Waiting, waitUntil } from '../time/timer.ts';

const READ_EVERY_MS = 3_000;
/** A queue fills up and is emptied within seconds. */
const LISTENERS_EVERY_MS = 1_000;
/**
 * While connections come and go, holders and kernel are asked again for so long before a difference is believed. Where one
 * count takes longer, holders and kernel are too slow for a second count.
 */
const ASKING_MS_MAX = 3_000;
const AGAIN_AFTER_MS = 300;

/** What one count of the kernel and two of our holders say. */
type Counted = Omit<KernelCount, 'agent' | 'when'>;

/** What there is to watch. */
interface WatchedHost {
  readonly synLadderSec: readonly number[];
  readonly endpoints: readonly Endpoint[];
  /** endpoints that are addresses of this host */
  readonly localEndpoints: readonly Endpoint[];
  readonly sources: readonly string[];
  /** devices towards the endpoints */
  readonly devices: readonly string[];
}

/** What there is to watch of this host. @param sources of the run */
export function watchedHost(
  { routes, synLinearTimeouts }: Pick<HostFacts, 'routes' | 'synLinearTimeouts'>,
  endpoints: readonly Endpoint[],
  sources: readonly string[],
): WatchedHost {
  const local = new Set(routes.flatMap((route) => (route.local ? [route.address] : [])));
  return {
    synLadderSec: synLadderSec(synLinearTimeouts),
    endpoints,
    localEndpoints: endpoints.filter(({ address }) => local.has(address)),
    sources,
    devices: routes.flatMap((route) => (route.device === null ? [] : [route.device])),
  };
}

/** Watches one host's kernel from `start` to `stop`. */
export class KernelWatch {
  readonly #about: WatchedHost;
  readonly #farSide: FarSideWatch;
  /** null: not started yet */
  #ownNetwork: OwnNetworkWatch | null = null;
  #before: Readonly<Record<string, number>> = {};
  #samples: Readonly<Record<string, KernelSample>> = {};
  #timers: readonly Timer[] = [];
  #isLooking = false;

  constructor(about: WatchedHost) {
    this.#about = about;
    this.#farSide = new FarSideWatch(about.localEndpoints, about.sources);
  }

  start(): void {
    this.#before = readCounters();
    this.#ownNetwork = new OwnNetworkWatch(this.#about);
    this.#read();
    this.#lookAtListeners();
    this.#timers = [
      every(READ_EVERY_MS, () => this.#read()),
      every(LISTENERS_EVERY_MS, () => this.#lookAtListeners()),
    ];
  }

  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
  }

  /** A phase is over: looks at the far side of each connection, where that is on this host. */
  async phaseEnds(): Promise<void> {
    await this.#farSide.lookAtConnections();
  }

  /** Also takes a reading, so that the moment of the question is among them. */
  evidence(): KernelEvidence {
    this.#read();
    return {
      counters: keptCounters(tcpExtDelta(this.#before, readCounters())),
      samples: this.#samples,
      synLadderSec: this.#about.synLadderSec,
      hasLocalEndpoint: this.#about.localEndpoints.length > 0,
      ...(this.#ownNetwork === null ? {} : { ownNetwork: this.#ownNetwork.look() }),
      farSide: this.#farSide.facts(),
    };
  }

  /** A host that is slow to answer is asked once at a time. */
  #lookAtListeners(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    void this.#farSide.lookAtListeners().finally(() => {
      this.#isLooking = false;
    });
  }

  #read(): void {
    this.#samples = withReadings(this.#samples, readKernel());
  }
}

/** Which tuples of our holders are open. */
export class OwnTuples {
  readonly #map: TupleMap;
  readonly #addresses: ReadonlyMap<string, number>;
  /** by address, by port */
  readonly #endpoints: ReadonlyMap<string, ReadonlyMap<number, number>>;
  readonly #parts: readonly { readonly from: number; readonly bits: Buffer }[];

  /** @param parts one for each slice: its first tuple, and one bit for each in base64 */
  constructor(space: TupleSpace, parts: readonly { readonly from: number; readonly bits: string }[]) {
    this.#map = new TupleMap(space);
    this.#addresses = new Map(space.addresses.map((address, index) => [addressKey(address), index]));
    const endpoints = new Map<string, Map<number, number>>();
    for (const [index, { address, port }] of space.endpoints.entries()) {
      const key = addressKey(address);
      endpoints.set(key, (endpoints.get(key) ?? new Map<number, number>()).set(port, index));
    }
    this.#endpoints = endpoints;
    this.#parts = parts
      .map(({ from, bits }) => ({ from, bits: Buffer.from(bits, 'base64') }))
      .toSorted((one, other) => other.from - one.from);
  }

  /** Whether a socket is one of these connections; addresses as `addressKey` writes them. */
  has({ localAddress, localPort, remoteAddress, remotePort }: SocketName): boolean {
    const address = this.#addresses.get(localAddress);
    const endpoint = this.#endpoints.get(remoteAddress)?.get(remotePort);
    if (address === undefined || endpoint === undefined) return false;
    const index = this.#map.indexOf(address, endpoint, localPort);
    const part = index < 0 ? undefined : this.#parts.find(({ from }) => from <= index);
    if (part === undefined) return false;
    const at = index - part.from;
    return (((part.bits[Math.floor(at / 8)] ?? 0) >> (at % 8)) & 1) === 1;
  }
}

/** What the holders say at one moment. */
interface HeldNow {
  readonly open: number;
  /** null: not known, so that every connection from our sources counts */
  readonly tuples: OwnTuples | null;
  /** the last connections of a ramp that was stopped are still on their way: the two counts become one */
  readonly isSettling?: boolean;
}

/**
 * Counts our sockets as the kernel sees them between two counts of our holders: a count that lies between the two is
 * no difference, because connections may come and go while the kernel is being asked.
 * @param freshOpen asks the holders what they have open
 */
export async function countBesideHolders(
  query: Omit<SocketQuery, 'state'>,
  freshOpen: () => Promise<HeldNow>,
  waiting: Waiting = realWaiting(systemClock.monotonicMs),
): Promise<Counted> {
  let counted: Counted = { established: null, method: 'none', openBefore: 0, open: 0 };
  const isBelieved = async (): Promise<boolean> => {
    const { open: openBefore, tuples, isSettling = false } = await freshOpen();
    const isOurs = tuples === null ? null : (socket: SocketName): boolean => tuples.has(socket);
    const { established, others, method } = await countEstablished({ ...query, isOurs });
    const { open } = await freshOpen();
    counted = { established, method, openBefore, open, ...(others === null ? {} : { others }) };
    const [low, high] = [Math.min(openBefore, open), Math.max(openBefore, open)];
    if (established === null) return true;
    return established >= low && established <= high && !(isSettling && low < high);
  };
  await waitUntil(isBelieved, waiting.nowMs() + ASKING_MS_MAX, AGAIN_AFTER_MS, waiting);
  return counted;
}
