/**
 * Owns who gets beyond the first bytes: each socket is kept as it came, without TLS, until its first record proves a key of
 * ours (client-hello.ts); only then TLS is begun for it. So a connection without a key costs a socket and one hash, never a session,
 * and however many there are, what is kept is bounded by the counts in `GATE_LIMITS`.
 *
 * When there is no more room the oldest goes, not the newest: an agent proves its key with its first bytes, and is through
 * before the next ones push it out. Must never speak TLS itself, but for one alert.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { CLIENT_HELLO_BYTES_MAX, isBoundBy, type OfferedKey, readClientHello } from './client-hello.ts';
import { lateAfter } from './intake.ts';
import { Alert, alertRecord, type KnownKey, peerOf } from './token.ts';

/** What is kept of those who have not said a good hello yet; each is a count of sockets but for the times. */
export const GATE_LIMITS = {
  /** without a proof, from one address: of IPv6 its /64 */
  unprovenPerAddress: 1_024,
  /** without a proof, in all */
  unproven: 4_096,
  /** how long the proof may take */
  proofMs: 3_000,
  /** with a proof, and TLS, upgrade or hello under way; others wait their turn */
  arriving: 256,
  /** one that is arriving for longer makes room when others wait */
  arrivingGiveWayMs: 1_000,
  /** how long TLS and the upgrade may take together */
  upgradeMs: 4_000,
  /** of one agent's token, in all stages together; the coordinator's own token has no such limit */
  perToken: 8,
  /** with a proof, in all stages: 10,000 agents, and new links of those whose old one is not known to be gone */
  proven: 12_000,
  /** proofs that are remembered, so that a recorded one opens nothing */
  proofsRemembered: 16_384,
} as const;

/** Why the gate let a socket go. */
export type GateReason = 'tls' | 'http' | 'crowded';

/** A client that was not let in and had a token, or said hello: worth a line, where a port scanner is only counted. */
export interface TurnedAway {
  /** the address that it came from */
  readonly from: string;
  /** the name that its token proves or that it gives itself; null: not known */
  readonly name: string | null;
  /** in words, such as `its token has expired` */
  readonly why: string;
}

/** An address as people write it: of one that IPv6 maps, the IPv4 address. */
export function shownAddress(address: string | undefined): string {
  const text = address ?? 'an unknown address';
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text)?.[1] ?? text;
}

interface GateOptions {
  readonly clock: Clock;
  /** the key that an identity must prove, expired or not; null: there is none */
  readonly knownKeyFor: (pskIdentity: string) => KnownKey | null;
  /** @param who null: it showed no token, so it is no agent */
  readonly onRefused: (reason: GateReason, who: TurnedAway | null) => void;
  /** begins TLS on a socket that has proved its key; what it sent is to be read from it again */
  readonly onProven: (socket: Socket) => void;
}

/** For all visitors: one of its own would be kept with each agent. */
const NO_BYTES = Buffer.alloc(0);
const nothing = (): void => {};

interface Visitor {
  readonly socket: Socket;
  readonly address: string;
  readonly key: string;
  bytes: Buffer;
  stage: 'unproven' | 'waiting' | 'arriving' | 'greeted' | 'gone';
  identity: string;
  sinceMs: number;
  isSecure: boolean;
  stopWaiting: () => void;
}

