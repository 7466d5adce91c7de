/**
 * Owns what an agent may say on the control channel: the shape of each message, a range for every number, a bound for
 * every size. What passes is safe to count, to add up and to show. Must never know what the coordinator gave to an agent
 * (coordinator/agent-session.ts).
 *
 * A later version within the major one may say more: unknown fields are left out, unknown words of a closed list are
 * taken as the one that says least, and their names are kept in `troubles`.
 */
import * as v from 'valibot';
import { BACKEND_NAME_MAX, BACKENDS_MAX } from '../base/backend-pattern.ts';
import { type Counts, DropReason, FailReason, SkipReason } from '../base/outcome.ts';
import type { KernelSample } from '../host/kernel-evidence.ts';
import type { AgentEngine, AgentPreparation, AgentRecord, AgentSnapshot } from '../run/agent-record.ts';
import {
  LOSS_BATCH_MAX,
  type Loss,
  QUARTER_MS,
  QUARTERS_REPORTED,
  type RecentLosses,
} from '../stats/loss.ts';
import { SEEN_PAIRS_MAX } from '../stats/observed-sources.ts';
import { PROTOCOL_ERROR_CHARACTERS_MAX } from '../stats/protocol-errors.ts';
import type { StatsDelta } from '../stats/stats.ts';
import { evidenceSchema, kernelFurther, loadSchema } from './evidence-schema.ts';
import {
  address,
  bytes,
  connections,
  eventCount as count,
  counts,
  countsByText,
  epoch,
  figure,
  figures,
  histogram,
  KEY,
  milliseconds,
  NAME_CHARACTERS_MAX,
  NO_COUNTS,
  NumberBound,
  name,
  port,
  REASON,
  sparse,
  type TableShape,
  cleanedText as text,
  visible,
  wordOf,
  wordsOf,
} from './schema-part.ts';

/** Bounds of what an agent says, for this schema and for who must keep to it (clamp-message.ts). Texts in characters. */
export const AgentBound = {
  addresses: 65_536,
  holders: 1_024,
  kernelCounts: 8,
  findings: 256,
  notes: 64,
  lineCharacters: 4_096,
  unitCharacters: 64,
  hostCharacters: 256,
  nodeCharacters: 64,
  socketCharacters: 64,
  reasons: 256,
  reasonCharacters: 64,
  cipherCharacters: 128,
  seenCharacters: 128,
  lossKinds: 65_536,
  lossKindCharacters: 192,
  counters: 64,
  samples: 64,
  sampleCharacters: 64,
  synLadder: 32,
  engineCharacters: 512,
} as const;

const HOLDER_ID_CHARACTERS_MAX = NAME_CHARACTERS_MAX + 16;
/** Processors of one host. */
export const CPUS_MAX = 65_536;
export const PID_MAX = 2 ** 22;
export const SYN_LADDER_SEC_MAX = 86_400;
/** As `lossKey` (stats/loss.ts) writes what was lost. */
const LOSS_KIND = /^[a-z0-9][a-z0-9-]{0,63} [\x21-\x7e]+ [\x21-\x7e]+$/;
/** Both sides' words are `major.minor`. */
const VERSION = /^\d{1,4}\.\d{1,4}$/;

/** Of a session: base64url of 16 bytes or more. */
const SECRET = /^[\w-]{22,128}$/;

/** A text that came from elsewhere. */
const ANY_TEXT = /^/;

/** What the tables of a stats message are like, for this schema and for who must keep to it (clamp-message.ts). */
export const TableShapes = {
  reasons: { keysMax: AgentBound.reasons, keyCharactersMax: AgentBound.reasonCharacters, pattern: REASON },
  open: { keysMax: AgentBound.addresses, keyCharactersMax: AgentBound.reasonCharacters, pattern: KEY },
  losses: {
    keysMax: AgentBound.lossKinds,
    keyCharactersMax: AgentBound.lossKindCharacters,
    pattern: LOSS_KIND,
  },
  seen: { keysMax: SEEN_PAIRS_MAX + 1, keyCharactersMax: AgentBound.seenCharacters, pattern: ANY_TEXT },
  protocolErrors: {
    keysMax: AgentBound.reasons,
    keyCharactersMax: PROTOCOL_ERROR_CHARACTERS_MAX,
    pattern: ANY_TEXT,
  },
  backends: { keysMax: BACKENDS_MAX + 1, keyCharactersMax: BACKEND_NAME_MAX, pattern: ANY_TEXT },
  ciphers: {
    keysMax: AgentBound.reasons,
    keyCharactersMax: AgentBound.cipherCharacters,
    pattern: ANY_TEXT,
  },
} satisfies Readonly<Record<string, TableShape>>;

