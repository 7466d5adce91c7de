/**
 * Owns one simulated history from its seed: the real coordinators and the real agents of a few hosts, with simulated holders, target
 * and network, and the faults that the seed draws. Must never judge (invariants.ts).
 */
import { runAgent } from '../../src/agent/agent.ts';
import { agentToken, generateToken, type Token } from '../../src/control/token.ts';
import { LOCAL_AGENT } from '../../src/coordinator/run-settings.ts';
import { OWNER_ALLOWANCE } from '../../src/plan/allowance.ts';
import { type HostSpec, isChanging, type SourceSpec } from '../../src/run/run-spec.ts';
import type { Phase } from '../../src/stats/stats.ts';
import { type Cast, COORDINATOR_HOST, type Fault } from './faults.ts';
import { Random } from './random.ts';
import { aliasesOf, drawScenario, fleetScenario, type Scenario } from './scenario.ts';
import { PORT, SimRun } from './sim-run.ts';
import type { SimProcess } from './virtual-time.ts';
import { CONNECT_MS_MAX, enterWorld, World } from './world.ts';

/** Few, because each plan makes a table of them. */
const PORTS = { from: 20_000, to: 20_099 };
const JOIN_TIMEOUT_MS = 6_000;
const ALIAS_LEASE_MS = 60_000;
/** How long an agent that is over may take to give back what it added: a lock and some slow calls of `ip`. */
const GIVE_BACK_MS = 40_000;
const GIVE_BACK_LOOK_MS = 100;
const LOOK_EVERY_MS = 500;
/** After the last run agents that stay are told to end. */
const LEAVE_AFTER_MS = 1_000;
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
  /** the verdict of the last run, or that there was none */
  readonly ending: string;
}

/** One history; made for each seed. */
class Simulation implements Cast {
  readonly #world: World;
  readonly #scenario: Scenario;
  readonly #token: Token = generateToken();
  readonly #agents = new Map<string, SimProcess>();
  readonly #runs: SimRun[] = [];
  readonly #inPhase: { readonly phase: Phase; readonly afterMs: number; readonly call: () => void }[] = [];
  ending = 'no end';

  constructor(world: World, scenario: Scenario) {
    this.#world = world;
    this.#scenario = scenario;
    const random = new Random(scenario.spec.connections, 2);
    for (const host of [COORDINATOR_HOST, ...scenario.hosts]) world.addHost(host, random.between(0, 1e6));
    world.connectMsMax = scenario.connectMsMax;
    world.onForked = (process, { name, token, hostSpec }) => {
      this.#agents.set(process.host, process);
      void this.#serve(process, { name, token, hostSpec, stay: false });
    };
    this.#addRun();
  }

  /** Of the same name on two hosts one has a number: both are on hosts that are called like it, or it is a stranger. */
  #hostOf(agent: string): string {
    return agent === LOCAL_AGENT ? COORDINATOR_HOST : agent.replace(/[-#].*$/, '');
  }

  get coordinator(): SimProcess {
    return this.#run.process;
  }

  /** The newest one. */
  get #run(): SimRun {
    const run = this.#runs.at(-1);
    if (run === undefined) throw new Error('a simulation has a run');
    return run;
  }

