/**
 * Owns what the coordinator may say on the control channel: the shape of each message, a range for every number, a bound
 * for every size. What passes is safe to plan and to wait with; whether it is *allowed* is for the agent's owner
 * (plan/allowance.ts, agent/agent-quota.ts). Must never name what belongs to an agent's host.
 *
 * A later version within the major one may say more: unknown fields are left out. Unknown words of a closed list are not:
 * what this version cannot do must not be done differently.
 */
import * as v from 'valibot';
import { isAddress, isLinkLocal, parseAddress } from '../base/address.ts';
import { BACKEND_PATTERN_MAX, backendExpression } from '../base/backend-pattern.ts';
import {
  BANNER_BYTES_MAX,
  CA_CHARACTERS_MAX,
  HOST_CHARACTERS_MAX,
  HOST_HEADER_PATTERN,
  isZone,
  PATH_CHARACTERS_MAX,
  PATH_PATTERN,
  PROTOCOL_NAMES,
  SERVERNAME_PATTERN,
  WS_MESSAGE_BYTES_MAX,
  zoneProblem,
} from '../base/endpoint.ts';
import { clientsProblem, PROXY_VERSIONS } from '../base/proxy-header.ts';
import {
  areHeadersBounded,
  BODY_BYTES_MAX,
  HEADERS_MAX,
  headerProblem,
  isSubprotocol,
  REQUEST_METHODS,
  SUBPROTOCOLS_MAX,
} from '../base/request-options.ts';
import {
  ALPN_MAX,
  arePairsBounded,
  isAlpnName,
  KEEP_ALIVE_SEC_MAX,
  PEM_CHARACTERS_MAX,
  passwordProblem,
  templateProblem,
  topicProblem,
} from '../base/session-options.ts';
import {
  ANSWERS_MAX,
  MESSAGE_BYTES_MAX,
  messageProblem,
  patternProblem,
  RAND_SIZE_MAX,
  TEMPLATE_FIELDS,
  TEMPLATE_PARTS_MAX,
} from '../base/traffic-options.ts';
import { REOPEN_WAIT_MS_MAX } from '../run/reopen-policy.ts';
import { RunBound, type SharedSpec } from '../run/run-spec.ts';
import { type LoadShare, peakOf, STAGES_MAX } from '../run/schedule.ts';
import {
  epoch,
  milliseconds,
  NAME_CHARACTERS_MAX,
  name,
  port,
  RUN_NAME_CHARACTERS_MAX,
  cleanedText as text,
  visible,
} from './schema-part.ts';

/** One line, for a person. */
const VERDICT_CHARACTERS_MAX = 256;
/** IPv6 with everything that may stand in it. */
const ADDRESS_CHARACTERS_MAX = 64;

const whole = (min: number, max: number) =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));
/** Milliseconds, with fraction. */
const duration = (minMs: number, maxMs: number) =>
  v.pipe(v.number(), v.finite(), v.minValue(minMs), v.maxValue(maxMs));
/** Per second, with fraction. */
const rate = v.pipe(
  v.number(),
  v.finite(),
  v.minValue(RunBound.ratePerSecMin),
  v.maxValue(RunBound.ratePerSec),
);
const connections = whole(1, RunBound.connections);
const pendingMax = whole(1, RunBound.connections);

const endpoint = v.pipe(
  v.object({
    address: v.pipe(
      v.string(),
      v.maxLength(ADDRESS_CHARACTERS_MAX),
      v.check(isAddress, 'expected an address'),
    ),
    port,
    family: v.picklist([4, 6]),
    zone: v.exactOptional(v.pipe(v.string(), v.check(isZone, 'expected the name of a device'))),
  }),
  v.check(
    ({ address, family }) => parseAddress(address).family === family,
    "expected the address's own family",
  ),
  v.check(
    ({ address, zone }) => zone === undefined || isLinkLocal(parseAddress(address).address),
    'expected a zone of a link-local address alone',
  ),
);

/** One connection to an endpoint that is there twice would be counted as two. */
function areDistinct(endpoints: readonly { readonly address: string; readonly port: number }[]): boolean {
  const names = endpoints.map((each) => `${parseAddress(each.address).address} ${each.port}`);
  return new Set(names).size === names.length;
}