const holderId = visible(HOLDER_ID_CHARACTERS_MAX);
const line = text(AgentBound.lineCharacters);
const notes = v.pipe(v.array(line), v.maxLength(AgentBound.notes));
const sources = v.pipe(v.array(address), v.maxLength(AgentBound.addresses));
const upTo = (max: number) => v.pipe(count, v.maxValue(max));

const finding = v.object({
  what: text(NAME_CHARACTERS_MAX),
  severity: wordOf(['refuse', 'warn', 'ok'], 'warn'),
  needed: v.nullable(figure),
  available: v.nullable(figure),
  unit: text(AgentBound.unitCharacters),
  message: line,
  fix: v.nullable(line),
});
const findings = v.pipe(v.array(finding), v.maxLength(AgentBound.findings));

const seenPairs = countsByText(TableShapes.seen);
const seen = v.object({
  sourceKept: count,
  sourceChanged: count,
  portKept: count,
  portChanged: count,
  portMin: v.nullable(port),
  portMax: v.nullable(port),
  bySource: seenPairs,
  byEndpoint: seenPairs,
});

const tlsCounts = v.object({
  sessions: count,
  resumed: count,
  unverified: count,
  handshakeUs: histogram,
  ciphers: countsByText(TableShapes.ciphers),
  alpn: v.exactOptional(countsByText(TableShapes.ciphers)),
});

const reasonCounts = counts(TableShapes.reasons);
const openBy = counts(TableShapes.open);
const droppedBy = counts(TableShapes.losses);

/** `[quarter, count, ...]`: see stats/loss.ts. */
const recentLosses = sparse(NumberBound.ms / QUARTER_MS, QUARTERS_REPORTED);

const grown = v.object({
  connectUs: v.exactOptional(histogram),
  connectFromIntendedUs: v.exactOptional(histogram),
  probeUs: v.exactOptional(histogram),
});

const saidStats = v.object({
  attempted: count,
  established: count,
  open: connections,
  openAtHold: connections,
  openMin: connections,
  verified: connections,
  verifiedMin: connections,
  verifiedInHold: v.optional(connections, 0),
  pending: connections,
  closed: count,
  unattempted: connections,
  failed: reasonCounts,
  dropped: reasonCounts,
  localSkips: reasonCounts,
  droppedBy,
  lossDetailsCut: count,
  youngDrops: count,
  resetsOnProbe: count,
  probeTimeoutsAcked: count,
  /** of version 1.0: it cannot be added up, and is not used */
  dropBurstMax: v.exactOptional(count),
  /** absent in version 1.0: then it is not known */
  recentLosses: v.exactOptional(recentLosses),
  /** absent where nothing is opened again, and from an agent that does not report it */
  backends: v.exactOptional(countsByText(TableShapes.backends)),
  recentReturns: v.exactOptional(
    v.object({ calls: recentLosses, back: recentLosses, refused: recentLosses, failed: recentLosses }),
  ),
  reopened: count,
  reopenFailed: count,
  synRetransmits: count,
  retransmittedConnects: count,
  bytesIn: bytes,
  bytesOut: bytes,
  probesSent: count,
  probesAnswered: count,
  /** null: not changed since the last stats on this channel */
  connectUs: v.nullable(histogram),
  connectFromIntendedUs: v.nullable(histogram),
  probeUs: v.nullable(histogram),
  /** what came to histograms that are null, since the last stats on this channel; only where `spec` says `takesGrowth` */
  grown: v.exactOptional(grown),
  openBySource: openBy,
  openByEndpoint: openBy,
  rampMs: milliseconds,
  seen: v.exactOptional(seen),
  troubles: v.exactOptional(countsByText(TableShapes.protocolErrors)),
  tls: v.exactOptional(tlsCounts),
  messages: v.exactOptional(
    v.object({ sent: count, sentInHold: count, wrong: count, late: count, missing: count }),
  ),
  /** null: not changed since the last stats on this channel; absent: from an agent that does not tell */
  evidence: v.exactOptional(v.nullable(evidenceSchema)),
  /** null: not changed; absent: the load does not change */
  load: v.exactOptional(v.nullable(loadSchema)),
});

type SaidStats = v.InferOutput<typeof saidStats>;

/** Unknown reasons that one agent's message has named in a note. */
const UNKNOWN_NAMED_MAX = 16;

/** Reasons that this version knows; the others count as `instead`, and are named in `troubles`. */
function knownReasons<Reason extends string>(
  kind: string,
  said: Readonly<Record<string, number>>,
  known: ReadonlyMap<string, Reason>,
  instead: NoInfer<Reason>,
  errors: Record<string, number>,
): Counts<Reason> {
  if (said === NO_COUNTS) return NO_COUNTS as Readonly<Record<string, number>> as Counts<Reason>;
  const result: Record<Reason, number> = Object.create(null);
  let named = 0;
  for (const [reason, each] of Object.entries(said)) {
    const into = known.get(reason);
    result[into ?? instead] = (result[into ?? instead] ?? 0) + each;
    if (into !== undefined || each === 0) continue;
    named += 1;
    const detail =
      named <= UNKNOWN_NAMED_MAX
        ? `${kind} ${reason}, a reason that this version does not know`
        : `${kind} further reasons that this version does not know`;
    errors[detail] = (errors[detail] ?? 0) + each;
  }
  return result;
}

