/**
 * Owns what an agent reports of its run: the message of each second, the final one, what a cut makes it say again, and how
 * numbers and tables fit into the messages of the control channel; losses that wait for a message; how much may lie unread in
 * this process; and the report of an agent that has no coordinator any more. Must never count anything itself, or wait for a
 * reader: the agent makes a new channel, on which it says again what matters.
 */

import { mkdirSync } from 'node:fs';
import { cpus, hostname, release, totalmem } from 'node:os';
import { dirname } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Channel } from '../control/channel.ts';
import {
  type AgentMessage,
  CONTROL_MESSAGE_BYTES_MAX,
  type CoordinatorMessageOf,
  PROTOCOL_VERSION,
} from '../control/message.ts';
import type { KernelCount, KernelEvidence } from '../host/kernel-evidence.ts';
import { followOutputPath, writeWholeFile } from '../host/output-file.ts';
import type { Evidence } from '../stats/evidence.ts';
import { LOSS_BATCH_MAX, type Loss } from '../stats/loss.ts';
import { asOnePlace } from '../stats/place-outcomes.ts';
import { type HolderHealth, type Stats, type StatsDelta, statsDelta } from '../stats/stats.ts';

/** More sources than this are named only in the final message, because stats go out every second. */
const SOURCES_EACH_SECOND_MAX = 1_024;

type HelloMessage = Extract<AgentMessage, { type: 'hello' }>;

/**
 * What an agent says first.
 * @param name as it calls itself
 * @param resume the run that it comes back to; null: it joins
 * @param secret known to it alone, which it must say when it comes back
 */
export function helloOf(name: string, resume: HelloMessage['resume'], secret: string): HelloMessage {
  const host = {
    hostname: hostname(),
    cpus: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
  };
  return { type: 'hello', protocol: PROTOCOL_VERSION, name, host, resume, secret };
}

type StatsMessage = Extract<AgentMessage, { type: 'stats' }>;
/** Stats as the schema types them: plain mutable records; the values are the same. */
type WireStats = StatsMessage['stats'];

/** Outcomes of more sources than this are given one by one only in the final message: each row is a long one. */
const SOURCE_ROWS_EACH_SECOND_MAX = 64;

/** Leaves out the long tables that only the final message carries. */
function trimmed(stats: StatsDelta): WireStats {
  const isLong = (table: object): boolean => Object.keys(table).length > SOURCES_EACH_SECOND_MAX;
  const { evidence } = stats;
  return {
    ...stats,
    ...(evidence == null ? {} : { evidence: trimmedEvidence(evidence) }),
    openBySource: isLong(stats.openBySource) ? {} : stats.openBySource,
    openByEndpoint: isLong(stats.openByEndpoint) ? {} : stats.openByEndpoint,
    droppedBy: isLong(stats.droppedBy) ? {} : stats.droppedBy,
  };
}

function trimmedEvidence(evidence: Evidence): Evidence {
  const { bySourceOutcome } = evidence;
  if (Object.keys(bySourceOutcome).length <= SOURCE_ROWS_EACH_SECOND_MAX) return evidence;
  return { ...evidence, bySourceOutcome: asOnePlace(bySourceOutcome) };
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
  /** after it: the bytes */
  readonly closed: Stats;
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
  readonly evidence: KernelEvidence | null;
  readonly notes: readonly string[];
}

/** What its coordinator has said of reports. */
type ReportTerms = Pick<CoordinatorMessageOf<'spec'>, 'epoch' | 'takesGrowth'>;

/** What one agent says of its run. */
export class AgentReporter {
  readonly #epoch: number;
  readonly #takesGrowth: boolean;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #send: (message: AgentMessage) => void;
  readonly #losses: LossQueue;
  /** the stats of the last message on this channel; the next one has what has changed since */
  #before: Stats | null = null;
  /** whether the last message said that nothing is left to open */
  #wasSettled = false;
  /** the last message that the coordinator cannot do without */
  #needed: AgentMessage | null = null;

