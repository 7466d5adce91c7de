/**
 * Owns making what an agent has to say fit into the bounds of its message: the one place where a sender clips, so that
 * an honest agent with very much to say is not taken for one that breaks the rules. Must never drop a count: what finds
 * no room of its own is added up under one key, and lines and findings that are left out are counted.
 */
import { OTHER_BACKENDS } from '../base/backend-pattern.ts';
import { cleanText } from '../base/clean-text.ts';
import type { Finding } from '../base/errors.ts';
import { DropReason, isDropReason } from '../base/outcome.ts';
import { formatCount } from '../base/units.ts';
import type { AgentEngine } from '../run/agent-record.ts';
import { LOSS_BATCH_MAX, lossKey } from '../stats/loss.ts';
import { SEEN_OTHER } from '../stats/observed-sources.ts';
import { OTHER_PROTOCOL_ERROR } from '../stats/protocol-errors.ts';
import type { TlsCounts } from '../stats/stats.ts';
import {
  AgentBound,
  type AgentMessage,
  type AgentMessageOf,
  CPUS_MAX,
  PID_MAX,
  SYN_LADDER_SEC_MAX,
  TableShapes,
} from './agent-message.ts';
import { KEY, NAME_CHARACTERS_MAX, NumberBound } from './schema-part.ts';

/**
 * The longest line that is sent. Half of what the schema takes, so that 256 findings of two such lines each in a script
 * of three bytes a character fit beside the longest list of sources into one message.
 */
const SENT_LINE_CHARACTERS_MAX = AgentBound.lineCharacters / 2;
/** All tables of one message together; histograms, evidence, holders and notes take up to 3 MB of the 8 MiB. */
const TABLE_BYTES_MAX = 5 * 1024 * 1024;
/** Quotes, colon, the longest count and a comma. */
const ENTRY_BYTES_MAX = 20;
/** Kept free in a table for the keys that others are added up under. */
const FOLD_KEYS_MAX = 32;
const ELLIPSIS = '...';

type WireStats = AgentMessageOf<'stats'>['stats'];
type WireHolder = AgentMessageOf<'stats'>['holders'][number];
type WireLoss = AgentMessageOf<'losses'>['losses'][number];
type WireEvidence = NonNullable<AgentMessageOf<'done'>['evidence']>;
type WireFinding = AgentMessageOf<'refuse'>['findings'][number];

function text(value: string, charactersMax: number): string {
  const isLong = value.length > charactersMax;
  const cut = isLong ? value.slice(0, charactersMax - ELLIPSIS.length) + ELLIPSIS : value;
  // Control characters and halves of surrogate pairs cost six bytes each in JSON, and a line is a line.
  return cleanText(cut);
}

/** A name that may not be empty. */
function name(value: string, charactersMax: number = NAME_CHARACTERS_MAX): string {
  return value === '' ? '?' : text(value, charactersMax);
}

/** An address and port; what is none stands for many. */
function socketName(value: string): string {
  return value.length > 0 && value.length <= AgentBound.socketCharacters && KEY.test(value) ? value : '*';
}

/** What a clock or a kernel counter that went back makes of a difference is no reason to lose an agent. */
function amount(value: number): number {
  return Number.isFinite(value) && value > 0 ? Math.min(NumberBound.ms, value) : 0;
}

function count(value: number, max: number = NumberBound.count): number {
  return Number.isFinite(value) && value > 0 ? Math.min(max, Math.trunc(value)) : 0;
}

/** A number of a finding; one that cannot be said is left out. */
function figure(value: number | null): number | null {
  return value !== null && isFigure(value) ? value : null;
}

function isFigure(value: number): boolean {
  return Math.abs(value) <= NumberBound.figure;
}

/**
 * Lines without their repetitions; the last one says how many more there were.
 * @param more lines about what this message leaves out elsewhere: they are always kept
 */
