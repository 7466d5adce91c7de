/**
 * Owns the PROXY header of each connection, versions 1 and 2: what is in it, and the part that a socket did not take.
 * Must never allocate for a connection whose socket takes its header whole.
 *
 * A made-up client belongs to a slot: its address is the next of the network for each connection of the run, by the number that
 * the slot has there, and when all have been used they come again with the next port. What is opened again in a slot is the same client again. Where client and endpoint are of two
 * families both are written as IPv6, the IPv4 one mapped: a header has one family.
 */
import { addressToBigInt, parseAddress } from '../base/address.ts';
import { clientAddresses } from '../base/proxy-header.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { connectionNumber, type LoadShare } from '../run/schedule.ts';
import type { BoundTuples } from './protocols/whoami.ts';

/** The longest: version 1 with two IPv6 addresses, each 39 characters. */
const HEADER_BYTES_MAX = 108;
const ADDRESS_BYTES = 16;
/** Where an IPv4 address begins in a mapped one. */
const V4_AT = 12;
const V2_SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/** Version 2 with the command PROXY; the two families with STREAM. */
const V2_PROXY = 0x21;
const V2_TCP4 = 0x11;
const V2_TCP6 = 0x21;
const CLIENT_PORT_MIN = 1_024;
const CLIENT_PORTS = 65_536 - CLIENT_PORT_MIN;
const HEX = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0));
const DOT = 0x2e;
const COLON = 0x3a;
const BLANK = 0x20;
const ZERO = 0x30;

/** Sends on a slot's connection; as `ProtocolHost.send`. */
type Send = (slot: number, buffer: Uint8Array, length: number) => number;

/** An address in 16 bytes, IPv4 mapped. */
function addressBytes(address: string): Uint8Array {
  const value = addressToBigInt(address) | (parseAddress(address).family === 4 ? 0xffffn << 32n : 0n);
  return Uint8Array.from({ length: ADDRESS_BYTES }, (_, at) =>
    Number((value >> BigInt(8 * (15 - at))) & 0xffn),
  );
}

function isMapped(bytes: Uint8Array): boolean {
  for (let at = 0; at < V4_AT; at++) if (bytes[at] !== (at < 10 ? 0 : 0xff)) return false;
  return true;
}

/** The headers of one holder's connections. */
export class ProxyHeaders {
  /** the header that was written last */
  readonly #bytes = new Uint8Array(HEADER_BYTES_MAX);
  readonly #bound: BoundTuples;
  readonly #isText: boolean;
  readonly #sources: readonly Uint8Array[];
  readonly #endpoints: readonly Uint8Array[];
  readonly #ports: readonly number[];
  /** 0: none are made up */
  readonly #clients: number;
  readonly #shares: readonly LoadShare[];
  /** the client of the slot that was written last; its first one's last 32 bits are apart */
  readonly #client: Uint8Array;
  readonly #clientLow: number;
  /** bytes of the header that a slot's socket has taken, where that was not all */
  readonly #taken = new Map<number, number>();
  #at = 0;

  /** @param spec with a `proxyHeader` */
  constructor({ proxyHeader, connections, shares, addresses, endpoints }: HolderSpec, bound: BoundTuples) {
    this.#bound = bound;
    this.#isText = proxyHeader?.version === 'v1';
    this.#sources = addresses.map(addressBytes);
    this.#endpoints = endpoints.map(({ address }) => addressBytes(address));
    this.#ports = endpoints.map(({ port }) => port);
    const clients = proxyHeader?.clients ?? null;
    const { first, count } = clients === null ? { first: '::', count: 0 } : clientAddresses(clients);
    this.#clients = count;
    this.#shares = shares ?? [{ from: 0, to: connections }];
    this.#client = addressBytes(first);
    this.#clientLow = Number(addressToBigInt(first) & 0xffff_ffffn);
  }

