/**
 * Owns one run with seeded faults: real agents of the real program, a coordinator process whose messages are recorded, a
 * target in this process that notes every connection. Must never judge (history.ts), and never leave a process behind.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { formatToken, generateToken } from '../../src/control/token.ts';
import type { RecordedMessage } from '../../src/coordinator/run-settings.ts';
import type { RunReport } from '../../src/judge/report.ts';
import type { LeaseTimes } from '../../src/run/lease.ts';
import type { LossPolicy } from '../../src/run/run-spec.ts';
import { systemClock } from '../../src/time/timer.ts';
import { ControlProxy, type Direction } from './control-proxy.ts';
import { COORDINATOR_ENTRY, type CoordinatorOrder } from './coordinator-entry.ts';
import type { History, SeenConnection } from './history.ts';
import { cliPath } from './run-cli.ts';

/** A third of the real ones, so that a minute is enough for many lost agents. */
export const HISTORY_LEASE: LeaseTimes = { quietMs: 1_500, leaseMs: 4_500, marginMs: 1_500 };

const AGENTS = ['ada', 'bob', 'cyd'] as const;
const TOTAL = 301;
const RATE_PER_SEC = 120;
const HOLD_MS = 4_000;
const WAIT_AGENTS_MS = 40_000;
/** How long an agent tries to reach a coordinator that is gone. */
const WAIT_COORDINATOR_MS = 5_000;
/** A run, the longest stop and a whole lease fit several times. */
const RUN_TIMEOUT_MS = 90_000;

/** Four processes load at once: of how many runs, and for how long at most they are waited for. */
const starts = pLimit(availableParallelism());
const START_MS_MAX = 15_000;

/** What seeing a connection takes on an idle machine, with room. */
const SIGHT_MS_MIN = 500;
const NS_PER_MS = 1e6;

/** One thing that goes wrong, at a time after the start. */
export type Fault = { readonly atMs: number } & (
  | { readonly type: 'agent-kill'; readonly agent: number; readonly restartAfterMs: number | null }
  | { readonly type: 'agent-stop'; readonly agent: number; readonly forMs: number }
  | {
      readonly type: 'stall';
      readonly agent: number;
      readonly forMs: number;
      readonly ways: readonly Direction[];
    }
  | { readonly type: 'cut'; readonly agent: number; readonly forMs: number }
  | { readonly type: 'slow'; readonly agent: number; readonly delayMs: number }
  | { readonly type: 'coordinator-stop'; readonly forMs: number }
  | { readonly type: 'coordinator-kill' }
);

export interface Scenario {
  readonly seed: number;
  readonly onAgentLoss: LossPolicy;
  /** whether the times of the faults count from the first process, or from the moment when all agents are here */
  readonly isFromStart: boolean;
  readonly faults: readonly Fault[];
}

/** A small generator of even numbers in [0, 1): the same seed gives the same list (mulberry32, public domain). */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The faults of a seed. */
export function scenarioOf(seed: number): Scenario {
  const random = randomOf(seed * 7_919);
  const among = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;
  const between = (from: number, to: number): number => Math.round(from + random() * (to - from));
  const { quietMs, leaseMs } = HISTORY_LEASE;
  const onAgentLoss = among<LossPolicy>(['replace', 'replace', 'continue', 'fail']);
  const isFromStart = random() < 0.15;
  const count = between(1, 3);
  const faults = Array.from({ length: count }, (): Fault => {
    const atMs = between(0, 6_000);
    const agent = between(0, AGENTS.length - 1);
    const forMs = among([between(100, quietMs), between(quietMs, leaseMs), between(leaseMs, 3 * leaseMs)]);
    const ways = among<readonly Direction[]>([['up'], ['up'], ['down'], ['up', 'down']]);
    return among<Fault>([
      { type: 'agent-kill', atMs, agent, restartAfterMs: random() < 0.5 ? between(200, 6_000) : null },
      { type: 'agent-stop', atMs, agent, forMs },
      { type: 'stall', atMs, agent, forMs, ways },
      { type: 'stall', atMs, agent, forMs, ways },
      { type: 'cut', atMs, agent, forMs },
      { type: 'slow', atMs, agent, delayMs: between(20, 400) },
      { type: 'coordinator-stop', atMs, forMs },
      { type: 'coordinator-kill', atMs },
    ]);
  });
  return { seed, onAgentLoss, isFromStart, faults: faults.sort((a, b) => a.atMs - b.atMs) };
}

export interface HistoryRun {
  readonly history: History;
  readonly report: RunReport | null;
  /** what coordinator and agents said */
  readonly log: string;
  /** processes that were still there after everything must have ended */
  readonly leftovers: readonly number[];
}