  #addRun(): void {
    const run = new SimRun({
      world: this.#world,
      scenario: this.#scenario,
      token: this.#token,
      sources: this.#sourcesOf(COORDINATOR_HOST),
      hostOf: (agent) => this.#hostOf(agent),
      onPhase: (phase) => this.#entered(phase),
      onOver: (ending) => this.#over(run, ending),
    });
    this.#runs.push(run);
    this.#world.time.after(0, run.process, () => void run.start());
  }

  #entered(phase: Phase): void {
    for (const each of this.#inPhase.splice(0)) {
      if (each.phase !== phase) this.#inPhase.push(each);
      else this.#world.time.after(each.afterMs, this.#world.outside, each.call);
    }
  }

  readonly #ended = new Set<SimRun>();

  #over(run: SimRun, ending: string): void {
    if (this.#ended.has(run)) return;
    this.#ended.add(run);
    this.ending = ending;
    const { faults, runs, staysFor, nextAfterMs, spec, connectMsMax } = this.#scenario;
    // Where nothing went wrong, nothing is missing. A stage may be too short for a target that takes its time.
    const isInTime = !isChanging(spec) || connectMsMax <= CONNECT_MS_MAX;
    if (faults.length === 0 && isInTime && ending !== 'pass')
      run.invariants.broken(`a run without faults comes to: ${ending}`);
    const { time, outside } = this.#world;
    if (this.#runs.length < runs) time.after(nextAfterMs, outside, () => this.#addRun());
    else if (staysFor) time.after(LEAVE_AFTER_MS, outside, () => this.#dismiss());
  }

  /** Whoever serves run after run is told to end. */
  #dismiss(): void {
    const { time, processes, outside } = this.#world;
    for (const process of processes)
      if (process.state !== 'dead') time.after(0, process, () => void process.emit('SIGTERM'));
    // Some may start even later.
    time.after(LEAVE_AFTER_MS, outside, () => this.#dismiss());
  }

  begin(): void {
    const { time, outside } = this.#world;
    for (const [index, host] of this.#scenario.hosts.entries())
      time.after(this.#scenario.joinsAtMs[index] ?? 0, outside, () => this.startAgent(host, host));
    for (const fault of this.#scenario.faults) this.#plan(fault);
    const look = (): void => {
      for (const { invariants } of this.#runs) invariants.look();
      time.after(LOOK_EVERY_MS, outside, look);
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

  /** An error that no code has caught would have ended the process. */
  threw(error: unknown): void {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#run.invariants.broken(what);
  }

  agentOn(host: string): SimProcess | undefined {
    const agent = this.#agents.get(host);
    return agent?.state === 'dead' ? undefined : agent;
  }

  startAgent(host: string, name: string): void {
    const process = this.#world.spawn(`agent ${name} on ${host}`, host);
    if (this.agentOn(host) === undefined) this.#agents.set(host, process);
    this.#world.note(`agent ${name} starts on ${host}`);
    const { holders, staysFor } = this.#scenario;
    const token = agentToken(this.#token, { name, expiresSec: null, targets: null });
    const hostSpec: HostSpec = { sources: this.#sourcesOf(host), holders, engine: 'epoll' };
    this.#world.time.after(
      0,
      process,
      () => void this.#serve(process, { name, token, hostSpec, stay: staysFor }),
    );
  }

  #sourcesOf(host: string): SourceSpec {
    const { spec, aliases, hosts } = this.#scenario;
    const own = { ...spec.sources, ports: [PORTS] };
    if (aliases === 0) return own;
    const addresses = aliasesOf(hosts, host, aliases);
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
      this.#run.invariants.broken(`${process.name} does not give back what it has added to its host`);
  }

  async #serve(
    process: SimProcess,
    { name, token, hostSpec, stay }: { name: string; token: Token; hostSpec: HostSpec; stay: boolean },
  ): Promise<void> {
    try {
      const code = await runAgent({
        host: '10.0.0.1',
        port: PORT,
        token,
        name,
        entryPath: '',
        clock: this.#world.clockOf(process.host),
        allowance: OWNER_ALLOWANCE,
        hostSpec,
        stay,
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
    this.#run.interrupt();
  }

  whenIn(phase: Phase, afterMs: number, call: () => void): void {
    this.#inPhase.push({ phase, afterMs, call });
  }

  get isOver(): boolean {
    return (
      this.#ended.size >= this.#scenario.runs && this.#world.processes.every(({ state }) => state === 'dead')
    );
  }

  get violations(): readonly string[] {
    return this.#runs.flatMap(({ invariants }) => invariants.violations);
  }

  finish(): void {
    for (const { invariants } of this.#runs) invariants.onEnd();
  }
}

let onUncaught: (error: unknown) => void = () => {};
process.on('unhandledRejection', (error) => onUncaught(error));

/**
 * Simulates the history of a seed.
 * @param faultsMax only so many of its faults, the first ones; Infinity: all
 */
export async function simulate(seed: number, faultsMax = Number.POSITIVE_INFINITY): Promise<Outcome> {
  return await play(seed, drawScenario(seed), faultsMax);
}

/** Something to do at a moment of the hold. */
interface Visit {
  readonly afterMs: number;
  readonly call: () => void;
}

/**
 * Simulates many agents without a fault.
 * @param holdMs how long their connections are held
 * @param visits what is done after the begin of the hold
 */
export async function simulateFleet(
  agents: number,
  holdMs: number,
  visits: readonly Visit[],
): Promise<Outcome> {
  return await play(agents, fleetScenario(agents, holdMs), 0, visits);
}

async function play(
  seed: number,
  drawn: Scenario,
  faultsMax: number,
  visits: readonly Visit[] = [],
): Promise<Outcome> {
  const faults = drawn.faults.slice(0, faultsMax);
  const world = new World(seed);
  enterWorld(world);
  const simulation = new Simulation(world, { ...drawn, faults });
  onUncaught = (error) => simulation.threw(error);
  simulation.begin();
  for (const { afterMs, call } of visits) simulation.whenIn('holding', afterMs, call);
  const healedMs = Math.max(0, ...drawn.joinsAtMs, ...faults.map(({ endMs }) => endMs));
  world.time.onError = (error) => simulation.threw(error);
  await world.time.run(
    healedMs + END_WITHIN_MS * drawn.runs,
    () => world.isBroken || (world.time.nowMs > healedMs && simulation.isOver),
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
