/**
 * Owns the system calls of io_uring and the numbers that they are spoken in, from include/uapi/linux/io_uring.h of Linux
 * 6.18 where nothing else is said. All are the same on x64 and arm64: the header has fixed-size fields only, both are
 * little-endian (libc.ts refuses others), and the three calls have one number on every architecture.
 * Must never decide or throw for a failed call: like libc.ts it returns what the kernel returned, or -errno.
 */
import koffi from 'koffi';
import { result } from '../libc.ts';

/** include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl */
const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_ENTER = 426;
const SYS_IO_URING_REGISTER = 427;

/** include/uapi/asm-generic/mman-common.h */
const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;

/** IORING_SETUP_*, with the kernel that brought each. */
export const Setup = {
  /** 5.5 */
  CQSIZE: 1 << 3,
  /** 5.18: goes on with the next request after one that cannot be begun */
  SUBMIT_ALL: 1 << 7,
  /** 5.19: IORING_SQ_TASKRUN says that enter() has work */
  TASKRUN_FLAG: 1 << 9,
  /** 6.0: one thread submits */
  SINGLE_ISSUER: 1 << 12,
  /** 6.1: completions are made inside our own enter() */
  DEFER_TASKRUN: 1 << 13,
  /** 6.6: no array of indices beside the entries */
  NO_SQARRAY: 1 << 16,
} as const;

/** struct io_uring_params: 120 bytes; fields that are used. */
export const Params = {
  BYTES: 120,
  SQ_ENTRIES: 0,
  CQ_ENTRIES: 4,
  FLAGS: 8,
  FEATURES: 20,
  /** struct io_sqring_offsets */
  SQ_HEAD: 40,
  SQ_TAIL: 44,
  SQ_MASK: 48,
  SQ_FLAGS: 56,
  SQ_ARRAY: 64,
  /** struct io_cqring_offsets */
  CQ_HEAD: 80,
  CQ_TAIL: 84,
  CQ_MASK: 88,
  CQ_OVERFLOW: 96,
  CQ_CQES: 100,
} as const;

/** IORING_FEAT_*: 5.4, 5.5, 5.11 */
export const Feature = { SINGLE_MMAP: 1 << 0, NODROP: 1 << 1, EXT_ARG: 1 << 8 } as const;

/** IORING_OFF_SQ_RING (also the completions, with IORING_FEAT_SINGLE_MMAP) and IORING_OFF_SQES */
export const OFF_RINGS = 0;
export const OFF_SQES = 0x1000_0000;

/** Bits of sq_ring->flags: IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN */
export const SQ_CQ_OVERFLOW = 1 << 1;
export const SQ_TASKRUN = 1 << 2;

/** struct io_uring_sqe: 64 bytes, as 16 words of 32 bits. */
export const Sqe = {
  WORDS: 16,
  /** opcode (8 bits), flags (8), ioprio (16) */
  HEAD: 0,
  FD: 1,
  /** off, addr2; the low half is cmd_op for URING_CMD */
  OFF: 2,
  OFF_HIGH: 3,
  /** addr; level and optname for setsockopt */
  ADDR: 4,
  ADDR_HIGH: 5,
  LEN: 6,
  /** msg_flags, poll32_events, install_fd_flags, ... */
  OP_FLAGS: 7,
  USER_LOW: 8,
  USER_HIGH: 9,
  /** file_index; optlen for setsockopt */
  FILE_INDEX: 11,
  /** addr3; optval for setsockopt */
  ADDR3: 12,
  ADDR3_HIGH: 13,
} as const;

/** struct io_uring_cqe: 16 bytes, as words of 32 bits. */
export const Cqe = { WORDS: 4, USER_LOW: 0, USER_HIGH: 1, RES: 2, FLAGS: 3 } as const;
/** IORING_CQE_F_MORE: the request goes on */
export const CQE_MORE = 1 << 1;

/** enum io_uring_op, with the kernel that brought each. */
export const Op = {
  /** 5.1 */
  NOP: 0,
  POLL_ADD: 6,
  /** 5.5; many with one request, and into direct descriptors, 5.19 */
  ACCEPT: 13,
  ASYNC_CANCEL: 14,
  CONNECT: 16,
  /** 5.6; with a file index 5.15 */
  CLOSE: 19,
  SEND: 26,
  RECV: 27,
  /** 5.19 */
  SOCKET: 45,
  /** 5.19; for setsockopt 6.7 */
  URING_CMD: 46,
  /** 6.8 */
  FIXED_FD_INSTALL: 54,
  /** 6.11 */
  BIND: 56,
} as const;

