/**
 * Owns the messages of the control channel: their shape, and a bound for every size.
 * Must never send or act on one.
 *
 *   agent --> coordinator : hello         protocol version, host facts
 *   agent <-- coordinator : spec          what to open where, how fast, how to prove it
 *   agent --> coordinator : offer         capacity, what bounds it, what preflight found
 *   agent <-- coordinator : quota         connections, rate share, pending share
 *   agent --> coordinator : ready         source addresses and holders that stand by
 *   agent --> coordinator : refuse        (instead of offer or ready) what is missing here
 *   agent <-- coordinator : start         barrier: everyone is ready
 *   agent --> coordinator : stats         cumulative, every second; doubles as a heartbeat
 *   agent --> coordinator : losses        details of lost connections, where they are wanted
 *   agent <-- coordinator : renew         the answer to each stats: extends the lease
 *   agent <-- coordinator : resumed       (after a cut, for hello with resume) go on
 *   agent <-- coordinator : stop-opening  the ramp has stalled: give up what is not open yet
 *   agent <-- coordinator : hold          the ramp is over everywhere: `held` counts from now
 *   agent <-- coordinator : stop          reason
 *   agent --> coordinator : done          final stats
 */
import * as v from 'valibot';
import { PROTOCOL_NAMES } from '../base/endpoint.ts';
import { DropReason } from '../base/outcome.ts';
import {
  BANNER_BYTES_MAX,
  CA_CHARACTERS_MAX,
  HOST_CHARACTERS_MAX,
  HOST_HEADER_PATTERN,
  PATH_CHARACTERS_MAX,
  PATH_PATTERN,
  SERVERNAME_PATTERN,
  MESSAGE_BYTES_MAX as WS_MESSAGE_BYTES_MAX,
} from '../base/protocol-options.ts';
import { ALIAS_LEASE_MAX_MS, ALIAS_LEASE_MIN_MS, DEVICE_NAME_PATTERN, PREFIXES_MAX } from '../run/alias.ts';
import { LOSS_BATCH_MAX } from '../stats/loss.ts';
import { SEEN_PAIRS_MAX } from '../stats/observed-sources.ts';
import { TROUBLE_CHARACTERS_MAX } from '../stats/protocol-errors.ts';

/** Major differences are refused; see docs/PROTOCOL.md. */
export const PROTOCOL_VERSION = '1.0';

/** The largest message in bytes: the final stats of an agent with 65,536 source addresses fit. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

/** The longest name of an agent; the ids of its holders are `<agent>/<index>`. */
export const NAME_CHARACTERS_MAX = 128;
const HOLDER_ID_CHARACTERS_MAX = NAME_CHARACTERS_MAX + 16;

/** Bounds of what an agent says, for this schema and for who must keep to it (fitting.ts). Texts in characters. */
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
} as const;
const ENDPOINTS_MAX = 65_536;
const HISTOGRAM_ENTRIES_MAX = 100_000;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const amount = v.pipe(v.number(), v.finite(), v.minValue(0));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(NAME_CHARACTERS_MAX));
const holderId = v.pipe(v.string(), v.minLength(1), v.maxLength(HOLDER_ID_CHARACTERS_MAX));
const line = v.pipe(v.string(), v.maxLength(AgentBound.lineCharacters));
const address = v.pipe(v.string(), v.ip());
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
// The long parts of a stats message are checked by one loop each: an action per number would cost the coordinator of
// thousands of agents more than everything else together.
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isCountRecord =
  (keysMax: number, keyLengthMax: number = AgentBound.reasonCharacters) =>
  (value: unknown): boolean => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    const entries = Object.entries(value);
    const isKey = (key: string): boolean => key.length <= keyLengthMax && key !== '__proto__';
    return entries.length <= keysMax && entries.every(([key, each]) => isKey(key) && isCount(each));
  };
/** A kernel's counters may go back when an interface goes. */
const isNumberRecord =
  (keysMax: number) =>
  (value: unknown): boolean =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).length <= keysMax &&
    Object.entries(value).every(
      ([key, each]) => key.length <= AgentBound.reasonCharacters && Number.isFinite(each),
    );
