/**
 * Owns one connect whose whole answer is wanted: taken, refused, unreachable or silent, and, where an ICMP error ended it, what that said
 * and who sent it. Must never send a byte, or keep the socket.
 */
import { networkInterfaces } from 'node:os';
import type { Endpoint } from '../base/endpoint.ts';
import { addressOf, sockAddr } from '../engine/drivers/sockaddr.ts';
import * as libc from '../engine/libc.ts';
import { realWaiting, systemClock, waitUntil } from '../time/timer.ts';

/** Constants of Linux on x64 and arm64 (linux/in.h, linux/in6.h). */
const SOL_IP = 0;
const IP_RECVERR = 11;
const IPV6_RECVERR = 25;

/** `struct sock_extended_err` (linux/errqueue.h): errno 0 to 3, origin 4, type 5, code 6; the sender's sockaddr follows at 16. */
const ORIGIN_ICMP = 2;
const ORIGIN_ICMP6 = 3;
const SENDER_AT = 16;
/** `struct cmsghdr` on 64 bits: length 0 to 7, level 8, type 12, data from 16. */
const CMSG_DATA_AT = 16;
const CONTROL_BYTES = 512;

const LOOK_EVERY_MS = 10;

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
const { Errno } = libc;
const ANSWERS: ReadonlyMap<number, ConnectAnswer['answer']> = new Map([
  [0, 'taken'],
  [Errno.ECONNREFUSED, 'refused'],
  [Errno.ECONNRESET, 'refused'],
  [Errno.EHOSTUNREACH, 'unreachable'],
  [Errno.ENETUNREACH, 'unreachable'],
  [112, 'unreachable'], // EHOSTDOWN
  [Errno.ENOPROTOOPT, 'unreachable'],
  [64, 'unreachable'], // ENONET
  [Errno.EACCES, 'unreachable'],
  [Errno.EPERM, 'unreachable'],
  [Errno.ETIMEDOUT, 'silent'],
]);

function isHere(address: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((one) => one.address === address));
}

/** The first control message of the error queue; null: no ICMP error waits there. */
function readErrorQueue(fd: number): Rejection | null {
  const control = new Uint8Array(CONTROL_BYTES);
  if (libc.recvErrorQueue(fd, control) < 0) return null;
  const view = new DataView(control.buffer);
  const level = view.getInt32(8, true);
  const option = view.getInt32(12, true);
  const isError =
    (level === SOL_IP && option === IP_RECVERR) || (level === libc.IPPROTO_IPV6 && option === IPV6_RECVERR);
  const origin = view.getUint8(CMSG_DATA_AT + 4);
  if (!isError || (origin !== ORIGIN_ICMP && origin !== ORIGIN_ICMP6)) return null;
  const senderAt = CMSG_DATA_AT + SENDER_AT;
  const family = view.getUint16(senderAt, true);
  // An error may come without a sender.
  if (family !== libc.AF_INET && family !== libc.AF_INET6) return null;
  const by = addressOf(control.subarray(senderAt));
  return {
    by,
    type: view.getUint8(CMSG_DATA_AT + 5),
    code: view.getUint8(CMSG_DATA_AT + 6),
    isOwn: isHere(by),
  };
}

/** 0, or -errno of the call. */
function begin(fd: number, { address, port, family, zone }: Endpoint, from: ConnectFrom): number {
  libc.setIntOption(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
  if (family === 4) libc.setIntOption(fd, SOL_IP, IP_RECVERR, 1);
  else libc.setIntOption(fd, libc.IPPROTO_IPV6, IPV6_RECVERR, 1);
  const here = sockAddr(from.address, from.port, zone);
  const bound = libc.bind(fd, here.bytes, here.length);
  if (bound < 0) return bound;
  const there = sockAddr(address, port, zone);
  return libc.connect(fd, there.bytes, there.length);
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
  const fd = libc.tcpSocket(endpoint.family === 4 ? libc.AF_INET : libc.AF_INET6);
  if (fd < 0) return null;
  const epoll = libc.epollCreate();
  try {
    if (epoll < 0) return null;
    const began = begin(fd, endpoint, from);
    let errno: number | null = began === -Errno.EINPROGRESS ? null : -began;
    const event = new Uint8Array(libc.EPOLL_EVENT_BYTES);
    new DataView(event.buffer).setUint32(0, libc.EPOLLOUT, true);
    libc.epollCtl(epoll, libc.EPOLL_CTL_ADD, fd, event);
    const isOver = (): boolean => {
      // Also where an error waits in the error queue alone: SO_ERROR knows it (sk_err_soft).
      if (errno === null && libc.epollWait(epoll, event, 1, 0) > 0) errno = libc.socketError(fd);
      return errno !== null;
    };
    const waiting = realWaiting(systemClock.monotonicMs);
    await waitUntil(isOver, waiting.nowMs() + timeoutMs, LOOK_EVERY_MS, waiting);
    // What is not over by then is silent, and so is an ICMP error that ended nothing.
    if (errno === null) return { answer: 'silent', rejection: readErrorQueue(fd) };
    const answer = ANSWERS.get(errno);
    return answer === undefined ? null : { answer, rejection: readErrorQueue(fd) };
  } finally {
    libc.close(epoll);
    libc.close(fd);
  }
}
