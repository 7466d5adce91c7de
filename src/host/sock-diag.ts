/**
 * Owns the conversation with the kernel's sock_diag about TCP sockets: which are asked for, the program by which the kernel leaves
 * out the others, and what it says of each. Layouts are those of include/uapi/linux/inet_diag.h and netlink.h of Linux 6.18; they
 * are the same since 3.3, on x64 and arm64.
 * Must never judge a socket: whose it is, the caller knows.
 *
 * Cost, measured on Linux 6.18: see docs/decisions/counting-sockets.md.
 */
import { addressToBigInt, parseAddress, unmapV4 } from '../base/address.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { closeSockDiag, openSockDiag, receiveAnswers, sendRequest } from './netlink.ts';

/** The states of include/net/tcp_states.h that are asked for. */
export const TcpState = {
  established: 1,
  synReceived: 3,
  finWait1: 4,
  finWait2: 5,
  timeWait: 6,
  lastAck: 9,
  listen: 10,
  closing: 11,
} as const;

/** Which sockets are asked for. */
interface SocketFilter {
  /** values of `TcpState` */
  readonly states: readonly number[];
  /** null: any */
  readonly localPorts: readonly PortRange[] | null;
  readonly remotePorts: readonly PortRange[] | null;
}

/** The two ends of a socket. */
export interface SocketName {
  readonly localPort: number;
  readonly remotePort: number;
  /** as `addressKey` writes it */
  readonly localAddress: string;
  readonly remoteAddress: string;
}

/** One socket of an answer; the same object for each, true until the callback returns. */
interface SeenSocket extends SocketName {
  readonly state: number;
  /** bytes unread; of a listener, connections that wait to be accepted */
  readonly receiveQueue: number;
  /** bytes unsent; of a listener, how many may wait */
  readonly sendQueue: number;
  /** 0: no process has it, as one that is not accepted yet */
  readonly inode: number;
  /** of a listener, what it dropped because a queue of its own was full; null: the kernel does not say */
  readonly drops: number | null;
}

/** Asks for sockets. @returns false: the kernel does not answer such questions here; what was called before is void */
export type DumpSockets = (filter: SocketFilter, onSocket: (socket: SeenSocket) => void) => Promise<boolean>;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const NLMSG_HEADER_BYTES = 16;
const REQUEST_BYTES = 56;
const ATTRIBUTE_HEADER_BYTES = 4;
const INET_DIAG_REQ_BYTECODE = 1;
/** An attribute of an answer: sk_mem* of a socket as 32-bit words, of which this one is sk_drops (sock_diag.h). */
const INET_DIAG_SKMEMINFO = 7;
const SK_MEMINFO_DROPS = 8;
const IPPROTO_TCP = 6;
const AF_INET = 2;
const AF_INET6 = 10;

/** struct inet_diag_msg, behind the header of its message. */
const Message = {
  FAMILY: NLMSG_HEADER_BYTES,
  STATE: NLMSG_HEADER_BYTES + 1,
  LOCAL_PORT: NLMSG_HEADER_BYTES + 4,
  REMOTE_PORT: NLMSG_HEADER_BYTES + 6,
  LOCAL_ADDRESS: NLMSG_HEADER_BYTES + 8,
  REMOTE_ADDRESS: NLMSG_HEADER_BYTES + 24,
  RECEIVE_QUEUE: NLMSG_HEADER_BYTES + 56,
  SEND_QUEUE: NLMSG_HEADER_BYTES + 60,
  INODE: NLMSG_HEADER_BYTES + 68,
  BYTES: NLMSG_HEADER_BYTES + 72,
} as const;

/** The kernel gives as much at once as there is room for, up to 32 KB (netlink_dump() in net/netlink/af_netlink.c). */
const ANSWER_BYTES_MAX = 65_536;
/** What is read before others have their turn: 32 KB hold about 260 sockets, which take 0.3 ms. */
const ANSWERS_PER_TURN = 8;
/** More ranges of ports are judged by the caller alone. */
const RANGES_MAX = 256;
const EAGAIN = 11;
const EINTR = 4;
const EBADMSG = 74;
/** An answer is there when its question was sent; another process may hold the lock of the table for a moment. */
const EMPTY_LOOKS_MAX = 1_000;

/** A port condition is an operation and one more word, in which the port is; a jump has no condition. */
const PORT_OP_BYTES = 8;
const JUMP_OP_BYTES = 4;
const RANGE_BYTES = 2 * PORT_OP_BYTES + JUMP_OP_BYTES;

