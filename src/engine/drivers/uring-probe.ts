/**
 * Owns whether io_uring works here, found out by opening one connection through it on loopback, and the words for why it
 * does not. Must never decide what to do then, and leaves nothing behind.
 */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { counted, formatCount } from '../../base/units.ts';
import * as libc from '../libc.ts';
import { CallError } from './call-error.ts';
import { DriverEvent, OpenStep } from './driver.ts';
import { RingSet, ringsFor } from './ring-set.ts';
import { portOf, SOCKADDR_BYTES_MAX, sockAddr } from './sockaddr.ts';
import { type UringKernel, uringKernel } from './uring-binding.ts';
import { UringDriver } from './uring-driver.ts';
import { OPS } from './uring-requests.ts';
import { Ring, RingError } from './uring-ring.ts';

/** What stands in the way. */
type UringObstacle = 'kernel' | 'sysctl' | 'seccomp' | 'memory' | 'descriptors' | 'other';

/** Why io_uring is not used. */
interface UringRefusal {
  readonly obstacle: UringObstacle;
  /** for a person, to be put after `io_uring: ` */
  readonly text: string;
}

/** The kernel that has all that is needed, and what came with it; see Op in uring-binding.ts. */
const NEEDED = '6.11';
const SINCE: Readonly<Record<string, string>> = {
  SOCKET: '5.19',
  URING_CMD: '5.19',
  FIXED_FD_INSTALL: '6.8',
  BIND: NEEDED,
};
/** Turns that one connection on loopback may take; each waits for at most TURN_MS. */
const TURNS_MAX = 500;
const TURN_MS = 10;

const STEP_NAMES: Readonly<Record<OpenStep, string>> = {
  [OpenStep.socket]: 'socket',
  [OpenStep.option]: 'setsockopt',
  [OpenStep.bind]: 'bind',
  [OpenStep.connect]: 'connect',
  [OpenStep.watch]: 'poll',
};

/** A line of /proc, or null where it cannot be read. */
function readLine(path: string, pattern: RegExp): string | null {
  try {
    return pattern.exec(readFileSync(path, 'utf8'))?.[1] ?? null;
  } catch {
    return null;
  }
}

function tooOld(what: string): UringRefusal {
  return { obstacle: 'kernel', text: `kernel ${release()} is too old: ${what}` };
}

/** linux/capability.h */
const CAP_SYS_ADMIN = 21;

/**
 * Whether kernel.io_uring_disabled = 1 leaves io_uring to this process (io_uring_allowed() in io_uring/io_uring.c): it has
 * CAP_SYS_ADMIN in the first user namespace, or it is in the group.
 */
function isExempt(): boolean {
  const capabilities = readLine('/proc/self/status', /^CapEff:\s*([0-9a-f]+)/m) ?? '0';
  const isFirstNamespace = readLine('/proc/self/uid_map', /^\s*0\s+0\s+(4294967295)$/m) !== null;
  if (isFirstNamespace && (BigInt(`0x${capabilities}`) >> BigInt(CAP_SYS_ADMIN)) % 2n === 1n) return true;
  const group = readLine('/proc/sys/kernel/io_uring_group', /^(\d+)/);
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  return group !== null && groups.includes(Number(group));
}

/**
 * EPERM has three causes, and the kernel does not say which (io_uring_allowed() in io_uring/io_uring.c, seccomp(2)). The sysctl
 * is asked for when a ring is made, and never after.
 */
function notPermitted(step: RingError['step']): UringRefusal {
  const disabled = readLine('/proc/sys/kernel/io_uring_disabled', /^(\d+)/);
  const seccomp = readLine('/proc/self/status', /^Seccomp:\s*(\d+)/m);
  if (step === 'setup' && disabled === '2')
    return { obstacle: 'sysctl', text: 'not permitted (kernel.io_uring_disabled is 2)' };
  if (step === 'setup' && disabled === '1' && !isExempt())
    return {
      obstacle: 'sysctl',
      text: 'not permitted (kernel.io_uring_disabled is 1: only with CAP_SYS_ADMIN or in kernel.io_uring_group)',
    };
  if (seccomp === '2')
    return {
      obstacle: 'seccomp',
      text: 'not permitted (seccomp: the container runtime or the service manager filters it)',
    };
  return { obstacle: 'other', text: 'not permitted (a security module of this host refuses it)' };
}

function setupRefused(errno: number): UringRefusal {
  if (errno === libc.Errno.ENOSYS) {
    const isFiltered = readLine('/proc/self/status', /^Seccomp:\s*(\d+)/m) === '2';
    return isFiltered
      ? { obstacle: 'seccomp', text: 'the system call is missing (seccomp hides it, or the kernel has none)' }
      : tooOld('it has no io_uring, or was built without it');
  }
  if (errno === libc.Errno.EINVAL) return tooOld(`io_uring needs ${NEEDED}`);
  return noRoom(errno);
}

function noRoom(errno: number): UringRefusal {
  if (errno === libc.Errno.ENOMEM) {
    const limit = readLine('/proc/self/limits', /^Max locked memory\s+(\S+)/m) ?? 'unknown';
    return {
      obstacle: 'memory',
      text: `no memory for the rings (ulimit -l: ${limit} bytes may be locked, over all processes of this user)`,
    };
  }
  if (errno === libc.Errno.EMFILE || errno === libc.Errno.ENFILE)
    return { obstacle: 'descriptors', text: 'no descriptor is left for the ring (ulimit -n, fs.file-max)' };
  return { obstacle: 'other', text: `refused with errno ${errno}` };
}

