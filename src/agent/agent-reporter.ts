/**
 * Owns what an agent reports of its run: the message of each second, the final one, what a cut makes it say again, and how
 * numbers and tables fit into the messages of the control channel.
 * Must never count anything itself.
 */
import type { Clock } from '../base/clock.ts';
import type { AgentMessage } from '../control/message.ts';
import type { KernelCount, KernelEvidence } from '../host/kernel-evidence.ts';
import type { Loss } from '../stats/loss.ts';
import { type HolderHealth, type Stats, type StatsDelta, statsDelta } from '../stats/stats.ts';
import { LossQueue } from './loss-queue.ts';

/** More sources than this are named only in the final message, because stats go out every second. */
const SOURCES_EACH_SECOND_MAX = 1_024;

type StatsMessage = Extract<AgentMessage, { type: 'stats' }>;
/** Stats as the schema types them: plain mutable records; the values are the same. */
type WireStats = StatsMessage['stats'];

/** Leaves out the long tables that only the final message carries. */
function trimmed(stats: StatsDelta): WireStats {
  const isLong = (table: object): boolean => Object.keys(table).length > SOURCES_EACH_SECOND_MAX;
  return {
    ...stats,
    openBySource: isLong(stats.openBySource) ? {} : stats.openBySource,
    openByEndpoint: isLong(stats.openByEndpoint) ? {} : stats.openByEndpoint,
    droppedBy: isLong(stats.droppedBy) ? {} : stats.droppedBy,
  };
}

/** What one stats message says. */
interface Counted {
  readonly stats: Stats;
  readonly quota: number;
  readonly holders: readonly HolderHealth[];
  readonly isSettled: boolean;
  readonly kernel: readonly KernelCount[];
}

/** What is said at the very end. */
interface FinalCounts {
  /** before closing began */
  readonly atEnd: Stats;
  /** after it: what was closed, and the bytes */
  readonly closed: Stats;
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
  readonly evidence: KernelEvidence | null;
  readonly notes: readonly string[];
}

/** What one agent says of its run. */
export class AgentReporter {
  readonly #epoch: number;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #send: (message: AgentMessage) => void;
  readonly #losses: LossQueue;
  /** the stats of the last message on this channel; the next one has what has changed since */
  #before: Stats | null = null;
  /** whether the last message said that nothing is left to open */
  #wasSettled = false;
  /** the last message that the coordinator cannot do without */
  #needed: AgentMessage | null = null;

  /** @param send drops the message when there is no contact */
  constructor(epoch: number, clock: Pick<Clock, 'monotonicMs'>, send: (message: AgentMessage) => void) {
    this.#epoch = epoch;
    this.#clock = clock;
    this.#send = send;
    this.#losses = new LossQueue((losses) => send({ type: 'losses', epoch, losses: [...losses] }));
  }

  /** Sends a message that the coordinator cannot do without. */
  say(message: AgentMessage): void {
    this.#needed = message;
    this.#send(message);
  }

  /** After a cut: what was on its way when contact was lost may be missing. */
  sayAgain(): void {
    this.#before = null;
    if (this.#needed !== null) this.#send(this.#needed);
  }

  /** Details of one holder's message. */
  addLosses(losses: readonly Loss[]): void {
    this.#losses.add(losses);
  }

  /** There is something to open: that it is open is worth a message of its own. */
  expectOpening(): void {
    this.#wasSettled = false;
  }

  /** Whether that is not what the last message said; then it is not waited for the next one. */
  isChanged(isSettled: boolean): boolean {
    return isSettled !== this.#wasSettled;
  }

  /** The message of each second. */
  sendStats({ stats, quota, holders, isSettled, kernel }: Counted): void {
    this.#losses.nextReport();
    const whole = this.#withCut(stats);
    this.#send({
      type: 'stats',
      epoch: this.#epoch,
      sentAtMs: this.#clock.monotonicMs(),
      quota,
      stats: trimmed(statsDelta(whole, this.#before)),
      holders: [...holders],
      settled: isSettled,
      kernel: [...kernel],
    });
    this.#before = whole;
    this.#wasSettled = isSettled;
  }

  /** The final message: what its details leave out is counted before. */
  sendDone({ atEnd, closed, holders, kernel, evidence, notes }: FinalCounts): void {
    this.#losses.finish();
    const { closed: closedCount, bytesIn, bytesOut } = closed;
    this.say({
      type: 'done',
      epoch: this.#epoch,
      stats: { ...this.#withCut(atEnd), closed: closedCount, bytesIn, bytesOut },
      holders: [...holders],
      kernel: [...kernel],
      evidence: evidence === null ? null : { ...evidence, synLadderSec: [...evidence.synLadderSec] },
      notes: [...notes],
    });
  }

  /** Details that the holders had and this agent has not sent are cut too. */
  #withCut(stats: Stats): Stats {
    return { ...stats, lossDetailsCut: stats.lossDetailsCut + this.#losses.cut };
  }
}
