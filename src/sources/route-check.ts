/**
 * Owns asking the network about one source address: one connect from it to an endpoint, at a rate that the host's owner
 * allows, and whether another host has it too. Must never hold a connection, add an address, or judge a plan (source-check.ts).
 */

import { connect, type Socket } from 'node:net';
import pLimit from 'p-limit';
import { withZone } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { Pacer } from '../engine/pacer.ts';
import type { RunProgram } from '../host/command.ts';
import type { Alias } from '../run/alias.ts';
import { after, pause, systemClock } from '../time/timer.ts';

/** Connects in flight; each is one descriptor and one local port. */
const CHECKS_AT_ONCE = 256;
/** A lost SYN is sent again after 1 s and 2 or 3 s: both tries fit. */
const CHECK_TIMEOUT_MS = 4_000;
/** Ports that are tried when one is in use. */
const PORTS_TRIED_MAX = 4;

/** One connect to make. */
export interface RoutePair {
  readonly source: string;
  readonly endpoint: Endpoint;
}

/** One connect, and the source ports that are tried for it, one after the other where one is in use; 0: the kernel's choice. */
interface RouteTry extends RoutePair {
  readonly ports: readonly number[];
}

/** null: it works; else why not, in a few words. */
export type RouteProblem = string | null;

/** Whether an agent may open a connection: without contact to its coordinator later, when its part of the run is over never. */
export type ConnectLeave = 'now' | 'later' | 'never';

/** How often one that must wait asks again. */
const LEAVE_ASKED_EVERY_MS = 50;

/** Turns of connects at a rate, one after the other; a process that stood still does not catch up (pacer.ts). */
export class ConnectTurns {
  readonly ratePerSec: number;
  readonly #clock: Clock;
  readonly #pacer: Pacer;
  readonly #originMs: number;
  readonly #mayConnect: () => ConnectLeave;
  #last: Promise<boolean> = Promise.resolve(true);

  /**
   * @param ratePerSec above 0; Infinity: no limit
   * @param asked `mayConnect` before each connect; absent: always
   */
  constructor(
    ratePerSec: number,
    asked: { readonly clock?: Clock; readonly mayConnect?: () => ConnectLeave } = {},
  ) {
    this.ratePerSec = ratePerSec;
    const { clock = systemClock, mayConnect = () => 'now' } = asked;
    this.#clock = clock;
    this.#mayConnect = mayConnect;
    this.#originMs = clock.monotonicMs();
    this.#pacer = new Pacer(Number.isFinite(ratePerSec) ? ratePerSec : null);
  }

  /** @returns whether the next connect may be called now; false: neither this one nor any later one */
  next(): Promise<boolean> {
    this.#last = this.#last.then(() => this.#wait());
    return this.#last;
  }