const histogram = v.custom<readonly number[]>((value) => {
  if (!Array.isArray(value) || value.length > HISTOGRAM_ENTRIES_MAX) return false;
  for (const each of value) if (!isCount(each)) return false;
  return true;
}, 'expected counts');
const reasonCounts = v.custom<Record<string, number>>(
  isCountRecord(AgentBound.reasons),
  'expected counts by reason',
);
const openBy = v.custom<Record<string, number>>(
  isCountRecord(AgentBound.addresses),
  'expected counts by key',
);

const portRange = v.pipe(
  v.strictObject({ from: port, to: port }),
  v.check((range) => range.from <= range.to, 'range end before start'),
);

const endpoint = v.strictObject({ address, port, family: v.picklist([4, 6]) });

const deviceName = v.pipe(v.string(), v.regex(DEVICE_NAME_PATTERN));

const protocolOptions = v.strictObject({
  path: v.pipe(v.string(), v.maxLength(PATH_CHARACTERS_MAX), v.regex(PATH_PATTERN)),
  host: v.nullable(v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX), v.regex(HOST_HEADER_PATTERN))),
  hostHeader: v.nullable(
    v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX + 6), v.regex(HOST_HEADER_PATTERN)),
  ),
  banner: v.nullable(v.pipe(v.string(), v.maxBytes(BANNER_BYTES_MAX))),
  message: v.nullable(v.pipe(v.string(), v.minLength(1), v.maxBytes(WS_MESSAGE_BYTES_MAX))),
  httpStatus: v.nullable(v.pipe(count, v.minValue(200), v.maxValue(599))),
  tls: v.strictObject({
    servername: v.nullable(v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX), v.regex(SERVERNAME_PATTERN))),
    ca: v.nullable(v.pipe(v.string(), v.maxLength(CA_CHARACTERS_MAX))),
    isVerified: v.boolean(),
  }),
});

const runSpec = v.strictObject({
  endpoints: v.pipe(v.array(endpoint), v.minLength(1), v.maxLength(ENDPOINTS_MAX)),
  protocol: v.picklist(PROTOCOL_NAMES),
  protocolOptions: v.exactOptional(protocolOptions),
  connections: v.pipe(count, v.minValue(1)),
  ratePerSec: v.nullable(v.pipe(amount, v.gtValue(0))),
  pendingMax: v.pipe(count, v.minValue(1)),
  connectTimeoutMs: v.pipe(amount, v.gtValue(0)),
  holdMs: amount,
  close: v.picklist(['fin', 'rst']),
  probeEveryMs: v.nullable(v.pipe(amount, v.gtValue(0))),
  probeTimeoutMs: v.pipe(amount, v.gtValue(0)),
  sources: v.strictObject({
    addresses: v.pipe(v.array(v.pipe(v.string(), v.maxLength(256))), v.maxLength(AgentBound.addresses)),
    ports: v.nullable(v.pipe(v.array(portRange), v.maxLength(1_024))),
    aliasDevice: v.nullable(deviceName),
    aliasLeaseMs: v.pipe(count, v.minValue(ALIAS_LEASE_MIN_MS), v.maxValue(ALIAS_LEASE_MAX_MS)),
    prefixes: v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(PREFIXES_MAX)),
  }),
  holders: v.nullable(v.pipe(count, v.minValue(1), v.maxValue(AgentBound.holders))),
  onDrop: v.picklist(['count', 'reopen']),
  wantsLossDetails: v.boolean(),
});

const finding = v.strictObject({
  what: name,
  severity: v.picklist(['refuse', 'warn', 'ok']),
  needed: v.nullable(v.number()),
  available: v.nullable(v.number()),
  unit: v.pipe(v.string(), v.maxLength(AgentBound.unitCharacters)),
  message: line,
  fix: v.nullable(line),
});
const findings = v.pipe(v.array(finding), v.maxLength(AgentBound.findings));

const seenPairs = v.pipe(
  v.record(v.pipe(v.string(), v.maxLength(AgentBound.seenCharacters)), count),
  v.check((record) => Object.keys(record).length <= SEEN_PAIRS_MAX + 1, 'too many keys'),
);

