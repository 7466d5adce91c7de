/**
 * Owns the built-in target as a whole: its workers from fork to end, the sum of what they count, and whether this host has room
 * for it beside a run. Must never
 * print (cli/) and never own a socket (a worker's target does).
 */
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { availableParallelism, constants, freemem } from 'node:os';
import pLimit from 'p-limit';
import { isLinkLocal } from '../base/address.ts';
import { type Clock, formatSeconds } from '../base/clock.ts';
import { isZone } from '../base/endpoint.ts';
import { BenchError, ErrorCode, ExitCode, type Finding, usageError } from '../base/errors.ts';
import { counted, formatCount } from '../base/units.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { readSysctl, readTaskRoom, readText } from '../host/proc-file.ts';
import { memoryFree } from '../plan/capacity.ts';
import { processesFinding } from '../plan/cost.ts';
import type { EngineAsked, EngineChoice, RunSpec } from '../run/run-spec.ts';
import { prepareHost } from '../sources/preparation.ts';
import {
  addTotals,
  type LatestCounts,
  mergeSources,
  type ServeCounts,
  type ServeMode,
  ZERO_TOTALS,
} from './serve-counts.ts';
import { chooseServeEngine } from './serve-engine.ts';
import { WORKERS_MAX, workersFor, workersRefusal } from './worker-count.ts';
import { type Listening, type WorkerEvents, WorkerHandle } from './worker-handle.ts';

interface ServeOptions {
  /** IP literal of this host, IPv4 or IPv6, a link-local one with its zone; default `127.0.0.1` */
  readonly host?: string;
  /** 0 to 65,535; 0 takes a free one; default 0 */
  readonly port?: number;
  /** default `hold` */
  readonly mode?: ServeMode;
  /** 1 to 256; null (default): as many as `connectionsMax` needs */
  readonly workers?: number | null;
  /** how sockets are driven; default `auto`: io_uring where it works */
  readonly engine?: EngineAsked;
  /** how many connections it must be able to hold; default 130,000 */
  readonly connectionsMax?: number;
  /** default 65,535; the kernel cuts it to net.core.somaxconn */
  readonly backlog?: number;
  /** the script to fork; with the argument `serve-worker` it must call `runServeWorker` (worker.ts) */
  readonly entryPath: string;
  readonly clock: Clock;
  /** called with what a person should know, one line each: a lost worker, descriptors used up */
  readonly onNotice?: (line: string) => void;
  /** gets what workers write to stderr, line by line; absent or null: they write to ours */
  readonly onChildLine?: ((line: string) => void) | null;
  /** ends the start: no further worker is forked, those that are there end, and `serveTarget` throws */
  readonly signal?: AbortSignal;
}

/** A target that listens. */
export interface ServeHandle {
  readonly address: string;
  readonly port: number;
  readonly mode: ServeMode;
  readonly engine: EngineChoice;
  /** process ids of the workers that live now */
  pids(): number[];
  /** what they said last, asking none */
  latest(): LatestCounts;
  /** asks every worker */
  counts(): Promise<ServeCounts>;
  /** closes everything and ends every worker; `openNow` is what was open at that moment. Once or more often. */
  stop(): Promise<ServeCounts>;
  /** resolves when no worker is left, whether stopped or lost */
  readonly ended: Promise<void>;
}

const DEFAULT_HOST = '127.0.0.1';
const CONNECTIONS_MAX_DEFAULT = 130_000;
const BACKLOG_DEFAULT = 65_535;
/** Lines about one worker's silence. */
const NOTICES_MAX = 4;
const ROOTS = { procRoot: '/proc', sysRoot: '/sys' } as const;
/** What a process gets where /proc does not say (getrlimit(2): the usual soft limit). */
const DESCRIPTORS_UNKNOWN = 1_024;

type NotListening = Exclude<Listening, { type: 'listening' }>;