/** Base64 has four characters for three bytes. */
const base64 = (bytesMax: number) =>
  v.pipe(v.string(), v.maxLength(Math.ceil(bytesMax / 3) * 4), v.regex(/^[A-Za-z0-9+/]*={0,2}$/));

const requestOptions = v.object({
  method: v.picklist(REQUEST_METHODS),
  headers: v.pipe(
    v.array(
      v.pipe(
        v.object({ name: v.string(), value: v.string() }),
        v.check((field) => headerProblem(field) === null, 'expected a header field that may be sent'),
      ),
    ),
    v.maxLength(HEADERS_MAX),
    v.check((headers) => areHeadersBounded(headers), 'expected fewer or shorter header fields'),
  ),
  body: v.nullable(base64(BODY_BYTES_MAX)),
  subprotocols: v.pipe(
    v.array(v.pipe(v.string(), v.check(isSubprotocol, 'expected a token'))),
    v.maxLength(SUBPROTOCOLS_MAX),
  ),
});

/** Text that a rule of base/session-options.ts takes. */
const ruled = (problemOf: (text: string) => string | null) =>
  v.pipe(
    v.string(),
    v.check((given) => problemOf(given) === null, 'expected a text that MQTT takes'),
  );

const mqttOptions = v.object({
  level: v.picklist([4, 5]),
  clientId: ruled(templateProblem),
  user: v.nullable(ruled(templateProblem)),
  password: v.nullable(ruled(passwordProblem)),
  keepAliveSec: whole(0, KEEP_ALIVE_SEC_MAX),
  subscribe: v.nullable(ruled(topicProblem)),
});

const messageTemplate = v.pipe(
  v.object({
    isBinary: v.boolean(),
    parts: v.pipe(
      v.array(
        v.variant('type', [
          v.object({ type: v.literal('bytes'), base64: base64(MESSAGE_BYTES_MAX) }),
          v.object({ type: v.literal('field'), name: v.picklist(TEMPLATE_FIELDS) }),
          v.object({ type: v.literal('rand'), size: whole(1, RAND_SIZE_MAX) }),
          v.object({ type: v.literal('group'), index: whole(0, 9) }),
        ]),
      ),
      v.maxLength(TEMPLATE_PARTS_MAX),
    ),
  }),
  v.check((template) => messageProblem(template) === null, 'expected a message that may be sent'),
);
const messagePattern = v.pipe(
  v.variant('type', [
    v.object({ type: v.literal('text'), template: messageTemplate }),
    v.object({ type: v.literal('regex'), source: v.string(), flags: v.string() }),
  ]),
  v.check((pattern) => patternProblem(pattern) === null, 'expected a pattern that can match'),
);
const trafficOptions = v.object({
  first: v.nullable(messageTemplate),
  expect: v.nullable(messagePattern),
  answers: v.pipe(
    v.array(v.object({ pattern: messagePattern, reply: messageTemplate })),
    v.maxLength(ANSWERS_MAX),
  ),
  send: v.nullable(
    v.object({
      template: messageTemplate,
      everyMs: duration(RunBound.probeEveryMsMin, RunBound.probeEveryMs),
    }),
  ),
});
const pem = v.pipe(v.string(), v.minLength(1), v.maxLength(PEM_CHARACTERS_MAX));
const certificatePairs = v.pipe(
  v.array(v.object({ cert: pem, key: pem })),
  v.minLength(1),
  v.check((pairs) => arePairsBounded(pairs), 'expected fewer or shorter certificates'),
);

