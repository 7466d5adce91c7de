/**
 * Owns many simulated agents in one process: real sockets, real TLS-PSK, real messages, no holders and no target.
 * Forked by coordinator-scale.ts; the key comes over the environment. Must never answer faster than a real agent would
 * have to: each says what it has once a second, at its own moment within the second.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel } from '../../src/control/channel.ts';
import { connectChannel } from '../../src/control/client.ts';
import { type AgentMessage, type CoordinatorMessage, PROTOCOL_VERSION } from '../../src/control/message.ts';
import { parseToken } from '../../src/control/token.ts';
import type { Evidence } from '../../src/stats/evidence.ts';
import { LatencyRecorder, mergeHistograms } from '../../src/stats/histogram.ts';
import type { PlaceTable } from '../../src/stats/place-outcomes.ts';
import {
  emptyStats,
  newHolderHealth,
  type Stats,
  type StatsDelta,
  statsDelta,
} from '../../src/stats/stats.ts';
import { systemClock } from '../../src/time/timer.ts';
import { hostMonotonicMs } from './host-time.ts';

/** What the parent asks for, as JSON in the first argument. */
export interface AgentsOrder {
  readonly port: number;
  /** numbers of the agents, `from` included, `to` not */
  readonly from: number;
  readonly to: number;
  /** what each agent offers */
  readonly capacity: number;
  readonly holders: number;
  /** whether connections prove themselves, so that one histogram changes each second */
  readonly isProbing: boolean;
  /** between two reports of one agent, milliseconds: a real one says it each 1,000 */
  readonly reportEveryMs: number;
}

/** What the parent is told at the end. */
export interface AgentsNews {
  readonly type: 'agents';
  readonly done: number;
  readonly joinRetries: number;
  /** the coordinator closed a channel before the agent was done, by what it said */
  readonly cutOff: readonly string[];
  readonly fullBytes: number;
  readonly statsBytes: number;
}

const CONNECT_TIMEOUT_MS = 60_000;
const RETRY_EVERY_MS = 500;
const JOIN_TRIES_MAX = 120;

type StatsMessage = Extract<AgentMessage, { type: 'stats' }>;

/** Stats as the schema types them; the values are the same. */
function toWire(stats: Stats | StatsDelta): StatsMessage['stats'] {
  return stats as unknown as StatsMessage['stats'];
}

/** Latencies as a loopback ramp shows them: most near the median, a long tail. The same for every run. */
function typicalLatencies(count: number, seed: number): readonly number[] {
  const recorder = new LatencyRecorder();
  let state = seed * 2_654_435_761 + 1;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 1) / 4_294_967_297;
  };
  for (let index = 0; index < count; index++) {
    const normal = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
    recorder.record(4_000 * Math.exp(0.7 * normal));
  }
  return recorder.sparse();
}

/** The same for all agents of this process: made once, because each takes a logarithm a latency. */
let probeSeconds: ProbeSeconds | null = null;

/** A connection proves itself once in so many seconds. */
const PROBE_EVERY_SEC = 10;

/** Latencies of the probes that one agent counts in one second, for so many seconds. */
class ProbeSeconds {
  readonly #seconds: readonly (readonly number[])[];

  constructor(perSecond: number, seconds: number) {
    this.#seconds = Array.from({ length: seconds }, (_, each) =>
      typicalLatencies(perSecond, 1_000_003 + each),
    );
  }

  at(second: number): readonly number[] {
    return this.#seconds[second % this.#seconds.length] ?? [];
  }
}

/** What a diagnosis rests on, as an agent says it of a ramp in which every connect was answered. */
function quietEvidence(source: string, quota: number): Evidence {
  const place: PlaceTable[string] = { asked: quota, established: quota, failed: {}, dropped: {} };
  const none = { histogram: [], leastMs: 0, mostMs: 0 };
  const check = { asked: 0, answered: 0, reset: 0, silent: 0 };
  return {
    connectsAt: { folds: 3, counts: { established: spread(quota, 100), answeredNo: [], silent: [] } },
    lossesAt: { folds: 0, counts: { fin: [], rst: [], silent: [], other: [] } },
    lossAgeMs: { fin: none, rst: none },
    lossSilenceMs: { fin: none, rst: none },
    byEndpoint: { '127.0.0.1:9': place },
    bySourceOutcome: { [source]: place },
    byPortBlock: { asked: spread(quota, 48), established: spread(quota, 48), answeredNo: [], silent: [] },
    gapsBetweenFailures: [],
    said: { texts: [], other: 0 },
    notSent: 0,
    notAcknowledged: 0,
    acknowledged: 0,
    lostUnanswered: { fin: 0, rst: 0 },
    finalCheck: { rampEnd: check, holdEnd: check },
  };
}

