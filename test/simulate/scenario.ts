/**
 * Owns what a seed decides before a simulated run begins: hosts, agents and what is asked of them, and what goes wrong when. Must never touch
 * a world.
 */
import { IMMEDIATE, type ReopenPolicy } from '../../src/run/reopen-policy.ts';
import type { Churn, DropPolicy, LossPolicy, RunSpec } from '../../src/run/run-spec.ts';
import { holdFromMsOf, lengthMsOf, peakOf, type Stage } from '../../src/run/schedule.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { COORDINATOR_HOST, drawFaults, type Fault } from './faults.ts';
import { Random } from './random.ts';
import { CONNECT_MS_MAX } from './world.ts';

const HOST_NAMES = ['a', 'b', 'd', 'e'] as const;
/** For all agents, in a run that takes its time and in another one. */
const WAIT_AGENTS_LONG_MS = 30_000;
const WAIT_AGENTS_MS = 10_000;
/** How many runs take their time. */
const LONG_SHARE = 0.3;
/** How many runs add addresses to their hosts, and how many addresses. */
const ALIASES_SHARE = 0.25;
const ALIASES_MAX = 4;
/** How many runs have a load that changes, a local agent, agents that stay. */
const CHANGING_SHARE = 0.3;
const LOCAL_SHARE = 0.15;
const STAY_SHARE = 0.1;
/** As the pods of a Job do, on few hosts. */
const FLEET_JOINS_WITHIN_MS = 10_000;
/** From the last join to the start, and what an end may take. */
const READY_MS = 2_000;
/** Runs that agents which stay serve one after the other, and how long after the end of one the next may begin. */
const RUNS_MAX = 2;
const NEXT_AFTER_MS_MAX = 5_000;

/** What one seed decides before the run begins. */
export interface Scenario {
  /** of agents that join by themselves */
  readonly hosts: readonly string[];
  readonly hasLocalAgent: boolean;
  readonly spec: RunSpec;
  readonly onAgentLoss: LossPolicy;
  /** of each host */
  readonly joinsAtMs: readonly number[];
  readonly waitAgentsMs: number;
  readonly holders: number;
  /** addresses that each agent adds to its host; 0: none */
  readonly aliases: number;
  /** within what time the target answers */
  readonly connectMsMax: number;
  /** runs, one after the other: with more than one the agents stay */
  readonly runs: number;
  readonly staysFor: boolean;
  readonly nextAfterMs: number;
  readonly faults: readonly Fault[];
}

/** What goes up, stays and goes down again; at least one stage is flat in most. */
function drawStages(random: Random, isLong: boolean): readonly Stage[] {
  const most = random.whole(2, 60);
  const count = random.whole(2, 5);
  const stages: Stage[] = [];
  let before = 0;
  for (let index = 0; index < count; index += 1) {
    const isFlat = before > 0 && random.isLucky(0.6);
    const connections = isFlat ? before : random.whole(index === 0 ? 1 : 0, most);
    const durationMs = random.isLucky(0.1) ? 0 : random.whole(500, isLong ? 8_000 : 2_500);
    stages.push({ connections, durationMs });
    before = connections;
  }
  return lengthMsOf(stages) > 0 ? stages : [...stages, { connections: before, durationMs: 2_000 }];
}

function drawChurn(random: Random): Churn {
  switch (random.whole(0, 3)) {
    case 0:
      return { kind: 'rate', perSec: random.between(0.5, 20) };
    case 1:
      return { kind: 'fixed', ms: random.whole(500, 10_000) };
    case 2:
      return { kind: 'exp', ms: random.whole(500, 10_000) };
    default:
      return { kind: 'uniform', fromMs: random.whole(300, 2_000), toMs: random.whole(2_000, 8_000) };
  }
}

type Load = Pick<RunSpec, 'connections' | 'holdMs' | 'stages' | 'churn' | 'closeOrder'>;

function drawLoad(random: Random, isLong: boolean): Load {
  const connections = random.whole(1, 60);
  const holdMs = random.whole(1_000, isLong ? 15_000 : 4_000);
  if (!random.isLucky(CHANGING_SHARE)) return { connections, holdMs };
  const hasStages = random.isLucky(0.6);
  const churn = !hasStages || random.isLucky(0.4) ? { churn: drawChurn(random) } : {};
  if (!hasStages) return { connections, holdMs, ...churn };
  const stages = drawStages(random, isLong);
  return {
    connections: peakOf(stages),
    holdMs: lengthMsOf(stages) - holdFromMsOf(stages),
    stages,
    closeOrder: random.of(['newest', 'oldest']),
    ...churn,
  };
}