const FAIL_REASONS = wordsOf(Object.values(FailReason));
const DROP_REASONS = wordsOf(Object.values(DropReason));
const SKIP_REASONS = wordsOf(Object.values(SkipReason));

function knownLossKinds(said: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  if (said === NO_COUNTS) return NO_COUNTS;
  const result: Record<string, number> = Object.create(null);
  for (const [kind, each] of Object.entries(said)) {
    const at = kind.indexOf(' ');
    const into = DROP_REASONS.has(kind.slice(0, at)) ? kind : `${DropReason.other}${kind.slice(at)}`;
    result[into] = (result[into] ?? 0) + each;
  }
  return result;
}

function knownStats(said: SaidStats): WireStats {
  const errors: Record<string, number> = Object.assign(Object.create(null), said.troubles);
  const known = {
    ...said,
    failed: knownReasons('failed for', said.failed, FAIL_REASONS, FailReason.other, errors),
    dropped: knownReasons('dropped for', said.dropped, DROP_REASONS, DropReason.other, errors),
    localSkips: knownReasons('skipped for', said.localSkips, SKIP_REASONS, SkipReason.other, errors),
    droppedBy: knownLossKinds(said.droppedBy),
  };
  return Object.keys(errors).length === 0 ? known : { ...known, troubles: errors };
}

const stats = v.pipe(
  saidStats,
  v.check(
    ({ established, open, openMin, verified }) =>
      open <= established && openMin <= established && verified <= established,
    'no more open or verified than established',
  ),
  v.transform(knownStats),
);

const phaseLoad = v.object({ wallMs: milliseconds, cpuMs: milliseconds, waitMs: milliseconds });
const holderHealth = v.object({
  id: holderId,
  pid: upTo(PID_MAX),
  alive: v.boolean(),
  cpuUserMs: milliseconds,
  cpuSystemMs: milliseconds,
  residentBytes: bytes,
  loopLagMsMax: milliseconds,
  holdLagMsMax: v.optional(milliseconds, 0),
  descriptorsUsed: count,
  descriptorsMax: count,
  tuplesUsed: count,
  tuplesMax: count,
  loopLagMsP99: milliseconds,
  scheduleLagMsP99: milliseconds,
  scheduleShiftMs: v.optional(milliseconds, 0),
  scheduleShiftMsMax: v.optional(milliseconds, 0),
  gcMs: milliseconds,
  cpuWaitMs: v.nullable(milliseconds),
  ramp: phaseLoad,
  hold: phaseLoad,
});
const holders = v.pipe(v.array(holderHealth), v.maxLength(AgentBound.holders));

const UNKNOWN = 'unknown';
const kernelCount = v.object({
  agent: name,
  when: wordOf(['ramp-end', 'hold-end', UNKNOWN], UNKNOWN),
  established: v.nullable(connections),
  openBefore: connections,
  open: connections,
  others: v.exactOptional(count),
  method: wordOf(['sock-diag', 'ss', 'proc-net-tcp', 'none', UNKNOWN], UNKNOWN),
});
type SaidKernelCount = v.InferOutput<typeof kernelCount>;
type KnownKernelCount = SaidKernelCount & {
  when: Exclude<SaidKernelCount['when'], typeof UNKNOWN>;
  method: Exclude<SaidKernelCount['method'], typeof UNKNOWN>;
};
/** A count of some other moment, or come by in some other way, is no use to who does not know it. */
const kernel = v.pipe(
  v.array(kernelCount),
  v.maxLength(AgentBound.kernelCounts),
  v.transform((said) =>
    said.filter((each): each is KnownKernelCount => each.when !== UNKNOWN && each.method !== UNKNOWN),
  ),
);

const socketName = v.pipe(v.string(), v.minLength(1), v.maxLength(AgentBound.socketCharacters), v.regex(KEY));
const losses = v.pipe(
  v.array(
    v.object({
      atMs: milliseconds,
      holder: holderId,
      source: socketName,
      endpoint: socketName,
      ageMs: v.nullable(milliseconds),
      reason: wordOf(Object.values(DropReason), DropReason.other),
      count: v.pipe(connections, v.minValue(1)),
    }),
  ),
  v.maxLength(LOSS_BATCH_MAX),
);

