/**
 * Owns carrying out one injection (injection-plan.ts) on a run of the real program, and finding what is wrong afterwards: a run
 * that does not end, claims what it cannot know, says nothing, or leaves anything behind. Must never believe the program about
 * its processes and sockets.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { STAND_STILL_MS_MIN } from '../../src/base/clock.ts';
import type { RunReport } from '../../src/judge/report.ts';
import {
  type Injection,
  type InjectionPhase,
  PROBE_TIMEOUT_MS,
  parentOf,
  type Victim,
} from './injection-plan.ts';
import { clientEnds, listeningPort, processesWith, socketsOnPort } from './kernel-view.ts';
import { schemaErrors } from './report-schema.ts';
import { type CliResult, type RunningCli, startCli } from './run-cli.ts';

const MARK_VARIABLE = 'TEST_RUN_MARK';
/** The lease (20 s), a silent holder (10 s), closing: what the program promises, on a machine that is many times too busy. */
const ENDS_WITHIN_MS = 180_000;
const GONE_WITHIN_MS = 45_000;
/** Opening 20,000 connections beside other load; what hangs there is found by the end that does not come. */
const REACHES_WITHIN_MS = 240_000;
const POLL_MS = 50;
/**
 * A pause that is longer must be reported. Each process looks once per second, so a look is late by the pause, less a second at
 * most; and a little for timers.
 */
const TOLD_PAUSE_MS = STAND_STILL_MS_MIN + 1_000 + 100;
/** What was done so long before the end of the hold cannot have come too late for the verdict. */
const SEEN_WITHIN_MS = 500;
/** Descriptors of a worker that has no connection. */
const IDLE_DESCRIPTORS = 64;
/** Between the end of a pause and the end of the run: a process must have had the time to say it. */
const TELLING_MS = 2_500;
const HOLD_SEC = 4;

/** What came of one injection. */
export interface Outcome {
  readonly faults: readonly string[];
  /** nobody was there to do it to, so the run went on undisturbed */
  readonly missed: boolean;
  readonly line: string;
}

interface Acted {
  readonly phase: InjectionPhase;
  readonly missed: boolean;
  /** since the epoch, just before the signal */
  readonly atWallMs: number;
  /** the process had connections: more descriptors than an idle one */
  readonly hadConnections: boolean;
  /** the last signal */
  endedAtMs: number;
}

/** Runs that go on: a runner that ends this process by SIGTERM must not leave them behind. */
const running = new Set<InjectedRun>();
process.once('SIGTERM', () => {
  for (const run of running) run.killAll();
  process.exit(1);
});

/** One run under injection. */
class InjectedRun {
  readonly #one: Injection;
  readonly #mark = randomUUID();
  readonly #folder = mkdtempSync(join(tmpdir(), 'c100k-injection-'));
  readonly #faults: string[] = [];
  #serve: RunningCli | null = null;
  #cli: RunningCli | null = null;
  #port = 0;

  constructor(one: Injection) {
    this.#one = one;
  }