const seen = v.strictObject({
  sourceKept: count,
  sourceChanged: count,
  portKept: count,
  portChanged: count,
  portMin: v.nullable(port),
  portMax: v.nullable(port),
  bySource: seenPairs,
  byEndpoint: seenPairs,
});

const troubles = v.custom<Record<string, number>>(
  isCountRecord(AgentBound.reasons, TROUBLE_CHARACTERS_MAX),
  'expected counts by detail',
);
const tlsCounts = v.strictObject({
  sessions: count,
  resumed: count,
  unverified: count,
  handshakeUs: histogram,
  ciphers: v.custom<Record<string, number>>(
    isCountRecord(AgentBound.reasons, AgentBound.cipherCharacters),
    'expected counts by cipher',
  ),
});

const stats = v.strictObject({
  attempted: count,
  established: count,
  open: count,
  openAtHold: count,
  openMin: count,
  verified: count,
  verifiedMin: count,
  pending: count,
  closed: count,
  unattempted: count,
  failed: reasonCounts,
  dropped: reasonCounts,
  localSkips: reasonCounts,
  droppedBy: v.custom<Record<string, number>>(
    isCountRecord(AgentBound.lossKinds, AgentBound.lossKindCharacters),
    'expected counts by kind',
  ),
  lossDetailsCut: count,
  youngDrops: count,
  resetsOnProbe: count,
  probeTimeoutsAcked: count,
  dropBurstMax: count,
  reopened: count,
  reopenFailed: count,
  synRetransmits: count,
  retransmittedConnects: count,
  bytesIn: count,
  bytesOut: count,
  probesSent: count,
  probesAnswered: count,
  /** null: not changed since the last stats on this channel */
  connectUs: v.nullable(histogram),
  connectFromIntendedUs: v.nullable(histogram),
  probeUs: v.nullable(histogram),
  openBySource: openBy,
  openByEndpoint: openBy,
  rampMs: amount,
  seen: v.optional(seen),
  troubles: v.exactOptional(troubles),
  tls: v.exactOptional(tlsCounts),
});

const phaseLoad = v.strictObject({ wallMs: amount, cpuMs: amount, waitMs: amount });
const holderHealth = v.strictObject({
  id: holderId,
  pid: count,
  alive: v.boolean(),
  cpuUserMs: amount,
  cpuSystemMs: amount,
  residentBytes: count,
  loopLagMsMax: amount,
  holdLagMsMax: v.exactOptional(amount),
  descriptorsUsed: count,
  descriptorsMax: count,
  tuplesUsed: count,
  tuplesMax: count,
  loopLagMsP99: amount,
  scheduleLagMsP99: amount,
  gcMs: amount,
  cpuWaitMs: v.nullable(amount),
  ramp: phaseLoad,
  hold: phaseLoad,
});
const holders = v.pipe(v.array(holderHealth), v.maxLength(AgentBound.holders));

const kernelCount = v.strictObject({
  agent: name,
  when: v.picklist(['ramp-end', 'hold-end']),
  established: v.nullable(count),
  openBefore: count,
  open: count,
  method: v.picklist(['ss', 'proc-net-tcp', 'none']),
});
const kernel = v.pipe(v.array(kernelCount), v.maxLength(AgentBound.kernelCounts));

const socketName = v.pipe(v.string(), v.minLength(1), v.maxLength(AgentBound.socketCharacters));
const losses = v.pipe(
  v.array(
    v.strictObject({
      atMs: amount,
      holder: holderId,
      source: socketName,
      endpoint: socketName,
      ageMs: v.nullable(amount),
      reason: v.picklist(Object.values(DropReason)),
      count: v.pipe(count, v.minValue(1)),
    }),
  ),
  v.maxLength(LOSS_BATCH_MAX),
);