/** Operations of the kernel's filter (`INET_DIAG_BC_*`). */
const Op = { JUMP: 1, LOCAL_AT_LEAST: 2, LOCAL_AT_MOST: 3, REMOTE_AT_LEAST: 4, REMOTE_AT_MOST: 5 } as const;

/** An address as the kernel writes it, one character a byte; one of IPv4 in IPv6 is that of IPv4. */
export function addressKey(address: string): string {
  const plain = unmapV4(address);
  const bytes = parseAddress(plain).family === 4 ? 4 : 16;
  return Buffer.from(
    addressToBigInt(plain)
      .toString(16)
      .padStart(2 * bytes, '0'),
    'hex',
  ).toString('latin1');
}

const MAPPED = `${addressKey('::fffe:0:0').slice(0, 10)}\xff\xff`;

/**
 * The program that lets through what has one of the ports on each side. An operation says how many bytes lie to the next one, `yes` where its
 * condition is met and `no` where not; at the end exactly the socket is let through, 4 bytes behind it not (inet_diag_bc_run() in
 * net/ipv4/inet_diag.c).
 */
function portProgram({ localPorts, remotePorts }: Pick<SocketFilter, 'localPorts' | 'remotePorts'>): Buffer {
  const sides = [
    { ranges: localPorts, atLeast: Op.LOCAL_AT_LEAST, atMost: Op.LOCAL_AT_MOST },
    { ranges: remotePorts, atLeast: Op.REMOTE_AT_LEAST, atMost: Op.REMOTE_AT_MOST },
  ].filter(({ ranges }) => ranges !== null && ranges.length <= RANGES_MAX);
  const bytesOf = (ranges: readonly PortRange[] | null): number => (ranges?.length ?? 0) * RANGE_BYTES;
  const program = Buffer.alloc(sides.reduce((sum, { ranges }) => sum + bytesOf(ranges), 0));
  const rejected = program.length + 4;
  let at = 0;
  const put = (code: number, yes: number, no: number): void => {
    program[at] = code;
    program[at + 1] = yes;
    program.writeUInt16LE(no, at + 2);
    at += 4;
  };
  const putPort = (port: number): void => {
    program.writeUInt16LE(port, at + 2);
    at += 4;
  };
  for (const { ranges, atLeast, atMost } of sides) {
    const sideEnd = at + bytesOf(ranges);
    for (const { from, to } of ranges ?? []) {
      const next = at + RANGE_BYTES;
      const other = next < sideEnd ? next : rejected;
      put(atLeast, PORT_OP_BYTES, other - at);
      putPort(from);
      put(atMost, PORT_OP_BYTES, other - at);
      putPort(to);
      // A condition can say no to a far place only, so what is in the range jumps over the other ranges by one.
      put(Op.JUMP, JUMP_OP_BYTES, sideEnd - at);
    }
  }
  return program;
}

function requestFor(family: number, { states, ...ports }: SocketFilter): Buffer {
  const program = portProgram(ports);
  const attributeBytes = program.length === 0 ? 0 : ATTRIBUTE_HEADER_BYTES + program.length;
  const request = Buffer.alloc(NLMSG_HEADER_BYTES + REQUEST_BYTES + attributeBytes);
  request.writeUInt32LE(request.length, 0);
  request.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  request.writeUInt16LE(NLM_F_REQUEST | NLM_F_DUMP, 6);
  request[NLMSG_HEADER_BYTES] = family;
  request[NLMSG_HEADER_BYTES + 1] = IPPROTO_TCP;
  // Of listeners alone, which are few: 40 bytes more for each.
  if (states.every((state) => state === TcpState.listen))
    request[NLMSG_HEADER_BYTES + 2] = 1 << (INET_DIAG_SKMEMINFO - 1);
  const bits = states.reduce((sum, state) => sum | (1 << state), 0);
  request.writeUInt32LE(bits, NLMSG_HEADER_BYTES + 4);
  if (attributeBytes > 0) {
    const at = NLMSG_HEADER_BYTES + REQUEST_BYTES;
    request.writeUInt16LE(attributeBytes, at);
    request.writeUInt16LE(INET_DIAG_REQ_BYTECODE, at + 2);
    program.copy(request, at + ATTRIBUTE_HEADER_BYTES);
  }
  return request;
}

/** The socket that a message speaks of, where one stands in a buffer. */
class MessageSocket implements SeenSocket {
  readonly #answers: Buffer;
  at = 0;

  constructor(answers: Buffer) {
    this.#answers = answers;
  }