const protocolOptions = v.object({
  path: v.pipe(v.string(), v.maxLength(PATH_CHARACTERS_MAX), v.regex(PATH_PATTERN)),
  host: v.nullable(v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX), v.regex(HOST_HEADER_PATTERN))),
  hostHeader: v.nullable(
    v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX + 6), v.regex(HOST_HEADER_PATTERN)),
  ),
  banner: v.nullable(v.pipe(v.string(), v.maxBytes(BANNER_BYTES_MAX))),
  message: v.nullable(v.pipe(v.string(), v.minLength(1), v.maxBytes(WS_MESSAGE_BYTES_MAX))),
  httpStatus: v.nullable(whole(200, 599)),
  tls: v.object({
    servername: v.nullable(v.pipe(v.string(), v.maxLength(HOST_CHARACTERS_MAX), v.regex(SERVERNAME_PATTERN))),
    ca: v.nullable(v.pipe(v.string(), v.maxLength(CA_CHARACTERS_MAX))),
    isVerified: v.boolean(),
    pairs: v.exactOptional(certificatePairs),
    alpn: v.exactOptional(
      v.pipe(
        v.array(v.pipe(v.string(), v.check(isAlpnName, 'expected a name'))),
        v.minLength(1),
        v.maxLength(ALPN_MAX),
      ),
    ),
    resumes: v.exactOptional(v.literal(true)),
  }),
  request: v.exactOptional(requestOptions),
  mqtt: v.exactOptional(mqttOptions),
  traffic: v.exactOptional(trafficOptions),
});

const proxyHeader = v.object({
  version: v.picklist(PROXY_VERSIONS),
  clients: v.nullable(
    v.pipe(
      v.string(),
      v.maxLength(ADDRESS_CHARACTERS_MAX),
      v.check((clients) => clientsProblem(clients, '') === null, 'expected an address or a network'),
    ),
  ),
});

const reopenWait = duration(0, REOPEN_WAIT_MS_MAX);
const reopen = v.object({
  kind: v.picklist(['immediate', 'fixed', 'backoff']),
  firstMs: reopenWait,
  mostMs: reopenWait,
  jitter: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
});
const stage = v.object({
  durationMs: duration(0, RunBound.holdMs),
  connections: whole(0, RunBound.connections),
});
const life = duration(RunBound.lifeMsMin, RunBound.holdMs);
const churn = v.variant('kind', [
  v.object({ kind: v.literal('rate'), perSec: rate }),
  v.object({ kind: v.picklist(['fixed', 'exp']), ms: life }),
  v.pipe(
    v.object({ kind: v.literal('uniform'), fromMs: life, toMs: life }),
    v.check(({ fromMs, toMs }) => fromMs <= toMs, 'expected fromMs up to toMs'),
  ),
]);

/** No address, device, network, port or number of processes of the agent's host: who sends one is not heard. */
const sharedSpec = v.object({
  endpoints: v.pipe(
    v.array(endpoint),
    v.minLength(1),
    v.maxLength(RunBound.endpoints),
    v.check((endpoints) => areDistinct(endpoints), 'expected each endpoint once'),
    v.check((endpoints) => zoneProblem(endpoints) === null, 'expected endpoints of one zone'),
  ),
  protocol: v.picklist(PROTOCOL_NAMES),
  protocolOptions: v.exactOptional(protocolOptions),
  proxyHeader: v.exactOptional(proxyHeader),
  connections,
  ratePerSec: v.nullable(rate),
  pendingMax,
  connectTimeoutMs: duration(RunBound.answerMsMin, RunBound.answerMs),
  holdMs: duration(0, RunBound.holdMs),
  close: v.picklist(['fin', 'rst']),
  probeEveryMs: v.nullable(duration(RunBound.probeEveryMsMin, RunBound.probeEveryMs)),
  probeTimeoutMs: duration(RunBound.answerMsMin, RunBound.answerMs),
  onDrop: v.picklist(['count', 'reopen']),
  reopen: v.exactOptional(reopen),
  backendFrom: v.exactOptional(
    v.pipe(
      v.string(),
      v.maxLength(BACKEND_PATTERN_MAX),
      v.check((pattern) => backendExpression(pattern) !== null, 'expected an expression with one group'),
    ),
  ),
  wantsLossDetails: v.boolean(),
  stages: v.exactOptional(v.pipe(v.array(stage), v.minLength(1), v.maxLength(STAGES_MAX))),
  closeOrder: v.exactOptional(v.picklist(['newest', 'oldest'])),
  churn: v.exactOptional(churn),
});