function clampedNotes(notes: readonly string[], more: readonly string[] = []): string[] {
  const unique = [...new Set(notes.map((each) => text(each, SENT_LINE_CHARACTERS_MAX)))];
  const room = AgentBound.notes - more.length;
  if (unique.length <= room) return [...unique, ...more];
  const left = unique.length - room + 1;
  return [...unique.slice(0, room - 1), `and ${formatCount(left)} more lines of this agent`, ...more];
}

const SEVERITIES: readonly Finding['severity'][] = ['refuse', 'warn', 'ok'];

/** Where there are too many, the worst are kept, and one more says how many there were. */
function clampedFindings(findings: readonly Finding[]): WireFinding[] {
  const fits = findings.length <= AgentBound.findings;
  const rank = ({ severity }: Finding): number => SEVERITIES.indexOf(severity);
  const ordered = fits ? findings : findings.toSorted((a, b) => rank(a) - rank(b));
  const kept = ordered.slice(0, fits ? ordered.length : AgentBound.findings - 1).map(clampedFinding);
  const first = ordered[kept.length];
  if (first === undefined) return kept;
  const left = ordered.length - kept.length;
  return [
    ...kept,
    {
      what: 'more-findings',
      severity: first.severity,
      needed: null,
      available: null,
      unit: 'findings',
      message: `and ${formatCount(left)} more findings of this agent, such as: ${text(first.message, 200)}`,
      fix: null,
    },
  ];
}

function clampedFinding({ what, severity, needed, available, unit, message, fix }: Finding): WireFinding {
  return {
    what: name(what),
    severity,
    needed: figure(needed),
    available: figure(available),
    unit: text(unit, AgentBound.unitCharacters),
    message: text(message, SENT_LINE_CHARACTERS_MAX),
    fix: fix === null ? null : text(fix, SENT_LINE_CHARACTERS_MAX),
  };
}

/** What the tables of one message may still take. */
interface Budget {
  bytes: number;
}

/** The key that an entry without room is added to, by table. */
const FOLDED_KEY: Readonly<Record<keyof typeof TableShapes, (key: string) => string>> = {
  reasons: () => 'other',
  open: () => '*',
  losses: (key) => {
    const reason = key.split(' ', 1)[0] ?? '';
    return lossKey(isDropReason(reason) ? reason : DropReason.other, '*', '*');
  },
  seen: () => SEEN_OTHER,
  protocolErrors: () => OTHER_PROTOCOL_ERROR,
  ciphers: () => 'other',
  backends: () => OTHER_BACKENDS,
};

/** A table that fits: the sum of its counts stays what it was. */
function clampedTable(
  table: Readonly<Record<string, number>>,
  kind: keyof typeof TableShapes,
  budget: Budget,
): Record<string, number> {
  const kept: Record<string, number> = Object.create(null);
  const { keysMax, keyCharactersMax, pattern } = TableShapes[kind];
  const folded: Record<string, number> = Object.create(null);
  let keys = 0;
  const entries = Object.entries(table);
  const isAll = entries.length <= keysMax;
  for (const [key, each] of entries) {
    const bytes = Buffer.byteLength(key) + ENTRY_BYTES_MAX;
    const hasRoom = (isAll || keys < keysMax - FOLD_KEYS_MAX) && bytes <= budget.bytes;
    if (hasRoom && key.length <= keyCharactersMax && pattern.test(key)) {
      kept[key] = each;
      keys += 1;
      budget.bytes -= bytes;
    } else {
      const into = FOLDED_KEY[kind](key).slice(0, keyCharactersMax);
      folded[into] = (folded[into] ?? 0) + each;
    }
  }
  for (const [key, each] of Object.entries(folded)) kept[key] = (kept[key] ?? 0) + each;
  return kept;
}

function clampedTls(tls: TlsCounts, budget: Budget): TlsCounts {
  return {
    ...tls,
    ciphers: clampedTable(tls.ciphers, 'ciphers', budget),
    ...(tls.alpn === undefined ? {} : { alpn: clampedTable(tls.alpn, 'ciphers', budget) }),
  };
}