  /**
   * @param terms of its `spec`
   * @param send drops the message when there is no contact
   */
  constructor(
    { epoch, takesGrowth = false }: ReportTerms,
    clock: Pick<Clock, 'monotonicMs'>,
    send: (message: AgentMessage) => void,
  ) {
    this.#epoch = epoch;
    this.#takesGrowth = takesGrowth;
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
      stats: trimmed(statsDelta(whole, this.#before, this.#takesGrowth)),
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
    const { bytesIn, bytesOut } = closed;
    // Whatever ended each of them between the count and our close: it is in this count, and in no other.
    const closedCount = atEnd.closed + atEnd.open;
    // Opening had been given up: what is in flight stood in for what was lost since, and no answer to it is waited for.
    const attempted = atEnd.attempted - atEnd.pending;
    this.say({
      type: 'done',
      epoch: this.#epoch,
      stats: { ...this.#withCut(atEnd), attempted, pending: 0, closed: closedCount, bytesIn, bytesOut },
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

/**
 * Writes JSON beside `path`, then renames it. Its default place is a folder that every user may write to, so a link or a
 * pipe that another user has put there gets nothing.
 * @returns the path, or null when it could not be written
 */
export function writePartialReport(path: string, report: unknown): string | null {
  try {
    mkdirSync(dirname(path), { recursive: true });
    const place = followOutputPath(path);
    if (place.kind !== 'file') return null;
    writeWholeFile(place, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600, kept: place.kept });
    return path;
  } catch {
    return null;
  }
}

/** Messages with details from one report to the next, and before the final message: at most 5 MB, and 15 MB. */
const LOSS_MESSAGES_PER_REPORT = 20;
const LOSS_MESSAGES_AT_END = 60;
/** Details that wait at most, 20 MB of memory. */
const LOSSES_WAITING_MAX = 100_000;

/** The queue of one agent's run. */
class LossQueue {
  readonly #send: (losses: readonly Loss[]) => void;
  #waiting: Loss[] = [];
  /** how many of the first ones have been sent; they are let go of together */
  #taken = 0;
  /** messages since the last report */
  #sent = 0;
  #cut = 0;

  /** @param send one message; called as soon as one is full, or a report is due, in order */
  constructor(send: (losses: readonly Loss[]) => void) {
    this.#send = send;
  }

  /** Losses whose details were left out because too many waited, or were left when the final message was due. */
  get cut(): number {
    return this.#cut;
  }

  /** Details of one holder's message. */
  add(losses: readonly Loss[]): void {
    for (const loss of losses) {
      if (this.#waiting.length - this.#taken < LOSSES_WAITING_MAX) this.#waiting.push(loss);
      else this.#cut += loss.count;
    }
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT, LOSS_BATCH_MAX);
  }

  /** A report is due: everything that the limit allows goes before it, and the limit counts from here. */
  nextReport(): void {
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT, 1);
    this.#sent = 0;
    this.#sendUpTo(LOSS_MESSAGES_PER_REPORT, 1);
  }

  /** The final message is due: what does not fit now is never sent, and counted. */
  finish(): void {
    this.#sendUpTo(LOSS_MESSAGES_AT_END, 1);
    for (const { count } of this.#waiting.slice(this.#taken)) this.#cut += count;
    this.#waiting = [];
    this.#taken = 0;
  }

  /** @param fullAt the fewest details that are worth a message */
  #sendUpTo(most: number, fullAt: number): void {
    while (this.#sent < most && this.#waiting.length - this.#taken >= fullAt) {
      const batch = this.#waiting.slice(this.#taken, this.#taken + LOSS_BATCH_MAX);
      this.#taken += batch.length;
      this.#sent++;
      this.#send(batch);
    }
    // Shifting one by one would cost the square of a long queue.
    if (this.#taken > this.#waiting.length / 2) {
      this.#waiting = this.#waiting.slice(this.#taken);
      this.#taken = 0;
    }
  }
}

/** Two of the largest messages. */
const UNREAD_BYTES_MAX = 2 * CONTROL_MESSAGE_BYTES_MAX;

/**
 * Sends a message, or gives the channel up because the other side does not read.
 * @param unreadBytesMax beyond so many bytes nothing more is sent
 * @returns whether the channel is still there
 */
export function sendGuarded(
  channel: Channel<AgentMessage>,
  message: AgentMessage,
  unreadBytesMax = UNREAD_BYTES_MAX,
): boolean {
  if (channel.bufferedBytes <= unreadBytesMax) {
    channel.send(message);
    return true;
  }
  channel.close('nothing of what this agent says is read');
  return false;
}
