/**
 * Owns one host's part in a run: the conversation with the coordinator, the lease, the holders.
 * Must never own a target socket, so that a busy holder never looks like a dead agent.
 */
import assert from 'node:assert/strict';
import { cpus, hostname, release, totalmem } from 'node:os';
import type { Channel } from '../control/channel.ts';
import { connectChannel } from '../control/client.ts';
import {
  type AgentMessage,
  type CoordinatorMessage,
  type CoordinatorMessageOf,
  PROTOCOL_VERSION,
} from '../control/message.ts';
import type { Token } from '../control/token.ts';
import type { Clock } from '../core/clock.ts';
import { ExitCode } from '../core/errors.ts';
import type { Finding } from '../core/finding.ts';
import type { KernelCount } from '../core/report.ts';
import type { RunSpec } from '../core/run-spec.ts';
import { emptyStats, type Stats } from '../core/stats.ts';
import { countEstablished } from '../host/kernel-count.ts';
import { HolderPool } from './holder-pool.ts';
import { holderSpecs, type Preparation, prepareHost } from './preparation.ts';

const STATS_EVERY_MS = 1_000;
const LEASE_CHECK_MS = 250;
/** Closing 20,000 sockets takes a holder well under a second; the rest is for a loaded machine. */
const CLOSE_TIMEOUT_MS = 20_000;
const FRESH_REPORT_MS = 3_000;
/** More sources than this are told only in the final message, because stats go out every second. */
const SOURCES_EACH_SECOND_MAX = 1_024;

export interface AgentOptions {
  readonly host: string;
  readonly port: number;
  readonly token: Token;
  readonly name: string;
  /** the script that holders are forked from */
  readonly entryPath: string;
  readonly clock: Clock;
  /** one line for a person, to stderr */
  readonly onNote: (line: string) => void;
}

type AgentPhase = 'waiting' | 'offering' | 'preparing' | 'standing-by' | 'running' | 'closing' | 'over';

