/**
 * Owns the conversation on the control channel, and what the coordinator may say: shapes, and a bound for every size.
 * What an agent may say is in agent-message.ts.
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
import { AgentBound } from './agent-message.ts';
import { address, name, port } from './schema-part.ts';

export { AgentBound, type AgentMessage, type AgentMessageOf, agentMessageSchema } from './agent-message.ts';
export { NAME_CHARACTERS_MAX } from './schema-part.ts';

/** Major differences are refused; see docs/PROTOCOL.md. */
export const PROTOCOL_VERSION = '1.0';

/** The largest message in bytes: the final stats of an agent with 65,536 source addresses fit. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

const ENDPOINTS_MAX = 65_536;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const amount = v.pipe(v.number(), v.finite(), v.minValue(0));

const portRange = v.pipe(
  v.object({ from: port, to: port }),
  v.check((range) => range.from <= range.to, 'range end before start'),
);

const endpoint = v.object({ address, port, family: v.picklist([4, 6]) });

const deviceName = v.pipe(v.string(), v.regex(DEVICE_NAME_PATTERN));

const protocolOptions = v.object({
  path: v.pipe(v.string(), v.maxLength(PATH_CHARACTERS_MAX), v.regex(PATH_PATTERN)),
  host: v.nullable(v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX), v.regex(HOST_HEADER_PATTERN))),
  hostHeader: v.nullable(
    v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX + 6), v.regex(HOST_HEADER_PATTERN)),
  ),
  banner: v.nullable(v.pipe(v.string(), v.maxBytes(BANNER_BYTES_MAX))),
  message: v.nullable(v.pipe(v.string(), v.minLength(1), v.maxBytes(WS_MESSAGE_BYTES_MAX))),
  httpStatus: v.nullable(v.pipe(count, v.minValue(200), v.maxValue(599))),
  tls: v.object({
    servername: v.nullable(v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX), v.regex(SERVERNAME_PATTERN))),
    ca: v.nullable(v.pipe(v.string(), v.maxLength(CA_CHARACTERS_MAX))),
    isVerified: v.boolean(),
  }),
});

const runSpec = v.object({
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
  sources: v.object({
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

/** What the coordinator may say. */
export const coordinatorMessageSchema = v.variant('type', [
  v.object({
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
  v.object({
    type: v.literal('quota'),
    connections: count,
    ratePerSec: v.nullable(amount),
    pendingMax: count,
  }),
  v.object({ type: v.literal('start') }),
  /** the lease counts from here: the `sentAtMs` of the stats that this answers */
  v.object({ type: v.literal('renew'), sentAtMs: amount }),
  v.object({ type: v.literal('resumed') }),
  v.object({ type: v.literal('stop-opening') }),
  v.object({ type: v.literal('hold') }),
  v.object({ type: v.literal('stop'), reason: name }),
]);

export type CoordinatorMessage = v.InferOutput<typeof coordinatorMessageSchema>;
export type CoordinatorMessageOf<Type extends CoordinatorMessage['type']> = Extract<
  CoordinatorMessage,
  { type: Type }
>;