function spread(total: number, into: number): number[] {
  return Array.from({ length: into }, () => Math.ceil(total / into));
}

class SimulatedAgent {
  readonly #order: AgentsOrder;
  readonly #number: number;
  readonly #onEnd: (problem: string | null) => void;
  #channel: Channel<AgentMessage> | null = null;
  #epoch = 0;
  #takesGrowth = false;
  #quota = 0;
  #isDone = false;
  #timer: NodeJS.Timeout | null = null;
  #stats: Stats = emptyStats();
  #told: Stats | null = null;
  #isPrepared = false;
  /** of probing */
  #second = 0;
  #holders: StatsMessage['holders'] = [];
  joinRetries = 0;
  /** of the first stats message after everything is open, and of one in which no histogram has changed */
  fullBytes = 0;
  statsBytes = 0;

  constructor(order: AgentsOrder, number: number, onEnd: (problem: string | null) => void) {
    this.#order = order;
    this.#number = number;
    this.#onEnd = onEnd;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** As a real agent does: tries again until it is in. */
  async join(): Promise<void> {
    const token = parseToken(process.env.C100K_TOKEN ?? '');
    for (let tries = 0; ; tries++) {
      try {
        this.#channel = await connectChannel(
          '127.0.0.1',
          this.#order.port,
          token,
          { onMessage: (message) => this.#take(message), onClose: (problem) => this.#closed(problem) },
          CONNECT_TIMEOUT_MS,
          systemClock,
        );
        break;
      } catch (error) {
        if (tries >= JOIN_TRIES_MAX) throw error;
        this.joinRetries++;
        await sleep(RETRY_EVERY_MS);
      }
    }
    this.#channel.send({
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      name: `host-${this.#number}`,
      host: { hostname: `host-${this.#number}`, cpus: 2, memoryBytes: 2 ** 34, kernel: '6.1', node: 'v20' },
      resume: null,
    });
  }

  #take(message: CoordinatorMessage): void {
    switch (message.type) {
      case 'spec':
        this.#epoch = message.epoch;
        this.#takesGrowth = message.takesGrowth === true;
        this.#say({
          type: 'offer',
          connectionsMax: this.#order.capacity,
          boundBy: 'descriptors',
          findings: [],
          sources: [this.#address],
          notes: [],
        });
        this.#timer = setTimeout(
          () => this.#everySecond(),
          (this.#number * 7_919) % this.#order.reportEveryMs,
        );
        break;
      case 'quota':
        this.#quota = message.connections;
        this.#prepare();
        this.#say({
          type: 'ready',
          sources: [this.#address],
          holders: this.#order.holders,
          findings: [],
          notes: [],
        });
        break;
      case 'stop':
        this.#stop();
        break;
      default:
        break;
    }
  }

  get #address(): string {
    return `10.${(this.#number >> 16) & 255}.${(this.#number >> 8) & 255}.${this.#number & 255}`;
  }

  /** Everything is open from the first report on: what a report costs does not depend on that. */
  #prepare(): void {
    const quota = this.#quota;
    this.#isPrepared = true;
    this.#stats = {
      ...emptyStats(),
      attempted: quota,
      established: quota,
      open: quota,
      openAtHold: quota,
      openMin: quota,
      connectUs: typicalLatencies(quota, this.#number),
      connectFromIntendedUs: typicalLatencies(quota, this.#number + 1),
      openBySource: { [this.#address]: quota },
      openByEndpoint: { '127.0.0.1:9': quota },
      evidence: quietEvidence(this.#address, quota),
    };
    if (this.#order.isProbing)
      this.#stats = { ...this.#stats, probeUs: typicalLatencies(quota, this.#number + 2) };
    this.#holders = Array.from({ length: this.#order.holders }, (_, index) => ({
      ...newHolderHealth(`host-${this.#number}/${index}`, 1_000 + index, 2 * quota),
      cpuUserMs: 1_234.5,
      cpuSystemMs: 2_345.6,
      residentBytes: 50_000_000,
      loopLagMsMax: 12.5,
      descriptorsUsed: quota,
      descriptorsMax: 20_000,
      tuplesUsed: quota,
    }));
  }

  #everySecond(): void {
    this.#report();
    this.#timer = setInterval(() => this.#report(), this.#order.reportEveryMs);
  }

  #report(): void {
    if (this.#channel === null) return;
    if (this.#order.isProbing) this.#probe();
    const stats = this.#stats;
    const message: AgentMessage = {
      type: 'stats',
      epoch: this.#epoch,
      sentAtMs: systemClock.monotonicMs(),
      quota: this.#quota,
      stats: toWire({ ...statsDelta(stats, this.#told, this.#takesGrowth), rampMs: hostMonotonicMs() }),
      holders: this.#holders,
      settled: this.#isPrepared,
      kernel: [],
    };
    this.#told = stats;
    if (this.#isPrepared && this.fullBytes === 0) {
      this.fullBytes = JSON.stringify(message).length;
      this.statsBytes = JSON.stringify({ ...message, stats: statsDelta(stats, stats) }).length;
    }
    this.#say(message);
  }

  /** As connections that prove themselves do: a part of them in each second, and each at a latency of its own. */
  #probe(): void {
    if (!this.#isPrepared) return;
    const quota = this.#quota;
    const answered = Math.ceil(quota / PROBE_EVERY_SEC);
    probeSeconds ??= new ProbeSeconds(answered, 64);
    const { probeUs, probesSent, probesAnswered, bytesIn, bytesOut } = this.#stats;
    this.#second += 1;
    this.#stats = {
      ...this.#stats,
      verified: quota,
      probesSent: probesSent + answered,
      probesAnswered: probesAnswered + answered,
      bytesIn: bytesIn + 16 * answered,
      bytesOut: bytesOut + 16 * answered,
      probeUs: mergeHistograms(probeUs, probeSeconds.at(this.#number + this.#second)),
    };
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#isDone = true;
    const message: AgentMessage = {
      type: 'done',
      epoch: this.#epoch,
      stats: toWire({ ...this.#stats, closed: this.#stats.open }),
      holders: this.#holders,
      kernel: [],
      evidence: null,
      notes: [],
    };
    this.#say(message);
  }

  #say(message: AgentMessage): void {
    this.#channel?.send(message);
  }

  #closed(problem: string | null): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#channel = null;
    if (this.#epoch === 0 && this.joinRetries < JOIN_TRIES_MAX) {
      // Cut before it was in: as a real agent does, it tries again.
      this.joinRetries++;
      void sleep(RETRY_EVERY_MS).then(() => this.join());
      return;
    }
    this.#onEnd(this.#isDone ? null : (problem ?? 'closed'));
  }
}

async function main(): Promise<void> {
  const order = JSON.parse(process.argv[2] ?? '{}') as AgentsOrder;
  const cutOff: string[] = [];
  const agents: SimulatedAgent[] = [];
  const ends: Promise<void>[] = [];
  for (let number = order.from; number < order.to; number++) {
    ends.push(
      new Promise((resolve) => {
        const agent = new SimulatedAgent(order, number, (problem) => {
          if (problem !== null) cutOff.push(problem);
          resolve();
        });
        agents.push(agent);
      }),
    );
  }
  // All at once, as the pods of a Job do.
  await Promise.all(agents.map((agent) => agent.join()));
  await Promise.all(ends);
  const news: AgentsNews = {
    type: 'agents',
    done: agents.filter((agent) => agent.isDone).length,
    joinRetries: agents.reduce((sum, agent) => sum + agent.joinRetries, 0),
    cutOff,
    fullBytes: agents[0]?.fullBytes ?? 0,
    statsBytes: agents[0]?.statsBytes ?? 0,
  };
  process.send?.(news);
  process.disconnect();
}

await main();