/** One agent in one run. */
class Agent {
  readonly #options: AgentOptions;
  readonly #over: Promise<ExitCode>;
  #finish: (code: ExitCode) => void = () => {};
  #channel: Channel<AgentMessage> | null = null;
  #phase: AgentPhase = 'waiting';
  #spec: RunSpec | null = null;
  #preparation: Preparation | null = null;
  #pool: HolderPool | null = null;
  #kernel: KernelCount[] = [];
  #notes: string[] = [];
  #counting: Promise<void> = Promise.resolve();
  #statsTimer: NodeJS.Timeout | null = null;
  #leaseTimer: NodeJS.Timeout | null = null;
  #lastContactMs: number;
  #leaseMs = Number.POSITIVE_INFINITY;
  #quietMs = Number.POSITIVE_INFINITY;
  #quiet = false;
  #wasSettled = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#lastContactMs = options.clock.monotonicMs();
    this.#over = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  /** Joins, serves one run, and resolves with the exit code. */
  async run(): Promise<ExitCode> {
    const { host, port, token, name } = this.#options;
    this.#channel = await connectChannel(host, port, token, {
      onMessage: (message) => this.#take(message),
      onClose: () => void this.#abandon('the coordinator is gone'),
    });
    this.#leaseTimer = setInterval(() => this.#checkLease(), LEASE_CHECK_MS);
    this.#send({
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      name,
      host: {
        hostname: hostname(),
        cpus: cpus().length,
        memoryBytes: totalmem(),
        kernel: release(),
        node: process.version,
      },
    });
    const code = await this.#over;
    if (this.#leaseTimer !== null) clearInterval(this.#leaseTimer);
    if (this.#statsTimer !== null) clearInterval(this.#statsTimer);
    this.#channel.close();
    return code;
  }

  /** Ends everything now: the parent or the user asks for it. */
  abandon(why: string): Promise<void> {
    return this.#abandon(why);
  }

  #send(message: AgentMessage): void {
    this.#channel?.send(message);
  }

  #take(message: CoordinatorMessage): void {
    this.#lastContactMs = this.#options.clock.monotonicMs();
    // A rejected promise here is a bug of ours: it must end the process, and Node does that for us.
    switch (message.type) {
      case 'spec':
        void this.#offer(message);
        break;
      case 'quota':
        void this.#prepare(message);
        break;
      case 'start':
        this.#start();
        break;
      case 'renew':
        break;
      case 'stop-opening':
        this.#pool?.stopOpening();
        break;
      case 'hold':
        this.#pool?.hold();
        this.#counting = this.#countKernel('ramp-end');
        break;
      case 'stop':
        void this.#stop();
        break;
    }
  }

  async #offer(message: CoordinatorMessageOf<'spec'>): Promise<void> {
    if (this.#phase !== 'waiting') return;
    this.#phase = 'offering';
    this.#leaseMs = message.leaseMs;
    this.#quietMs = message.quietMs;
    this.#spec = message.spec as RunSpec;
    const prepared = await prepareHost(this.#spec, this.#spec.connections);
    if (!('plan' in prepared)) {
      this.#refuse(prepared);
      return;
    }
    this.#preparation = prepared;
    this.#send({
      type: 'offer',
      connectionsMax: prepared.plan.capacityMax,
      boundBy: prepared.plan.boundBy,
      findings: [...prepared.plan.findings],
      sources: [...prepared.plan.addresses],
      notes: [...prepared.notes],
    });
  }

  #refuse(findings: readonly Finding[]): void {
    this.#send({ type: 'refuse', findings: [...findings] });
  }

  async #prepare(quota: CoordinatorMessageOf<'quota'>): Promise<void> {
    if (this.#phase !== 'offering' || this.#spec === null) return;
    this.#phase = 'preparing';
    const whole = quota.connections === this.#spec.connections ? this.#preparation : null;
    // The offer was planned for the whole; a smaller quota may need fewer addresses and holders.
    const prepared = whole ?? (await prepareHost(this.#spec, quota.connections));
    if (!('plan' in prepared)) {
      this.#refuse(prepared);
      return;
    }
    const refusals = prepared.plan.findings.filter((finding) => finding.severity === 'refuse');
    if (refusals.length > 0) {
      this.#refuse(refusals);
      return;
    }
    this.#preparation = prepared;
    if (quota.connections > 0) {
      this.#pool = new HolderPool({
        entryPath: this.#options.entryPath,
        specs: holderSpecs(this.#options.name, this.#spec, prepared.plan, quota),
        onChange: () => this.#changed(),
        onLoss: (note) => this.#notes.push(note),
      });
      if (!(await this.#pool.ready())) {
        await this.#abandon(this.#notes.at(-1) ?? 'the holders did not start');
        return;
      }
    }
    this.#phase = 'standing-by';
    this.#send({
      type: 'ready',
      sources: [...prepared.plan.addresses],
      holders: prepared.plan.holders,
      findings: [...prepared.plan.findings],
      notes: [...prepared.notes],
    });
  }

  #start(): void {
    if (this.#phase !== 'standing-by') return;
    this.#phase = 'running';
    this.#pool?.start();
    this.#statsTimer = setInterval(() => this.#report(), STATS_EVERY_MS);
    if (this.#pool === null) this.#report();
  }

  /** Tells at once when the holders settle, so that the barrier into the hold phase is not a second late. */
  #changed(): void {
    if (this.#phase !== 'running' || this.#pool === null) return;
    const settled = this.#pool.settled;
    if (settled !== this.#wasSettled) this.#report();
    this.#wasSettled = settled;
  }

  #report(): void {
    const stats = this.#pool?.stats() ?? emptyStats();
    this.#send({
      type: 'stats',
      stats: this.#trimmed(stats),
      holders: this.#pool?.health() ?? [],
      settled: this.#pool?.settled ?? true,
      kernel: [...this.#kernel],
    });
  }

  /** Leaves out the long tables that only the final message carries. */
  #trimmed(stats: Stats): WireStats {
    const sources = Object.keys(stats.openBySource).length;
    const endpoints = Object.keys(stats.openByEndpoint).length;
    return toWire({
      ...stats,
      openBySource: sources > SOURCES_EACH_SECOND_MAX ? {} : stats.openBySource,
      openByEndpoint: endpoints > SOURCES_EACH_SECOND_MAX ? {} : stats.openByEndpoint,
    });
  }

  /** Asks the kernel, with our own books read right after it. */
  async #countKernel(when: KernelCount['when']): Promise<void> {
    const [pool, preparation, spec] = [this.#pool, this.#preparation, this.#spec];
    if (pool === null || preparation === null || spec === null) return;
    const { plan } = preparation;
    const counted = await countEstablished({
      sources: plan.addresses,
      ports: plan.ports,
      endpoints: spec.endpoints,
    });
    await pool.freshReport(FRESH_REPORT_MS);
    this.#kernel.push({
      agent: this.#options.name,
      when,
      established: counted.established,
      open: pool.stats().open,
      method: counted.method,
    });
  }

  /** The orderly end: count, close, tell, leave. */
  async #stop(): Promise<void> {
    if (this.#phase === 'closing' || this.#phase === 'over') return;
    const wasRunning = this.#phase === 'running';
    this.#phase = 'closing';
    this.#pool?.stopOpening();
    await this.#counting;
    if (wasRunning) await this.#countKernel('hold-end');
    // Read before closing: afterwards nothing is open by source, and every descriptor is spare.
    const atEnd = this.#pool?.stats() ?? emptyStats();
    const healthAtEnd = this.#pool?.health() ?? [];
    await this.#pool?.stop(CLOSE_TIMEOUT_MS);
    const closed = this.#pool?.stats() ?? emptyStats();
    this.#send({
      type: 'done',
      stats: toWire({ ...atEnd, closed: closed.closed, bytesIn: closed.bytesIn, bytesOut: closed.bytesOut }),
      holders: healthAtEnd,
      kernel: [...this.#kernel],
      notes: [...this.#notes],
    });
    this.#end(ExitCode.held);
  }

  /** The disorderly end: nobody is left to report to, or we must go. */
  async #abandon(why: string): Promise<void> {
    if (this.#phase === 'over') return;
    if (this.#phase === 'closing') {
      this.#pool?.kill();
      this.#end(ExitCode.incomplete);
      return;
    }
    this.#phase = 'closing';
    this.#options.onNote(`agent ${this.#options.name}: ${why}; closing everything`);
    this.#pool?.kill();
    this.#end(ExitCode.incomplete);
  }

  #end(code: ExitCode): void {
    this.#phase = 'over';
    this.#finish(code);
  }

  /** The lease, by our own monotonic clock: stop opening when it is quiet, close everything when it is over. */
  #checkLease(): void {
    const silentMs = this.#options.clock.monotonicMs() - this.#lastContactMs;
    if (silentMs > this.#leaseMs) {
      void this.#abandon(`no contact for ${Math.round(silentMs / 1000)} s`);
      return;
    }
    if (silentMs > this.#quietMs && !this.#quiet) {
      this.#quiet = true;
      this.#pool?.stopOpening();
    }
  }
}

type WireStats = Extract<AgentMessage, { type: 'stats' }>['stats'];

/** Stats as the schema types them: plain mutable records; the values are the same. */
function toWire(stats: Stats): WireStats {
  return stats as unknown as WireStats;
}

/**
 * Joins a coordinator and serves one run.
 *
 * Ends by itself when the run is over, when the coordinator is gone, or when the parent that forked it is gone.
 * @returns the exit code of the process: 0 after an orderly end, 4 otherwise
 * @throws BenchError (control-channel, exit 4) when it cannot join
 */
export async function runAgent(options: AgentOptions): Promise<ExitCode> {
  assert(options.name.length > 0, 'an agent has a name');
  const agent = new Agent(options);
  // The local agent is forked by the CLI: when that dies, the pipe closes within milliseconds.
  process.on('disconnect', () => void agent.abandon('the process that started this agent is gone'));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => void agent.abandon(`got ${signal}`));
  }
  return agent.run();
}
