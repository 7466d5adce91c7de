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
 *   agent <-- coordinator : renew         extends the lease, every second
 *   agent <-- coordinator : resumed       (after a cut, for hello with resume) go on
 *   agent <-- coordinator : stop-opening  the ramp has stalled: give up what is not open yet
 *   agent <-- coordinator : hold          the ramp is over everywhere: `held` counts from now
 *   agent <-- coordinator : stop          reason
 *   agent --> coordinator : done          final stats
 */
import * as v from 'valibot';
import { ALIAS_LEASE_MAX_MS, ALIAS_LEASE_MIN_MS, DEVICE_NAME_PATTERN, PREFIXES_MAX } from '../core/alias.ts';

/** Major differences are refused; see docs/PROTOCOL.md. */
export const PROTOCOL_VERSION = '1.0';

/** The largest message in bytes: the final stats of an agent with 65,536 source addresses fit. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

const ADDRESSES_MAX = 65_536;
const ENDPOINTS_MAX = 65_536;
const HOLDERS_MAX = 1_024;
const HISTOGRAM_ENTRIES_MAX = 100_000;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const amount = v.pipe(v.number(), v.finite(), v.minValue(0));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(128));
const line = v.pipe(v.string(), v.maxLength(4_096));
const address = v.pipe(v.string(), v.ip());
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const reasonCounts = v.record(v.pipe(v.string(), v.maxLength(64)), count);
const histogram = v.pipe(v.array(count), v.maxLength(HISTOGRAM_ENTRIES_MAX));
const openBy = v.pipe(
  v.record(v.pipe(v.string(), v.maxLength(64)), count),
  v.check((record) => Object.keys(record).length <= ADDRESSES_MAX, 'too many keys'),
);

const portRange = v.pipe(
  v.strictObject({ from: port, to: port }),
  v.check((range) => range.from <= range.to, 'range end before start'),
);

const endpoint = v.strictObject({ address, port, family: v.picklist([4, 6]) });

const deviceName = v.pipe(v.string(), v.regex(DEVICE_NAME_PATTERN));

const runSpec = v.strictObject({
  endpoints: v.pipe(v.array(endpoint), v.minLength(1), v.maxLength(ENDPOINTS_MAX)),
  protocol: v.picklist(['tcp', 'echo']),
  connections: v.pipe(count, v.minValue(1)),
  ratePerSec: v.nullable(v.pipe(amount, v.gtValue(0))),
  pendingMax: v.pipe(count, v.minValue(1)),
  connectTimeoutMs: v.pipe(amount, v.gtValue(0)),
  holdMs: amount,
  close: v.picklist(['fin', 'rst']),
  probeEveryMs: v.nullable(v.pipe(amount, v.gtValue(0))),
  probeTimeoutMs: v.pipe(amount, v.gtValue(0)),
  sources: v.strictObject({
    addresses: v.pipe(v.array(v.pipe(v.string(), v.maxLength(256))), v.maxLength(ADDRESSES_MAX)),
    ports: v.nullable(v.pipe(v.array(portRange), v.maxLength(1_024))),
    aliasDevice: v.nullable(deviceName),
    aliasLeaseMs: v.pipe(count, v.minValue(ALIAS_LEASE_MIN_MS), v.maxValue(ALIAS_LEASE_MAX_MS)),
    prefixes: v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(PREFIXES_MAX)),
  }),
  holders: v.nullable(v.pipe(count, v.minValue(1), v.maxValue(HOLDERS_MAX))),
});

const finding = v.strictObject({
  what: name,
  severity: v.picklist(['refuse', 'warn', 'ok']),
  needed: v.nullable(v.number()),
  available: v.nullable(v.number()),
  unit: v.pipe(v.string(), v.maxLength(64)),
  message: line,
  fix: v.nullable(line),
});
const findings = v.pipe(v.array(finding), v.maxLength(256));

const stats = v.strictObject({
  attempted: count,
  established: count,
  open: count,
  openMin: count,
  verified: count,
  verifiedMin: count,
  pending: count,
  closed: count,
  unattempted: count,
  failed: reasonCounts,
  dropped: reasonCounts,
  localSkips: reasonCounts,
  synRetransmits: count,
  retransmittedConnects: count,
  bytesIn: count,
  bytesOut: count,
  probesSent: count,
  probesAnswered: count,
  connectUs: histogram,
  connectFromIntendedUs: histogram,
  probeUs: histogram,
  openBySource: openBy,
  openByEndpoint: openBy,
  rampMs: amount,
});

const holderHealth = v.strictObject({
  id: name,
  pid: count,
  alive: v.boolean(),
  cpuUserMs: amount,
  cpuSystemMs: amount,
  residentBytes: count,
  loopLagMsMax: amount,
  descriptorsUsed: count,
  descriptorsMax: count,
  tuplesUsed: count,
  tuplesMax: count,
});
const holders = v.pipe(v.array(holderHealth), v.maxLength(HOLDERS_MAX));

const kernelCount = v.strictObject({
  agent: name,
  when: v.picklist(['ramp-end', 'hold-end']),
  established: v.nullable(count),
  open: count,
  method: v.picklist(['ss', 'proc-net-tcp', 'none']),
});
const kernel = v.pipe(v.array(kernelCount), v.maxLength(8));

/** What an agent may say. */
export const agentMessageSchema = v.variant('type', [
  v.strictObject({
    type: v.literal('hello'),
    protocol: v.pipe(v.string(), v.maxLength(16)),
    name,
    host: v.strictObject({
      hostname: v.pipe(v.string(), v.maxLength(256)),
      cpus: count,
      memoryBytes: count,
      kernel: v.pipe(v.string(), v.maxLength(256)),
      node: v.pipe(v.string(), v.maxLength(64)),
    }),
    /** after a cut: the share that this agent still carries */
    resume: v.nullable(v.strictObject({ runId: name, epoch: count })),
  }),
  v.strictObject({
    type: v.literal('offer'),
    connectionsMax: count,
    boundBy: name,
    findings,
    sources: v.pipe(v.array(address), v.maxLength(ADDRESSES_MAX)),
    notes: v.pipe(v.array(line), v.maxLength(64)),
  }),
  v.strictObject({
    type: v.literal('ready'),
    sources: v.pipe(v.array(address), v.maxLength(ADDRESSES_MAX)),
    holders: count,
    findings,
    notes: v.pipe(v.array(line), v.maxLength(64)),
  }),
  v.strictObject({ type: v.literal('refuse'), findings }),
  v.strictObject({
    type: v.literal('stats'),
    epoch: count,
    quota: count,
    stats,
    holders,
    settled: v.boolean(),
    kernel,
  }),
  v.strictObject({
    type: v.literal('done'),
    epoch: count,
    stats,
    holders,
    kernel,
    notes: v.pipe(v.array(line), v.maxLength(64)),
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
  v.strictObject({ type: v.literal('renew') }),
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
