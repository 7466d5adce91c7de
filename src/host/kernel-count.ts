/**
 * Owns asking the kernel how many sockets it has between our sources and the endpoints: the count that our own is
 * checked against, and those that still wait for the far end to answer our FIN: an address that goes away earlier leaves
 * the target with sockets in LAST_ACK whose answers go nowhere.
 * Must never look at our own count, or the far side's (far-side.ts), and never close a socket.
 */
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { addressToBigInt, parseAddress, unmapV4 } from '../base/address.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { realWaiting, systemClock, type Waiting, waitUntil } from '../time/timer.ts';
import { countLines, LineCounter } from './command.ts';
import type { KernelCount } from './kernel-evidence.ts';
import { addressKey, type DumpSockets, dumpSockets, type SocketName, TcpState } from './sock-diag.ts';

/** The states that are counted, as `ss` names them, as sock_diag does, and as /proc/net/tcp does (include/net/tcp_states.h). */
const STATES = {
  established: { state: TcpState.established, code: '01' },
  'time-wait': { state: TcpState.timeWait, code: '06' },
} as const;
type SocketState = keyof typeof STATES;

export interface SocketQuery {
  readonly state: SocketState;
  /** local addresses that count; null: all */
  readonly sources: readonly string[] | null;
  /** local ports that count; null: all */
  readonly ports: readonly PortRange[] | null;
  /** remote ends that count */
  readonly endpoints: readonly Endpoint[];
  /** which sockets towards the endpoints are ours, from whatever source; null or absent: those of the sources and ports */
  readonly isOurs?: ((socket: SocketName) => boolean) | null;
  /** how the kernel is asked first; a test gives one that is refused */
  readonly dump?: DumpSockets;
  /** the `ss` program; default from PATH */
  readonly ss?: string;
  /** default `/proc` */
  readonly procRoot?: string;
}

interface SocketCount {
  /** null: the kernel could not be asked */
  readonly count: number | null;
  /** towards the same endpoints, and not ours; null: not known apart */
  readonly others: number | null;
  readonly method: KernelCount['method'];
}

interface EstablishedCount {
  /** sockets in state ESTABLISHED; null: the kernel could not be asked */
  readonly established: number | null;
  readonly others: number | null;
  readonly method: SocketCount['method'];
}

/** 130,000 sockets take `ss` under a second; a host with ten times as many must not hang the run. */
export const SS_TIMEOUT_MS = 15_000;

/** A longer filter is left out: then every line is read and judged here. */
const FILTER_CLAUSES_MAX = 256;

const READ_BYTES = 262_144;

/**
 * Sockets that the kernel calls ESTABLISHED from our sources to the endpoints. On loopback, where both ends are
 * on this host, only the client's end counts, because only it has an endpoint as its remote end.
 * @param query sources, source ports and endpoints; local address and remote address:port are compared exactly,
 *   IPv4-mapped IPv6 sockets count as IPv4
 */
export async function countEstablished(query: Omit<SocketQuery, 'state'>): Promise<EstablishedCount> {
  const { count, ...rest } = await countSockets({ ...query, state: 'established' });
  return { established: count, ...rest };
}

/**
 * Sockets in one state from our sources, or of ours, to the endpoints: asked of sock_diag, where that is refused through `ss`, else by reading
 * /proc/net/tcp and tcp6.
 * @param query what counts
 */
export async function countSockets(query: SocketQuery): Promise<SocketCount> {
  if (query.endpoints.length === 0) return { count: 0, others: null, method: 'none' };
  if (query.procRoot === undefined) {
    const byDiag = await countByDiag(query);
    if (byDiag !== null) return { ...byDiag, method: 'sock-diag' };
    const bySs = await countBySs(query);
    if (bySs !== null) return { count: bySs, others: null, method: 'ss' };
  }
  const byProc = await countByProc(query);
  return { count: byProc, others: null, method: byProc === null ? 'none' : 'proc-net-tcp' };
}

async function countByDiag(query: SocketQuery): Promise<Pick<SocketCount, 'count' | 'others'> | null> {
  const remotes = new Map<string, Set<number>>();
  for (const { address, port } of query.endpoints) {
    const key = addressKey(address);
    remotes.set(key, (remotes.get(key) ?? new Set()).add(port));
  }
  const sources = query.sources === null ? null : new Set(query.sources.map(addressKey));
  const { isOurs = null } = query;
  let count = 0;
  let others = 0;
  const isAnswered = await (query.dump ?? dumpSockets)(
    {
      states: [STATES[query.state].state],
      localPorts: isOurs === null ? query.ports : null,
      remotePorts: contiguousPorts(query.endpoints.map(({ port }) => port)),
    },
    (socket) => {
      if (remotes.get(socket.remoteAddress)?.has(socket.remotePort) !== true) return;
      if (isOurs !== null) {
        if (isOurs(socket)) count++;
        else others++;
        return;
      }
      if (sources !== null && !sources.has(socket.localAddress)) return;
      if (query.ports === null || isWithin(socket.localPort, query.ports)) count++;
    },
  );
  if (!isAnswered) return null;
  return { count, others: isOurs === null ? null : others };
}