/** The words for a ring that could not be made, or not be used: a filter may let one of the three system calls pass. */
export function refusalOf(error: RingError): UringRefusal {
  const { EPERM, EACCES, ENOSYS } = libc.Errno;
  if (error.errno === EPERM || error.errno === EACCES) return notPermitted(error.step);
  if (error.step === 'setup' || error.errno === ENOSYS) return setupRefused(error.errno);
  if (error.step === 'features') return tooOld(`io_uring needs ${NEEDED}`);
  if (error.step === 'probe') return tooOld('it does not say what its io_uring can do');
  return noRoom(error.errno);
}

/** What of io_uring this kernel lacks, or null. @throws RingError */
function lacking(kernel: UringKernel): UringRefusal | null {
  const ring = new Ring(kernel, { submissions: 8, completions: 16, files: 1, eventFd: -1 });
  try {
    const names = Object.keys(OPS);
    const unknown = ring.unknownOps(Object.values(OPS));
    const missing = names.filter((name) => unknown.includes(OPS[name]!));
    if (missing.length === 0) return null;
    return tooOld(
      `its io_uring lacks ${missing.map((name) => `${name} (${SINCE[name] ?? NEEDED})`).join(', ')}`,
    );
  } finally {
    ring.end();
  }
}

/** What stands in the way is not io_uring itself. */
function untried({ message, errno }: CallError): UringRefusal {
  const { obstacle } = noRoom(errno);
  return { obstacle, text: `it could not be tried: ${message}` };
}

/** A listener on a free port of 127.0.0.1: descriptor and port. @throws CallError when loopback does not work */
function listen(): { readonly fd: number; readonly port: number } {
  const fd = libc.tcpSocket(libc.AF_INET);
  const any = sockAddr('127.0.0.1', 0);
  const bytes = new Uint8Array(SOCKADDR_BYTES_MAX);
  const length = new Int32Array([SOCKADDR_BYTES_MAX]);
  const code = [
    () => fd,
    () => libc.bind(fd, any.bytes, any.length),
    () => libc.listen(fd, 1),
    () => libc.getsockname(fd, bytes, length),
  ].reduce((before, step) => (before < 0 ? before : step()), 0);
  if (code >= 0) return { fd, port: portOf(bytes) };
  if (fd >= 0) libc.close(fd);
  throw new CallError('a listener on loopback', -code);
}

/** Connects, and is reported of the FIN of the far side; null when all went well. */
function tryConnection(kernel: UringKernel): UringRefusal | null {
  const listener = listen();
  let driver: UringDriver | null = null;
  let far = -1;
  try {
    const sources = [sockAddr('127.0.0.1', 0)];
    const endpoints = [sockAddr('127.0.0.1', listener.port)];
    driver = new UringDriver({ capacity: 1, sources, endpoints }, { kernel });
    // Port 0: any free one. This is the one connection that need not come from a given port.
    driver.open(0, 0, 0, 0);
    for (let turns = 0; turns < TURNS_MAX; turns++) {
      driver.turn(TURN_MS);
      for (let event = driver.next(); event !== DriverEvent.none; event = driver.next()) {
        if (event === DriverEvent.failed) {
          const text = `a connection on loopback failed in ${STEP_NAMES[driver.step]} with errno ${driver.value}`;
          return { obstacle: 'other', text };
        }
        if (event === DriverEvent.connected) {
          far = libc.accept(listener.fd, new Uint8Array(SOCKADDR_BYTES_MAX), new Int32Array([28]));
          libc.close(far);
        }
        if (event === DriverEvent.ended) return null;
      }
    }
    return { obstacle: 'other', text: 'a connection on loopback was never answered' };
  } finally {
    driver?.end();
    libc.close(listener.fd);
  }
}

/** Makes the rings that so many connections need: memory is locked for each. @throws RingError */
function tryRings(kernel: UringKernel, connections: number): UringRefusal | null {
  const options = ringsFor(connections);
  try {
    new RingSet(kernel, options).end();
    return null;
  } catch (error) {
    if (!(error instanceof RingError && error.errno === libc.Errno.EMFILE)) throw error;
    const rings = Math.ceil(options.indices / options.filesPerRingMax);
    const each = `${formatCount(options.filesPerRingMax)} each`;
    return {
      obstacle: 'descriptors',
      text: `${formatCount(connections)} connections need ${counted(rings, 'ring')} of ${each}, and a ring takes a descriptor (ulimit -n)`,
    };
  }
}

/**
 * Tries io_uring for real: one connection, and the rings of all.
 * @param options how many connections are to be held, 1 where nothing is said; another kernel for tests
 * @returns null when it works
 */
export function probeUring(
  options: { readonly connections?: number; readonly kernel?: UringKernel } = {},
): UringRefusal | null {
  const { connections = 1, kernel = uringKernel } = options;
  try {
    const refusal = lacking(kernel) ?? tryConnection(kernel);
    return refusal ?? tryRings(kernel, connections);
  } catch (error) {
    if (error instanceof RingError) return refusalOf(error);
    if (error instanceof CallError) return untried(error);
    throw error;
  }
}
