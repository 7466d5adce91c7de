/**
 * Owns the measurement of the coordinator under many agents: its CPU and memory as the kernel counts them, how long
 * joining takes, how old messages are when they are read. Must never count the simulated agents' own CPU, which shares
 * the cores with the coordinator.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { formatToken, generateToken } from '../../src/control/token.ts';
import type { CoordinatorNews, CoordinatorOrder } from './coordinator-process.ts';
import { hostMonotonicMs } from './host-time.ts';
import type { AgentsNews, AgentsOrder } from './simulated-agents.ts';

export interface ScaleOptions {
  readonly agents: number;
  /** how long the coordinator is measured while everybody reports each second */
  readonly steadyMs: number;
  readonly connectionsPerAgent: number;
  readonly holdersPerAgent: number;
  readonly clientProcesses: number;
  /** whether connections prove themselves: a histogram changes in every message then */
  readonly isProbing: boolean;
  /** between two reports of one agent, milliseconds; absent: 1,000, as real ones */
  readonly reportEveryMs?: number;
  /** further arguments of Node for the coordinator, such as `--cpu-prof` */
  readonly coordinatorNodeArguments: readonly string[];
  /** how long joining may take; absent: a minute */
  readonly waitAgentsMs?: number;
}

export interface ScaleResult {
  readonly agents: number;
  readonly connections: number;
  /** of a stats message with every histogram, and of one without */
  readonly fullBytes: number;
  readonly statsBytes: number;
  /** from the first agent's start until all have joined, offered and are ready */
  readonly joinSeconds: number;
  readonly joinRetries: number;
  /** 1 is one core */
  readonly coresUsed: number;
  readonly cpuMsPerAgentSecond: number;
  /** highest resident size of the coordinator until the hold ends, in bytes (VmHWM) */
  readonly residentBytesMax: number;
  /** and until the report is made: all agents say everything at once then */
  readonly residentBytesMaxAtEnd: number;
  /** of the coordinator, for each agent, after collecting garbage; null: not asked for (`--expose-gc`) */
  readonly heapBytesPerAgent: number | null;
  /** of the coordinator, for one message, with what it does once a second for all agents */
  readonly cpuMsPerMessage: number;
  readonly statsMessages: number;
  /** from the agent's send to the coordinator's reading of it */
  readonly lagMs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly lost: readonly string[];
  readonly cutOff: readonly string[];
  readonly done: number;
  readonly verdict: string;
  readonly held: number;
}

const WAIT_AGENTS_MS = 60_000;
const REPORT_EVERY_MS = 1_000;
/** Left out at both ends of the hold phase, so that neither the change of phase nor the drain is in the figure. */
const EDGE_MS = 1_000;
/** Everything in one measurement but joining, whatever happens. */
const DEADLINE_MS = 120_000;
/** USER_HZ: the kernel tells times of a process in hundredths of a second (proc(5), sysconf(_SC_CLK_TCK)). */
const TICKS_PER_SEC = 100;

const here = dirname(fileURLToPath(import.meta.url));

/** User and system time of a process, in milliseconds. */
function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS_PER_SEC;
}

function residentBytesMaxOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib ?? Number.NaN) * 1_024;
}

/** The processes of one measurement: all of them end with it. */
class Crew {
  readonly #children: ChildProcess[] = [];
  readonly #token = formatToken(generateToken());

  start(
    script: string,
    order: CoordinatorOrder | AgentsOrder,
    nodeArguments: readonly string[],
  ): ChildProcess {
    const child = fork(join(here, script), [JSON.stringify(order)], {
      execArgv: [...nodeArguments],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env: { ...process.env, C100K_TOKEN: this.#token },
    });
    this.#children.push(child);
    return child;
  }

  async end(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = new Promise((resolve) => child.once('exit', resolve));
        // Time to write a profile; then it goes, whatever it does.
        const killer = setTimeout(() => child.kill('SIGKILL'), 5_000);
        await exited;
        clearTimeout(killer);
      }),
    );
  }

  kill(): void {
    for (const child of this.#children) child.kill('SIGKILL');
  }
}

/** Resolves with the first news that is picked; rejects when the process ends without. */
function newsOf<News, Picked>(child: ChildProcess, pick: (news: News) => Picked | null): Promise<Picked> {
  return new Promise((resolve, reject) => {
    child.on('message', (news) => {
      const picked = pick(news as News);
      if (picked !== null) resolve(picked);
    });
    child.on('exit', (code, signal) => reject(new Error(`a process ended early: ${code ?? signal}`)));
  });
}