const isWithin = (port: number, ranges: readonly PortRange[]): boolean =>
  ranges.some(({ from, to }) => port >= from && port <= to);

async function countBySs(query: SocketQuery): Promise<number | null> {
  const isOurs = socketMatcher(query, (address) => address, String);
  const filter = ssFilter(query.endpoints);
  const args = ['-Htn', 'state', query.state, ...(filter === null ? [] : [filter])];
  const result = await countLines(query.ss ?? 'ss', args, {
    timeoutMs: SS_TIMEOUT_MS,
    // Columns: Recv-Q Send-Q Local:Port Peer:Port; with one state asked for there is no State column.
    matches: (line) => {
      const [, , local = '', remote = ''] = line.split(/\s+/, 4);
      return isOurs(plainSocketName(local), plainSocketName(remote));
    },
  });
  return result.code === 0 ? result.count : null;
}

/** An end of a socket as `ss` writes it, in one form: `[::1]:80` gives `::1:80`; `[::ffff:1.2.3.4]:80` and `1.2.3.4%eth0:80` give `1.2.3.4:80`; `[fe80::1]%eth0:80` gives `fe80::1:80`. */
export function plainSocketName(name: string): string {
  const colon = name.lastIndexOf(':');
  let address = name.slice(0, colon);
  if (address.startsWith('[')) address = address.slice(1, -1);
  const zone = address.indexOf('%');
  if (zone >= 0) address = address.slice(0, zone).replace(']', '');
  if (address.startsWith('::ffff:') && address.includes('.')) address = address.slice(7);
  return address + name.slice(colon);
}

/** A filter that lets at least every endpoint through; null: too many pieces. */
function ssFilter(endpoints: readonly Endpoint[]): string | null {
  const portsOf = new Map<string, number[]>();
  for (const { address, port } of endpoints) {
    const ports = portsOf.get(address);
    if (ports === undefined) portsOf.set(address, [port]);
    else ports.push(port);
  }
  const clauses: string[] = [];
  for (const [address, ports] of portsOf) {
    const literal = address.includes(':') ? `[${address}]` : address;
    for (const { from, to } of contiguousPorts(ports)) {
      clauses.push(
        from === to
          ? `dst ${literal}:${from}`
          : `( dst ${literal} and dport >= :${from} and dport <= :${to} )`,
      );
    }
    if (clauses.length > FILTER_CLAUSES_MAX) return null;
  }
  return `( ${clauses.join(' or ')} )`;
}

/** Ports as ranges, in order. */
export function contiguousPorts(ports: readonly number[]): PortRange[] {
  const ranges: { from: number; to: number }[] = [];
  for (const port of [...ports].sort((left, right) => left - right)) {
    const last = ranges.at(-1);
    if (last !== undefined && port <= last.to + 1) last.to = port;
    else ranges.push({ from: port, to: port });
  }
  return ranges;
}

/**
 * A predicate over `address:port` texts of a socket's local and remote end.
 * @param query what counts
 * @param writeAddress how the table writes a canonical address
 * @param writePort how the table writes a port
 */
function socketMatcher(
  query: SocketQuery,
  writeAddress: (address: string) => string,
  writePort: (port: number) => string,
): (local: string, remote: string) => boolean {
  const write = (address: string): string => writeAddress(unmapV4(address));
  const remotes = new Set(query.endpoints.map((end) => `${write(end.address)}:${writePort(end.port)}`));
  const sources = query.sources === null ? null : new Set(query.sources.map(write));
  const ports = query.ports === null ? null : portTexts(query.ports, writePort);
  return (local, remote) => {
    if (!remotes.has(remote)) return false;
    const colon = local.lastIndexOf(':');
    if (sources !== null && !sources.has(local.slice(0, colon))) return false;
    return ports === null || ports.has(local.slice(colon + 1));
  };
}

function portTexts(ranges: readonly PortRange[], writePort: (port: number) => string): ReadonlySet<string> {
  const texts = new Set<string>();
  for (const { from, to } of ranges) for (let port = from; port <= to; port++) texts.add(writePort(port));
  return texts;
}

/** Hex digits of an address in each table. */
const PROC_TABLES = [
  ['net/tcp', 8],
  ['net/tcp6', 32],
] as const;

