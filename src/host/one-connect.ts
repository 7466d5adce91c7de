/**
 * Owns one connect whose whole answer is wanted: taken, refused, unreachable or silent, and, where an ICMP error ended it, what that said
 * and who sent it. Must never send a byte, or keep the socket.
 */
import { networkInterfaces } from 'node:os';
import koffi from 'koffi';
import { addressFromBigInt, addressToBigInt, type Family } from '../base/address.ts';
import type { Endpoint } from '../base/endpoint.ts';
import { realWaiting, systemClock, waitUntil } from '../time/timer.ts';

/** Constants of Linux on x64 and arm64 (asm-generic headers; linux/in.h, linux/in6.h). */
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SOL_IP = 0;
const IP_RECVERR = 11;
const SOL_IPV6 = 41;
const IPV6_RECVERR = 25;
const MSG_ERRQUEUE_DONTWAIT = 0x2000 | 0x40;
const POLLOUT = 0x4;
const EINPROGRESS = 115;

/** `struct sock_extended_err` (linux/errqueue.h): errno 0 to 3, origin 4, type 5, code 6; the sender's sockaddr follows at 16. */
const ORIGIN_ICMP = 2;
const ORIGIN_ICMP6 = 3;
const SENDER_AT = 16;
/** `struct cmsghdr` on 64 bits: length 0 to 7, level 8, type 12, data from 16. */
const CMSG_DATA_AT = 16;
const CONTROL_BYTES = 512;

const SOCKADDR_BYTES_MAX = 28;
const LOOK_EVERY_MS = 10;

const library = koffi.load(null);
koffi.struct('c100k_iovec', { base: 'void *', length: 'size_t' });
koffi.struct('c100k_msghdr', {
  name: 'void *',
  nameLength: 'uint32_t',
  parts: 'c100k_iovec *',
  partsLength: 'size_t',
  control: 'void *',
  controlLength: 'size_t',
  flags: 'int',
});
const calls = {
  socket: library.func('int socket(int, int, int)'),
  setsockopt: library.func('int setsockopt(int, int, int, void *, uint)'),
  getsockopt: library.func('int getsockopt(int, int, int, void *, void *)'),
  bind: library.func('int bind(int, void *, uint)'),
  connect: library.func('int connect(int, void *, uint)'),
  poll: library.func('int poll(void *, ulong, int)'),
  recvmsg: library.func('intptr_t recvmsg(int, _Inout_ c100k_msghdr *, int)'),
  close: library.func('int close(int)'),
};

/** What an ICMP or ICMPv6 error said, and who sent it. */
interface Rejection {
  readonly by: string;
  readonly type: number;
  readonly code: number;
  /** the sender is this host: its own filter, or a next hop that does not answer */
  readonly isOwn: boolean;
}

/** How one connect was answered. */
export interface ConnectAnswer {
  readonly answer: 'taken' | 'refused' | 'unreachable' | 'silent';
  /** null: no ICMP error ended it */
  readonly rejection: Rejection | null;
}

/** Where a connect begins. */
export interface ConnectFrom {
  readonly address: string;
  /** 0: the kernel's choice */
  readonly port: number;
}

/** Answers by errno; connect(2), icmp_err_convert in net/ipv4/icmp.c and icmpv6_err_convert in net/ipv6/icmp.c. */
const ANSWERS: ReadonlyMap<number, ConnectAnswer['answer']> = new Map([
  [0, 'taken'],
  [111, 'refused'], // ECONNREFUSED
  [104, 'refused'], // ECONNRESET
  [113, 'unreachable'], // EHOSTUNREACH
  [101, 'unreachable'], // ENETUNREACH
  [112, 'unreachable'], // EHOSTDOWN
  [92, 'unreachable'], // ENOPROTOOPT
  [64, 'unreachable'], // ENONET
  [13, 'unreachable'], // EACCES
  [1, 'unreachable'], // EPERM
  [110, 'silent'], // ETIMEDOUT
]);

/** `struct sockaddr_in` or `sockaddr_in6` of a literal. */
function sockaddrOf(address: string, family: Family, port: number): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 16 : SOCKADDR_BYTES_MAX);
  const view = new DataView(bytes.buffer);
  const value = addressToBigInt(address);
  view.setUint16(0, family === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  if (family === 4) view.setUint32(4, Number(value));
  else {
    view.setBigUint64(8, value >> 64n);
    view.setBigUint64(16, BigInt.asUintN(64, value));
  }
  return bytes;
}