/**
 * Measures one coordinator with so many agents.
 * @throws Error when a process ends early or after the deadline
 */
export async function measureScale(options: ScaleOptions): Promise<ScaleResult> {
  const crew = new Crew();
  const deadlineMs = DEADLINE_MS + (options.waitAgentsMs ?? WAIT_AGENTS_MS);
  const deadline = setTimeout(() => crew.kill(), deadlineMs);
  try {
    return await measureWith(crew, options);
  } catch (error) {
    crew.kill();
    throw error;
  } finally {
    clearTimeout(deadline);
    await crew.end();
  }
}

async function measureWith(crew: Crew, options: ScaleOptions): Promise<ScaleResult> {
  const { agents, steadyMs, connectionsPerAgent } = options;
  const connections = agents * connectionsPerAgent;
  const coordinator = crew.start(
    'coordinator-process.js',
    {
      agents,
      connections,
      holdMs: steadyMs + 2 * EDGE_MS,
      waitAgentsMs: options.waitAgentsMs ?? WAIT_AGENTS_MS,
    },
    options.coordinatorNodeArguments,
  );
  const pid = coordinator.pid ?? 0;
  const entering = (wanted: string): Promise<number> =>
    newsOf<CoordinatorNews, number>(coordinator, (news) =>
      news.type === 'phase' && news.phase === wanted ? news.atMs : null,
    );
  const report = newsOf<CoordinatorNews, Extract<CoordinatorNews, { type: 'report' }>>(coordinator, (news) =>
    news.type === 'report' ? news : null,
  );
  const ramping = entering('ramping');
  const holding = entering('holding');
  // One that rejects is thrown by whichever is awaited first; the others must not end this process by themselves.
  for (const each of [report, ramping, holding]) each.catch(() => {});
  const port = await newsOf<CoordinatorNews, number>(coordinator, (news) =>
    news.type === 'listening' ? news.port : null,
  );
  const beganMs = hostMonotonicMs();
  const clients = startClients(crew, options, port);
  const joinSeconds = ((await ramping) - beganMs) / 1_000;
  await holding;
  await sleep(EDGE_MS);
  const fromMs = hostMonotonicMs();
  const fromCpuMs = cpuMsOf(pid);
  await sleep(steadyMs);
  const cpuMs = cpuMsOf(pid) - fromCpuMs;
  const elapsedMs = hostMonotonicMs() - fromMs;
  const residentBytesMax = residentBytesMaxOf(pid);
  const news = await Promise.all(clients);
  const { verdict, held, lost, lagMs, statsMessages, heapBytes, ...end } = await report;
  return {
    agents,
    connections,
    fullBytes: news[0]?.fullBytes ?? 0,
    statsBytes: news[0]?.statsBytes ?? 0,
    joinSeconds,
    joinRetries: news.reduce((sum, each) => sum + each.joinRetries, 0),
    coresUsed: cpuMs / elapsedMs,
    cpuMsPerAgentSecond: cpuMs / (elapsedMs / 1_000) / agents,
    cpuMsPerMessage: (cpuMs * (options.reportEveryMs ?? REPORT_EVERY_MS)) / elapsedMs / agents,
    residentBytesMax,
    residentBytesMaxAtEnd: end.residentBytesMax,
    heapBytesPerAgent: heapBytes.holding === 0 ? null : (heapBytes.holding - heapBytes.idle) / agents,
    statsMessages,
    lagMs,
    lost,
    cutOff: news.flatMap((each) => each.cutOff),
    done: news.reduce((sum, each) => sum + each.done, 0),
    verdict,
    held,
  };
}

function startClients(crew: Crew, options: ScaleOptions, port: number): Promise<AgentsNews>[] {
  const { agents, clientProcesses, connectionsPerAgent, holdersPerAgent } = options;
  const each = Math.ceil(agents / clientProcesses);
  return Array.from({ length: clientProcesses }, (_, index) => {
    const order: AgentsOrder = {
      port,
      from: Math.min(agents, index * each),
      to: Math.min(agents, (index + 1) * each),
      capacity: connectionsPerAgent,
      holders: holdersPerAgent,
      isProbing: options.isProbing,
      reportEveryMs: options.reportEveryMs ?? REPORT_EVERY_MS,
    };
    const told = newsOf<AgentsNews, AgentsNews>(crew.start('simulated-agents.js', order, []), (news) => news);
    told.catch(() => {});
    return told;
  });
}