  async run(): Promise<Outcome> {
    running.add(this);
    try {
      await this.#start();
      const acted = await this.#inject();
      const result = await this.#end(acted);
      const endedAtMs = performance.now();
      await this.#assertNothingLeft();
      if (result !== null) this.#judge(result, acted, endedAtMs);
      const code = result === null ? 'no result' : `${result.code ?? result.signal}`;
      return {
        faults: this.#faults,
        missed: acted.missed,
        line: `-> ${code}${acted.missed ? ' (missed)' : ''}`,
      };
    } catch (error) {
      return { faults: [...this.#faults, (error as Error).message], missed: false, line: '-> threw' };
    } finally {
      this.killAll();
      running.delete(this);
    }
  }

  /** Every process of the run, and its files. */
  killAll(): void {
    for (const { pid } of this.#processes()) signal(pid, 'SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #env(): Record<string, string> {
    return { [MARK_VARIABLE]: this.#mark };
  }

  get #reportPath(): string {
    return join(this.#folder, 'report.json');
  }

  #processes(): ReturnType<typeof processesWith> {
    return processesWith(`${MARK_VARIABLE}=${this.#mark}`);
  }

  #pidsOf(victim: Victim): number[] {
    if (victim === 'cli') return [this.#cli!.child.pid!];
    if (victim === 'serve') return [this.#serve!.child.pid!];
    const role = victim === 'worker' ? 'serve-worker' : victim;
    return this.#processes()
      .filter(({ args }) => args[2] === role || args.slice(0, 8).includes(role))
      .map(({ pid }) => pid);
  }

  async #start(): Promise<void> {
    const { target, protocol, connections, holders } = this.#one;
    if (target === 'serve') {
      const mode = protocol === 'echo' ? 'echo' : 'hold';
      this.#serve = startCli(['serve', '--port', '0', '--mode', mode, '--workers', '2'], {
        env: this.#env,
        timeoutMs: 6 * ENDS_WITHIN_MS,
      });
      await this.#until('serve listens', ENDS_WITHIN_MS, () => {
        this.#port = listeningPort(this.#pidsOf('worker')) ?? 0;
        return this.#port > 0 && this.#pidsOf('worker').length === 2;
      });
    }
    const where = target === 'self' ? 'self' : `127.0.0.1:${this.#port}`;
    const probes =
      protocol === 'echo' ? ['--probe-every', '2s', '--probe-timeout', `${PROBE_TIMEOUT_MS}ms`] : [];
    this.#cli = startCli(
      [
        ...['--target', protocol === 'echo' ? `echo://${where}` : where, '--conns', String(connections)],
        ...[
          '--rate',
          `${Math.ceil(connections / 3)}/s`,
          '--duration',
          `${HOLD_SEC}s`,
          '--holders',
          String(holders),
        ],
        ...probes,
        ...['--json', this.#reportPath],
      ],
      { env: this.#env, timeoutMs: 5 * ENDS_WITHIN_MS },
    );
    // What it writes to a pipe that nobody reads must not hold it up; its end is awaited later.
    this.#cli.result.catch(() => {});
  }