/** Settled options. */
type Plan = Required<Omit<ServeOptions, 'workers' | 'onNotice' | 'signal' | 'engine'>> & {
  readonly engine: EngineChoice;
  readonly workers: number;
  readonly signal: AbortSignal | null;
  readonly onNotice: (line: string) => void;
};

/**
 * Starts the built-in target and returns once every worker listens.
 * @throws BenchError `serve-failed` (exit 3) when it cannot listen there, with what to type instead;
 *   `preflight-refused` (exit 3) when this host cannot have so many workers, before any is forked;
 *   `bad-address`, `bad-ports` or `bad-number` (exit 2) for options out of range
 */
export async function serveTarget(options: ServeOptions): Promise<ServeHandle> {
  const target = new Target(planOf(options));
  await target.start();
  return target;
}

/** One line for a person once it listens: `listening on 127.0.0.1:8000 (hold, 8 workers)`. */
export function formatListening(handle: ServeHandle): string {
  const count = handle.pids().length;
  const workers = `${formatCount(count)} ${count === 1 ? 'worker' : 'workers'}`;
  return `listening on ${endpointText(handle.address, handle.port)} (${handle.mode}, ${workers})`;
}

function endpointText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** @throws BenchError `bad-address` where no listener can be */
function checkHost(host: string): void {
  const [literal = '', zone] = host.split('%');
  if (isLinkLocal(literal.toLowerCase()) && (zone === undefined || !isZone(zone))) {
    throw usageError(
      ErrorCode.badAddress,
      `cannot listen on "${host}": a link-local address needs a zone, the device of its link`,
      `type --host ${literal}%eth0 with a device of this host (\`ip -br link\` lists them), or --host ::`,
    );
  }
  if (isIP(host) === 0 || (zone !== undefined && !isLinkLocal(literal.toLowerCase()))) {
    throw usageError(
      ErrorCode.badAddress,
      `cannot listen on "${host}": it is no IP address`,
      'give an address of this host, such as --host 127.0.0.1, --host 0.0.0.0 or --host ::1',
    );
  }
}

function planOf(options: ServeOptions): Plan {
  const host = options.host ?? DEFAULT_HOST;
  const port = options.port ?? 0;
  const connectionsMax = options.connectionsMax ?? CONNECTIONS_MAX_DEFAULT;
  const asked = options.workers ?? null;
  checkHost(host);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw usageError(
      ErrorCode.badPorts,
      `${port} is no port`,
      'give --port 8000, or --port 0 for a free one',
    );
  }
  if (asked !== null && (!Number.isInteger(asked) || asked < 1 || asked > WORKERS_MAX)) {
    throw usageError(
      ErrorCode.badNumber,
      `--workers must be 1 to ${formatCount(WORKERS_MAX)}, not ${asked}`,
      'leave --workers out: there will be as many as the descriptors ask for',
    );
  }
  assert(
    Number.isInteger(connectionsMax) && connectionsMax >= 1,
    'connectionsMax must be a positive integer',
  );
  const engine = chooseServeEngine(options.engine ?? 'auto');
  const room = {
    descriptorsPerProcess: descriptorsPerProcess(),
    cores: availableParallelism(),
    engine: engine.name,
    memoryFreeBytes: freemem(),
    nrOpen: readSysctl('/proc', 'fs/nr_open'),
    isOfRun: false,
  };
  const workers = asked ?? workersFor(connectionsMax, room.descriptorsPerProcess, room.cores, engine.name);
  const tasks = processesFinding(workers, counted(workers, 'worker'), readTaskRoom(ROOTS));
  const refusal = workersRefusal(connectionsMax, asked, room) ?? (tasks.severity === 'refuse' ? tasks : null);
  if (refusal !== null) {
    throw new BenchError(
      ErrorCode.preflightRefused,
      ExitCode.refused,
      refusal.message,
      refusal.fix ?? 'c100k-bench plan shows what this host has',
    );
  }
  return {
    host,
    port,
    mode: options.mode ?? 'hold',
    workers,
    engine,
    signal: options.signal ?? null,
    connectionsMax,
    backlog: options.backlog ?? BACKLOG_DEFAULT,
    entryPath: options.entryPath,
    clock: options.clock,
    onNotice: options.onNotice ?? (() => {}),
    onChildLine: options.onChildLine ?? null,
  };
}