/** A target that notes when each connection came and went. */
class NotingTarget {
  readonly connections: SeenConnection[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((socket) => {
      const seen: SeenConnection = {
        openedMs: systemClock.monotonicMs(),
        closedMs: null,
        source: socket.remoteAddress ?? '',
        port: socket.remotePort ?? 0,
      };
      this.connections.push(seen);
      socket.on('error', () => {});
      socket.on('close', () => {
        seen.closedMs = systemClock.monotonicMs();
      });
      socket.resume();
    });
  }

  async listen(): Promise<number> {
    this.#server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 });
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  get openNow(): number {
    return this.connections.filter((each) => each.closedMs === null).length;
  }

  close(): void {
    this.#server.close();
  }
}

/** One agent process and the link that it uses. */
interface AgentPlace {
  readonly name: string;
  readonly source: string;
  readonly proxy: ControlProxy;
  readonly proxyPort: number;
  process: ChildProcess;
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.exitCode === null && child.signalCode === null) child.kill(name);
}

/** Plays one scenario to its end. */
class Play {
  readonly #scenario: Scenario;
  readonly #folder = mkdtempSync(join(tmpdir(), 'c100k-history-'));
  readonly #token = formatToken(generateToken());
  readonly #target = new NotingTarget();
  readonly #agents: AgentPlace[] = [];
  readonly #children: ChildProcess[] = [];
  /** how late this process, which is the target, does what is due */
  readonly #lag = monitorEventLoopDelay({ resolution: 10 });
  #log = '';
  #isOver = false;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
  }

  async run(): Promise<HistoryRun> {
    try {
      return await this.#play();
    } finally {
      this.#isOver = true;
      for (const child of this.#children) {
        signal(child, 'SIGKILL');
        signal(child, 'SIGCONT');
      }
      for (const { proxy } of this.#agents) proxy.close();
      this.#target.close();
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  async #play(): Promise<HistoryRun> {
    const targetPort = await this.#target.listen();
    const { reportPath, recordPath, ended, faults } = await starts(() => this.#begin(targetPort));
    const timeout = sleep(RUN_TIMEOUT_MS, 'late' as const, { ref: false });
    const exitCode = await Promise.race([ended, timeout]);
    if (exitCode === 'late') throw new Error(`the run did not end in ${RUN_TIMEOUT_MS} ms\n${this.#log}`);
    this.#isOver = true;
    await faults;
    const leftovers = await this.#waitForAgents();
    const report = existsSync(reportPath)
      ? (JSON.parse(readFileSync(reportPath, 'utf8')) as RunReport)
      : null;
    return { history: this.#history(recordPath, exitCode, report), report, log: this.#log, leftovers };
  }

  /** Starts all processes, and waits until the agents have joined; the faults go on after that. */
  async #begin(targetPort: number) {
    const { coordinator, port, reportPath, recordPath } = await this.#startCoordinator(targetPort);
    const gathered = once(coordinator, 'message');
    this.#lag.enable();
    for (const [index, name] of AGENTS.entries()) await this.#addAgent(name, index, port);
    const ended = new Promise<number | null>((resolve) => {
      if (coordinator.exitCode !== null) resolve(coordinator.exitCode);
      coordinator.once('exit', (code) => resolve(code));
    });
    const beginFaults = async (): Promise<void> => {
      if (!this.#scenario.isFromStart) await Promise.race([gathered, ended]);
      await Promise.all(this.#scenario.faults.map((fault) => this.#inflict(fault, coordinator)));
    };
    const faults = beginFaults();
    await Promise.race([gathered, ended, sleep(START_MS_MAX, null, { ref: false })]);
    return { reportPath, recordPath, ended, faults };
  }

  async #startCoordinator(targetPort: number) {
    const recordPath = join(this.#folder, 'records');
    const reportPath = join(this.#folder, 'report');
    const order: CoordinatorOrder = {
      targetPort,
      connections: TOTAL,
      ratePerSec: RATE_PER_SEC,
      holdMs: HOLD_MS,
      agents: AGENTS.length,
      waitAgentsMs: WAIT_AGENTS_MS,
      onAgentLoss: this.#scenario.onAgentLoss,
      lease: HISTORY_LEASE,
      recordPath,
      reportPath,
    };
    const coordinator = fork(COORDINATOR_ENTRY, [JSON.stringify(order)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: [],
      env: { ...process.env, C100K_TOKEN: this.#token },
    });
    this.#follow(coordinator, 'coordinator');
    const early = once(coordinator, 'exit').then(() => {
      throw new Error(`the coordinator ended before it listened\n${this.#log}`);
    });
    const [port] = (await Promise.race([once(coordinator, 'message'), early])) as [number];
    early.catch(() => {});
    return { coordinator, port, reportPath, recordPath };
  }

  async #addAgent(name: string, index: number, coordinatorPort: number): Promise<void> {
    const proxy = new ControlProxy(coordinatorPort);
    const proxyPort = await proxy.listen();
    const source = `127.7.${this.#scenario.seed % 250}.${index + 1}`;
    const process = this.#startAgent(name, source, proxyPort);
    this.#agents.push({ name, source, proxy, proxyPort, process });
  }

  #startAgent(name: string, source: string, proxyPort: number): ChildProcess {
    const partial = join(this.#folder, `${name}-partial.json`);
    const child = spawn(
      process.execPath,
      [
        ...[cliPath, 'agent', '--join', `127.0.0.1:${proxyPort}`, '--name', name, '--source-ip', source],
        ...['--holders', '1', '--partial-report', partial, '--wait-coordinator', `${WAIT_COORDINATOR_MS}ms`],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, C100K_TOKEN: this.#token } },
    );
    this.#follow(child, name);
    return child;
  }

  #follow(child: ChildProcess, who: string): void {
    this.#children.push(child);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.split('\n').filter(Boolean)) this.#note(`${who}: ${line}`);
    });
    child.on('exit', (code, by) => this.#note(`${who} ended: ${code ?? by}`));
  }

  #note(line: string): void {
    this.#log += `${Math.round(systemClock.monotonicMs())} ${line}\n`;
  }

  async #pause(ms: number): Promise<void> {
    for (let left = ms; left > 0 && !this.#isOver; left -= 100) await sleep(Math.min(100, left));
  }

  async #inflict(fault: Fault, coordinator: ChildProcess): Promise<void> {
    await this.#pause(fault.atMs);
    if (this.#isOver) return;
    this.#note(JSON.stringify(fault));
    switch (fault.type) {
      case 'coordinator-kill':
        signal(coordinator, 'SIGKILL');
        return;
      case 'coordinator-stop':
        await this.#stopped(coordinator, fault.forMs);
        return;
      default:
        await this.#inflictOnAgent(fault, this.#agents[fault.agent]!);
    }
  }

  async #inflictOnAgent(
    fault: Exclude<Fault, { type: 'coordinator-kill' | 'coordinator-stop' }>,
    place: AgentPlace,
  ): Promise<void> {
    switch (fault.type) {
      case 'agent-kill':
        signal(place.process, 'SIGKILL');
        if (fault.restartAfterMs === null) return;
        await this.#pause(fault.restartAfterMs);
        if (!this.#isOver) place.process = this.#startAgent(place.name, place.source, place.proxyPort);
        return;
      case 'agent-stop':
        await this.#stopped(place.process, fault.forMs);
        return;
      case 'stall':
        place.proxy.stall(...fault.ways);
        await this.#pause(fault.forMs);
        place.proxy.resume();
        return;
      case 'cut':
        place.proxy.cut();
        await this.#pause(fault.forMs);
        place.proxy.heal();
        return;
      case 'slow':
        place.proxy.slow(fault.delayMs);
    }
  }

  async #stopped(child: ChildProcess, forMs: number): Promise<void> {
    signal(child, 'SIGSTOP');
    await this.#pause(forMs);
    signal(child, 'SIGCONT');
  }

  /** After the run every agent ends by itself, at the latest when its lease does. */
  async #waitForAgents(): Promise<number[]> {
    const { leaseMs, marginMs } = HISTORY_LEASE;
    const isAlive = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;
    // One that was started anew may still load, and then look for its coordinator.
    const untilMs = systemClock.monotonicMs() + leaseMs + marginMs + 3 * WAIT_COORDINATOR_MS;
    for (const { process: child } of this.#agents) signal(child, 'SIGCONT');
    while (systemClock.monotonicMs() < untilMs) {
      if (this.#target.openNow === 0 && !this.#agents.some((each) => isAlive(each.process))) break;
      await sleep(50);
    }
    return this.#agents.filter((each) => isAlive(each.process)).map((each) => each.process.pid ?? 0);
  }

  #history(recordPath: string, exitCode: number | null, report: RunReport | null): History {
    const lines = existsSync(recordPath) ? readFileSync(recordPath, 'utf8').split('\n').filter(Boolean) : [];
    return {
      total: TOTAL,
      lease: HISTORY_LEASE,
      records: lines.map((line) => JSON.parse(line) as RecordedMessage),
      connections: this.#target.connections,
      agentOf: Object.fromEntries(this.#agents.map(({ source, name }) => [source, name])),
      exitCode,
      held: report?.connections.held ?? null,
      endedMs: systemClock.monotonicMs(),
      sightMs: SIGHT_MS_MIN + this.#lag.max / NS_PER_MS,
    };
  }
}

/** Plays the faults of a scenario. */
export function playScenario(scenario: Scenario): Promise<HistoryRun> {
  return new Play(scenario).run();
}
