/**
 * Owns what must hold at every moment of a simulated run, and when it is over: each check is made as the thing happens, against
 * the truth of the world. Must never ask the program whether it kept a promise.
 */
import type { AgentMessageOf } from '../../src/control/message.ts';
import type { RecordedMessage } from '../../src/coordinator/run-settings.ts';
import type { RunReport } from '../../src/judge/report.ts';
import type { LeaseTimes } from '../../src/run/lease.ts';
import type { SimHolder } from './sim-holder.ts';
import type { SimHost, World, WorldWatch } from './world.ts';

/** What only grows within an epoch. */
const GROWING = ['established', 'closed', 'reopened', 'reopenFailed'] as const;

/** One agent in one epoch, as its messages show it. */
interface Share {
  readonly agent: string;
  quota: number;
  heardMs: number;
  isOver: boolean;
  /** connects in flight when it reported last */
  pending: number;
  counted: Map<string, number>;
}

const FROM_AGENT: ReadonlySet<string> = new Set([
  'hello',
  'offer',
  'ready',
  'refuse',
  'stats',
  'done',
  'losses',
]);

function sum(counts: Readonly<Record<string, number | undefined>>): number {
  let total = 0;
  for (const count of Object.values(counts)) total += count ?? 0;
  return total;
}

/** Judges one run while it goes on. */
export class Invariants implements WorldWatch {
  readonly violations: string[] = [];
  readonly #world: World;
  readonly #total: number;
  readonly #lease: LeaseTimes;
  readonly #shares = new Map<string, Share>();
  /** what came from each host last, at the coordinator */
  readonly #heardOf = new Map<string, number>();
  readonly #hostOf: (agent: string) => string;
  /** the lowest number open since the hold began, by the world; null: no hold */
  #heldMin: number | null = null;
  #isStopped = false;
  #isStarted = false;
  /** a quota that grew after the start was another's */
  #isHandedOver = false;

  constructor(world: World, total: number, lease: LeaseTimes, hostOf: (agent: string) => string) {
    this.#world = world;
    this.#total = total;
    this.#lease = lease;
    this.#hostOf = hostOf;
  }

  broken(what: string): void {
    this.violations.push(`at ${(this.#world.time.nowMs / 1_000).toFixed(3)} s: ${what}`);
  }