  async #wait(): Promise<boolean> {
    for (;;) {
      const leave = this.#mayConnect();
      if (leave === 'never') return false;
      if (leave === 'later') {
        await pause(LEAVE_ASKED_EVERY_MS);
        continue;
      }
      const nowMs = this.#clock.monotonicMs() - this.#originMs;
      if (this.#pacer.mayBegin(nowMs)) {
        this.#pacer.begin(nowMs);
        return true;
      }
      await pause(Math.ceil(this.#pacer.nextAtMs - nowMs));
    }
  }
}

/**
 * Connects each source to its endpoint.
 * @param tries of one family each
 * @returns one answer per try, in the same order
 */
export function checkRoutes(
  tries: readonly RouteTry[],
  timeoutMs = CHECK_TIMEOUT_MS,
  turns = new ConnectTurns(Number.POSITIVE_INFINITY),
): Promise<RouteProblem[]> {
  const limit = pLimit(CHECKS_AT_ONCE);
  return Promise.all(tries.map((one) => limit(() => checkOne(one, one.ports, timeoutMs, turns))));
}

/**
 * Ports to try at one end of the source ports of a run: those that a filter on the way sees first, or last.
 * @returns at most 4, the outermost first
 */
export function portsAtEnd(ranges: readonly PortRange[], end: 'first' | 'last'): number[] {
  const ports: number[] = [];
  const inTurn = end === 'first' ? ranges : ranges.toReversed();
  for (const { from, to } of inTurn) {
    const room = Math.min(PORTS_TRIED_MAX - ports.length, to - from + 1);
    for (let step = 0; step < room; step += 1) ports.push(end === 'first' ? from + step : to - step);
  }
  return ports;
}

async function checkOne(
  pair: RoutePair,
  ports: readonly number[],
  timeoutMs: number,
  turns: ConnectTurns,
): Promise<RouteProblem> {
  for (const port of ports) {
    if (!(await turns.next())) return 'not asked: the run is over here';
    const answer = await connectOnce(pair, port, timeoutMs);
    if (answer !== 'busy') return answer;
  }
  // Every port that was tried is in use: this source evidently works. The ramp skips such ports.
  return null;
}

function connectOnce(
  { source, endpoint }: RoutePair,
  localPort: number,
  timeoutMs: number,
): Promise<RouteProblem | 'busy'> {
  return new Promise((resolve) => {
    let socket: Socket;
    try {
      const host = withZone(endpoint.address, endpoint.zone);
      const localAddress = withZone(source, endpoint.zone);
      socket = connect({ host, port: endpoint.port, localAddress, localPort });
    } catch (error) {
      resolve(problemOf(error as NodeJS.ErrnoException, timeoutMs));
      return;
    }
    const timer = after(timeoutMs, () => {
      socket.destroy();
      resolve(`no answer within ${timeoutMs / 1000} s`);
    });
    const finish = (answer: RouteProblem | 'busy'): void => {
      timer.cancel();
      resolve(answer);
    };
    socket.once('connect', () => {
      socket.resetAndDestroy();
      finish(null);
    });
    // Stays: a reset that comes after our own is no event any more.
    socket.on('error', (error) => finish(problemOf(error, timeoutMs)));
  });
}

function problemOf(error: NodeJS.ErrnoException, timeoutMs: number): RouteProblem | 'busy' {
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
      return 'no route, or no host answers for the target there';
    case 'EACCES':
    case 'EPERM':
      return 'forbidden by a rule on this host';
    case 'ETIMEDOUT':
      return `no answer within ${timeoutMs / 1000} s`;
    default:
      return error.code ?? error.message;
  }
}

/** `arping` waits a second for an answer: all are asked together. */
const ARPINGS_AT_ONCE = 128;
const ARPING_TIMEOUT_MS = 3_000;

/** An address of ours that another host has too. */
export interface DuplicateAddress {
  readonly address: string;
  /** the device on whose segment that host is */
  readonly device: string;
  /** hardware address of the other host; null: not known */
  readonly owner: string | null;
}

/**
 * Asks for each IPv4 alias who has it. Only on devices with neighbours; only the first 128.
 * @returns those that another host has; empty when `arping` is missing or may not be used
 */
export async function findDuplicates(
  run: RunProgram,
  aliases: readonly Alias[],
): Promise<DuplicateAddress[]> {
  const asked = aliases
    .filter((alias) => alias.family === 4 && alias.device !== 'lo')
    .slice(0, ARPINGS_AT_ONCE);
  const limit = pLimit(ARPINGS_AT_ONCE);
  const found = await Promise.all(asked.map((alias) => limit(() => askOne(run, alias))));
  return found.flat();
}

async function askOne(run: RunProgram, { address, device }: Alias): Promise<DuplicateAddress[]> {
  // -D: duplicate address detection. Exit code 1 and a "reply" line: another host answered.
  const result = await run('arping', ['-D', '-I', device, '-c', '1', '-w', '1', address], {
    timeoutMs: ARPING_TIMEOUT_MS,
  });
  const reply = /reply from \S+ \[([0-9A-F:]+)\]/i.exec(result.stdout);
  if (result.missing || result.code !== 1 || reply === null) return [];
  return [{ address, device, owner: reply[1]?.toLowerCase() ?? null }];
}