/** The tables that matter most come first: they find room before the others. */
function clampedStats(stats: WireStats): WireStats {
  const budget: Budget = { bytes: TABLE_BYTES_MAX };
  const { seen, tls } = stats;
  return {
    ...stats,
    failed: clampedTable(stats.failed, 'reasons', budget),
    dropped: clampedTable(stats.dropped, 'reasons', budget),
    localSkips: clampedTable(stats.localSkips, 'reasons', budget),
    ...(stats.troubles === undefined
      ? {}
      : { troubles: clampedTable(stats.troubles, 'protocolErrors', budget) }),
    ...(tls === undefined ? {} : { tls: clampedTls(tls, budget) }),
    ...(seen === undefined
      ? {}
      : {
          seen: {
            ...seen,
            bySource: clampedTable(seen.bySource, 'seen', budget),
            byEndpoint: clampedTable(seen.byEndpoint, 'seen', budget),
          },
        }),
    ...(stats.backends === undefined ? {} : { backends: clampedTable(stats.backends, 'backends', budget) }),
    openBySource: clampedTable(stats.openBySource, 'open', budget),
    openByEndpoint: clampedTable(stats.openByEndpoint, 'open', budget),
    droppedBy: clampedTable(stats.droppedBy, 'losses', budget),
    bytesIn: Math.min(stats.bytesIn, NumberBound.bytes),
    bytesOut: Math.min(stats.bytesOut, NumberBound.bytes),
    rampMs: amount(stats.rampMs),
  };
}

function clampedLoad({ wallMs, cpuMs, waitMs }: WireHolder['ramp']): WireHolder['ramp'] {
  return { wallMs: amount(wallMs), cpuMs: amount(cpuMs), waitMs: amount(waitMs) };
}

function clampedHolder(holder: WireHolder): WireHolder {
  return {
    id: holder.id,
    pid: count(holder.pid, PID_MAX),
    alive: holder.alive,
    cpuUserMs: amount(holder.cpuUserMs),
    cpuSystemMs: amount(holder.cpuSystemMs),
    residentBytes: count(holder.residentBytes, NumberBound.bytes),
    loopLagMsMax: amount(holder.loopLagMsMax),
    holdLagMsMax: amount(holder.holdLagMsMax),
    descriptorsUsed: count(holder.descriptorsUsed),
    descriptorsMax: count(holder.descriptorsMax),
    tuplesUsed: count(holder.tuplesUsed),
    tuplesMax: count(holder.tuplesMax),
    loopLagMsP99: amount(holder.loopLagMsP99),
    scheduleLagMsP99: amount(holder.scheduleLagMsP99),
    scheduleShiftMs: amount(holder.scheduleShiftMs),
    scheduleShiftMsMax: amount(holder.scheduleShiftMsMax),
    gcMs: amount(holder.gcMs),
    cpuWaitMs: holder.cpuWaitMs === null ? null : amount(holder.cpuWaitMs),
    ramp: clampedLoad(holder.ramp),
    hold: clampedLoad(holder.hold),
  };
}

function clampedHolders(holders: readonly WireHolder[]): WireHolder[] {
  return holders.slice(0, AgentBound.holders).map(clampedHolder);
}

/** What goes beyond is missing in the ledger alone, whose report counts it: the counts are in the stats. */
function clampedLosses(losses: readonly WireLoss[]): WireLoss[] {
  return losses.slice(0, LOSS_BATCH_MAX).map((loss) => ({
    ...loss,
    atMs: amount(loss.atMs),
    ageMs: loss.ageMs === null ? null : amount(loss.ageMs),
    source: socketName(loss.source),
    endpoint: socketName(loss.endpoint),
  }));
}

/** The first keys of a record whose values are good. */
function firstOf<Value>(
  record: Readonly<Record<string, Value>>,
  keysMax: number,
  charactersMax: number,
  isGood: (value: Value) => boolean,
): Record<string, Value> {
  const good = Object.entries(record).filter(
    ([key, value]) => key.length <= charactersMax && KEY.test(key) && isGood(value),
  );
  return Object.fromEntries(good.slice(0, keysMax));
}

