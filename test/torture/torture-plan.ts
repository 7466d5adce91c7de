/**
 * Owns what may fail: which errno the kernel gives for which system call, how another program may fail, and which uses of each are
 * tried. Must never start anything (torture-run.ts).
 */

/** The environment variable by which a process knows what is to fail in it. */
export const TORTURE_VARIABLE = 'TEST_TORTURE';

/** Which process of the program. */
export type ProcessRole = 'cli' | 'agent' | 'holder' | 'serve-worker';

/** One failure. */
export interface Failure {
  readonly role: ProcessRole;
  /** a system call, `run ip`, or `fork holder` */
  readonly call: string;
  /** its first use is 1 */
  readonly nth: number;
  /** an errno, or what another program does */
  readonly how: string;
  /** every later use fails too */
  readonly isLasting: boolean;
}

/** What the processes of one run are told. */
export interface Order {
  /** where they write what they did */
  readonly folder: string;
  /** null: they only count */
  readonly failure: Failure | null;
}

/** What one process tells at its end. */
export interface Uses {
  readonly role: ProcessRole;
  readonly uses: Readonly<Record<string, number>>;
  /** descriptors that were not closed, by the call that made them */
  readonly left: Readonly<Record<string, number>>;
}

const NO_DESCRIPTORS = ['EMFILE', 'ENFILE'] as const;

/**
 * What the manual pages and the sources of Linux say of each call, as this program uses it. close(2), munmap(2) and getrlimit(2) do not
 * fail for what they are given; recv(2) and send(2) of TCP answer a lack of memory with EAGAIN, and then with an event, which cannot be made here.
 * connect(2) of TCP has no EAGAIN: it is what a queue that is full makes of a UNIX socket, and what the routing cache did that Linux had until 3.6.
 */
const ERRNOS: Readonly<Record<string, readonly string[]>> = {
  socket: [...NO_DESCRIPTORS, 'ENOBUFS', 'ENOMEM', 'EACCES'],
  bind: ['EADDRINUSE', 'EADDRNOTAVAIL', 'EACCES', 'ENOMEM'],
  connect: ['EADDRNOTAVAIL', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'EPERM', 'ENOBUFS'],
  listen: ['EADDRINUSE'],
  accept4: [...NO_DESCRIPTORS, 'ENOBUFS', 'ENOMEM', 'ECONNABORTED', 'EAGAIN', 'EINTR', 'EPERM'],
  shutdown: ['ENOTCONN'],
  recv: ['ECONNRESET', 'ETIMEDOUT', 'EHOSTUNREACH'],
  recvmsg: ['EAGAIN', 'ENOMEM'],
  send: ['ECONNRESET', 'EPIPE'],
  setsockopt: ['ENOMEM', 'ENOBUFS', 'EPERM'],
  getsockopt: ['ENOBUFS', 'EPERM'],
  getsockname: ['ENOBUFS'],
  getpeername: ['ENOTCONN', 'ENOBUFS'],
  epoll_create1: [...NO_DESCRIPTORS, 'ENOMEM'],
  epoll_ctl: ['ENOSPC', 'ENOMEM'],
  epoll_wait: ['EINTR'],
  eventfd: [...NO_DESCRIPTORS, 'ENOMEM'],
  write: ['EAGAIN'],
  read: ['EAGAIN'],
  fcntl: ['EMFILE', 'EINVAL', 'ENOMEM', 'EPERM'],
  pipe2: [...NO_DESCRIPTORS],
  prctl: ['EPERM', 'EINVAL'],
  mmap: ['ENOMEM', 'EAGAIN', 'EPERM'],
  io_uring_setup: [...NO_DESCRIPTORS, 'ENOMEM', 'EPERM', 'ENOSYS', 'EINVAL'],
  io_uring_register: ['EMFILE', 'ENOMEM', 'EINVAL', 'EPERM'],
  io_uring_enter: ['EINTR', 'EAGAIN', 'EBUSY', 'ENOMEM'],
  'netlink-socket': [...NO_DESCRIPTORS, 'ENOBUFS', 'EPROTONOSUPPORT', 'EPERM'],
  'netlink-send': ['ENOBUFS', 'ECONNREFUSED', 'EPERM', 'EAGAIN'],
  'netlink-recv': ['ENOBUFS', 'EAGAIN', 'EINTR'],
};

/** What lasts: the others are of one moment. */
const LASTING: ReadonlySet<string> = new Set([
  ...[
    'EMFILE',
    'ENFILE',
    'ENOMEM',
    'ENOBUFS',
    'ENOSPC',
    'EPERM',
    'EACCES',
    'ENOSYS',
    'ENOENT',
    'EADDRNOTAVAIL',
  ],
  ...['EPROTONOSUPPORT', 'exit code 2', 'hang', 'nonsense'],
]);

const PROGRAM_FAILURES: readonly string[] = [
  ...['ENOENT', 'EACCES', 'EAGAIN', 'EMFILE', 'ENOMEM'],
  ...['exit code 2', 'exit code 255', 'SIGKILL', 'nonsense', 'JSON nonsense', 'empty output', 'hang'],
];
const FORK_FAILURES: readonly string[] = ['EAGAIN', 'EMFILE', 'ENFILE', 'ENOMEM', 'exit code 2', 'SIGKILL'];

/** How a call or a program may fail; nothing: it does not. */
export function waysOf(call: string): readonly string[] {
  if (call.startsWith('run ')) return PROGRAM_FAILURES;
  if (call.startsWith('fork ')) return FORK_FAILURES;
  return ERRNOS[call] ?? [];
}

/** Errors of this host alone: for none of them may the target or the path be named. */
export const OWN_ERRORS: ReadonlySet<string> = new Set([
  ...['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'ENOSPC', 'EADDRINUSE', 'EADDRNOTAVAIL', 'EAGAIN', 'EINTR'],
]);

/** All uses up to this one are tried, and of more: so many spread over all, and the last ones. */
const EACH_MAX = 8;

/** Which uses of a call are tried. @param count how often it was used */
export function usesTried(count: number): number[] {
  const tried = new Set<number>();
  for (let nth = 1; nth <= Math.min(count, EACH_MAX); nth += 1) tried.add(nth);
  for (let nth = EACH_MAX; nth < count; nth = Math.ceil(nth * 1.7)) tried.add(nth);
  for (let nth = Math.max(1, count - 1); nth <= count; nth += 1) tried.add(nth);
  return [...tried];
}

/** Every failure that is tried in a run that used this. */
export function failuresOf(used: readonly Uses[]): Failure[] {
  const most = new Map<string, { role: ProcessRole; call: string; count: number }>();
  for (const { role, uses } of used) {
    for (const [call, count] of Object.entries(uses)) {
      const key = `${role} ${call}`;
      if (count > (most.get(key)?.count ?? 0)) most.set(key, { role, call, count });
    }
  }
  return [...most.values()].flatMap(({ role, call, count }) =>
    waysOf(call).flatMap((how) =>
      usesTried(count).flatMap((nth) => {
        const once = { role, call, nth, how, isLasting: false };
        return LASTING.has(how) && nth < count ? [once, { ...once, isLasting: true }] : [once];
      }),
    ),
  );
}

/** One line. */
export function describeFailure({ role, call, nth, how, isLasting }: Failure): string {
  return `${call} of the ${role}: ${how} at use ${nth}${isLasting ? ' and after' : ''}`;
}