  get state(): number {
    return this.#answers.readUInt8(this.at + Message.STATE);
  }

  get localPort(): number {
    return this.#answers.readUInt16BE(this.at + Message.LOCAL_PORT);
  }

  get remotePort(): number {
    return this.#answers.readUInt16BE(this.at + Message.REMOTE_PORT);
  }

  get localAddress(): string {
    return this.#address(this.at + Message.LOCAL_ADDRESS);
  }

  get remoteAddress(): string {
    return this.#address(this.at + Message.REMOTE_ADDRESS);
  }

  get receiveQueue(): number {
    return this.#answers.readUInt32LE(this.at + Message.RECEIVE_QUEUE);
  }

  get sendQueue(): number {
    return this.#answers.readUInt32LE(this.at + Message.SEND_QUEUE);
  }

  get inode(): number {
    return this.#answers.readUInt32LE(this.at + Message.INODE);
  }

  get drops(): number | null {
    const end = this.at + this.#answers.readUInt32LE(this.at);
    for (let at = this.at + Message.BYTES; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
      const length = this.#answers.readUInt16LE(at);
      const word = at + ATTRIBUTE_HEADER_BYTES + 4 * SK_MEMINFO_DROPS;
      if (length < ATTRIBUTE_HEADER_BYTES) return null;
      if (this.#answers.readUInt16LE(at + 2) === INET_DIAG_SKMEMINFO)
        return word + 4 <= at + length ? this.#answers.readUInt32LE(word) : null;
      at += (length + 3) & ~3;
    }
    return null;
  }

  #address(at: number): string {
    if (this.#answers[this.at + Message.FAMILY] === AF_INET)
      return this.#answers.toString('latin1', at, at + 4);
    const address = this.#answers.toString('latin1', at, at + 16);
    return address.startsWith(MAPPED) ? address.slice(MAPPED.length) : address;
  }
}

/** How one answer ends, where it is no negative errno. */
const Answer = { more: 0, done: 1 } as const;

/** @returns an `Answer`, or -errno */
function takeAnswer(
  answers: Buffer,
  bytes: number,
  socket: MessageSocket,
  onSocket: (socket: SeenSocket) => void,
): number {
  for (let at = 0; at + NLMSG_HEADER_BYTES <= bytes; ) {
    const length = answers.readUInt32LE(at);
    const type = answers.readUInt16LE(at + 4);
    if (length < NLMSG_HEADER_BYTES || at + length > bytes) return -EBADMSG;
    if (type === NLMSG_ERROR || type === NLMSG_DONE) {
      // Both carry an errno; that of the end is below 0 where the kernel could not go on.
      const errno = length < NLMSG_HEADER_BYTES + 4 ? 0 : answers.readInt32LE(at + NLMSG_HEADER_BYTES);
      if (errno < 0) return errno;
      return type === NLMSG_DONE ? Answer.done : -EBADMSG;
    }
    if (type === SOCK_DIAG_BY_FAMILY && length >= Message.BYTES) {
      socket.at = at;
      onSocket(socket);
    }
    at += (length + 3) & ~3;
  }
  return Answer.more;
}

/** @returns 0, or -errno */
async function dumpFamily(
  fd: number,
  request: Buffer,
  onSocket: (socket: SeenSocket) => void,
): Promise<number> {
  const sent = sendRequest(fd, request);
  if (sent !== request.length) return Math.min(sent, -EBADMSG);
  const answers = Buffer.alloc(ANSWER_BYTES_MAX);
  const socket = new MessageSocket(answers);
  for (let looks = 1, empty = 0; empty < EMPTY_LOOKS_MAX; looks++) {
    const bytes = receiveAnswers(fd, answers);
    if (bytes === -EAGAIN || bytes === -EINTR) empty++;
    else if (bytes <= 0) return Math.min(bytes, -EBADMSG);
    else {
      empty = 0;
      const answer = takeAnswer(answers, bytes, socket, onSocket);
      if (answer !== Answer.more) return Math.min(answer, 0);
    }
    if (empty > 0 || looks % ANSWERS_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return -EAGAIN;
}

/** Calls with each TCP socket of this network namespace that passes the filter, of both families; others have their turn in between. */
export const dumpSockets: DumpSockets = async (filter, onSocket) => {
  const fd = openSockDiag();
  if (fd < 0) return false;
  try {
    for (const family of [AF_INET, AF_INET6]) {
      if ((await dumpFamily(fd, requestFor(family, filter), onSocket)) < 0) return false;
    }
    return true;
  } finally {
    closeSockDiag(fd);
  }
};