  /** The latest phase that the run has told of. */
  #phase(): InjectionPhase {
    const stderr = this.#cli!.stderr();
    for (const phase of ['draining', 'holding', 'ramping'] as const)
      if (stderr.includes(` ${phase} `)) return phase;
    return 'start';
  }

  async #inject(): Promise<Acted> {
    const { victim, kind, phase, delayMs, pauseMs, target } = this.#one;
    const nothing: Acted = { phase, missed: true, atWallMs: 0, hadConnections: false, endedAtMs: 0 };
    const isThere = phase === 'start' ? this.#appears(victim) : this.#reaches(phase);
    if (!(await isThere)) return nothing;
    await sleep(delayMs);
    const pids = this.#pidsOf(victim).filter((pid) => existsSync(`/proc/${pid}`));
    const pid = pids[Math.floor(((this.#one.seed % 97) / 97) * pids.length)];
    if (pid === undefined || this.#cli!.child.exitCode !== null) return nothing;
    const hadConnections = descriptorsOf(pid) > IDLE_DESCRIPTORS;
    const acted: Acted = {
      phase: this.#phase(),
      missed: false,
      atWallMs: Date.now(),
      hadConnections,
      endedAtMs: 0,
    };
    if (target === 'self') this.#port ||= listeningPort(this.#pidsOf('worker')) ?? 0;
    if (kind === 'kill') signal(pid, 'SIGKILL');
    else signal(pid, 'SIGSTOP');
    if (kind === 'pause') {
      await sleep(pauseMs);
      signal(pid, 'SIGCONT');
    }
    if (kind === 'orphan') {
      const [parent] = this.#pidsOf(parentOf(victim, target)!);
      if (parent !== undefined) signal(parent, 'SIGKILL');
    }
    acted.endedAtMs = performance.now();
    return acted;
  }

  async #appears(victim: Victim): Promise<boolean> {
    await this.#until(`there is a ${victim}`, ENDS_WITHIN_MS, () => {
      return this.#pidsOf(victim).length > 0 || this.#cli!.child.exitCode !== null;
    });
    return this.#pidsOf(victim).length > 0;
  }

  async #reaches(phase: InjectionPhase): Promise<boolean> {
    const isBeyond = (): boolean => this.#cli!.stderr().includes(` ${phase} `);
    await this.#until(
      `it is ${phase}`,
      REACHES_WITHIN_MS,
      () => isBeyond() || this.#cli!.child.exitCode !== null,
    );
    return isBeyond();
  }

  /** Waits for the end, which a command line that is stopped for good has not; null then. */
  async #end(acted: Acted): Promise<CliResult | null> {
    const { victim, kind } = this.#one;
    if (victim === 'cli' && kind === 'stop' && !acted.missed) {
      // Its agent's lease ends all connections without it.
      if (this.#port > 0)
        await this.#until('no connection is held for a stopped command line', GONE_WITHIN_MS, () => {
          return clientEnds(this.#port).count === 0;
        });
      signal(this.#cli!.child.pid!, 'SIGKILL');
      await this.#cli!.result;
      return null;
    }
    const result = await Promise.race([this.#cli!.result, sleep(ENDS_WITHIN_MS, null, { ref: false })]);
    if (result === null)
      throw new Error(`it has not ended within ${ENDS_WITHIN_MS} ms (${this.#phase()}): ${this.#tail()}`);
    return result;
  }

  #tail(): string {
    return this.#cli!.stderr().split('\n').slice(-6).join(' | ');
  }

  async #assertNothingLeft(): Promise<void> {
    const isServe = (pid: number): boolean => pid === this.#serve?.child.pid;
    const workers = (): Set<number> => new Set(this.#one.target === 'serve' ? this.#pidsOf('worker') : []);
    const left = (): string[] => {
      const ofServe = isAlive(this.#serve) ? workers() : new Set<number>();
      return this.#processes()
        .filter(({ pid }) => !isServe(pid) && !ofServe.has(pid))
        .map(({ pid, args }) => `${pid} ${args.slice(2, 4).join(' ')}`);
    };
    await this.#expect('processes are left', () => left());
    if (this.#port > 0)
      await this.#expect('connections are left', () => {
        const { count } = clientEnds(this.#port);
        return count === 0 ? [] : [`${count} on port ${this.#port}`];
      });
    if (this.#serve !== null) {
      // Also one that is stopped, with workers that are stopped.
      signal(this.#serve.child.pid!, 'SIGKILL');
      await this.#expect('processes of serve are left', () =>
        this.#processes().map(({ pid }) => String(pid)),
      );
    }
    if (this.#port > 0) await this.#expect('sockets are left', () => socketsOnPort(this.#port).slice(0, 3));
    // A process that is killed while it writes its report leaves the file that was to take the report's place: no process is left to remove it.
    const isUnfinished = (name: string): boolean =>
      this.#cli?.child.signalCode === 'SIGKILL' && /^\.c100k-bench-[0-9a-f]{16}\.tmp$/.test(name);
    const files = readdirSync(this.#folder).filter((name) => name !== 'report.json' && !isUnfinished(name));
    if (files.length > 0) this.#faults.push(`files are left: ${files.join(', ')}`);
  }

  async #expect(what: string, list: () => readonly string[]): Promise<void> {
    let last: readonly string[] = [];
    try {
      await this.#until(what, GONE_WITHIN_MS, () => {
        last = list();
        return last.length === 0;
      });
    } catch {
      this.#faults.push(`${what}: ${last.slice(0, 5).join('; ')}`);
    }
  }

  #judge(result: CliResult, acted: Acted, endedAtMs: number): void {
    const { victim, kind, target } = this.#one;
    const { code, stderr } = result;
    const fault = (text: string): void => void this.#faults.push(`${text} (${this.#tail()})`);
    const isCliKilled =
      !acted.missed &&
      ((victim === 'cli' && kind === 'kill') || (kind === 'orphan' && parentOf(victim, target) === 'cli'));
    if (code === null) {
      if (!isCliKilled) fault(`ended by ${result.signal}`);
      return;
    }
    if (stderr.includes('this is a bug') || code === 70) fault('a bug');
    if (!existsSync(this.#reportPath)) {
      fault('no report');
      return;
    }
    const report = JSON.parse(readFileSync(this.#reportPath, 'utf8')) as RunReport;
    const allowed = allowedCodes(this.#one, acted, leftOfHoldMs(report, acted) < SEEN_WITHIN_MS);
    if (!allowed.includes(code)) fault(`exit code ${code}, not one of ${allowed.join(', ')}`);
    for (const error of schemaErrors(report).slice(0, 2)) fault(`report: ${error}`);
    if (report.exitCode !== code) fault(`the report says ${report.exitCode}, the process ${code}`);
    if (!report.isPartial && code === 0 && report.connections.held !== this.#one.connections)
      fault(`passed with ${report.connections.held} held`);
    this.#judgePause(report, acted, endedAtMs, fault);
  }

  /** A pause of seconds is told, by the process or by who waited for it. */
  #judgePause(report: RunReport, acted: Acted, endedAtMs: number, fault: (text: string) => void): void {
    const { victim, kind, pauseMs, target, protocol } = this.#one;
    if (kind !== 'pause' || acted.missed || !['ramping', 'holding'].includes(acted.phase)) return;
    // Whether there was time is a question of when the report was made: on a busy host the process ends seconds later.
    const madeAtMs = Math.min(endedAtMs, Date.parse(report.endedAt) - performance.timeOrigin);
    if (pauseMs < TOLD_PAUSE_MS || madeAtMs - acted.endedAtMs < TELLING_MS) return;
    const told = [...report.notes, ...report.generator.limits].join('\n');
    const isOfRun = victim !== 'serve' && !(victim === 'worker' && target === 'serve');
    if (isOfRun && !/stood still for|was lost|said nothing/.test(told))
      fault('a pause of seconds that nobody tells of');
    const wasBlind =
      victim === 'holder' &&
      protocol === 'echo' &&
      acted.phase === 'holding' &&
      leftOfHoldMs(report, acted) > pauseMs + SEEN_WITHIN_MS;
    if (wasBlind && report.verdict === 'pass') fault('passed with a gap in its proof');
  }

  async #until(what: string, withinMs: number, isSo: () => boolean): Promise<void> {
    const beganMs = performance.now();
    while (!isSo()) {
      if (performance.now() - beganMs > withinMs)
        throw new Error(`after ${withinMs} ms still not so: ${what}`);
      await sleep(POLL_MS);
    }
  }
}

function isAlive(cli: RunningCli | null): boolean {
  return cli !== null && cli.child.exitCode === null && cli.child.signalCode === null;
}

/**
 * How long after the injection the hold ended, by the report's own times, milliseconds; negative: before. The last point of the
 * timeline is the end of the run. Infinity: there was no hold that ended.
 */
function leftOfHoldMs({ timeline, endedAt }: RunReport, { atWallMs }: Acted): number {
  const held = timeline.findLastIndex(({ phase }) => phase === 'holding');
  const end = timeline[held + 1];
  if (held < 0 || end === undefined) return Number.POSITIVE_INFINITY;
  const afterHoldMs = (timeline.at(-1)!.atSec - end.atSec) * 1_000;
  return Date.parse(endedAt) - afterHoldMs - atWallMs;
}

/** Exit codes that are true after what was done. @param isLate it came after the hold, or nearly so */
function allowedCodes(
  { victim, kind, target, protocol }: Injection,
  acted: Acted,
  isLate: boolean,
): readonly number[] {
  if (acted.missed) return [0];
  const whole = isLate ? [0] : [];
  const isStart = acted.phase === 'start';
  const isSilent = kind === 'stop' || kind === 'pause';
  switch (victim) {
    case 'cli':
      return [0, 4];
    case 'agent':
      return kind === 'pause' ? [0, 4] : [...whole, 4];
    case 'holder':
      return [...(kind === 'pause' ? [0] : whole), ...(isStart ? [3] : []), 4];
    case 'serve':
      // Its workers go on without it while it is stopped, and end with it. Probes may find a busy machine late.
      if (kind === 'kill') return [...whole, 1, ...(isStart ? [3] : []), 4];
      return protocol === 'tcp' ? [0] : [0, 1, 4];
    case 'worker': {
      // A stopped worker holds what it has accepted: without probes the kernel's word is the proof, and says so. One that is
      // killed before it has accepted anything takes nothing with it.
      const untouched = isSilent || (!acted.hadConnections && kind === 'kill') ? [0] : [];
      const hadNoTarget = isStart || (target === 'serve' && !acted.hadConnections) ? [3] : [];
      return [...new Set([...whole, ...untouched, ...hadNoTarget, 1, 4])];
    }
  }
}

/** Open descriptors of a process; 0: it is gone. */
function descriptorsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended meanwhile.
  }
}

/** Carries out one injection and looks for faults. */
export function inject(one: Injection): Promise<Outcome> {
  return new InjectedRun(one).run();
}
