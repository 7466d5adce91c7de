/**
 * Owns what must hold at every moment of a simulated run, and when it is over: each check is made as the thing happens, against
 * the truth of the world. Must never ask the program whether it kept a promise.
 */
import type { AgentMessageOf } from '../../src/control/message.ts';
import type { RecordedMessage } from '../../src/coordinator/run-settings.ts';
import type { RunReport } from '../../src/judge/report.ts';
import type { LeaseTimes } from '../../src/run/lease.ts';
import { isChanging, type RunSpec } from '../../src/run/run-spec.ts';
import type { LoadShare } from '../../src/run/schedule.ts';
import { brokenCounts, type Counted, sum } from './invariant-counts.ts';
import { InvariantLine } from './invariant-line.ts';
import type { SimHolder } from './sim-holder.ts';
import type { SimProcess } from './virtual-time.ts';
import type { Leaving, RunWatch, SimHost, World } from './world.ts';

/** One agent in one epoch, as its messages show it. */
interface Share {
  readonly agent: string;
  quota: number;
  shares: readonly LoadShare[];
  heardMs: number;
  isOver: boolean;
  /** connects in flight when it reported last */
  pending: number;
  counted: Counted;
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

/** Judges one run while it goes on. */
export class Invariants implements RunWatch {
  readonly violations: string[] = [];
  open = 0;
  established = 0;
  readonly #world: World;
  readonly #total: number;
  readonly #lease: LeaseTimes;
  /** of the run, among those of its world */
  readonly #number: number;
  readonly #spec: RunSpec;
  readonly #isChanging: boolean;
  readonly #line: InvariantLine | null;
  readonly #shares = new Map<string, Share>();
  /** what came from each host last, at the coordinator */
  readonly #heardOf = new Map<string, number>();
  readonly #hostOf: (agent: string) => string;
  /** the lowest number established since the hold began, by the world; null: no hold */
  #heldMin: number | null = null;
  /** connections that were lost since then */
  #lostInHold = 0;
  #isStopped = false;
  #isStarted = false;
  /** a quota that grew after the start was another's */
  #isHandedOver = false;
  #hasReport = false;
  /** connects in flight of all when the report was made; null: no agent has heard of it */
  #inFlight: number | null = null;

  constructor(
    world: World,
    spec: RunSpec,
    lease: LeaseTimes,
    number: number,
    hostOf: (agent: string) => string,
  ) {
    this.#world = world;
    this.#spec = spec;
    this.#total = spec.connections;
    this.#lease = lease;
    this.#number = number;
    this.#hostOf = hostOf;
    this.#isChanging = isChanging(spec);
    this.#line =
      spec.stages === undefined ? null : new InvariantLine(spec.stages, (what) => this.broken(what));
  }

  broken(what: string): void {
    this.#world.isBroken = true;
    const which = this.#number === 0 ? '' : `, run ${this.#number + 1}`;
    this.violations.push(`at ${(this.#world.time.nowMs / 1_000).toFixed(3)} s${which}: ${what}`);
  }

  #holders(): SimHolder[] {
    return this.#world.holders.filter(({ run, process }) => run === this.#number && process.state !== 'dead');
  }

