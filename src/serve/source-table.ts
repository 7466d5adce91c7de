/**
 * Owns how many connections are open per source address: a hash table in typed arrays, so that a connection
 * allocates nothing. Must never know a descriptor or a socket.
 *
 * An address is 16 bytes; an IPv4 address is stored IPv4-mapped (RFC 4291, 2.5.5.2), so one that arrives on a
 * dual-stack listener is the same source as one that arrives on an IPv4 listener.
 */
import assert from 'node:assert/strict';
import { addressOf, SOCKADDR_BYTES_MAX } from '../engine/drivers/sockaddr.ts';
import { AF_INET, AF_INET6 } from '../engine/libc.ts';
import type { SourceCount } from './serve-counts.ts';

const WORDS = 4;
const ENTRIES_AT_FIRST = 16;
/** `::ffff:0:0/96` as the third little-endian word of an address */
const MAPPED_WORD = 0xffff0000;
/** an empty place of the hash; a used one holds its entry */
const NONE = -1;

/** Open connections by source address. The entry number of an address stays the same while it has any. */
export class SourceTable {
  #words = new Uint32Array(ENTRIES_AT_FIRST * WORDS);
  #open = new Int32Array(ENTRIES_AT_FIRST);
  /** entries without connections, as a stack */
  #free = new Int32Array(ENTRIES_AT_FIRST);
  #freeCount = 0;
  /** entries ever used; those above are fresh */
  #used = 0;
  #hash = new Int32Array(ENTRIES_AT_FIRST * 2).fill(NONE);
  readonly #key = new Uint32Array(WORDS);
  readonly #keyBytes = new Uint8Array(this.#key.buffer);

  /** Distinct addresses that have a connection now. */
  get size(): number {
    return this.#used - this.#freeCount;
  }

  /**
   * Counts one more connection.
   * @param sockaddr the peer's sockaddr as accept4(2) wrote it, IPv4 or IPv6
   * @returns the entry to hand to `remove` when the connection ends
   */
  add(sockaddr: Uint8Array): number {
    this.#readKey(sockaddr);
    let place = this.#home(this.#key, 0);
    for (;;) {
      const entry = this.#hash[place]!;
      if (entry === NONE) break;
      if (this.#isKey(entry)) {
        this.#open[entry]!++;
        return entry;
      }
      place = (place + 1) & (this.#hash.length - 1);
    }
    return this.#insert();
  }

  /** Counts one connection less; the last one of an address frees its entry. */
  remove(entry: number): void {
    assert(
      entry >= 0 && entry < this.#used && this.#open[entry]! > 0,
      'a source must have a connection to lose',
    );
    if (--this.#open[entry]! > 0) return;
    this.#unlink(entry);
    this.#free[this.#freeCount++] = entry;
  }

  /** Addresses as text with their counts, at most `entriesMax`; allocates: not for the per-connection path. */
  list(entriesMax: number): SourceCount[] {
    const listed: SourceCount[] = [];
    for (let entry = 0; entry < this.#used && listed.length < entriesMax; entry++) {
      if (this.#open[entry]! > 0) listed.push([this.#text(entry), this.#open[entry]!]);
    }
    return listed;
  }

  #readKey(sockaddr: Uint8Array): void {
    const isV4 = sockaddr[0] === AF_INET;
    assert(isV4 || sockaddr[0] === AF_INET6, 'a peer must be IPv4 or IPv6');
    const key = this.#keyBytes;
    if (isV4) {
      this.#key[0] = 0;
      this.#key[1] = 0;
      this.#key[2] = MAPPED_WORD;
      for (let at = 0; at < 4; at++) key[12 + at] = sockaddr[4 + at]!;
    } else {
      for (let at = 0; at < 16; at++) key[at] = sockaddr[8 + at]!;
    }
  }

  #isKey(entry: number): boolean {
    const at = entry * WORDS;
    const words = this.#words;
    const key = this.#key;
    return (
      words[at] === key[0] && words[at + 1] === key[1] && words[at + 2] === key[2] && words[at + 3] === key[3]
    );
  }

  /** The place where an address would like to be; the multipliers mix neighbouring addresses apart. */
  #home(words: Uint32Array, at: number): number {
    let mixed = Math.imul(words[at]! ^ words[at + 1]!, 0x85ebca6b) ^ words[at + 2]!;
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35) ^ words[at + 3]!;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x9e3779b1);
    return (mixed ^ (mixed >>> 15)) & (this.#hash.length - 1);
  }

  #insert(): number {
    if (this.#freeCount === 0 && this.#used === this.#open.length) this.#grow();
    const entry = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : this.#used++;
    this.#words.set(this.#key, entry * WORDS);
    this.#open[entry] = 1;
    this.#link(entry);
    return entry;
  }

  #link(entry: number): void {
    let place = this.#home(this.#words, entry * WORDS);
    while (this.#hash[place] !== NONE) place = (place + 1) & (this.#hash.length - 1);
    this.#hash[place] = entry;
  }

  /** Linear probing without tombstones: what follows moves up, unless it would then lie before its home. */
  #unlink(entry: number): void {
    const hash = this.#hash;
    const mask = hash.length - 1;
    let hole = this.#home(this.#words, entry * WORDS);
    while (hash[hole] !== entry) hole = (hole + 1) & mask;
    for (let place = (hole + 1) & mask; hash[place] !== NONE; place = (place + 1) & mask) {
      const home = this.#home(this.#words, hash[place]! * WORDS);
      if (((place - home) & mask) < ((place - hole) & mask)) continue;
      hash[hole] = hash[place]!;
      hole = place;
    }
    hash[hole] = NONE;
  }

  /** Twice the room; entries keep their numbers, because connections remember them. */
  #grow(): void {
    const entries = this.#open.length * 2;
    const words = new Uint32Array(entries * WORDS);
    words.set(this.#words);
    const open = new Int32Array(entries);
    open.set(this.#open);
    this.#words = words;
    this.#open = open;
    this.#free = new Int32Array(entries);
    this.#hash = new Int32Array(entries * 2).fill(NONE);
    for (let entry = 0; entry < this.#used; entry++) this.#link(entry);
  }

  #text(entry: number): string {
    const address = new Uint8Array(16);
    new Uint32Array(address.buffer).set(this.#words.subarray(entry * WORDS, (entry + 1) * WORDS));
    const isV4 =
      this.#words[entry * WORDS] === 0 &&
      this.#words[entry * WORDS + 1] === 0 &&
      this.#words[entry * WORDS + 2] === MAPPED_WORD;
    const sockaddr = new Uint8Array(SOCKADDR_BYTES_MAX);
    sockaddr[0] = isV4 ? AF_INET : AF_INET6;
    sockaddr.set(isV4 ? address.subarray(12) : address, isV4 ? 4 : 8);
    return addressOf(sockaddr);
  }
}
