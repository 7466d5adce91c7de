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
  /** where in the program it is used (preload.ts) */
  readonly place: string;
  /** the same place in a line */
  readonly name: string;
  /** the first use there is 1 */
  readonly nth: number;
  /** an errno, or what another program does */
  readonly how: string;
  /** every later use of that call fails too, also elsewhere */
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
  /** of each call: how often it was used at which place */
  readonly uses: Readonly<Record<string, Readonly<Record<string, number>>>>;
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

/** So many uses at one place are tried each; of more, which is a loop over connections or turns: the first, the second, one between, the last. */
const EACH_MAX = 4;

/** Which uses at a place are tried. @param count how often it was used there */
export function usesTried(count: number): number[] {
  if (count > EACH_MAX) return [1, 2, Math.ceil(count / 2), count];
  return Array.from({ length: count }, (_, at) => at + 1);
}

/**
 * Functions around a call that see its errno before it is a result or an error of the program: the binding, the part of an engine or the
 * netlink query above it, and who uses that. Beyond them an errno is a name in a text.
 */
const NEAR_FRAMES = 5;

/** Two places that are the same one as far as this says answer each errno alike. */
function nearOf(call: string, place: string): string {
  const frames = place.split(' < ').slice(0, NEAR_FRAMES);
  return `${call} ${frames.map((frame) => frame.slice(frame.indexOf('@') + 1)).join(' ')}`;
}

/** The innermost functions that a place is named by. */
const NAMED_FRAMES = 4;

function nameOf(place: string): string {
  const names = place.split(' < ').map((frame) => frame.slice(0, frame.indexOf('@')).replace(/ \[.*/, ''));
  return names
    .filter((name) => name !== 'top' && !name.includes('<'))
    .map((name) => name.replace(/^.*\./, '').replace('#', ''))
    .slice(0, NAMED_FRAMES)
    .join(' < ');
}

/** What was used where in a run. */
interface Place {
  readonly role: ProcessRole;
  readonly call: string;
  readonly place: string;
  readonly name: string;
  /** the most of any process in that role */
  readonly count: number;
  /** not the only use of that call */
  readonly hasOthers: boolean;
}

function placesOf(used: readonly Uses[]): Place[] {
  const found = new Map<string, Place>();
  const named = new Map<string, number>();
  for (const { role, uses } of used) {
    for (const [call, places] of Object.entries(uses)) {
      for (const [place, count] of Object.entries(places)) {
        const key = `${role} ${call} ${place}`;
        const before = found.get(key);
        const hasOthers = count > 1 || Object.keys(places).length > 1;
        if (before !== undefined) {
          found.set(key, { ...before, count: Math.max(count, before.count) });
          continue;
        }
        const short = nameOf(place);
        const alike = (named.get(`${role} ${call} ${short}`) ?? 0) + 1;
        named.set(`${role} ${call} ${short}`, alike);
        const name = alike > 1 ? `${short} (${alike})` : short;
        found.set(key, { role, call, place, name, count, hasOthers });
      }
    }
  }
  return [...found.values()];
}

/**
 * Every failure that is tried in a run that used this. Each call fails at each place that uses it. Where the functions near the call are
 * those of a place before (the look whether io_uring works is the same in `plan`, in an agent and in `serve`; a place in a later command
 * line is the same as in the first), all errnos were tried there: what is behind them is told of one, and that is tried here too.
 * @param known what `nearOf` said of the places of the runs before; it gets those of this one
 */
export function failuresOf(used: readonly Uses[], known: Set<string>): Failure[] {
  return placesOf(used).flatMap(({ role, call, place, name, count, hasOthers }) => {
    const near = nearOf(call, place);
    const ways = known.has(near) ? waysOf(call).slice(0, 1) : waysOf(call);
    const tried = known.has(near) ? [...new Set([1, count])] : usesTried(count);
    known.add(near);
    return ways.flatMap((how) => {
      const once = tried.map((nth) => ({ role, call, place, name, nth, how, isLasting: false }));
      const first = { role, call, place, name, nth: 1, how, isLasting: true };
      return LASTING.has(how) && hasOthers ? [...once, first] : once;
    });
  });
}

/** One line. */
export function describeFailure({ role, call, name, nth, how, isLasting }: Failure): string {
  return `${call} of the ${role} in ${name}: ${how} at use ${nth}${isLasting ? ' and after' : ''}`;
}
