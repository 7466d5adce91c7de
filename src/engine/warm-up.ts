/**
 * Owns the warm-up of a holder: a few thousand connections to a listener of its own, by an engine of its own, so that the code
 * which opens connections is compiled before the first one to the target. Must never use an address, a port or a descriptor that
 * the plan needs, leave anything in the kernel, or fail a run: what it cannot do it leaves.
 *
 * Node runs what is new in its interpreter, and compiles what is called often while the work goes on: the first tenth of a ramp
 * was opened at half the rate of the best one. The listener never accepts: its kernel completes the handshakes, and what is in
 * its queue goes with it. Connections end by RST, so nothing rests in TIME_WAIT.
 */
import type { Clock } from '../base/clock.ts';
import { readSysctl } from '../host/proc-file.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { portOf, SOCKADDR_BYTES_MAX, sockAddr } from './drivers/sockaddr.ts';
import { Engine } from './engine.ts';
import * as libc from './libc.ts';

/** Below this a ramp takes a tenth of a second, and the warm-up would not be earned back. */
const CONNECTIONS_MIN = 2_000;
/** Opened in all: from then on the rate stays. */
const OPENS = 6_000;
/** At once; the queue of a listener bounds it too. */
const OPENS_AT_ONCE_MAX = 2_000;
const ROUNDS_MAX = 6;
const PENDING_MAX = 500;
/** On loopback a handshake takes microseconds: what is not open by then is held back by a filter. */
const CONNECT_TIMEOUT_MS = 250;
/** `tcpi_sacked` of a listener: the most that its queue takes (tcp_get_info() in net/ipv4/tcp.c). */
const QUEUE_MAX_OFFSET = 28;
const TCP_INFO_BYTES = 104;
const collectGarbage = (globalThis as { gc?: () => void }).gc;
const PORTS = { from: 1_024, to: 65_535 };

/**
 * Whether this network namespace tracks connections. Then each of ours would stay in its table for 10 s after its RST
 * (nf_conntrack_tcp_timeout_close), and take room that the run needs.
 */
function tracksConnections(): boolean {
  return (readSysctl('/proc', 'net/netfilter/nf_conntrack_count') ?? 0) > 0;
}

/** One warm-up. */
export class WarmUp {
  readonly #spec: HolderSpec;
  readonly #clock: Clock;
  readonly #done: () => void;
  readonly #isTracked: () => boolean;
  /** kept until `end`: what V8 has compiled is for objects of this shape, and goes with the last of them */
  #engine: Engine | null = null;
  #listener = -1;
  #rounds = 0;
  #opensLeft = OPENS;

  /**
   * @param spec what the holder is going to open
   * @param done called once, perhaps within `begin`, unless `end` comes before: the moment to make the holder's own engine
   * @param isTracked whether the kernel would remember each connection
   */
  constructor(spec: HolderSpec, clock: Clock, done: () => void, isTracked = tracksConnections) {
    this.#spec = spec;
    this.#clock = clock;
    this.#done = done;
    this.#isTracked = isTracked;
  }

  /** Once. */
  begin(): void {
    if (this.#spec.connections < CONNECTIONS_MIN || this.#isTracked()) this.#done();
    else this.#nextRound();
  }

  #nextRound(): void {
    const isEnough = this.#opensLeft <= 0 || this.#rounds === ROUNDS_MAX;
    if (isEnough || !this.#beginRound()) this.#done();
  }

  /** @returns whether a round has begun */
  #beginRound(): boolean {
    const address = ownAddress(this.#spec);
    const listener = listen(address);
    if (listener === null) return false;
    this.#listener = listener.fd;
    this.#rounds++;
    const connections = Math.min(OPENS_AT_ONCE_MAX, this.#spec.connections, listener.queueMax);
    const spec = warmSpec(this.#spec, address, listener.port, connections);
    try {
      const engine = new Engine(spec, this.#clock, 0, {
        onSettled: () => this.#settled(engine, connections),
        onWarning: () => {},
      });
      this.#engine = engine;
      engine.start();
      return true;
    } catch {
      // No descriptor or no locked memory: the holder's own engine says so, if it needs them.
      this.#close();
      return false;
    }
  }

  #settled(engine: Engine, connections: number): void {
    const isWhole = engine.stats().open === connections;
    this.#opensLeft = isWhole ? this.#opensLeft - connections : 0;
    engine.closeAll(() => {
      this.#close();
      this.#nextRound();
    });
  }

  /** Gives back to the kernel what a round has. */
  #close(): void {
    this.#engine?.end();
    if (this.#listener >= 0) libc.close(this.#listener);
    this.#listener = -1;
  }

  /**
   * Lets go of everything, and of the memory that it took. Cut short, its connections are reset by the end of their listener; their
   * descriptors go with the process, which is about to end then.
   */
  end(): void {
    this.#close();
    this.#engine = null;
    if (this.#rounds > 0) releaseMemory();
  }
}

/**
 * Gives back what compiling and setting up have left behind, some megabytes, where Node was started with --expose-gc as holders
 * are. It takes a few milliseconds: for a moment in which nothing is on its way.
 */
export function releaseMemory(): void {
  collectGarbage?.();
  libc.trimMemory();
}

/** An address of loopback that belongs to this process alone, and to no plan. */
function ownAddress({ addresses, endpoints }: HolderSpec): string {
  const taken = new Set([...addresses, ...endpoints.map(({ address }) => address)]);
  for (let second = 254; ; second--) {
    const address = `127.${second}.${(process.pid >> 8) & 255}.${Math.max(1, process.pid & 255)}`;
    if (!taken.has(address) || second === 1) return address;
  }
}

/** A listener on a free port; null when there can be none. */
function listen(address: string): { fd: number; port: number; queueMax: number } | null {
  const fd = libc.tcpSocket(libc.AF_INET);
  if (fd < 0) return null;
  const { bytes, length } = sockAddr(address, 0);
  const named = new Uint8Array(SOCKADDR_BYTES_MAX);
  const info = new Uint8Array(TCP_INFO_BYTES);
  const isListening =
    libc.bind(fd, bytes, length) === 0 &&
    libc.listen(fd, OPENS_AT_ONCE_MAX) === 0 &&
    libc.getsockname(fd, named, new Int32Array([named.length])) === 0 &&
    libc.tcpInfo(fd, info) >= QUEUE_MAX_OFFSET + 4;
  const queueMax = new DataView(info.buffer).getUint32(QUEUE_MAX_OFFSET, true);
  if (isListening && queueMax > 0) return { fd, port: portOf(named), queueMax };
  libc.close(fd);
  return null;
}

function warmSpec(spec: HolderSpec, address: string, port: number, connections: number): HolderSpec {
  return {
    id: 'warm-up',
    ...(spec.engine === undefined ? {} : { engine: spec.engine }),
    addresses: [address],
    ports: [PORTS],
    endpoints: [{ address, port, family: 4 }],
    sliceFrom: 0,
    sliceTo: PORTS.to - PORTS.from + 1,
    connections,
    ratePerSec: null,
    pendingMax: Math.min(PENDING_MAX, connections),
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    close: 'rst',
    protocol: 'tcp',
    probeEveryMs: null,
    probeTimeoutMs: spec.probeTimeoutMs,
  };
}