/** What a socket, or TLS on top of it, is known by while it is open. */
function keyOfSocket(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}|${socket.localAddress}`;
}

/** The part of an address that one host can hardly choose: an IPv4 address, or the /64 of an IPv6 one. */
function addressGroup(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  return [...front, ...Array.from({ length: zeros }, () => '0'), ...back].slice(0, 4).join(':');
}

/** Sets by key; an empty one is forgotten. */
class Groups {
  readonly #sets = new Map<string, Set<Visitor>>();

  add(key: string, visitor: Visitor): Set<Visitor> {
    const set = this.#sets.get(key) ?? new Set();
    this.#sets.set(key, set);
    return set.add(visitor);
  }

  remove(key: string, visitor: Visitor): void {
    const set = this.#sets.get(key);
    if (set?.delete(visitor) === true && set.size === 0) this.#sets.delete(key);
  }
}

function oldestOf(visitors: Iterable<Visitor>): Visitor | undefined {
  for (const visitor of visitors) return visitor;
  return undefined;
}

/** The gate of one server. */
export class Gate {
  readonly #options: GateOptions;
  readonly #unproven = new Set<Visitor>();
  readonly #byAddress = new Groups();
  readonly #waiting = new Set<Visitor>();
  readonly #arriving = new Set<Visitor>();
  /** all with a proof, by `keyOfSocket` */
  readonly #proven = new Map<string, Visitor>();
  readonly #byToken = new Groups();
  readonly #proofs = new Set<string>();

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** A new connection. */
  take(socket: Socket): void {
    // One that is gone already has no address.
    const address = addressGroup(socket.remoteAddress ?? '');
    const visitor: Visitor = {
      socket,
      address,
      key: keyOfSocket(socket),
      bytes: NO_BYTES,
      stage: 'unproven',
      identity: '',
      sinceMs: 0,
      isSecure: false,
      stopWaiting: nothing,
    };
    visitor.stopWaiting = lateAfter(GATE_LIMITS.proofMs, () => this.#turnAway(visitor, 'tls'), this.#nowMs);
    this.#unproven.add(visitor);
    const neighbours = this.#byAddress.add(address, visitor);
    const isFull = neighbours.size > GATE_LIMITS.unprovenPerAddress;
    const oldest = isFull ? oldestOf(neighbours) : oldestOf(this.#unproven);
    const isCrowded = isFull || this.#unproven.size > GATE_LIMITS.unproven;
    if (isCrowded && oldest !== undefined) this.#turnAway(oldest, 'crowded');
    socket.on('error', () => {});
    socket.once('close', () => {
      if (visitor.stage === 'unproven') this.#options.onRefused('tls', null);
      this.#forget(visitor);
    });
    const hear = (chunk: Buffer): void => {
      visitor.bytes = visitor.bytes.length === 0 ? chunk : Buffer.concat([visitor.bytes, chunk]);
      if (this.#judge(visitor)) socket.off('data', hear);
    };
    socket.on('data', hear);
  }

  /** @returns whether the first record is all here, or never will be */
  #judge(visitor: Visitor): boolean {
    if (visitor.stage !== 'unproven') return true;
    const hello = readClientHello(visitor.bytes);
    if (hello.type === 'partial' && visitor.bytes.length <= CLIENT_HELLO_BYTES_MAX) return false;
    if (hello.type === 'keyed') this.#check(visitor, hello);
    else
      this.#turnAway(
        visitor,
        'tls',
        hello.type === 'keyless' ? Alert.handshakeFailure : Alert.unexpectedMessage,
      );
    return true;
  }

  #check(visitor: Visitor, offered: OfferedKey): void {
    const known = this.#options.knownKeyFor(offered.identity);
    const refuse = (alert: Alert, why: string, name: string | null = null): void =>
      this.#turnAway(visitor, 'tls', alert, why, name);
    if (known === null) refuse(Alert.unknownPskIdentity, 'its token is not of this run');
    else if (!isBoundBy(offered, known.key)) refuse(Alert.decryptError, 'its token is not of this run');
    else if (this.#isReplayed(offered.binder)) refuse(Alert.decryptError, 'it repeats what another sent');
    // Only who has the key hears that it was good once.
    else if (known.isExpired) {
      const name = peerOf(offered.identity)?.name ?? null;
      refuse(Alert.certificateExpired, "its token has expired by this host's clock", name);
    } else this.#believe(visitor, offered.identity);
  }

  /** A client's first message has 32 random bytes, so an honest one never proves the same twice. */
  #isReplayed(binder: Buffer): boolean {
    const proof = binder.toString('latin1');
    if (this.#proofs.has(proof)) return true;
    this.#proofs.add(proof);
    if (this.#proofs.size > GATE_LIMITS.proofsRemembered) {
      for (const oldest of this.#proofs) {
        this.#proofs.delete(oldest);
        break;
      }
    }
    return false;
  }

  #believe(visitor: Visitor, identity: string): void {
    visitor.socket.pause();
    visitor.socket.unshift(visitor.bytes);
    visitor.bytes = NO_BYTES;
    visitor.stopWaiting();
    this.#leaveUnproven(visitor);
    visitor.stage = 'waiting';
    visitor.identity = identity;
    if (this.#proven.size >= GATE_LIMITS.proven) {
      const why = `too many connections with a token: at most ${GATE_LIMITS.proven}`;
      this.#turnAway(visitor, 'crowded', undefined, why);
      return;
    }
    this.#proven.set(visitor.key, visitor);
    this.#waiting.add(visitor);
    if (peerOf(identity)?.name !== null) this.#limitToken(this.#byToken.add(identity, visitor), visitor);
    this.#letIn();
  }

  /** The oldest link that came to nothing makes room: an agent that tries again means its newest. */
  #limitToken(links: Set<Visitor>, newest: Visitor): void {
    if (links.size <= GATE_LIMITS.perToken) return;
    const idle = [...links].find((each) => each.stage !== 'greeted');
    const why = `too many connections with its token: at most ${GATE_LIMITS.perToken}`;
    const name = peerOf(newest.identity)?.name ?? null;
    this.#turnAway(idle ?? newest, 'crowded', undefined, why, name);
  }

  readonly #nowMs = (): number => this.#options.clock.monotonicMs();

  #letIn(): void {
    const nowMs = this.#nowMs();
    for (const visitor of this.#waiting) {
      if (this.#arriving.size >= GATE_LIMITS.arriving) {
        const oldest = oldestOf(this.#arriving);
        if (oldest === undefined || nowMs - oldest.sinceMs < GATE_LIMITS.arrivingGiveWayMs) return;
        this.#turnAway(oldest, 'crowded');
      }
      this.#waiting.delete(visitor);
      this.#arriving.add(visitor);
      visitor.stage = 'arriving';
      visitor.sinceMs = nowMs;
      const late = (): void => this.#turnAway(visitor, visitor.isSecure ? 'http' : 'tls');
      visitor.stopWaiting = lateAfter(GATE_LIMITS.upgradeMs, late, this.#nowMs);
      this.#options.onProven(visitor.socket);
    }
  }

  /** TLS is made on a socket. @param socket the TLS socket */
  secured(socket: Socket): void {
    const visitor = this.#proven.get(keyOfSocket(socket));
    if (visitor !== undefined) visitor.isSecure = true;
  }

  /** The upgrade is made: whoever made it waits for the hello. @param socket the TLS socket */
  upgraded(socket: Socket): void {
    this.#proven.get(keyOfSocket(socket))?.stopWaiting();
  }

  /** A good hello came: this one takes none of the room for those who arrive. @param socket the TLS socket */
  greeted(socket: Socket): void {
    const visitor = this.#proven.get(keyOfSocket(socket));
    if (visitor?.stage !== 'arriving') return;
    visitor.stage = 'greeted';
    visitor.stopWaiting = nothing;
    this.#arriving.delete(visitor);
    this.#letIn();
  }

  /**
   * @param why in words, of one that showed a token; absent: it is only counted
   * @param name that its token proves
   */
  #turnAway(
    visitor: Visitor,
    reason: GateReason,
    alert?: Alert,
    why: string | null = null,
    name: string | null = null,
  ): void {
    if (visitor.stage === 'gone') return;
    const { socket, stage } = visitor;
    const from = shownAddress(socket.remoteAddress);
    this.#forget(visitor);
    this.#options.onRefused(reason, why === null ? null : { from, name, why });
    if (alert === undefined || stage !== 'unproven') {
      socket.destroy();
      return;
    }
    socket.pause();
    socket.write(alertRecord(alert));
    socket.destroySoon();
  }

  #leaveUnproven(visitor: Visitor): void {
    this.#unproven.delete(visitor);
    this.#byAddress.remove(visitor.address, visitor);
  }

  #forget(visitor: Visitor): void {
    visitor.stopWaiting();
    visitor.stage = 'gone';
    visitor.bytes = NO_BYTES;
    this.#leaveUnproven(visitor);
    this.#waiting.delete(visitor);
    this.#byToken.remove(visitor.identity, visitor);
    if (this.#proven.get(visitor.key) === visitor) this.#proven.delete(visitor.key);
    if (this.#arriving.delete(visitor)) this.#letIn();
  }

  /** Closes every socket that has not become a channel. */
  close(): void {
    for (const visitor of [...this.#unproven, ...this.#waiting, ...this.#arriving]) {
      this.#forget(visitor);
      visitor.socket.destroy();
    }
  }
}
