/**
 * Owns the system calls of a netlink socket of the family sock_diag(7): the only ones that this folder makes itself. Like libc.ts each
 * function returns what the kernel returned, or a negative errno. Must never know what a message means (sock-diag.ts), or decide.
 */
import koffi from 'koffi';

/** Constants of Linux on x64 and arm64: include/linux/socket.h, include/uapi/linux/netlink.h */
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_SOCK_DIAG = 4;
const MSG_DONTWAIT = 0x40;

const library = koffi.load(null);
const socket = library.func('int socket(int, int, int)');
const recv = library.func('intptr_t recv(int, void *, size_t, int)');
const send = library.func('intptr_t send(int, void *, size_t, int)');

/** koffi keeps errno of the last call of this thread; it must be read before anything else runs. */
function result(returned: number): number {
  return returned < 0 ? -koffi.errno() : returned;
}

/** A socket to the kernel's sock_diag: its descriptor, or -errno. */
export function openSockDiag(): number {
  return result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
}

/** send(2) of one request: bytes, or -errno. The kernel has begun to answer when it returns. */
export function sendRequest(fd: number, request: Uint8Array): number {
  return result(send(fd, request, request.byteLength, 0));
}

/** recv(2) of what is there, without waiting: bytes, or -errno. */
export function receiveAnswers(fd: number, answers: Uint8Array): number {
  return result(recv(fd, answers, answers.byteLength, MSG_DONTWAIT));
}

/** close(2): 0, or -1. */
export const closeSockDiag: (fd: number) => number = library.func('int close(int)');