function clampedEvidence(evidence: WireEvidence): WireEvidence {
  const { counters, samples, synLadderSec } = evidence;
  return {
    ...evidence,
    counters: firstOf(counters, AgentBound.counters, AgentBound.reasonCharacters, (each) => isFigure(each)),
    samples: firstOf(samples, AgentBound.samples, AgentBound.sampleCharacters, ({ min, max, last, limit }) =>
      [min, max, last, limit ?? 0].every(isFigure),
    ),
    synLadderSec: synLadderSec
      .slice(0, AgentBound.synLadder)
      .map((each) => Math.min(SYN_LADDER_SEC_MAX, amount(each))),
  };
}

/** A line about list entries that found no room; none when all did. */
function leftOut(what: string, there: number, most: number): string[] {
  return there <= most ? [] : [`and ${formatCount(there - most)} more ${what} of this agent are not listed`];
}

function clampedPlan<Plan extends AgentMessageOf<'offer'> | AgentMessageOf<'ready'>>(plan: Plan): Plan {
  const more = leftOut('source addresses', plan.sources.length, AgentBound.addresses);
  return {
    ...plan,
    sources: plan.sources.slice(0, AgentBound.addresses),
    findings: clampedFindings(plan.findings),
    notes: clampedNotes(plan.notes, more),
  };
}

/**
 * The same message within the bounds of `agentMessageSchema` and of `CONTROL_MESSAGE_BYTES_MAX`.
 *
 * Texts are cut, lists shortened and counted (`and N more`), tables folded so that their sums stay what they were. What
 * is wrong rather than long (an address that is none, a negative counter of connections) is a bug, and left to the
 * other side to refuse. The agent's own name is not touched: who starts an agent checks it.
 */
export function clampMessage(message: AgentMessage): AgentMessage {
  switch (message.type) {
    case 'hello': {
      const { hostname, kernel, node } = message.host;
      const host = {
        ...message.host,
        cpus: Math.min(message.host.cpus, CPUS_MAX),
        memoryBytes: count(message.host.memoryBytes, NumberBound.bytes),
        hostname: text(hostname, AgentBound.hostCharacters),
        kernel: text(kernel, AgentBound.hostCharacters),
        node: text(node, AgentBound.nodeCharacters),
      };
      return { ...message, host };
    }
    case 'offer':
      return {
        ...clampedPlan(message),
        boundBy: name(message.boundBy),
        ...clampedEngine(message),
        connectionsMax: Math.min(message.connectionsMax, NumberBound.connections),
      };
    case 'ready':
      return {
        ...clampedPlan(message),
        holders: count(message.holders, AgentBound.holders),
        ...clampedEngine(message),
      };
    case 'refuse':
      return { ...message, findings: clampedFindings(message.findings) };
    case 'stats':
      return { ...message, ...clampedCounts(message), sentAtMs: amount(message.sentAtMs) };
    case 'losses':
      return { ...message, losses: clampedLosses(message.losses) };
    case 'done': {
      const more = leftOut('holders', message.holders.length, AgentBound.holders);
      return {
        ...message,
        ...clampedCounts(message),
        evidence: message.evidence === null ? null : clampedEvidence(message.evidence),
        notes: clampedNotes(message.notes, more),
      };
    }
  }
}

function clampedEngine({ engine }: { readonly engine?: AgentEngine }): { readonly engine?: AgentEngine } {
  if (engine === undefined) return {};
  return { engine: { name: name(engine.name), why: text(engine.why, AgentBound.engineCharacters) } };
}

function clampedCounts(
  message: AgentMessageOf<'stats'> | AgentMessageOf<'done'>,
): Pick<AgentMessageOf<'stats'>, 'stats' | 'holders' | 'kernel'> {
  return {
    stats: clampedStats(message.stats),
    holders: clampedHolders(message.holders),
    kernel: message.kernel.slice(-AgentBound.kernelCounts),
  };
}