/** RLIMIT_NOFILE of a forked worker: the hard limit, because Node raises its soft limit to that at its start. */
function descriptorsPerProcess(): number {
  const hard = /^Max open files\s+\S+\s+(\d+)/m.exec(readText('/proc', 'self/limits') ?? '')?.[1];
  return hard === undefined ? DESCRIPTORS_UNKNOWN : Number(hard);
}

class Target implements ServeHandle {
  readonly ended: Promise<void>;
  readonly #plan: Plan;
  readonly #workers: WorkerHandle[] = [];
  #port = 0;
  #openMax = 0;
  #workersLost = 0;
  #isServing = false;
  /** what became of the first worker that could not start: no further one is begun */
  #failed: NotListening | null = null;
  #servingSinceMs = 0;
  #stopped: Promise<ServeCounts> | undefined;
  readonly #saidFull = new Set<WorkerHandle>();
  readonly #notices = new Map<WorkerHandle, number>();
  #resolveEnded: () => void = () => {};
  readonly #events: WorkerEvents = {
    totals: (worker) => this.#counted(worker),
    stoodStill: (worker, forMs) => this.#notice(worker, `stood still for ${formatSeconds(forMs)}`),
    silent: (worker, forMs) =>
      this.#notice(
        worker,
        `did not answer within ${forMs / 1_000} s: what it counted is as old as its last message`,
      ),
    ended: (worker, wasAsked) => this.#gone(worker, wasAsked),
  };

  constructor(plan: Plan) {
    this.#plan = plan;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  get address(): string {
    return this.#plan.host;
  }

  get port(): number {
    return this.#port;
  }

  get mode(): ServeMode {
    return this.#plan.mode;
  }

  get engine(): EngineChoice {
    return this.#plan.engine;
  }

  latest(): LatestCounts {
    const workers = this.#workers.map(({ totals }) => totals);
    return { total: workers.reduce(addTotals, ZERO_TOTALS), workers };
  }

  pids(): number[] {
    return this.#workers.filter((worker) => worker.isAlive).map((worker) => worker.pid);
  }

  /** A few processes load at a time; the first one chooses the port, then the others share it. */
  async start(): Promise<void> {
    const { workers, signal } = this.#plan;
    const giveUp = (): void => void this.#endAll();
    signal?.addEventListener('abort', giveUp, { once: true });
    const atOnce = pLimit(Math.max(2, availableParallelism()));
    const first = atOnce(() => this.#startWorker(0, Promise.resolve(null)));
    const others = Array.from({ length: workers - 1 }, (_, index) =>
      atOnce(() => this.#startWorker(index + 1, first)),
    );
    const results = await Promise.all([first, ...others]);
    signal?.removeEventListener('abort', giveUp);
    const bad = this.#failed ?? results.find((result) => result.type !== 'listening');
    if (bad !== undefined) {
      await this.#endAll();
      throw this.#listenError(bad);
    }
    this.#isServing = true;
    this.#servingSinceMs = this.#plan.clock.monotonicMs();
  }

  /** Forks one worker and makes it listen; not when the start is given up, or the first one could not. */
  async #startWorker(index: number, first: Promise<Listening | null>): Promise<Listening> {
    // The second one loads while the first one chooses.
    const before = index > 1 ? await first : null;
    if (before !== null && before.type !== 'listening') return before;
    if (this.#plan.signal?.aborted === true) return { type: 'lost', how: 'the start was given up' };
    if (this.#failed !== null) return this.#failed;
    const worker = new WorkerHandle(
      this.#plan.entryPath,
      index,
      this.#plan.clock,
      this.#events,
      this.#plan.onChildLine,
    );
    this.#workers.push(worker);
    const chosen = await first;
    if (chosen !== null && chosen.type !== 'listening') return chosen;
    const listening = await this.#listen(worker, chosen?.port ?? this.#plan.port, index === 0);
    if (index === 0 && listening.type === 'listening') this.#port = listening.port;
    if (listening.type !== 'listening') this.#failed ??= named(listening, worker);
    return listening;
  }

  #listen(worker: WorkerHandle, port: number, alone: boolean): Promise<Listening> {
    const { host, mode, backlog, engine } = this.#plan;
    return worker.listen({ type: 'listen', host, port, mode, backlog, engine: engine.name, alone });
  }

  #counted(worker: WorkerHandle): void {
    this.#sample();
    if (worker.totals.descriptorsFull === 0 || this.#saidFull.has(worker)) return;
    this.#saidFull.add(worker);
    const open = formatCount(worker.totals.openNow);
    this.#plan.onNotice(
      `${nameOf(worker)} has no descriptor or memory left with ${open} connections open: ` +
        'it accepts again when one closes (more workers hold more: --workers)',
    );
  }

  /** A worker that is stopped again and again must not fill a report. */
  #notice(worker: WorkerHandle, what: string): void {
    const said = (this.#notices.get(worker) ?? 0) + 1;
    this.#notices.set(worker, said);
    if (said <= NOTICES_MAX) this.#plan.onNotice(`${nameOf(worker)} ${what}`);
  }

  #gone(worker: WorkerHandle, wasAsked: boolean): void {
    if (!wasAsked && this.#isServing) {
      this.#workersLost++;
      this.#plan.onNotice(
        `${nameOf(worker)} ${worker.how}: its connections are gone; ` +
          `${this.pids().length} of ${this.#workers.length} workers go on`,
      );
    }
    if (this.pids().length === 0) this.#resolveEnded();
  }

  #sample(): void {
    let open = 0;
    for (const worker of this.#workers) open += worker.totals.openNow;
    this.#openMax = Math.max(this.#openMax, open);
  }

  async counts(): Promise<ServeCounts> {
    if (this.#stopped !== undefined) return this.#stopped;
    await Promise.all(this.#workers.map((worker) => worker.count()));
    return this.#sum(this.pids().length);
  }

  stop(): Promise<ServeCounts> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<ServeCounts> {
    const workers = this.pids().length;
    await this.#endAll();
    return this.#sum(workers);
  }

  async #endAll(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  #sum(workers: number): ServeCounts {
    this.#sample();
    return {
      ...this.#workers.map((worker) => worker.totals).reduce(addTotals, ZERO_TOTALS),
      openMax: this.#openMax,
      ...mergeSources(this.#workers.map((worker) => worker.sources)),
      workers,
      workersLost: this.#workersLost,
      engine: this.#plan.engine.name,
      servedMs: Math.round(this.#plan.clock.monotonicMs() - this.#servingSinceMs),
    };
  }

  #listenError(bad: NotListening): BenchError {
    const { host, port } = this.#plan;
    const where = endpointText(host, port);
    const failed = (message: string, hint: string): BenchError =>
      new BenchError(ErrorCode.serveFailed, ExitCode.refused, message, hint);
    if (bad.type === 'lost') {
      return failed(
        `cannot listen on ${where}: ${bad.how}`,
        'try again; if it stays so, look for the worker error above',
      );
    }
    switch (bad.errno) {
      case constants.errno.EADDRINUSE:
        return failed(
          `cannot listen on ${where}: the port is in use`,
          `type --port 0 for a free port, or see who listens: ss -Hltnp sport = :${port}`,
        );
      case constants.errno.EADDRNOTAVAIL:
        return failed(
          `cannot listen on ${where}: ${host} is not an address of this host`,
          'see which addresses it has: ip -br addr',
        );
      case constants.errno.EACCES:
        return failed(
          `cannot listen on ${where}: ports below net.ipv4.ip_unprivileged_port_start need a privilege`,
          'take a port from 1024 upward, such as --port 8000',
        );
      default:
        return failed(
          `cannot listen on ${where}: ${bad.call} failed with ${errnoName(bad.errno)}`,
          'check the address family and the limits of this host: ulimit -n, ip -br addr',
        );
    }
  }
}

function nameOf(worker: WorkerHandle): string {
  return `worker ${worker.index + 1} (pid ${worker.pid})`;
}

/** With the name of who was lost. */
function named(bad: NotListening, worker: WorkerHandle): NotListening {
  return bad.type === 'lost' ? { ...bad, how: `${nameOf(worker)} ${bad.how}` } : bad;
}

function errnoName(errno: number): string {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
}

/** Exactly this address: the generator's loopback sources begin at 127.0.0.2, so no port of theirs can clash. */
const SELF_ADDRESS = '127.0.0.1';

interface SelfTargetOptions {
  /** how many connections the run will open, at least 1 */
  readonly connections: number;
  /** `echo` when the run's protocol needs answers */
  readonly mode: ServeMode;
  /** what the run was asked to use; default `auto` */
  readonly engine?: EngineAsked;
  /** the script to fork; with the argument `serve-worker` it must call `runServeWorker` (worker.ts) */
  readonly entryPath: string;
  readonly clock: Clock;
  /** called with what a person should know, one line each: a lost worker, descriptors used up */
  readonly onNotice?: (line: string) => void;
  /** gets what workers write to stderr, line by line; absent or null: they write to ours */
  readonly onChildLine?: ((line: string) => void) | null;
  /** ends the start */
  readonly signal?: AbortSignal;
}

/**
 * Starts the built-in target for one run; returns once it listens.
 * @throws BenchError `serve-failed`, exit 3
 */
export function startSelfTarget(options: SelfTargetOptions): Promise<ServeHandle> {
  const { connections, ...rest } = options;
  return serveTarget({ ...rest, host: SELF_ADDRESS, port: 0, workers: null, connectionsMax: connections });
}

/**
 * Why the built-in target cannot be for so many connections on this host; empty: it can.
 * @param connections what it must be able to hold
 * @param holders processes that hold the other ends
 */
export function selfFindings(connections: number, holders: number, facts: HostFacts): readonly Finding[] {
  // It was tried unless the run may not use it.
  const engine = facts.uringRefusal === null ? 'uring' : 'epoll';
  const refusal = workersRefusal(connections, null, {
    descriptorsPerProcess: facts.nofileHard ?? DESCRIPTORS_UNKNOWN,
    cores: facts.cpus,
    memoryFreeBytes: memoryFree(facts),
    nrOpen: facts.nrOpen,
    engine,
    isOfRun: true,
  });
  if (refusal !== null) return [refusal];
  const workers = workersFor(connections, facts.nofileHard ?? DESCRIPTORS_UNKNOWN, facts.cpus, engine);
  const tasks = processesFinding(
    workers + holders,
    `${counted(workers, 'worker')} of the target and ${counted(holders, 'holder')}, each`,
    facts.tasks,
  );
  return tasks.severity === 'refuse' ? [tasks] : [];
}

/**
 * Everything that refuses a run whose target is the built-in one.
 * @param spec its endpoint may have any port: the target is not there yet
 * @returns empty when the run may start
 */
export async function selfRefusals(spec: RunSpec): Promise<readonly Finding[]> {
  const prepared = await prepareHost(spec, spec.connections);
  const findings =
    'plan' in prepared
      ? [
          ...prepared.plan.findings,
          ...selfFindings(spec.connections, prepared.plan.holders, prepared.found.facts),
        ]
      : prepared;
  return findings.filter((finding) => finding.severity === 'refuse');
}