/** IOSQE_*, moved to where they stand in the first word of an entry. */
export const SqeFlag = {
  FIXED_FILE: (1 << 0) << 8,
  /** the next request begins when this one has succeeded */
  LINK: (1 << 2) << 8,
  /** 5.17: no completion for a success; for a failure, none of the rest of the chain */
  SKIP_SUCCESS: (1 << 6) << 8,
} as const;

/** SOCKET_URING_OP_GETSOCKOPT (6.7; of SOL_SOCKET alone), SOCKET_URING_OP_SETSOCKOPT */
export const CMD_GETSOCKOPT = 2;
export const CMD_SETSOCKOPT = 3;
/** IORING_ACCEPT_MULTISHOT, in the `ioprio` of ACCEPT, which is the upper half of the first word of an entry */
export const ACCEPT_MULTISHOT = (1 << 0) << 16;
/** IORING_FILE_INDEX_ALLOC: the kernel chooses the place, and the result names it */
export const FILE_INDEX_ALLOC = -1;
/** IORING_POLL_ADD_MULTI, in the `len` of POLL_ADD */
export const POLL_MULTISHOT = 1 << 0;

const ENTER_GETEVENTS = 1 << 0;
const ENTER_EXT_ARG = 1 << 3;
/** struct io_uring_getevents_arg: sigmask 0, sigmask_sz 8, min_wait_usec 12, ts 16; then our own struct __kernel_timespec */
const WAIT_ARG_BYTES = 24;
const WAIT_ARG_TS = 16;
/** One page: nothing less can be mapped. */
const WAIT_MEMORY_BYTES = 4_096;

/** IORING_REGISTER_* */
const REGISTER_EVENTFD = 4;
const REGISTER_PROBE = 8;
const REGISTER_FILES2 = 13;
/** struct io_uring_rsrc_register: nr 0, flags 4, ...; IORING_RSRC_REGISTER_SPARSE is flag bit 0 */
const RSRC_REGISTER_BYTES = 32;
const RSRC_REGISTER_SPARSE = 1;
/** struct io_uring_probe: last_op 0, ops_len 1, ops from 16; struct io_uring_probe_op: 8 bytes, flags at 2 */
const PROBE_HEAD_BYTES = 16;
const PROBE_OP_BYTES = 8;
const PROBE_OP_FLAGS = 2;
const PROBE_OPS = 256;
const PROBE_OP_SUPPORTED = 1;

/** include/uapi/linux/fcntl.h, asm-generic/fcntl.h */
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

// load(null) looks symbols up in the process itself, so glibc and musl both work.
const library = koffi.load(null);
const calls = {
  mmap: library.func('void *mmap(void *, size_t, int, int, int, long)'),
  munmap: library.func('int munmap(intptr_t, size_t)'),
  // syscall(2) is variadic; both ABIs pass its arguments like those of a function with fixed ones.
  setup: library.func('syscall', 'long', ['long', 'long', 'void *']),
  register: library.func('syscall', 'long', ['long', 'long', 'long', 'void *', 'long']),
  enter: library.func('syscall', 'long', ['long', 'long', 'long', 'long', 'long', 'intptr_t', 'long']),
  fcntl: library.func('int fcntl(int, int, int)'),
  close: library.func('int close(int)'),
};

/** Memory that the kernel reads and writes too. */
export interface MappedMemory {
  /** where it begins for the kernel; a user address is below 2^56 on both architectures, most often below 2^47 */
  readonly address: number;
  readonly buffer: ArrayBuffer;
}

/** The kernel, as far as io_uring needs it. Tests have another one. */
export interface UringKernel {
  /** io_uring_setup(2): the ring's descriptor, or -errno. `params` as in Params. */
  setup(entries: number, params: Uint8Array): number;
  /** The ring's memory at OFF_RINGS or OFF_SQES, or with `fd` -1 fresh zeros. @returns memory, or -errno */
  map(bytes: number, fd: number, offset: number): MappedMemory | number;
  /** Gives memory back: its buffer must not be touched any more. */
  unmap(memory: MappedMemory): void;
  /** A table of `files` empty direct descriptors: 0, or -errno (EMFILE: more than RLIMIT_NOFILE). */
  registerFiles(fd: number, files: number): number;
  /** `eventFd` is written to whenever completions, or work for enter(), come to a ring that had none: 0, or -errno. */
  registerEventFd(fd: number, eventFd: number): number;
  /** Whether the kernel knows each of these Op: 1 or 0, in the same order; or -errno. */
  probe(fd: number, ops: readonly number[]): number[] | number;
  /**
   * io_uring_enter(2): submits, makes completions, and waits for `completionsMin` for at most `waitMs`.
   * @returns entries submitted, or -errno, at the first call also that of the memory that it needs
   */
  enter(fd: number, submit: number, completionsMin: number, waitMs: number): number;
  /** fcntl(2): a descriptor becomes non-blocking. 0, or -errno. */
  setNonBlocking(fd: number): number;
  close(fd: number): void;
}

