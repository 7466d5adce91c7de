/**
 * Owns what an errno means for a connection: the reason under which it is counted.
 * Must never count. Which call failed matters (EADDRNOTAVAIL means two things): callers handle bind(2) themselves.
 */
import { DropReason, FailReason } from '../base/outcome.ts';
import { Errno } from './libc.ts';

/** Reasons by errno for a socket that is being connected; connect(2), tcp(7), epoll_ctl(2). */
const FAIL_BY_ERRNO: ReadonlyMap<number, FailReason> = new Map([
  [Errno.ECONNREFUSED, FailReason.refused],
  [Errno.ETIMEDOUT, FailReason.timeout],
  [Errno.ECONNRESET, FailReason.reset],
  // A RST that follows a FIN leaves EPIPE (tcp_reset() in net/ipv4/tcp_input.c).
  [Errno.EPIPE, FailReason.reset],
  [Errno.ECONNABORTED, FailReason.reset],
  [Errno.EHOSTUNREACH, FailReason.unreachable],
  [Errno.ENETUNREACH, FailReason.unreachable],
  [Errno.ENETDOWN, FailReason.unreachable],
  // EHOSTDOWN and ENOPROTOOPT: ICMP codes that the kernel maps (icmp_err_convert in net/ipv4/icmp.c).
  [112, FailReason.unreachable],
  [Errno.ENOPROTOOPT, FailReason.unreachable],
  [Errno.EACCES, FailReason.prohibited],
  [Errno.EPERM, FailReason.prohibited],
  [Errno.EMFILE, FailReason.descriptors],
  [Errno.ENFILE, FailReason.descriptors],
  [Errno.ENOBUFS, FailReason.memory],
  [Errno.ENOMEM, FailReason.memory],
  // fs.epoll.max_user_watches, which follows the machine's memory (epoll(7)).
  [Errno.ENOSPC, FailReason.memory],
]);

const DROP_BY_ERRNO: ReadonlyMap<number, DropReason> = new Map([
  [Errno.ECONNRESET, DropReason.rst],
  [Errno.EPIPE, DropReason.rst],
  [Errno.ECONNABORTED, DropReason.rst],
  [Errno.ETIMEDOUT, DropReason.timeout],
  [Errno.EHOSTUNREACH, DropReason.unreachable],
  [Errno.ENETUNREACH, DropReason.unreachable],
  [Errno.ENETDOWN, DropReason.unreachable],
  [112, DropReason.unreachable],
]);

/** Why a connect failed. @param errno positive */
export function failReasonOf(errno: number): FailReason {
  return FAIL_BY_ERRNO.get(errno) ?? FailReason.other;
}

/** Why an open connection was lost. @param errno positive */
export function dropReasonOf(errno: number): DropReason {
  return DROP_BY_ERRNO.get(errno) ?? DropReason.other;
}

/** Whether an errno of socket(2) says that no later socket will do better: EMFILE or ENFILE. */
export function isOutOfDescriptors(errno: number): boolean {
  return errno === Errno.EMFILE || errno === Errno.ENFILE;
}