  onOpen({ name, tuples }: SimHost, holder: SimHolder, tuple: string): void {
    const owner = tuples.get(tuple);
    if (owner !== undefined)
      this.broken(
        `tuple ${tuple} of ${name} has two owners: ${owner.process.name} and ${holder.process.name}`,
      );
    if (this.#world.open > this.#total)
      this.broken(`${this.#world.open} connections are open, of ${this.#total}`);
    const silentMs = this.#world.time.nowMs - (this.#heardOf.get(name) ?? Number.NEGATIVE_INFINITY);
    if (silentMs > this.#lease.quietMs)
      this.broken(`${holder.process.name} opens after a silence of ${Math.round(silentMs)} ms`);
  }

  onClose(): void {
    if (this.#heldMin !== null && !this.#isStopped) this.#heldMin = Math.min(this.#heldMin, this.#world.open);
  }

  onAddressGone({ name, tuples }: SimHost, address: string, byProgram: boolean): void {
    if (!byProgram) return;
    for (const [tuple, holder] of tuples)
      if (tuple.startsWith(`${address}:`)) {
        this.broken(`${address} of ${name} is removed while ${holder.process.name} has ${tuple}`);
        return;
      }
  }

  /** What no message shows: who holds what although it was not heard for longer than its lease. */
  look(): void {
    const { nowMs } = this.#world.time;
    for (const { process, openNow } of this.#world.holders) {
      if (openNow === 0 || process.state !== 'running') continue;
      const silentMs = nowMs - (this.#heardOf.get(process.host) ?? 0);
      if (silentMs > this.#lease.leaseMs)
        this.broken(`${process.name} has ${openNow} open after a silence of ${Math.round(silentMs)} ms`);
    }
  }

  onRecord({ agent, epoch, message }: RecordedMessage): void {
    const { nowMs } = this.#world.time;
    const key = `${agent} ${epoch}`;
    let share = this.#shares.get(key);
    if (share === undefined) {
      share = { agent, quota: 0, heardMs: nowMs, isOver: false, pending: 0, counted: new Map() };
      this.#shares.set(key, share);
    }
    if (FROM_AGENT.has(message.type)) {
      share.heardMs = nowMs;
      this.#heardOf.set(this.#hostOf(agent), nowMs);
    }
    switch (message.type) {
      case 'done':
        share.isOver = true;
        this.#counts(share, message.stats, true, null);
        break;
      case 'refuse':
        // One that has started closes what it has, and that may take as long as its lease.
        if (!this.#isStarted) share.isOver = true;
        break;
      case 'stats':
        this.#counts(
          share,
          message.stats,
          false,
          message.settled && message.quota > 0 ? message.quota : null,
        );
        break;
      case 'quota':
        this.#given(share, message.connections);
        break;
      case 'start':
        this.#isStarted = true;
        break;
      case 'hold':
        this.#heldMin ??= this.#world.open;
        break;
      case 'stop':
        this.#isStopped = true;
        break;
    }
  }

  #given(share: Share, connections: number): void {
    const { nowMs } = this.#world.time;
    if (connections < share.quota)
      this.broken(`the quota of ${share.agent} shrank from ${share.quota} to ${connections}`);
    if (this.#isStarted && connections > share.quota) this.#isHandedOver = true;
    share.quota = connections;
    let given = 0;
    for (const each of this.#shares.values()) {
      const mayAct = each === share || (!each.isOver && nowMs - each.heardMs <= this.#lease.leaseMs);
      if (mayAct) given += each.quota;
    }
    if (given > this.#total) this.broken(`quotas of ${given} are out, of ${this.#total}`);
  }

  #counts(
    share: Share,
    stats: AgentMessageOf<'stats'>['stats'],
    isLast: boolean,
    settled: number | null,
  ): void {
    const { agent, counted } = share;
    share.pending = stats.pending;
    const [failed, dropped] = [sum(stats.failed), sum(stats.dropped)];
    const now: [string, number][] = [
      ...GROWING.map((name): [string, number] => [name, stats[name]]),
      ['failed', failed],
      ['dropped', dropped],
    ];
    for (const [name, count] of now) {
      const before = counted.get(name) ?? 0;
      if (count < before) this.broken(`${name} of ${agent} fell from ${before} to ${count}`);
      counted.set(name, count);
    }
    const { attempted, unattempted, established, pending } = stats;
    if (attempted !== established + failed + pending)
      this.broken(
        `${agent}: attempted ${attempted} is not ${established} established, ${failed} failed and ${pending} pending`,
      );
    const ofQuota = attempted - stats.reopened + unattempted;
    if (isLast && pending > 0) this.broken(`${agent}: ${pending} are pending when it is done`);
    // Before the start there is nothing to settle, and the coordinator asks nothing of it.
    if (this.#isStarted && settled !== null && ofQuota !== settled)
      this.broken(`${agent}: settled with ${ofQuota} attempted or given up, of ${settled}`);
    // The last message has what was open before it was closed.
    const nowOpen = isLast ? 0 : stats.open;
    if (stats.established !== nowOpen + stats.closed + dropped || stats.open + dropped > stats.established)
      this.broken(
        `${agent}: established ${stats.established} is not ${stats.open} open, ${stats.closed} closed and ${dropped} dropped`,
      );
  }

  /** When there is a report. */
  onReport({ verdict, exitCode, connections }: RunReport): void {
    const { attempted, established, reopened, open, closed, unattempted, failed, dropped, held } =
      connections;
    // A quota that is handed over is attempted once more.
    const known = attempted - reopened + unattempted;
    if (!this.#isHandedOver && known > this.#total)
      this.broken(`the report counts ${known} attempted and unattempted, of ${this.#total}`);
    // A second interrupt ends the run before agents have given up what is in flight.
    const inFlight = [...this.#shares.values()].reduce(
      (all, each) => all + (each.isOver ? 0 : each.pending),
      0,
    );
    const unknown = attempted - established - sum(failed);
    if (unknown < 0 || unknown > inFlight)
      this.broken(
        `the report has ${attempted} attempted, ${established} established and ${sum(failed)} failed`,
      );
    if (established < Math.max(open, closed) + sum(dropped))
      this.broken(
        `the report has ${established} established, ${open} open, ${closed} closed and ${sum(dropped)} dropped`,
      );
    if ((verdict === 'pass') !== (exitCode === 0))
      this.broken(`verdict ${verdict} with exit code ${exitCode}`);
    if (verdict !== 'pass') return;
    if (held !== this.#total) this.broken(`PASS, but held is ${held} of ${this.#total}`);
    if ((this.#heldMin ?? 0) < this.#total)
      this.broken(`PASS, but ${this.#heldMin} of ${this.#total} were open in the hold`);
  }

  /** When the time after which everything must be over is there. */
  onEnd(): void {
    for (const { name, state } of this.#world.processes)
      if (state !== 'dead') this.broken(`${name} is still there, ${state}`);
    for (const { name, ip, mayLeaveAliases } of this.#world.hosts.values())
      if (ip.aliases.length > 0 && !mayLeaveAliases)
        this.broken(`${ip.aliases.join(' and ')} of ${name} are left, although no agent was killed`);
    if (this.#world.open > 0) this.broken(`${this.#world.open} connections are left`);
  }
}