/** Reads both tables in pieces; null when neither is there. */
async function countByProc(query: SocketQuery): Promise<number | null> {
  const isOurs = socketMatcher(query, hexOfAddress, hexOfPort);
  const stateCode = STATES[query.state].code;
  let total: number | null = null;
  for (const [table, digits] of PROC_TABLES) {
    // `   0: 0100007F:1F40 0200007F:0400 01 ...`: fixed columns after the first colon, because splitting every line
    // into words takes three times as long. A name is the address, a colon and four digits of port.
    const nameChars = digits + 5;
    // The table is read in pieces while sockets come and go, and a piece that begins anew may repeat a socket: each
    // 4-tuple counts once (tcp_seek_last_pos() in net/ipv4/tcp_ipv4.c finds its place by counting).
    const seen = new Set<string>();
    const counter = new LineCounter((line) => {
      const local = line.indexOf(':') + 2;
      const remote = local + nameChars + 1;
      const state = remote + nameChars + 1;
      const isMatch =
        line.startsWith(stateCode, state) &&
        isOurs(unmapHex(line.slice(local, remote - 1)), unmapHex(line.slice(remote, state - 1)));
      if (!isMatch) return false;
      const tuple = line.slice(local, state);
      if (seen.has(tuple)) return false;
      seen.add(tuple);
      return true;
    });
    try {
      const stream = createReadStream(join(query.procRoot ?? '/proc', table), { highWaterMark: READ_BYTES });
      for await (const chunk of stream) counter.add(chunk as Buffer);
      total = (total ?? 0) + counter.end();
    } catch {
      // No such table: a kernel without IPv6 has no tcp6.
    }
  }
  return total;
}

/** The first twelve bytes of `::ffff:0:0/96` as /proc/net/tcp6 writes them. */
const MAPPED_HEX = '0000000000000000FFFF0000';

function unmapHex(name: string): string {
  return name.startsWith(MAPPED_HEX) ? name.slice(MAPPED_HEX.length) : name;
}

/** 32-bit words in the byte order of x64 and arm64, as the kernel's `%08X` prints them. */
function hexOfAddress(address: string): string {
  const { family } = parseAddress(address);
  const digits = addressToBigInt(address)
    .toString(16)
    .padStart(family === 4 ? 8 : 32, '0');
  const words = digits.match(/.{8}/g) ?? [];
  return words
    .map((word) => (word.match(/../g) ?? []).reverse().join(''))
    .join('')
    .toUpperCase();
}

function hexOfPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}

const CLOSING_SS_TIMEOUT_MS = 5_000;
const LOOK_EVERY_MS = 100;

/** States in which a segment is still on its way; TIME_WAIT needs no answer any more. */
const CLOSING_STATES = {
  'fin-wait-1': TcpState.finWait1,
  'fin-wait-2': TcpState.finWait2,
  closing: TcpState.closing,
  'last-ack': TcpState.lastAck,
} as const;

/** What it asks and waits with; a test gives its own. */
interface ClosingCheck {
  readonly count: (ours: ReadonlySet<string>, timeoutMs: number) => Promise<number | null>;
  readonly waiting: Waiting;
}

const REAL_CHECK: ClosingCheck = { count: countClosing, waiting: realWaiting(systemClock.monotonicMs) };

/**
 * Waits until no socket that is bound to one of these addresses is closing.
 * @param addresses IP literals
 * @param timeoutMs at most so long, whatever `ss` takes; a target that never closes its side keeps sockets in FIN_WAIT_2
 */
export async function untilClosed(
  addresses: readonly string[],
  timeoutMs: number,
  { count, waiting }: ClosingCheck = REAL_CHECK,
): Promise<void> {
  const ours = new Set(addresses);
  const isClosed = async (leftMs: number): Promise<boolean> => {
    const closing = await count(ours, Math.min(CLOSING_SS_TIMEOUT_MS, leftMs));
    return closing === null || closing === 0;
  };
  await waitUntil(isClosed, waiting.nowMs() + timeoutMs, LOOK_EVERY_MS, waiting);
}

/** Sockets bound to one of these addresses that are still closing; null: neither sock_diag nor `ss` could say. */
async function countClosing(ours: ReadonlySet<string>, timeoutMs: number): Promise<number | null> {
  const keys = new Set([...ours].map(addressKey));
  const filter = { states: Object.values(CLOSING_STATES), localPorts: null, remotePorts: null };
  let closing = 0;
  const isAnswered = await dumpSockets(filter, ({ localAddress }) => {
    if (keys.has(localAddress)) closing++;
  });
  if (isAnswered) return closing;
  const args = ['-Htn', ...Object.keys(CLOSING_STATES).flatMap((state) => ['state', state])];
  const { code, count } = await countLines('ss', args, {
    timeoutMs,
    // Columns with several states: State Recv-Q Send-Q Local:Port Peer:Port.
    matches: (line) => ours.has(addressOf(plainSocketName(line.trim().split(/\s+/)[3] ?? ''))),
  });
  return code === 0 ? count : null;
}

const addressOf = (name: string): string => name.slice(0, name.lastIndexOf(':'));