/** The address of a sockaddr at an offset; null: none, as of an error without a sender. */
function addressAt(view: DataView, at: number): string | null {
  const family = view.getUint16(at, true);
  if (family === AF_INET) return addressFromBigInt(4, BigInt(view.getUint32(at + 4)));
  if (family !== AF_INET6) return null;
  return addressFromBigInt(6, (view.getBigUint64(at + 8) << 64n) | view.getBigUint64(at + 16));
}

function isHere(address: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((one) => one.address === address));
}

/** The first control message of the error queue; null: no ICMP error waits there. */
function readErrorQueue(fd: number): Rejection | null {
  const control = new Uint8Array(CONTROL_BYTES);
  const message = {
    name: null,
    nameLength: 0,
    parts: null,
    partsLength: 0,
    control,
    controlLength: CONTROL_BYTES,
    flags: 0,
  };
  if (calls.recvmsg(fd, message, MSG_ERRQUEUE_DONTWAIT) < 0) return null;
  const view = new DataView(control.buffer);
  const level = view.getInt32(8, true);
  const type = view.getInt32(12, true);
  const isError = (level === SOL_IP && type === IP_RECVERR) || (level === SOL_IPV6 && type === IPV6_RECVERR);
  const origin = view.getUint8(CMSG_DATA_AT + 4);
  if (!isError || (origin !== ORIGIN_ICMP && origin !== ORIGIN_ICMP6)) return null;
  const by = addressAt(view, CMSG_DATA_AT + SENDER_AT);
  if (by === null) return null;
  return {
    by,
    type: view.getUint8(CMSG_DATA_AT + 5),
    code: view.getUint8(CMSG_DATA_AT + 6),
    isOwn: isHere(by),
  };
}

function setOption(fd: number, level: number, option: number): void {
  calls.setsockopt(fd, level, option, new Int32Array([1]), 4);
}

/** 0, or the errno of the call. */
function begin(fd: number, { address, port, family }: Endpoint, from: ConnectFrom): number {
  setOption(fd, SOL_SOCKET, SO_REUSEADDR);
  setOption(fd, family === 4 ? SOL_IP : SOL_IPV6, family === 4 ? IP_RECVERR : IPV6_RECVERR);
  const here = sockaddrOf(from.address, family, from.port);
  if (calls.bind(fd, here, here.length) < 0) return koffi.errno();
  const there = sockaddrOf(address, family, port);
  return calls.connect(fd, there, there.length) < 0 ? koffi.errno() : 0;
}

/** The errno with which the connect has ended, 0 for none; null: it is not over. */
function outcomeOf(fd: number): number | null {
  const { buffer } = new Int32Array([fd, POLLOUT]);
  if (calls.poll(new Uint8Array(buffer), 1, 0) <= 0) return null;
  const code = new Int32Array(1);
  return calls.getsockopt(fd, SOL_SOCKET, SO_ERROR, code, new Int32Array([4])) < 0 ? null : (code[0] ?? null);
}

/**
 * Connects once, and closes what is answered.
 * @param timeoutMs without an answer for so long it is silent
 * @returns null: this host had no such source or port to give
 */
export async function connectOnce(
  endpoint: Endpoint,
  from: ConnectFrom,
  timeoutMs: number,
): Promise<ConnectAnswer | null> {
  const fd: number = calls.socket(
    endpoint.family === 4 ? AF_INET : AF_INET6,
    SOCK_STREAM_NONBLOCK_CLOEXEC,
    0,
  );
  if (fd < 0) return null;
  try {
    const began = begin(fd, endpoint, from);
    let errno: number | null = began === EINPROGRESS ? null : began;
    const isOver = (): boolean => {
      errno ??= outcomeOf(fd);
      return errno !== null;
    };
    const waiting = realWaiting(systemClock.monotonicMs);
    await waitUntil(isOver, waiting.nowMs() + timeoutMs, LOOK_EVERY_MS, waiting);
    // What is not over by then is silent, and so is an ICMP error that ended nothing.
    if (errno === null) return { answer: 'silent', rejection: readErrorQueue(fd) };
    const answer = ANSWERS.get(errno);
    return answer === undefined ? null : { answer, rejection: readErrorQueue(fd) };
  } finally {
    calls.close(fd);
  }
}
