/**
 * Owns the system calls that every kernel has (io_uring's: drivers/uring-binding.ts). Each function returns what the kernel
 * returned, or a negative errno, so that no caller has to remember to read errno in time; and the reason under which a connection is
 * counted when a call fails. Which call failed matters (EADDRNOTAVAIL means two things):
 * callers handle bind(2) themselves.
 * Must never decide, count, log or throw for a failed call.
 */

import { arch, constants, endianness } from 'node:os';
import koffi from 'koffi';
import { DropReason, FailReason } from '../base/outcome.ts';

/** Constants of Linux on x64 and arm64 (asm-generic headers). */
export const AF_INET = 2;
export const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
const SO_ERROR = 4;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_INCOMING_CPU = 49;
export const IPPROTO_TCP = 6;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_REPAIR = 19;
/** Values of TCP_REPAIR (linux/tcp.h): the end of a repair, with a window probe (tcp_send_window_probe() in net/ipv4/tcp_output.c) and without. */
const TCP_REPAIR_OFF = 0;
const TCP_REPAIR_OFF_NO_WP = -1;
const TCP_INFO = 11;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
/** EPOLLET is bit 31: written as a signed number because the buffers hold Int32. */
export const EPOLLET = -0x80000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
const EPOLL_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;
const F_DUPFD_CLOEXEC = 1030;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const O_ASYNC = 0o20000;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const RLIMIT_NOFILE = 7;
const PR_SET_PDEATHSIG = 1;
const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_DONTWAIT = 0x40;
export const MSG_PEEK = 2;
const MSG_ERRQUEUE = 0x2000;

/** Positive errno values by name, such as `Errno.EINPROGRESS`. */
export const Errno = constants.errno;

/** `struct epoll_event` is packed on x64 only: 12 bytes there, 16 elsewhere (linux/eventpoll.h, EPOLL_PACKED). */
export const EPOLL_EVENT_BYTES = arch() === 'x64' ? 12 : 16;
/** byte offset of the data field in `struct epoll_event` */
export const EPOLL_DATA_OFFSET = arch() === 'x64' ? 4 : 8;

if (endianness() !== 'LE') throw new Error('c100k-bench needs a little-endian machine');

// load(null) looks symbols up in the process itself, so glibc and musl both work.
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
  bind: library.func('int bind(int, void *, uint)'),
  connect: library.func('int connect(int, void *, uint)'),
  listen: library.func('int listen(int, int)'),
  accept4: library.func('int accept4(int, void *, void *, int)'),
  close: library.func('int close(int)'),
  shutdown: library.func('int shutdown(int, int)'),
  recv: library.func('intptr_t recv(int, void *, size_t, int)'),
  recvmsg: library.func('intptr_t recvmsg(int, _Inout_ c100k_msghdr *, int)'),
  send: library.func('intptr_t send(int, void *, size_t, int)'),
  setsockopt: library.func('int setsockopt(int, int, int, void *, uint)'),
  getsockopt: library.func('int getsockopt(int, int, int, void *, void *)'),
  getsockname: library.func('int getsockname(int, void *, void *)'),
  getpeername: library.func('int getpeername(int, void *, void *)'),
  epollCreate: library.func('int epoll_create1(int)'),
  epollCtl: library.func('int epoll_ctl(int, int, int, void *)'),
  epollWait: library.func('int epoll_wait(int, void *, int, int)'),
  eventfd: library.func('int eventfd(uint, int)'),
  write: library.func('intptr_t write(int, void *, size_t)'),
  read: library.func('intptr_t read(int, void *, size_t)'),
  fcntl: library.func('int fcntl(int, int, int)'),
  pipe2: library.func('int pipe2(void *, int)'),
  getrlimit: library.func('int getrlimit(int, void *)'),
  prctl: library.func('int prctl(int, ulong, ulong, ulong, ulong)'),
  deviceIndex: library.func('uint if_nametoindex(const char *)'),
};

/**
 * Where this thread's errno is: glibc and musl both say (LSB, __errno_location). A call of koffi for each connect, which always answers
 * EINPROGRESS, costs as much as any other.
 */
