/**
 * Owns one simulated run from its seed: the real coordinator and the real agents of a few hosts, with simulated holders, target
 * and network, and the faults that the seed draws. Must never judge (invariants.ts).
 */
import { runAgent } from '../../src/agent/agent.ts';
import { agentToken, generateToken, type Token } from '../../src/control/token.ts';
import { NeverRanError } from '../../src/coordinator/expected-agents.ts';
import { Run } from '../../src/coordinator/run.ts';
import type { RunOptions } from '../../src/coordinator/run-settings.ts';
import { OWNER_ALLOWANCE } from '../../src/plan/allowance.ts';
import { LEASE_TIMES } from '../../src/run/lease.ts';
import type { LossPolicy, RunSpec, SourceSpec } from '../../src/run/run-spec.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { type Cast, COORDINATOR_HOST, drawFaults, type Fault } from './faults.ts';
import { Invariants } from './invariants.ts';
import { Random } from './random.ts';
import type { SimProcess } from './virtual-time.ts';
import { CONNECT_MS_MAX, enterWorld, World } from './world.ts';

const PORT = 7_000;
const HOST_NAMES = ['a', 'b', 'd', 'e'] as const;
/** Few, because each plan makes a table of them. */
const PORTS = { from: 20_000, to: 20_099 };
/** For all agents, in a run that takes its time and in another one. */
const WAIT_AGENTS_LONG_MS = 30_000;
const WAIT_AGENTS_MS = 10_000;
const JOIN_TIMEOUT_MS = 6_000;
/** How many runs take their time. */
const LONG_SHARE = 0.3;
/** How many runs add addresses to their hosts, and how many addresses. */
const ALIASES_SHARE = 0.25;
const ALIASES_MAX = 4;
const ALIAS_LEASE_MS = 60_000;
/** How long an agent that is over may take to give back what it added: a lock and some slow calls of `ip`. */
const GIVE_BACK_MS = 40_000;
const GIVE_BACK_LOOK_MS = 100;
/** From the last join to the start, and what an end may take. */
const READY_MS = 2_000;
const LOOK_EVERY_MS = 500;
/**
 * By when a run and everything of it must be over after the last fault has healed: agents are waited for, get ready, open (two
 * connect timeouts at most), hold, drain, and each end may wait for the lease of another once more.
 */
const END_WITHIN_MS = 420_000;

/** What a seed came to. */
export interface Outcome {
  readonly seed: number;
  readonly violations: readonly string[];
  /** faults that the seed draws */
  readonly faultsDrawn: number;
  /** in words; faults and lines of the run */
  readonly trace: readonly string[];
  readonly events: number;
  /** another history has another one */
  readonly digest: number;
  readonly virtualMs: number;
  /** the verdict, or that there was no run */
  readonly ending: string;
}

/** What one seed decides before the run begins. */
interface Scenario {
  readonly hosts: readonly [string, ...string[]];
  readonly spec: RunSpec;
  readonly onAgentLoss: LossPolicy;
  readonly joinsAtMs: readonly number[];
  readonly waitAgentsMs: number;
  readonly holders: number;
  /** addresses that each agent adds to its host; 0: none */
  readonly aliases: number;
  /** within what time the target answers */
  readonly connectMsMax: number;
  readonly faults: readonly Fault[];
}

function drawScenario(seed: number): Scenario {
  const random = new Random(seed);
  const count = random.whole(1, HOST_NAMES.length);
  const [first = 'a', ...more] = HOST_NAMES.slice(0, count);
  const hosts: readonly [string, ...string[]] = [first, ...more];
  const connections = random.whole(1, 60);
  // Most runs are short, so that many fit into a minute; what takes its time goes wrong in the others.
  const isLong = random.isLucky(LONG_SHARE);
  const rampSec = random.isLucky(0.7) ? random.between(0.5, isLong ? 25 : 5) : null;
  const holdMs = random.whole(1_000, isLong ? 15_000 : 4_000);
  const latestJoinMs = isLong ? 20_000 : 3_000;
  const joinsAtMs = hosts.map(() => random.between(0, random.isLucky(0.7) ? 500 : latestJoinMs));
  // Later there is nothing left that could go wrong.
  const faultsWithinMs = Math.max(...joinsAtMs) + READY_MS + (rampSec ?? 0) * 1_000 + holdMs;
  const aliases = random.isLucky(ALIASES_SHARE) ? random.whole(1, ALIASES_MAX) : 0;
  return {
    hosts,
    aliases,
    spec: runSpec({
      endpoints: [{ address: '127.0.0.1', port: 8_000, family: 4 }],
      connections,
      ratePerSec: rampSec === null ? null : Math.max(1, connections / rampSec),
      pendingMax: random.whole(1, 40),
      connectTimeoutMs: random.of([2_000, 5_000]),
      holdMs,
      onDrop: random.of(['count', 'reopen']),
    }),
    onAgentLoss: random.of(['fail', 'continue', 'replace']),
    joinsAtMs,
    waitAgentsMs: isLong ? WAIT_AGENTS_LONG_MS : WAIT_AGENTS_MS,
    holders: random.whole(1, 3),
    connectMsMax: random.isLucky(0.7) ? CONNECT_MS_MAX : random.between(100, 1_500),
    faults: drawFaults(random, hosts, faultsWithinMs, aliases > 0),
  };
}