function drawReopen(random: Random): { onDrop: DropPolicy; reopen?: ReopenPolicy } {
  if (random.isLucky(0.5)) return { onDrop: 'count' };
  const jitter = random.of([0, 0.5, 1]);
  const firstMs = random.whole(100, 2_000);
  switch (random.whole(0, 3)) {
    case 0:
      return { onDrop: 'reopen' };
    case 1:
      return { onDrop: 'reopen', reopen: { ...IMMEDIATE, jitter } };
    case 2:
      return { onDrop: 'reopen', reopen: { kind: 'fixed', firstMs, mostMs: firstMs, jitter } };
    default:
      return { onDrop: 'reopen', reopen: { kind: 'backoff', firstMs, mostMs: firstMs * 8, jitter } };
  }
}

/** What a seed decides. */
export function drawScenario(seed: number): Scenario {
  const random = new Random(seed);
  const hasLocalAgent = random.isLucky(LOCAL_SHARE);
  const hosts: readonly string[] = HOST_NAMES.slice(
    0,
    random.whole(hasLocalAgent ? 0 : 1, hasLocalAgent ? 2 : 4),
  );
  // Most runs are short, so that many fit into a minute; what takes its time goes wrong in the others.
  const isLong = random.isLucky(LONG_SHARE);
  const load = drawLoad(random, isLong);
  const rampSec = random.isLucky(0.7) ? random.between(0.5, isLong ? 25 : 5) : null;
  const latestJoinMs = isLong ? 20_000 : 3_000;
  const joinsAtMs = hosts.map(() => random.between(0, random.isLucky(0.7) ? 500 : latestJoinMs));
  const loadMs = load.stages === undefined ? (rampSec ?? 0) * 1_000 + load.holdMs : lengthMsOf(load.stages);
  const aliases = random.isLucky(ALIASES_SHARE) ? random.whole(1, ALIASES_MAX) : 0;
  const staysFor = hosts.length > 0 && random.isLucky(STAY_SHARE);
  const runs = staysFor ? random.whole(1, RUNS_MAX) : 1;
  const nextAfterMs = random.between(0, NEXT_AFTER_MS_MAX);
  // Later there is nothing left that could go wrong.
  const oneRunMs = READY_MS + loadMs;
  const withinMs = Math.max(0, ...joinsAtMs) + runs * oneRunMs + (runs - 1) * nextAfterMs;
  return {
    hosts,
    hasLocalAgent,
    aliases,
    spec: runSpec({
      endpoints: [{ address: '127.0.0.1', port: 8_000, family: 4 }],
      ...load,
      ratePerSec:
        rampSec === null || load.stages !== undefined ? null : Math.max(1, load.connections / rampSec),
      pendingMax: random.whole(1, 40),
      connectTimeoutMs: random.of([2_000, 5_000]),
      ...drawReopen(random),
    }),
    onAgentLoss: random.of(['fail', 'continue', 'replace']),
    joinsAtMs,
    waitAgentsMs: isLong ? WAIT_AGENTS_LONG_MS : WAIT_AGENTS_MS,
    holders: random.whole(1, 3),
    connectMsMax: random.isLucky(0.7) ? CONNECT_MS_MAX : random.between(100, 1_500),
    runs,
    staysFor,
    nextAfterMs,
    faults: drawFaults(random, {
      hosts: hasLocalAgent ? [...hosts, COORDINATOR_HOST] : hosts,
      withinMs,
      hasAliases: aliases > 0,
      aliasesOf: (host) => aliasesOf(hosts, host, aliases),
    }),
  };
}

/**
 * So many agents with a connection each, which nothing goes wrong for.
 * @param holdMs how long all of them are held
 */
export function fleetScenario(agents: number, holdMs: number): Scenario {
  const hosts = Array.from({ length: agents }, (_, index) => `h${index}`);
  return {
    hosts,
    hasLocalAgent: false,
    aliases: 0,
    spec: runSpec({
      endpoints: [{ address: '127.0.0.1', port: 8_000, family: 4 }],
      connections: agents,
      holdMs,
      ratePerSec: null,
      pendingMax: agents,
      connectTimeoutMs: 5_000,
      onDrop: 'count',
    }),
    onAgentLoss: 'continue',
    joinsAtMs: hosts.map((_, index) => (index / agents) * FLEET_JOINS_WITHIN_MS),
    waitAgentsMs: WAIT_AGENTS_LONG_MS,
    holders: 1,
    connectMsMax: CONNECT_MS_MAX,
    runs: 1,
    staysFor: false,
    nextAfterMs: 0,
    faults: [],
  };
}

/** Addresses that the agent of a host adds to it. */
export function aliasesOf(hosts: readonly string[], host: string, count: number): readonly string[] {
  const number = hosts.indexOf(host) + 1;
  return Array.from({ length: count }, (_, index) => `10.1.${number}.${index + 1}`);
}