const errno = new Int32Array(koffi.view(library.func('void *__errno_location()')(), 4));

/**
 * What a system call returned, or -errno. koffi leaves errno as the call has set it; it must be read before anything else runs.
 * @param returned below 0: the call has failed
 */
export function result(returned: number): number {
  return returned < 0 ? -errno[0]! : returned;
}

const intValue = new Int32Array(1);
const intLength = new Int32Array(1);
const lingerValue = new Int32Array([1, 0]);

/** A non-blocking, close-on-exec TCP socket: its descriptor, or -errno. */
export function tcpSocket(family: number): number {
  return result(calls.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** bind(2): 0, or -errno. `address` is a sockaddr of `length` bytes. */
export function bind(fd: number, address: Uint8Array, length: number): number {
  return result(calls.bind(fd, address, length));
}

/** connect(2): 0, or -errno (-EINPROGRESS while the handshake runs). */
export function connect(fd: number, address: Uint8Array, length: number): number {
  return result(calls.connect(fd, address, length));
}

/** listen(2): 0, or -errno. The kernel cuts `backlog` to net.core.somaxconn. */
export function listen(fd: number, backlog: number): number {
  return result(calls.listen(fd, backlog));
}

/**
 * accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC: the new descriptor, or -errno.
 * @param address receives the peer's sockaddr
 * @param length one-element in/out length; must be set to the size of `address` before each call
 */
export function accept(fd: number, address: Uint8Array, length: Int32Array): number {
  return result(calls.accept4(fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

/** close(2): 0, or -errno. */
export function close(fd: number): number {
  return result(calls.close(fd));
}

/** recv(2) without waiting: bytes, 0 at FIN, or -errno. */
export function recv(fd: number, buffer: Uint8Array, length: number): number {
  return result(calls.recv(fd, buffer, length, MSG_DONTWAIT));
}

/**
 * The next control message of a socket's error queue into `control` (recvmsg(2), MSG_ERRQUEUE), without waiting: at least 0, or
 * -errno. Allocates: not for the per-connection path.
 */
export function recvErrorQueue(fd: number, control: Uint8Array): number {
  const nothing = { name: null, nameLength: 0, parts: null, partsLength: 0 };
  const message = { ...nothing, control, controlLength: control.byteLength, flags: 0 };
  return result(calls.recvmsg(fd, message, MSG_ERRQUEUE | MSG_DONTWAIT));
}

/** send(2) without waiting and without SIGPIPE: bytes, or -errno. */
export function send(fd: number, buffer: Uint8Array, length: number): number {
  return result(calls.send(fd, buffer, length, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/** setsockopt(2) with an int: 0, or -errno. */
export function setIntOption(fd: number, level: number, option: number, value: number): number {
  intValue[0] = value;
  return result(calls.setsockopt(fd, level, option, intValue, 4));
}

/**
 * Has the kernel send one TCP keepalive now, or once nothing has come for a second (TCP_KEEPIDLE, tcp(7)); or none any more.
 * The next would follow after TCP_KEEPINTVL, 75 s by default. A socket that is gone is no error: its event says so.
 */
export function setKeepalive(fd: number, isOn: boolean): void {
  // In this order: TCP_KEEPIDLE sets the timer of a socket that has keepalives on.
  setIntOption(fd, SOL_SOCKET, SO_KEEPALIVE, isOn ? 1 : 0);
  if (isOn) setIntOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
}

/**
 * Has the kernel send one window probe now: the segment of a keepalive, to which the far kernel answers, but in this call and not by a timer. It
 * takes the socket's SO_REUSEADDR away (`case TCP_REPAIR` in do_tcp_setsockopt(), net/ipv4/tcp.c), which is given back. A socket that is gone is no error:
 * its event says so.
 */
export function probeWindow(fd: number): void {
  setIntOption(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
  setIntOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

/** Whether this process may have window probes sent: CAP_NET_ADMIN where its network belongs (tcp_can_repair_sock()). Asks a socket of its own. */
export function mayProbeWindow(): boolean {
  const fd = tcpSocket(AF_INET);
  if (fd < 0) return false;
  const code = setIntOption(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
  close(fd);
  return code === 0;
}

/** Makes the next close send RST instead of FIN (SO_LINGER with 0 seconds, socket(7)): leaves no TIME_WAIT. */
export function setResetOnClose(fd: number): number {
  return result(calls.setsockopt(fd, SOL_SOCKET, SO_LINGER, lingerValue, 8));
}

/** The socket's pending error (SO_ERROR) as a positive errno, 0 for none, or -errno of the call itself. */
export function socketError(fd: number): number {
  intLength[0] = 4;
  const code = result(calls.getsockopt(fd, SOL_SOCKET, SO_ERROR, intValue, intLength));
  return code < 0 ? code : intValue[0]!;
}

/**
 * TCP_INFO into `info`: bytes written, or -errno. Offsets (linux/tcp.h, struct tcp_info): state 0,
 * tcpi_rtt 68, tcpi_total_retrans 100.
 */
export function tcpInfo(fd: number, info: Uint8Array): number {
  intLength[0] = info.byteLength;
  const code = result(calls.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, intLength));
  return code < 0 ? code : intLength[0]!;
}

/** getsockname(2): 0, or -errno; `length` as in accept(). */
export function getsockname(fd: number, address: Uint8Array, length: Int32Array): number {
  return result(calls.getsockname(fd, address, length));
}

/** epoll_create1(2): descriptor, or -errno. */
export function epollCreate(): number {
  return result(calls.epollCreate(EPOLL_CLOEXEC));
}

/** epoll_ctl(2): 0, or -errno. */
export function epollCtl(epollFd: number, operation: number, fd: number, event: Uint8Array | null): number {
  return result(calls.epollCtl(epollFd, operation, fd, event));
}

/** epoll_wait(2) in this thread: number of events, or -errno. */
export function epollWait(epollFd: number, events: Uint8Array, eventsMax: number, timeoutMs: number): number {
  return result(calls.epollWait(epollFd, events, eventsMax, timeoutMs));
}

/**
 * epoll_wait(2) in a worker thread, so that Node's own loop stays alive meanwhile.
 * @param done called with the number of events; a failed or interrupted wait counts as 0 events, because
 *   errno belongs to the other thread
 */
export function epollWaitAsync(
  epollFd: number,
  events: Uint8Array,
  eventsMax: number,
  timeoutMs: number,
  done: (count: number) => void,
): void {
  calls.epollWait.async(epollFd, events, eventsMax, timeoutMs, (error: unknown, count: number) => {
    done(error === null || error === undefined ? Math.max(0, count) : 0);
  });
}

/** eventfd(2), non-blocking: descriptor, or -errno. */
export function eventfd(): number {
  return result(calls.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

/** write(2): bytes, or -errno. */
export function write(fd: number, buffer: Uint8Array, length: number): number {
  return result(calls.write(fd, buffer, length));
}

/** read(2): bytes, or -errno. */
export function read(fd: number, buffer: Uint8Array, length: number): number {
  return result(calls.read(fd, buffer, length));
}

/** M_MMAP_THRESHOLD, mallopt(3) */
const M_MMAP_THRESHOLD = -3;
/** A table of this size is worth a mapping of its own. */
const OWN_MAPPING_BYTES = 65_536;

/** mallopt(3) and malloc_trim(3), which glibc has and musl has not. */
const malloc = ((): {
  option(name: number, value: number): number;
  trim(keepBytes: number): number;
} | null => {
  try {
    return {
      option: library.func('int mallopt(int, int)'),
      trim: library.func('int malloc_trim(size_t)'),
    };
  } catch {
    return null;
  }
})();

/**
 * From now on each table of 64 KiB or more is a mapping of its own, where the C library can: pages that nothing was written to take no
 * memory, and one that is given up goes back to the kernel. Otherwise glibc raises that bound as it goes (mallopt(3)).
 */
export function mapTablesApart(): void {
  malloc?.option(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
}

/** Gives memory that was freed back to the kernel, where the C library can. */
export function trimMemory(): void {
  malloc?.trim(0);
}

/** struct rlimit: soft, hard */
const limitWords = new BigUint64Array(2);

/** The soft limit of descriptors of this process (RLIMIT_NOFILE); Infinity when there is none. */
export function descriptorsMax(): number {
  if (calls.getrlimit(RLIMIT_NOFILE, limitWords) < 0) return Number.POSITIVE_INFINITY;
  return limitWords[0] === RLIM_INFINITY ? Number.POSITIVE_INFINITY : Number(limitWords[0]);
}

/**
 * Makes the process's descriptor table large enough at once. A table that grows by itself doubles ten times on the way
 * to 18,000 descriptors, and because Node has threads, each doubling waits for an RCU grace period, 5 to 20 ms in which
 * no connect goes out (expand_fdtable() in fs/file.c: synchronize_rcu() when the table is shared).
 * @param count descriptors that will be needed; more than the limit allows is cut to the limit
 */
export function reserveDescriptors(count: number): void {
  const highest = Math.min(count, descriptorsMax()) - 1;
  // Any descriptor will do as the model; it is copied to the first free number from `highest` on.
  const model = epollCreate();
  if (model < 0) return;
  const copy = result(calls.fcntl(model, F_DUPFD_CLOEXEC, highest));
  if (copy >= 0) close(copy);
  close(model);
}

/** The signal that the kernel sends this process when its parent ends (PR_SET_PDEATHSIG, prctl(2)): 0, or -errno. */
export function setParentDeathSignal(signal: number): number {
  return result(calls.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0));
}

/** The index of a device in this process's network namespace (if_nametoindex(3)); 0: there is none. */
export function deviceIndex(name: string): number {
  return calls.deviceIndex(name);
}

const pipeEnds = new Int32Array(2);

/** pipe2(2), closed at exec: the descriptor of its writing end, or -errno. The reading end is closed again. */
export function pipeWriter(): number {
  const returned = result(calls.pipe2(pipeEnds, O_CLOEXEC));
  if (returned < 0) return returned;
  close(pipeEnds[0]!);
  return pipeEnds[1]!;
}

/**
 * Makes the kernel send a process a signal when something comes to this reading end of a pipe, or its last writer is gone
 * (F_SETOWN, F_SETSIG, O_ASYNC, fcntl(2)). That belongs to the open file, whoever else has it: 0, or -errno.
 */
export function signalAtPipeEnd(fd: number, pid: number, signal: number): number {
  const owned = result(calls.fcntl(fd, F_SETOWN, pid));
  if (owned < 0) return owned;
  const set = result(calls.fcntl(fd, F_SETSIG, signal));
  return set < 0 ? set : result(calls.fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
}

// EHOSTDOWN, which Node does not name, and ENOPROTOOPT come of ICMP codes (icmp_err_convert in net/ipv4/icmp.c).
const EHOSTDOWN = 112;
const UNREACHABLE: readonly number[] = [Errno.EHOSTUNREACH, Errno.ENETUNREACH, Errno.ENETDOWN, EHOSTDOWN];
/** A RST that follows a FIN leaves EPIPE (tcp_reset() in net/ipv4/tcp_input.c). */
const RESET: readonly number[] = [Errno.ECONNRESET, Errno.EPIPE, Errno.ECONNABORTED];

/** Reasons by errno for a socket that is being connected; connect(2), tcp(7), epoll_ctl(2). */
const FAIL_BY_ERRNO: ReadonlyMap<number, FailReason> = new Map<number, FailReason>([
  [Errno.ECONNREFUSED, FailReason.refused],
  [Errno.ETIMEDOUT, FailReason.timeout],
  ...RESET.map((errno) => [errno, FailReason.reset] as const),
  ...UNREACHABLE.map((errno) => [errno, FailReason.unreachable] as const),
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

const DROP_BY_ERRNO: ReadonlyMap<number, DropReason> = new Map<number, DropReason>([
  ...RESET.map((errno) => [errno, DropReason.rst] as const),
  ...UNREACHABLE.map((errno) => [errno, DropReason.unreachable] as const),
  [Errno.ETIMEDOUT, DropReason.timeout],
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