function mapMemory(bytes: number, fd: number, offset: number): MappedMemory | number {
  const flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
  const pointer = calls.mmap(null, bytes, PROT_READ_WRITE, flags, fd, offset);
  // MAP_FAILED is all ones, an address that no mapping has.
  const address = BigInt.asIntN(64, koffi.address(pointer));
  if (address === -1n) return result(-1);
  return { address: Number(address), buffer: koffi.view(pointer, bytes) };
}

/** struct io_uring_getevents_arg with its timespec behind it; mapped once, because enter() takes its address. */
class WaitArgument {
  readonly address: number;
  readonly #seconds: BigInt64Array;
  #waitMs = -1;

  /** @param memory of one page or more */
  constructor(memory: MappedMemory) {
    this.address = memory.address;
    new BigInt64Array(memory.buffer)[WAIT_ARG_TS / 8] = BigInt(memory.address + WAIT_ARG_BYTES);
    this.#seconds = new BigInt64Array(memory.buffer, WAIT_ARG_BYTES, 2);
  }

  /** @param waitMs 0 or more; BigInt allocates, so the last value is kept */
  set(waitMs: number): void {
    if (waitMs === this.#waitMs) return;
    this.#waitMs = waitMs;
    this.#seconds[0] = BigInt(Math.floor(waitMs / 1_000));
    this.#seconds[1] = BigInt(Math.floor((waitMs % 1_000) * 1e6));
  }
}

let waitArgument: WaitArgument | null = null;

/** The kernel that this process runs on. */
export const uringKernel: UringKernel = {
  setup(entries, params) {
    return result(Number(calls.setup(SYS_IO_URING_SETUP, entries, params)));
  },
  map: mapMemory,
  unmap(memory) {
    calls.munmap(memory.address, memory.buffer.byteLength);
  },
  registerFiles(fd, files) {
    const argument = new Uint8Array(RSRC_REGISTER_BYTES);
    const view = new DataView(argument.buffer);
    view.setUint32(0, files, true);
    view.setUint32(4, RSRC_REGISTER_SPARSE, true);
    return result(
      Number(calls.register(SYS_IO_URING_REGISTER, fd, REGISTER_FILES2, argument, RSRC_REGISTER_BYTES)),
    );
  },
  registerEventFd(fd, eventFd) {
    const argument = new Int32Array([eventFd]);
    return result(Number(calls.register(SYS_IO_URING_REGISTER, fd, REGISTER_EVENTFD, argument, 1)));
  },
  probe(fd, ops) {
    const argument = new Uint8Array(PROBE_HEAD_BYTES + PROBE_OPS * PROBE_OP_BYTES);
    const code = result(
      Number(calls.register(SYS_IO_URING_REGISTER, fd, REGISTER_PROBE, argument, PROBE_OPS)),
    );
    if (code < 0) return code;
    const flagsAt = (op: number): number => PROBE_HEAD_BYTES + op * PROBE_OP_BYTES + PROBE_OP_FLAGS;
    return ops.map((op) => argument[flagsAt(op)]! & PROBE_OP_SUPPORTED);
  },
  enter(fd, submit, completionsMin, waitMs) {
    if (waitArgument === null) {
      const memory = mapMemory(WAIT_MEMORY_BYTES, -1, 0);
      if (typeof memory === 'number') return memory;
      waitArgument = new WaitArgument(memory);
    }
    waitArgument.set(waitMs);
    const flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
    return result(
      Number(
        calls.enter(
          SYS_IO_URING_ENTER,
          fd,
          submit,
          completionsMin,
          flags,
          waitArgument.address,
          WAIT_ARG_BYTES,
        ),
      ),
    );
  },
  setNonBlocking(fd) {
    return result(calls.fcntl(fd, F_SETFL, O_NONBLOCK));
  },
  close(fd) {
    calls.close(fd);
  },
};