  onBegin({ name, tuples }: SimHost, holder: SimHolder, tuple: string): void {
    const owner = tuples.get(tuple);
    if (owner !== undefined)
      this.broken(
        `tuple ${tuple} of ${name} has two owners: ${owner.process.name} and ${holder.process.name}`,
      );
    if (this.open > this.#total && this.open - this.#outOfReach() > this.#total)
      this.broken(`${this.open} connections are open, of ${this.#total}`);
    const silentMs = this.silenceMs(name);
    if (silentMs > this.quietMs) this.onOpensTooLate(holder.process, silentMs);
  }

  get quietMs(): number {
    return this.#lease.quietMs;
  }

  silenceMs(host: string): number {
    return this.#world.time.nowMs - (this.#heardOf.get(host) ?? Number.NEGATIVE_INFINITY);
  }

  onOpensTooLate({ name }: SimProcess, silentMs: number): void {
    this.broken(`${name} opens after a silence of ${Math.round(silentMs)} ms`);
  }

  /** What a stopped holder has although its lease is over: it cannot close it, and its agent, which would kill it, is stopped or gone, too. */
  #outOfReach(): number {
    const { nowMs } = this.#world.time;
    let count = 0;
    for (const { process, openNow, connections } of this.#holders()) {
      const silentMs = nowMs - (this.#heardOf.get(process.host) ?? 0);
      if (process.state === 'stopped' && silentMs > this.#lease.leaseMs)
        count += openNow + (connections?.begun.size ?? 0);
    }
    return count;
  }

  onEstablished(holder: SimHolder): void {
    this.#line?.looked(holder);
  }

  onClosing(holder: SimHolder): void {
    this.#line?.looked(holder);
  }

  onLeave(holder: SimHolder, why: Leaving): void {
    if (why === 'failed') return;
    if (why === 'lost') this.#line?.lost(holder);
    if (this.#heldMin === null || this.#isStopped) return;
    this.#heldMin = Math.min(this.#heldMin, this.established);
    if (why === 'lost') this.#lostInHold += 1;
  }

  onAddressGone({ name, tuples, ip }: SimHost, address: string, byProgram: boolean, isOurs: boolean): void {
    if (!byProgram) return;
    if (!isOurs && !ip.wasSlow)
      this.broken(`${address} of ${name} is removed, which another program has added`);
    for (const [tuple, holder] of tuples)
      if (holder.run === this.#number && tuple.startsWith(`${address}:`)) {
        this.broken(`${address} of ${name} is removed while ${holder.process.name} has ${tuple}`);
        return;
      }
  }

  /** What no message shows: who holds what although it was not heard for longer than its lease. */
  look(): void {
    const { nowMs } = this.#world.time;
    const holders = this.#holders();
    for (const { process, openNow } of holders) {
      if (openNow === 0 || process.state !== 'running') continue;
      const silentMs = nowMs - (this.#heardOf.get(process.host) ?? 0);
      if (silentMs > this.#lease.leaseMs)
        this.broken(`${process.name} has ${openNow} open after a silence of ${Math.round(silentMs)} ms`);
    }
    if (this.#line === null) return;
    for (const holder of holders) this.#line.looked(holder);
    this.#line.above(this.established, holders, nowMs);
    this.#line.exact(this.established, holders, this.#live(), this.#total);
  }

  /** Shares of agents that may still act. */
  #live(): Share[] {
    const { nowMs } = this.#world.time;
    return [...this.#shares.values()].filter(
      ({ isOver, heardMs }) => !isOver && nowMs - heardMs <= this.#lease.leaseMs,
    );
  }

  #shareOf(agent: string, epoch: number): Share {
    const key = `${agent} ${epoch}`;
    const known = this.#shares.get(key);
    if (known !== undefined) return known;
    const { nowMs } = this.#world.time;
    const share = {
      agent,
      quota: 0,
      shares: [],
      heardMs: nowMs,
      isOver: false,
      pending: 0,
      counted: new Map(),
    };
    this.#shares.set(key, share);
    return share;
  }

  onRecord({ agent, epoch, message }: RecordedMessage): void {
    const { nowMs } = this.#world.time;
    const share = this.#shareOf(agent, epoch);
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
        this.#given(share, message.connections, message.shares ?? []);
        break;
      case 'start':
        this.#isStarted = true;
        break;
      case 'hold':
        this.#heldMin ??= this.established;
        break;
      case 'stop':
        this.#isStopped = true;
        break;
    }
  }

  #given(share: Share, connections: number, shares: readonly LoadShare[]): void {
    if (connections < share.quota)
      this.broken(`the quota of ${share.agent} shrank from ${share.quota} to ${connections}`);
    if (this.#isStarted && connections > share.quota) this.#isHandedOver = true;
    share.quota = connections;
    share.shares = shares;
    const live = new Set([...this.#live(), share]);
    let given = 0;
    for (const each of live) given += each.quota;
    if (given > this.#total) this.broken(`quotas of ${given} are out, of ${this.#total}`);
    this.#line?.given(share, [...live], this.#total);
  }

  #counts(
    share: Share,
    stats: AgentMessageOf<'stats'>['stats'],
    isLast: boolean,
    settled: number | null,
  ): void {
    const { agent, counted } = share;
    share.pending = stats.pending;
    for (const what of brokenCounts(stats, counted, isLast)) this.broken(`${agent}: ${what}`);
    const { attempted, unattempted, pending, load } = stats;
    if (this.#spec.churn === undefined && (load?.churned ?? 0) > 0)
      this.broken(`${agent}: ${load?.churned} closed in their turn, which nobody has asked for`);
    if (this.#spec.stages === undefined && (load?.lowered ?? 0) > 0)
      this.broken(`${agent}: ${load?.lowered} closed on the way down of no stage`);
    const ofQuota = attempted - stats.reopened + unattempted;
    // What stands in for a lost one is on its way.
    const isOfQuota = settled === null || (settled <= ofQuota && ofQuota <= settled + pending);
    // Before the start there is nothing to settle, and the coordinator asks nothing of it. A load that changes attempts more.
    if (this.#isStarted && !this.#isChanging && !isOfQuota)
      this.broken(`${agent}: settled with ${ofQuota} attempted or given up, of ${settled}`);
  }

  /** What comes from now on is in no report, also what waited in a channel of a coordinator that was stopped. */
  onEnded(): void {
    this.#inFlight ??= this.#pendingNow();
  }

  #pendingNow(): number {
    return [...this.#shares.values()].reduce((all, each) => all + (each.isOver ? 0 : each.pending), 0);
  }

  /** When there is a report. */
  onReport(report: RunReport): void {
    if (this.#hasReport) this.broken('there are two verdicts');
    this.#hasReport = true;
    const { verdict, exitCode, connections } = report;
    const { attempted, established, reopened, open, closed, unattempted, failed, dropped } = connections;
    // A second interrupt ends the run before agents have given up what is in flight, what stands in for lost ones too.
    const inFlight = this.#inFlight ?? this.#pendingNow();
    // A quota that is handed over is attempted once more.
    const known = attempted - reopened + unattempted;
    if (!this.#isHandedOver && !this.#isChanging && known > this.#total + inFlight)
      this.broken(`the report counts ${known} attempted and unattempted, of ${this.#total}`);
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
    if (verdict === 'pass') this.#passed(report);
  }

  #passed({ connections: { held }, load }: RunReport): void {
    if (held !== this.#total) this.broken(`PASS, but held is ${held} of ${this.#total}`);
    if (this.#line !== null) {
      this.#line.passed(load?.stages ?? []);
      return;
    }
    if (this.#isChanging && this.#lostInHold > 0)
      this.broken(`PASS, but ${this.#lostInHold} connections were lost in the hold`);
    if (!this.#isChanging && (this.#heldMin ?? 0) < this.#total)
      this.broken(`PASS, but ${this.#heldMin} of ${this.#total} were open in the hold`);
  }

  /** When the time after which everything must be over is there. */
  onEnd(): void {
    if (this.open > 0) this.broken(`${this.open} connections are left`);
    if (this.#number > 0) return;
    for (const { name, state } of this.#world.processes)
      if (state !== 'dead') this.broken(`${name} is still there, ${state}`);
    for (const { name, ip, mayLeaveAliases } of this.#world.hosts.values())
      if (ip.aliases.length > 0 && !mayLeaveAliases)
        this.broken(`${ip.aliases.join(' and ')} of ${name} are left, although no agent was killed`);
  }
}