const spec = v.pipe(
  v.object({
    type: v.literal('spec'),
    runId: name,
    /** grows with each agent that joins: one that comes back after its lease gets a new one */
    epoch,
    spec: sharedSpec,
    /** a lost agent's quota may come on top later: leave tuples free for it */
    mayGrow: v.boolean(),
    /** stats may say of a histogram what came to it (`grown`); absent: from a coordinator that would leave that out */
    takesGrowth: v.exactOptional(v.boolean()),
    /** what the run calls this agent: another one may have its name; absent: as it calls itself */
    agent: v.exactOptional(visible(RUN_NAME_CHARACTERS_MAX)),
    leaseMs: duration(RunBound.quietMsMin, RunBound.leaseMs),
    quietMs: duration(RunBound.quietMsMin, RunBound.leaseMs),
  }),
  v.check(
    ({ spec: { stages, connections } }) => stages === undefined || peakOf(stages) === connections,
    'expected the peak of the stages as connections',
  ),
  v.check(({ leaseMs, quietMs }) => quietMs < leaseMs, 'expected quietMs below leaseMs'),
);

/** Each growth brings a few. */
const SHARES_MAX = 4_096;
const loadShare = v.object({
  from: whole(0, RunBound.connections),
  to: whole(0, RunBound.connections),
});

function areShares(shares: readonly LoadShare[], connections: number): boolean {
  const sorted = shares.toSorted((a, b) => a.from - b.from);
  let [end, sum] = [0, 0];
  for (const { from, to } of sorted) {
    if (from < end || to < from) return false;
    end = to;
    sum += to - from;
  }
  return sum === connections;
}

/** Of a quota of 0 the parts are 0 as well. */
const noPart = v.literal(0);
const quota = v.pipe(
  v.object({
    type: v.literal('quota'),
    connections: whole(0, RunBound.connections),
    ratePerSec: v.nullable(v.union([rate, noPart])),
    pendingMax: whole(0, RunBound.connections),
    /** with stages or made-up clients: which connections of the run these are, in the order in which they came to the agent */
    shares: v.exactOptional(v.pipe(v.array(loadShare), v.maxLength(SHARES_MAX))),
  }),
  v.check(
    ({ connections, shares }) => shares === undefined || areShares(shares, connections),
    'expected shares of as many connections, none twice',
  ),
  v.check(
    (said) => said.connections === 0 || (said.ratePerSec !== 0 && said.pendingMax > 0),
    'expected a rate and pendingMax above 0 for a quota above 0',
  ),
);

/** What the coordinator may say. */
export type CoordinatorMessage =
  | {
      readonly type: 'spec';
      readonly runId: string;
      readonly epoch: number;
      readonly spec: SharedSpec;
      readonly mayGrow: boolean;
      readonly takesGrowth?: boolean;
      readonly agent?: string;
      readonly leaseMs: number;
      readonly quietMs: number;
    }
  | {
      readonly type: 'quota';
      readonly connections: number;
      readonly ratePerSec: number | null;
      readonly pendingMax: number;
      readonly shares?: readonly LoadShare[];
    }
  | { readonly type: 'renew'; readonly sentAtMs: number }
  | { readonly type: 'start'; readonly elapsedMs?: number }
  | { readonly type: 'resumed' }
  | { readonly type: 'stop-opening' }
  | { readonly type: 'hold' }
  | { readonly type: 'stop'; readonly reason: string }
  | { readonly type: 'counted' }
  | { readonly type: 'verdict'; readonly text: string };
export type CoordinatorMessageOf<Type extends CoordinatorMessage['type']> = Extract<
  CoordinatorMessage,
  { readonly type: Type }
>;

/** Checks what the coordinator says. */
export const coordinatorMessageSchema = v.variant('type', [
  spec,
  quota,
  /** `elapsedMs`: how long the run has gone on for others; absent: not at all */
  v.object({ type: v.literal('start'), elapsedMs: v.exactOptional(milliseconds) }),
  /** the lease counts from here: the `sentAtMs` of the stats that this answers */
  v.object({ type: v.literal('renew'), sentAtMs: milliseconds }),
  v.object({ type: v.literal('resumed') }),
  v.object({ type: v.literal('stop-opening') }),
  v.object({ type: v.literal('hold') }),
  v.object({ type: v.literal('stop'), reason: text(NAME_CHARACTERS_MAX) }),
  /** `done` is read: nothing of it needs to be said again */
  v.object({ type: v.literal('counted') }),
  /** the run is over for all: its verdict, for a person */
  v.object({ type: v.literal('verdict'), text: text(VERDICT_CHARACTERS_MAX) }),
]) satisfies v.GenericSchema<unknown, CoordinatorMessage>;