  /** @returns whether all of it is sent; else `sendRest` follows when the socket takes bytes again */
  send(slot: number, send: Send): boolean {
    const length = this.#write(slot);
    const taken = Math.max(0, send(slot, this.#bytes, length));
    if (taken < length) this.#taken.set(slot, taken);
    return taken === length;
  }

  /** Whether a part of the slot's header is not sent yet. */
  isPending(slot: number): boolean {
    return this.#taken.size > 0 && this.#taken.has(slot);
  }

  /** The socket takes bytes again. @returns as `send` */
  sendRest(slot: number, send: Send): boolean {
    const length = this.#write(slot);
    const before = this.#taken.get(slot) ?? 0;
    const taken = before + Math.max(0, send(slot, this.#bytes.subarray(before), length - before));
    if (taken < length) this.#taken.set(slot, taken);
    else this.#taken.delete(slot);
    return taken === length;
  }

  /** The slot is gone. */
  forget(slot: number): void {
    if (this.#taken.size > 0) this.#taken.delete(slot);
  }

  /** @returns bytes of the slot's header */
  #write(slot: number): number {
    const index = this.#bound.endpointIndex(slot);
    const to = this.#endpoints[index]!;
    const toPort = this.#ports[index]!;
    let from = this.#sources[this.#bound.sourceIndex(slot)]!;
    let fromPort = this.#bound.port(slot);
    if (this.#clients > 0) {
      const client = connectionNumber(this.#shares, slot);
      from = this.#nextClient(client % this.#clients);
      fromPort = CLIENT_PORT_MIN + (Math.floor(client / this.#clients) % CLIENT_PORTS);
    }
    const isV4 = isMapped(from) && isMapped(to);
    this.#at = 0;
    if (this.#isText) this.#writeText(isV4, from, fromPort, to, toPort);
    else this.#writeBinary(isV4, from, fromPort, to, toPort);
    return this.#at;
  }

  /** The addresses of a network end within the last 32 bits. */
  #nextClient(offset: number): Uint8Array {
    const low = this.#clientLow + offset;
    for (let at = 0; at < 4; at++) this.#client[V4_AT + at] = Math.floor(low / 256 ** (3 - at)) % 256;
    return this.#client;
  }

  #writeBinary(isV4: boolean, from: Uint8Array, fromPort: number, to: Uint8Array, toPort: number): void {
    const first = isV4 ? V4_AT : 0;
    for (const byte of V2_SIGNATURE) this.#put(byte);
    this.#put(V2_PROXY);
    this.#put(isV4 ? V2_TCP4 : V2_TCP6);
    this.#putShort(2 * (ADDRESS_BYTES - first) + 4);
    for (let at = first; at < ADDRESS_BYTES; at++) this.#put(from[at]!);
    for (let at = first; at < ADDRESS_BYTES; at++) this.#put(to[at]!);
    this.#putShort(fromPort);
    this.#putShort(toPort);
  }

  #writeText(isV4: boolean, from: Uint8Array, fromPort: number, to: Uint8Array, toPort: number): void {
    const head = isV4 ? 'PROXY TCP4 ' : 'PROXY TCP6 ';
    for (let at = 0; at < head.length; at++) this.#put(head.charCodeAt(at));
    this.#putAddress(isV4, from);
    this.#put(BLANK);
    this.#putAddress(isV4, to);
    this.#put(BLANK);
    this.#putNumber(fromPort);
    this.#put(BLANK);
    this.#putNumber(toPort);
    this.#put(0x0d);
    this.#put(0x0a);
  }

  /** Dotted, or eight groups: shortened ones say the same. */
  #putAddress(isV4: boolean, address: Uint8Array): void {
    for (let at = isV4 ? V4_AT : 0; at < ADDRESS_BYTES; at += isV4 ? 1 : 2) {
      if (at > (isV4 ? V4_AT : 0)) this.#put(isV4 ? DOT : COLON);
      if (isV4) this.#putNumber(address[at]!);
      else this.#putHex(address[at]! * 256 + address[at + 1]!);
    }
  }

  #putNumber(value: number): void {
    let unit = 1;
    while (unit * 10 <= value) unit *= 10;
    for (; unit >= 1; unit = Math.floor(unit / 10)) this.#put(ZERO + (Math.floor(value / unit) % 10));
  }

  #putHex(value: number): void {
    let unit = 1;
    while (unit * 16 <= value) unit *= 16;
    for (; unit >= 1; unit = Math.floor(unit / 16)) this.#put(HEX[Math.floor(value / unit) % 16]!);
  }

  #putShort(value: number): void {
    this.#put(value >> 8);
    this.#put(value & 0xff);
  }

  #put(byte: number): void {
    this.#bytes[this.#at++] = byte;
  }
}