const sample = v.object({ min: figure, max: figure, last: figure, limit: v.nullable(figure) });
const samples = v.pipe(
  v.record(v.pipe(v.string(), v.maxLength(AgentBound.sampleCharacters), v.regex(KEY)), sample),
  v.check((record) => Object.keys(record).length <= AgentBound.samples, 'too many keys'),
  v.transform((record): Readonly<Record<string, KernelSample>> => Object.assign(Object.create(null), record)),
);
const evidence = v.object({
  counters: figures(AgentBound.counters, AgentBound.reasonCharacters),
  samples,
  synLadderSec: v.pipe(
    v.array(v.pipe(figure, v.minValue(0), v.maxValue(SYN_LADDER_SEC_MAX))),
    v.maxLength(AgentBound.synLadder),
  ),
  hasLocalEndpoint: v.boolean(),
  ...kernelFurther,
});

/** Stats as an agent may say them. */
type WireStats = Omit<StatsDelta, 'recentLosses'> & {
  /** absent in version 1.0: then it is not known */
  readonly recentLosses?: RecentLosses;
};
type WireSnapshot = Omit<AgentSnapshot, 'stats'> & { readonly stats: WireStats };
type InSession<Type extends string> = { readonly type: Type; readonly epoch: number };

/** What an agent may say: most of it is what its record (run/agent-record.ts) keeps. */
export type AgentMessage =
  | {
      readonly type: 'hello';
      readonly protocol: string;
      readonly name: string;
      readonly host: {
        readonly hostname: string;
        readonly cpus: number;
        readonly memoryBytes: number;
        readonly kernel: string;
        readonly node: string;
      };
      /** after a cut: the share that this agent still carries */
      readonly resume: { readonly runId: string; readonly epoch: number } | null;
      readonly secret?: string;
    }
  | ({ readonly type: 'offer'; readonly connectionsMax: number } & AgentPreparation &
      Pick<AgentRecord, 'boundBy'> & {
        /** absent: from an agent that does not say it */
        readonly engine?: AgentEngine;
      })
  | ({
      readonly type: 'ready';
      readonly holders: number;
      /** what its holders use, where that was decided anew since the offer; absent: as offered */
      readonly engine?: AgentEngine;
    } & AgentPreparation)
  | ({ readonly type: 'refuse' } & Pick<AgentPreparation, 'findings'>)
  | (InSession<'stats'> &
      WireSnapshot & {
        readonly sentAtMs: number;
        readonly quota: number;
        readonly settled: boolean;
      })
  | (InSession<'losses'> & { readonly losses: readonly Loss[] })
  | (InSession<'done'> & WireSnapshot & Pick<AgentRecord, 'evidence' | 'notes'>);
export type AgentMessageOf<Type extends AgentMessage['type']> = Extract<
  AgentMessage,
  { readonly type: Type }
>;

const engineChoice = v.object({
  name: text(NAME_CHARACTERS_MAX),
  why: text(AgentBound.engineCharacters),
});

/** Checks what an agent says. */
export const agentMessageSchema = v.variant('type', [
  v.object({
    type: v.literal('hello'),
    protocol: v.pipe(v.string(), v.regex(VERSION)),
    name,
    host: v.object({
      hostname: text(AgentBound.hostCharacters),
      cpus: upTo(CPUS_MAX),
      memoryBytes: bytes,
      kernel: text(AgentBound.hostCharacters),
      node: text(AgentBound.nodeCharacters),
    }),
    /** after a cut: the share that this agent still carries */
    resume: v.nullable(v.object({ runId: name, epoch })),
    /** made by the agent for one session, and the same in each hello of it; absent: from an agent that has none */
    secret: v.exactOptional(v.pipe(v.string(), v.regex(SECRET))),
  }),
  v.object({
    type: v.literal('offer'),
    connectionsMax: connections,
    boundBy: text(NAME_CHARACTERS_MAX),
    engine: v.exactOptional(engineChoice),
    findings,
    sources,
    notes,
  }),
  v.object({
    type: v.literal('ready'),
    sources,
    holders: upTo(AgentBound.holders),
    engine: v.exactOptional(engineChoice),
    findings,
    notes,
  }),
  v.object({ type: v.literal('refuse'), findings }),
  v.object({
    type: v.literal('stats'),
    epoch,
    /** the agent's own monotonic clock, which only the agent reads again: `renew` brings it back */
    sentAtMs: milliseconds,
    quota: connections,
    stats,
    holders,
    settled: v.boolean(),
    kernel,
  }),
  v.object({ type: v.literal('losses'), epoch, losses }),
  v.object({
    type: v.literal('done'),
    epoch,
    stats,
    holders,
    kernel,
    /** null: nothing was started */
    evidence: v.nullable(evidence),
    notes,
  }),
]) satisfies v.GenericSchema<unknown, AgentMessage>;