const sample = v.strictObject({
  min: v.number(),
  max: v.number(),
  last: v.number(),
  limit: v.nullable(v.number()),
});
const evidence = v.strictObject({
  counters: v.custom<Record<string, number>>(isNumberRecord(AgentBound.counters), 'expected counters'),
  samples: v.pipe(
    v.record(v.pipe(v.string(), v.maxLength(AgentBound.sampleCharacters)), sample),
    v.check((record) => Object.keys(record).length <= AgentBound.samples, 'too many keys'),
  ),
  synLadderSec: v.pipe(v.array(amount), v.maxLength(AgentBound.synLadder)),
  hasLocalEndpoint: v.boolean(),
});

/** What an agent may say. */
export const agentMessageSchema = v.variant('type', [
  v.strictObject({
    type: v.literal('hello'),
    protocol: v.pipe(v.string(), v.maxLength(16)),
    name,
    host: v.strictObject({
      hostname: v.pipe(v.string(), v.maxLength(AgentBound.hostCharacters)),
      cpus: count,
      memoryBytes: count,
      kernel: v.pipe(v.string(), v.maxLength(AgentBound.hostCharacters)),
      node: v.pipe(v.string(), v.maxLength(AgentBound.nodeCharacters)),
    }),
    /** after a cut: the share that this agent still carries */
    resume: v.nullable(v.strictObject({ runId: name, epoch: count })),
  }),
  v.strictObject({
    type: v.literal('offer'),
    connectionsMax: count,
    boundBy: name,
    findings,
    sources: v.pipe(v.array(address), v.maxLength(AgentBound.addresses)),
    notes: v.pipe(v.array(line), v.maxLength(AgentBound.notes)),
  }),
  v.strictObject({
    type: v.literal('ready'),
    sources: v.pipe(v.array(address), v.maxLength(AgentBound.addresses)),
    holders: count,
    findings,
    notes: v.pipe(v.array(line), v.maxLength(AgentBound.notes)),
  }),
  v.strictObject({ type: v.literal('refuse'), findings }),
  v.strictObject({
    type: v.literal('stats'),
    epoch: count,
    /** the agent's own monotonic clock, which only the agent reads again: `renew` brings it back */
    sentAtMs: amount,
    quota: count,
    stats,
    holders,
    settled: v.boolean(),
    kernel,
  }),
  v.strictObject({ type: v.literal('losses'), epoch: count, losses }),
  v.strictObject({
    type: v.literal('done'),
    epoch: count,
    stats,
    holders,
    kernel,
    /** null: nothing was started */
    evidence: v.nullable(evidence),
    notes: v.pipe(v.array(line), v.maxLength(AgentBound.notes)),
  }),
]);

/** What the coordinator may say. */
export const coordinatorMessageSchema = v.variant('type', [
  v.strictObject({
    type: v.literal('spec'),
    runId: name,
    /** grows with each agent that joins: one that comes back after its lease gets a new one */
    epoch: count,
    spec: runSpec,
    /** a lost agent's quota may come on top later: leave tuples free for it */
    mayGrow: v.boolean(),
    leaseMs: v.pipe(amount, v.gtValue(0)),
    quietMs: v.pipe(amount, v.gtValue(0)),
  }),
  v.strictObject({
    type: v.literal('quota'),
    connections: count,
    ratePerSec: v.nullable(amount),
    pendingMax: count,
  }),
  v.strictObject({ type: v.literal('start') }),
  /** the lease counts from here: the `sentAtMs` of the stats that this answers */
  v.strictObject({ type: v.literal('renew'), sentAtMs: amount }),
  v.strictObject({ type: v.literal('resumed') }),
  v.strictObject({ type: v.literal('stop-opening') }),
  v.strictObject({ type: v.literal('hold') }),
  v.strictObject({ type: v.literal('stop'), reason: name }),
]);

export type AgentMessage = v.InferOutput<typeof agentMessageSchema>;
export type CoordinatorMessage = v.InferOutput<typeof coordinatorMessageSchema>;
export type AgentMessageOf<Type extends AgentMessage['type']> = Extract<AgentMessage, { type: Type }>;
export type CoordinatorMessageOf<Type extends CoordinatorMessage['type']> = Extract<
  CoordinatorMessage,
  { type: Type }
>;