/** One run; made for each seed. */
class Simulation implements Cast {
  readonly coordinator: SimProcess;
  readonly #world: World;
  readonly #scenario: Scenario;
  readonly #token: Token = generateToken();
  readonly #invariants: Invariants;
  readonly #run: Run;
  readonly #agents = new Map<string, SimProcess>();
  ending = 'no end';

  constructor(world: World, scenario: Scenario) {
    this.#world = world;
    this.#scenario = scenario;
    const random = new Random(scenario.spec.connections, 2);
    world.addHost(COORDINATOR_HOST, random.between(0, 1e6));
    for (const host of scenario.hosts) world.addHost(host, random.between(0, 1e6));
    this.#invariants = new Invariants(world, scenario.spec.connections, LEASE_TIMES, (agent) =>
      this.#hostOf(agent),
    );
    world.watch = this.#invariants;
    world.connectMsMax = scenario.connectMsMax;
    this.coordinator = world.spawn('coordinator', COORDINATOR_HOST);
    world.time.current = this.coordinator;
    this.#run = new Run(this.#runOptions());
  }

  /** Of the same name on two hosts one has a number: both are on hosts that are called like it, or it is a stranger. */
  #hostOf(agent: string): string {
    return this.#hosts.get(agent) ?? agent.replace(/[-#].*$/, '');
  }

  readonly #hosts = new Map<string, string>();

  #runOptions(): RunOptions {
    const { spec, hosts, onAgentLoss, waitAgentsMs } = this.#scenario;
    return {
      spec,
      targetText: ['tcp://127.0.0.1:8000'],
      entryPath: '',
      toolVersion: '0.0.0',
      clock: this.#world.clockOf(COORDINATOR_HOST),
      listen: { host: '10.0.0.1', port: PORT },
      token: this.#token,
      hasLocalAgent: false,
      remoteAgents: hosts.length,
      waitAgentsMs,
      onAgentLoss,
      ssh: null,
      onProgress: () => {},
      onNote: (line) => this.#world.note(`run: ${line}`),
      onListening: () => {},
      onRecord: (entry) => this.#invariants.onRecord(entry),
    };
  }

  begin(): void {
    const { time } = this.#world;
    time.after(0, this.coordinator, () => void this.#coordinate());
    for (const [index, host] of this.#scenario.hosts.entries())
      time.after(this.#scenario.joinsAtMs[index] ?? 0, this.#world.outside, () =>
        this.startAgent(host, host),
      );
    for (const fault of this.#scenario.faults) this.#plan(fault);
    const look = (): void => {
      this.#invariants.look();
      time.after(LOOK_EVERY_MS, this.#world.outside, look);
    };
    look();
  }

  #plan(fault: Fault): void {
    const { time, outside } = this.#world;
    time.after(fault.atMs, outside, () => {
      this.#world.note(`fault: ${fault.what}`);
      fault.begin(this.#world, this);
    });
    if (fault.end === undefined) return;
    time.after(fault.endMs, outside, () => {
      this.#world.note(`healed: ${fault.what}`);
      fault.end?.(this.#world, this);
    });
  }

  async #coordinate(): Promise<void> {
    try {
      const report = await this.#run.start();
      this.ending = report.verdict;
      this.#world.note(`run: ${report.verdict}: ${report.reason}`);
      this.#invariants.onReport(report);
      this.#checkUntouched(report.verdict);
    } catch (error) {
      if (!(error instanceof NeverRanError)) throw error;
      this.ending = 'never ran';
      this.#world.note(`run: ${error.message}`);
      this.#checkUntouched(this.ending);
    }
    this.coordinator.die();
  }

  /** Where nothing went wrong, nothing is missing. */
  #checkUntouched(ending: string): void {
    if (this.#scenario.faults.length === 0 && ending !== 'pass')
      this.#invariants.broken(`a run without faults comes to: ${ending}`);
  }

  /** An error that no code has caught would have ended the process. */
  threw(error: unknown): void {
    this.#invariants.broken(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  agentOn(host: string): SimProcess | undefined {
    const agent = this.#agents.get(host);
    return agent?.state === 'dead' ? undefined : agent;
  }

  startAgent(host: string, name: string): void {
    const process = this.#world.spawn(`agent ${name} on ${host}`, host);
    if (this.agentOn(host) === undefined) this.#agents.set(host, process);
    this.#world.note(`agent ${name} starts on ${host}`);
    this.#world.time.after(0, process, () => void this.#serve(process, host, name));
  }

  #sourcesOf(host: string): SourceSpec {
    const { spec, aliases, hosts } = this.#scenario;
    const own = { ...spec.sources, ports: [PORTS] };
    if (aliases === 0) return own;
    const number = hosts.indexOf(host);
    const addresses = Array.from({ length: aliases }, (_, index) => `10.1.${number}.${index + 1}`);
    return { ...own, addresses, aliasDevice: 'eth0', aliasLeaseMs: ALIAS_LEASE_MS };
  }

  /** A process ends when it has nothing left to do. */
  async #untilGivenBack(process: SimProcess): Promise<void> {
    const { ip, mayLeaveAliases } = this.#world.host(process.host);
    const isLeft = (): boolean =>
      (ip.records.get(process) ?? []).some(({ address }) => ip.aliases.includes(address));
    for (let waitedMs = 0; isLeft() && waitedMs < GIVE_BACK_MS; waitedMs += GIVE_BACK_LOOK_MS)
      await this.#world.sleep(GIVE_BACK_LOOK_MS);
    if (isLeft() && !mayLeaveAliases)
      this.#invariants.broken(`${process.name} does not give back what it has added to its host`);
  }

  async #serve(process: SimProcess, host: string, name: string): Promise<void> {
    const { holders } = this.#scenario;
    try {
      const code = await runAgent({
        host: '10.0.0.1',
        port: PORT,
        token: agentToken(this.#token, { name, expiresSec: null, targets: null }),
        name,
        entryPath: '',
        clock: this.#world.clockOf(host),
        allowance: OWNER_ALLOWANCE,
        hostSpec: { sources: this.#sourcesOf(host), holders, engine: 'epoll' },
        stay: false,
        joinTimeoutMs: JOIN_TIMEOUT_MS,
        partialReportPath: null,
        onNote: (line) => this.#world.note(`${line}`),
      });
      this.#world.note(`${process.name} ends with ${code}`);
    } catch (error) {
      this.#world.note(`${process.name} ends: ${error instanceof Error ? error.message : error}`);
    }
    await this.#untilGivenBack(process);
    process.die();
  }

  interrupt(): void {
    if (this.coordinator.state !== 'dead') this.#run.interrupt('SIGINT');
  }

  get isOver(): boolean {
    return this.#world.processes.every(({ state }) => state === 'dead');
  }

  get violations(): readonly string[] {
    return this.#invariants.violations;
  }

  finish(): void {
    this.#invariants.onEnd();
  }
}

let onUncaught: (error: unknown) => void = () => {};
process.on('unhandledRejection', (error) => onUncaught(error));

/**
 * Simulates the run of a seed.
 * @param faultsMax only so many of its faults, the first ones; Infinity: all
 */
export async function simulate(seed: number, faultsMax = Number.POSITIVE_INFINITY): Promise<Outcome> {
  const drawn = drawScenario(seed);
  const faults = drawn.faults.slice(0, faultsMax);
  const world = new World(seed);
  enterWorld(world);
  const simulation = new Simulation(world, { ...drawn, faults });
  onUncaught = (error) => simulation.threw(error);
  simulation.begin();
  const healedMs = Math.max(0, ...drawn.joinsAtMs, ...faults.map(({ endMs }) => endMs));
  world.time.onError = (error) => simulation.threw(error);
  await world.time.run(
    healedMs + END_WITHIN_MS,
    () => simulation.violations.length > 0 || (world.time.nowMs > healedMs && simulation.isOver),
  );
  if (simulation.violations.length === 0) simulation.finish();
  return {
    seed,
    violations: simulation.violations,
    faultsDrawn: drawn.faults.length,
    trace: world.trace,
    events: world.time.events,
    digest: world.time.digest,
    virtualMs: world.time.nowMs,
    ending: simulation.ending,
  };
}
