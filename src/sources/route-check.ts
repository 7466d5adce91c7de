/**
 * Owns proving that a source address reaches an endpoint and that answers come back: one connect each, before the ramp.
 * Must never hold a connection, and never decide which sources are used.
 *
 * A connect that the target refuses proves the way there and back as well as one that it accepts. An accepted one is
 * closed by RST at once, so that it leaves no TIME_WAIT and the target forgets it.
 */
import { connect, type Socket } from 'node:net';
import pLimit from 'p-limit';
import type { Clock } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { Pacer } from '../engine/pacer.ts';
import type { RunCommand } from '../host/command.ts';
import { systemClock } from '../host/system-clock.ts';
import { after, pause } from '../time/timer.ts';

/** Connects in flight; each is one descriptor and one local port. */
const CHECKS_AT_ONCE = 256;
/** A lost SYN is sent again after 1 s and 2 or 3 s: both tries fit. */
const CHECK_TIMEOUT_MS = 4_000;
/** Ports that are tried when one is in somebody's use. */
const PORTS_TRIED_MAX = 4;
const IP_TIMEOUT_MS = 5_000;

/** One connect to make. */
export interface RoutePair {
  readonly source: string;
  readonly endpoint: Endpoint;
}

/** null: it works; else why not, in a few words. */
export type RouteTrouble = string | null;

/** Turns of connects at a rate, one after the other; a process that stood still does not catch up (pacer.ts). */
export class ConnectTurns {
  readonly ratePerSec: number;
  readonly #clock: Clock;
  readonly #pacer: Pacer;
  readonly #originMs: number;
  #last: Promise<void> = Promise.resolve();

  /** @param ratePerSec above 0; Infinity: no limit */
  constructor(ratePerSec: number, clock: Clock = systemClock) {
    this.ratePerSec = ratePerSec;
    this.#clock = clock;
    this.#originMs = clock.monotonicMs();
    this.#pacer = new Pacer(Number.isFinite(ratePerSec) ? ratePerSec : null);
  }

  /** Resolves when the next connect may be called. */
  next(): Promise<void> {
    this.#last = this.#last.then(() => this.#wait());
    return this.#last;
  }

  async #wait(): Promise<void> {
    for (;;) {
      const nowMs = this.#clock.monotonicMs() - this.#originMs;
      if (this.#pacer.mayBegin(nowMs)) {
        this.#pacer.begin(nowMs);
        return;
      }
      await pause(Math.ceil(this.#pacer.nextAtMs - nowMs));
    }
  }
}

/**
 * Connects each source to its endpoint.
 * @param pairs of one family each
 * @param ports source ports of the run: the last ones are used, so that a firewall that knows them lets the check pass
 * @returns one answer per pair, in the same order
 */
export function checkRoutes(
  pairs: readonly RoutePair[],
  ports: readonly PortRange[],
  timeoutMs = CHECK_TIMEOUT_MS,
  turns = new ConnectTurns(Number.POSITIVE_INFINITY),
): Promise<RouteTrouble[]> {
  const tried = lastPorts(ports, PORTS_TRIED_MAX);
  const limit = pLimit(CHECKS_AT_ONCE);
  return Promise.all(pairs.map((pair) => limit(() => checkOne(pair, tried, timeoutMs, turns))));
}

function lastPorts(ranges: readonly PortRange[], count: number): number[] {
  const ports: number[] = [];
  for (const { from, to } of [...ranges].reverse()) {
    for (let port = to; port >= from && ports.length < count; port -= 1) ports.push(port);
  }
  return ports;
}

async function checkOne(
  pair: RoutePair,
  ports: readonly number[],
  timeoutMs: number,
  turns: ConnectTurns,
): Promise<RouteTrouble> {
  for (const port of ports) {
    await turns.next();
    const answer = await connectOnce(pair, port, timeoutMs);
    if (answer !== 'busy') return answer;
  }
  // Every port that was tried is in use: this source evidently works for somebody. The ramp skips such ports.
  return null;
}

function connectOnce(
  { source, endpoint }: RoutePair,
  localPort: number,
  timeoutMs: number,
): Promise<RouteTrouble | 'busy'> {
  return new Promise((resolve) => {
    let socket: Socket;
    try {
      socket = connect({ host: endpoint.address, port: endpoint.port, localAddress: source, localPort });
    } catch (error) {
      resolve(troubleOf(error as NodeJS.ErrnoException, timeoutMs));
      return;
    }
    const timer = after(timeoutMs, () => {
      socket.destroy();
      resolve(`no answer within ${timeoutMs / 1000} s`);
    });
    const finish = (answer: RouteTrouble | 'busy'): void => {
      timer.cancel();
      resolve(answer);
    };
    socket.once('connect', () => {
      socket.resetAndDestroy();
      finish(null);
    });
    // Stays: a reset that comes after our own is no event for anybody.
    socket.on('error', (error) => finish(troubleOf(error, timeoutMs)));
  });
}

function troubleOf(error: NodeJS.ErrnoException, timeoutMs: number): RouteTrouble | 'busy' {
  switch (error.code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return null;
    case 'EADDRINUSE':
      return 'busy';
    case 'EADDRNOTAVAIL':
      // At bind the address is not ours; at connect this very 4-tuple exists (fact P10).
      return error.syscall === 'bind' ? 'not an address of this host' : 'busy';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'no route, or nobody answers for the target there';
    case 'EACCES':
    case 'EPERM':
      return 'forbidden by a rule on this host';
    case 'ETIMEDOUT':
      return `no answer within ${timeoutMs / 1000} s`;
    default:
      return error.code ?? error.message;
  }
}

interface RouteJson {
  readonly dst?: string;
  readonly from?: string;
  readonly dev?: string;
}

/**
 * The device by which packets of each source leave towards a target: one `ip -batch` of `route get`.
 * @returns device by source; a source without a route, or without `ip`, is absent
 */
export async function readSourceDevices(
  run: RunCommand,
  sources: readonly string[],
  target: string,
): Promise<Map<string, string>> {
  const devices = new Map<string, string>();
  if (sources.length === 0) return devices;
  const result = await run('ip', ['-j', '-force', '-batch', '-'], {
    timeoutMs: IP_TIMEOUT_MS,
    input: sources.map((source) => `route get ${target} from ${source}\n`).join(''),
  });
  for (const line of result.stdout.split('\n')) {
    try {
      const [route] = JSON.parse(line) as RouteJson[];
      if (route?.from !== undefined && route.dev !== undefined) devices.set(route.from, route.dev);
    } catch {
      // A line that is no answer: the error is on stderr.
    }
  }
  return devices;
}
