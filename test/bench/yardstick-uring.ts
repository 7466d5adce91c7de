/**
 * Owns the yardstick for very many connections: a bare loop that opens them through io_uring in this process, without slots,
 * timers, protocols or counts, and then holds them until its standard input ends. Must never handle an error: it fails instead.
 *
 *   node yardstick-uring.js PORT CONNECTIONS       prints {"open":N,"seconds":S,"residentBytes":B}
 */
import assert from 'node:assert/strict';
import { sockAddr } from '../../src/engine/drivers/sockaddr.ts';
import {
  CMD_SETSOCKOPT,
  Cqe,
  type MappedMemory,
  Op,
  POLL_MULTISHOT,
  Sqe,
  SqeFlag,
  uringKernel,
} from '../../src/engine/drivers/uring-binding.ts';
import { Ring } from '../../src/engine/drivers/uring-ring.ts';
import * as libc from '../../src/engine/libc.ts';

const PER_RING = 19_000;
const PENDING_MAX = 1_000;
const CHAINS_PER_CALL = 64;
const FIRST_PORT = 1_024;
const PORTS = 31_000;
const CONNECT_KIND = 1;
const OTHER_KIND = 2;
const ADDRESS_BYTES = 16;
const LINKED = SqeFlag.FIXED_FILE | SqeFlag.LINK | SqeFlag.SKIP_SUCCESS;

function map(bytes: number): MappedMemory {
  const memory = uringKernel.map(bytes, -1, 0);
  assert(typeof memory === 'object', 'memory');
  return memory;
}

function pointTo(entries: Int32Array, at: number, address: number): void {
  entries[at] = address | 0;
  entries[at + 1] = Math.floor(address / 2 ** 32) | 0;
}

/** The target's address, the number 1 for SO_REUSEADDR, and from 64 on a source for each place of a ring. */
const memory = map(64 + PER_RING * ADDRESS_BYTES);
const bytes = new Uint8Array(memory.buffer);
const ONE_AT = 32;
bytes[ONE_AT] = 1;

/** Writes the chain of one connection, the `total`-th of all. */
function push(ring: Ring, place: number, total: number): void {
  const source = sockAddr(`127.0.${60 + Math.floor(total / PORTS)}.1`, FIRST_PORT + (total % PORTS));
  const at64 = 64 + place * ADDRESS_BYTES;
  bytes.set(source.bytes.subarray(0, ADDRESS_BYTES), at64);
  ring.reserve(5);
  const { entries } = ring;
  let at = ring.begin(Op.SOCKET | SqeFlag.LINK | SqeFlag.SKIP_SUCCESS, libc.AF_INET, OTHER_KIND, place);
  entries[at + Sqe.OFF] = 1;
  entries[at + Sqe.FILE_INDEX] = place + 1;
  at = ring.begin(Op.URING_CMD | LINKED, place, OTHER_KIND, place);
  entries[at + Sqe.OFF] = CMD_SETSOCKOPT;
  entries[at + Sqe.ADDR] = libc.SOL_SOCKET;
  entries[at + Sqe.ADDR_HIGH] = libc.SO_REUSEADDR;
  entries[at + Sqe.FILE_INDEX] = 4;
  pointTo(entries, at + Sqe.ADDR3, memory.address + ONE_AT);
  at = ring.begin(Op.BIND | LINKED, place, OTHER_KIND, place);
  entries[at + Sqe.OFF] = ADDRESS_BYTES;
  pointTo(entries, at + Sqe.ADDR, memory.address + at64);
  at = ring.begin(Op.CONNECT | SqeFlag.FIXED_FILE | SqeFlag.LINK, place, CONNECT_KIND, place);
  entries[at + Sqe.OFF] = ADDRESS_BYTES;
  pointTo(entries, at + Sqe.ADDR, memory.address);
  at = ring.begin(Op.POLL_ADD | SqeFlag.FIXED_FILE, place, 0, place);
  entries[at + Sqe.LEN] = POLL_MULTISHOT;
  entries[at + Sqe.OP_FLAGS] = libc.EPOLLIN | libc.EPOLLRDHUP;
}

/** The next port for a place whose socket could not be bound. */
function again(ring: Ring, place: number): void {
  ring.reserve(1);
  const at = ring.begin(Op.CLOSE | SqeFlag.SKIP_SUCCESS, 0, 0, place);
  ring.entries[at + Sqe.FILE_INDEX] = place + 1;
  push(ring, place, tuples++);
}

/** tuples that were used, or skipped because a process listens on their port */
let tuples = 0;

/** Opens so many in one ring. */
function fill(ring: Ring, count: number): void {
  let begun = 0;
  let open = 0;
  while (open < count) {
    for (let chain = 0; chain < CHAINS_PER_CALL && begun < count && begun - open < PENDING_MAX; chain++) {
      push(ring, begun, tuples++);
      begun++;
    }
    ring.submit(1, 1_000);
    ring.sample();
    for (let at = ring.take(); at >= 0; at = ring.take()) {
      const kind = ring.completions[at + Cqe.USER_LOW];
      const result = ring.completions[at + Cqe.RES] ?? 0;
      if (kind === OTHER_KIND && result === -libc.Errno.EADDRINUSE)
        again(ring, ring.completions[at + Cqe.USER_HIGH] ?? 0);
      else assert(kind === 0 || result === 0, `request ${kind} failed with errno ${-result}`);
      if (kind === CONNECT_KIND) open++;
    }
  }
}

const [port = 0, connections = 0] = process.argv.slice(2).map(Number);
bytes.set(sockAddr('127.0.0.1', port).bytes.subarray(0, ADDRESS_BYTES), 0);
const rings: Ring[] = [];
const beganMs = performance.now();
for (let from = 0; from < connections; from += PER_RING) {
  const ring = new Ring(uringKernel, {
    submissions: 4_096,
    completions: 32_768,
    files: PER_RING,
    eventFd: -1,
  });
  rings.push(ring);
  fill(ring, Math.min(PER_RING, connections - from));
}
const seconds = (performance.now() - beganMs) / 1_000;
const residentBytes = process.memoryUsage().rss;
process.stdout.write(`${JSON.stringify({ open: connections, seconds, residentBytes })}\n`);
// What is held ends with this process.
process.stdin.on('end', () => process.exit(rings.length > 0 ? 0 : 1)).resume();
