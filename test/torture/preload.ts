/**
 * Owns one failure within one process of the program: its system calls (all that go through koffi) and the starts of other programs are
 * counted, and the n-th use of one of them fails as the kernel or that program would fail. Loaded before the program by `--import`, so
 * the program has no flag for it. At the end of the process it writes down what was used, and which descriptors are still open.
 * Must never fail anything but what it was told to.
 */
import { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import koffi from 'koffi';
import { type Order, type ProcessRole, TORTURE_VARIABLE, type Uses } from './torture-plan.ts';

const AF_NETLINK = 16;
const F_DUPFD_CLOEXEC = 1030;
/** The three calls of io_uring, as syscall(2) takes them. */
const NUMBERED: Readonly<Record<number, string>> = {
  425: 'io_uring_setup',
  426: 'io_uring_enter',
  427: 'io_uring_register',
};

const order = JSON.parse(process.env[TORTURE_VARIABLE] ?? 'null') as Order | null;

function roleOf(word: string | undefined): ProcessRole {
  if (word === 'holder' || word === 'serve-worker' || word === 'agent') return word;
  return 'cli';
}

const role = roleOf(process.argv[2]);

/** Of several processes in one role one fails: the first one that gets there. */
function isChosen({ folder, failure }: Order): boolean {
  if (failure === null || failure.role !== role) return false;
  try {
    writeFileSync(join(folder, 'chosen'), String(process.pid), { flag: 'wx' });
    return true;
  } catch {
    return false;
  }
}

const failure = order !== null && isChosen(order) ? order.failure : null;
/** of each call its uses, by the place in the program that it comes from */
const uses: Record<string, Record<string, number>> = {};
let hasFailed = false;

/** More than the deepest way to a call has. */
const FRAMES_MAX = 40;
/** How any program is started (host/command.ts, engine/parent-bond.ts): the place is who asks for it. */
const STARTING = /^(?:host\/command|engine\/parent-bond)\.js/;
const FRAME = /^ +at (.*?) ?\(?file:\/\/.*\/(?:dist|bin)\/(.*?)\)?$/;

/** The functions of the program that led here, innermost first: two uses with the same ones are of the same place. */
function placeOf(): string {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = FRAMES_MAX;
  const { stack = '' } = new Error();
  Error.stackTraceLimit = before;
  return stack
    .split('\n')
    .flatMap((line) => {
      const [, name, at] = FRAME.exec(line) ?? [];
      return at === undefined || STARTING.test(at)
        ? []
        : [`${name?.replace(/^(?:async|new) /, '') || 'top'}@${at}`];
    })
    .join(' < ');
}

/** Counts one use, and says whether it is the one to fail. */
function isDue(call: string): boolean {
  if (failure !== null && failure.call !== call) return false;
  if (hasFailed) return failure?.isLasting === true;
  const place = placeOf();
  const places = uses[call] ?? {};
  uses[call] = places;
  const nth = (places[place] ?? 0) + 1;
  places[place] = nth;
  if (failure === null || order === null || failure.place !== place || nth !== failure.nth) return false;
  writeFileSync(join(order.folder, 'failed'), `${role} ${process.pid} ${call} ${nth}`);
  hasFailed = true;
  return true;
}

// ---- system calls ----

/** open descriptors by the call that made them */
const opened = new Map<number, string>();
const netlinkFds = new Set<number>();
/** the address that the last mmap that was to fail has returned */
const MAP_FAILED = -1n;

type Call = ((...args: unknown[]) => unknown) & { async?: (...args: unknown[]) => unknown };

function nameOf(call: string, args: readonly unknown[]): string {
  const [first] = args;
  if (call === 'syscall') return NUMBERED[Number(first)] ?? call;
  if (call === 'socket' && first === AF_NETLINK) return 'netlink-socket';
  if (netlinkFds.has(Number(first)) && (call === 'recv' || call === 'send')) return `netlink-${call}`;
  return call;
}

function keepTrack(call: string, args: readonly unknown[], returned: unknown): void {
  const fd = Number(returned);
  if (call === 'close') {
    opened.delete(Number(args[0]));
    netlinkFds.delete(Number(args[0]));
  } else if (call === 'pipe2' && fd === 0) for (const end of args[0] as Int32Array) opened.set(end, call);
  else if (call === 'fcntl' && args[1] === F_DUPFD_CLOEXEC && fd >= 0) opened.set(fd, call);
  else if (OPENING.has(call) && fd >= 0) opened.set(fd, call);
  if (call === 'netlink-socket' && fd >= 0) netlinkFds.add(fd);
}

const OPENING: ReadonlySet<string> = new Set([
  ...['socket', 'netlink-socket', 'accept4', 'epoll_create1', 'eventfd', 'io_uring_setup'],
]);

function errnoOf(name: string): number {
  const number = (constants.errno as Readonly<Record<string, number>>)[name];
  if (number === undefined) throw new Error(`no errno is called ${name}`);
  return number;
}

function tortured(symbol: string, real: Call): Call {
  const call: Call = (...args) => {
    const name = nameOf(symbol, args);
    if (isDue(name) && failure !== null) {
      errno[0] = errnoOf(failure.how);
      return symbol === 'mmap' ? MAP_FAILED : -1;
    }
    const returned = real(...args);
    keepTrack(name, args, returned);
    return returned;
  };
  call.async = (...args) => {
    const done = args.at(-1) as (error: unknown, returned: number) => void;
    if (isDue(nameOf(symbol, args))) return void setImmediate(done, null, -1);
    return real.async?.(...args);
  };
  return call;
}

/** `int socket(int, int, int)` or the name itself. */
function symbolOf(declaration: string): string {
  return /(\w+)\s*\(/.exec(declaration)?.[1] ?? declaration;
}

const load = koffi.load.bind(koffi);
/** errno of this thread, where the program reads it too */
const errno = new Int32Array(koffi.view(load(null).func('void *__errno_location()')(), 4));
const realAddress = koffi.address.bind(koffi);
Object.assign(koffi, {
  load(...args: Parameters<typeof load>) {
    const library = load(...args);
    const func = library.func.bind(library) as (...all: unknown[]) => Call;
    return { func: (...all: unknown[]) => tortured(symbolOf(String(all[0])), func(...all)) };
  },
  address: (pointer: unknown) => (pointer === MAP_FAILED ? MAP_FAILED : realAddress(pointer)),
});

// ---- other programs ----

interface SpawnOptions {
  file: string;
  args: string[];
}

interface Spawner {
  readonly _handle: { spawn: (options: SpawnOptions) => number };
  spawn(options: SpawnOptions): unknown;
}

/** What another program does in place of the one that was asked for. */
const SCRIPTS: Readonly<Record<string, string>> = {
  'exit code 2': 'echo "RTNETLINK answers: Operation not permitted" >&2; exit 2',
  'exit code 255': 'echo "something went wrong" >&2; exit 255',
  SIGKILL: 'kill -9 $$',
  nonsense: 'echo "}{ what is this"; echo "State 1 2 3"; exit 0',
  'JSON nonsense': `echo '[{"ifname":7,"addr_info":[{"local":[]},null]},null,3]'; exit 0`,
  'empty output': 'exit 0',
  hang: 'exec sleep 1000',
};

/** Failures to start a program after which Node has its pipes. */
const WITH_PIPES: ReadonlySet<string> = new Set(['ENOENT', 'EACCES', 'EAGAIN']);

function programOf({ file, args }: SpawnOptions): string {
  const child = args.find((arg) => arg === 'holder' || arg === 'serve-worker' || arg === 'agent');
  return file === process.execPath && child !== undefined ? `fork ${child}` : `run ${basename(file)}`;
}

const spawner = ChildProcess.prototype as unknown as Spawner;
const realSpawn = spawner.spawn;
spawner.spawn = function spawn(this: Spawner, options: SpawnOptions): unknown {
  if (!isDue(programOf(options)) || failure === null) return realSpawn.call(this, options);
  const script = SCRIPTS[failure.how];
  if (script !== undefined) {
    return realSpawn.call(this, Object.assign(options, { file: '/bin/sh', args: ['sh', '-c', script] }));
  }
  // As libuv answers where fork(2), execve(2) or the pipes of the child fail.
  const code = -errnoOf(failure.how);
  const start = this._handle.spawn.bind(this._handle);
  this._handle.spawn = (started) => {
    // Then libuv has opened the pipes.
    if (WITH_PIPES.has(failure.how)) start(Object.assign(started, { file: '/nonexistent/program' }));
    return code;
  };
  return realSpawn.call(this, options);
};

// ---- what is told ----

process.on('exit', () => {
  if (order === null) return;
  const left: Record<string, number> = {};
  for (const call of opened.values()) left[call] = (left[call] ?? 0) + 1;
  const told: Uses = { role, uses, left };
  try {
    writeFileSync(join(order.folder, `uses-${role}-${process.pid}.json`), JSON.stringify(told));
  } catch {
    // The test has ended, and with it the folder.
  }
});
