/**
 * Owns the command `npm run simulate`: which seeds are simulated, and what is said of them. A seed that fails is printed with the
 * shortest prefix of its faults that still fails, and the history in words. With `--agents N --hold SECONDS` so many agents are simulated without a
 * fault, and what they and their coordinator keep in memory must not grow while they hold.
 */
import { randomInt } from 'node:crypto';
import { register } from 'node:module';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Plant } from './hooks.ts';
import { PLANTED_FAULTS } from './planted-faults.ts';
import type { Outcome } from './simulation.ts';
import { useVirtualTimers } from './virtual-timers.ts';

const SEEDS = 2 ** 31;
const YOUNG_MIB = 64;
/** Twenty times what V8 has (66 KiB of bytecode). */
const OPTIMIZE_AFTER_BYTES = 1_320_000;
const STACK_FRAMES = 20;
/** When what is kept for the last seconds, and of each agent, is there. */
const SETTLED_SEC = 15;
const HOLD_SEC = 60;
/** What there may be more at the end of the hold, of what there was. */
const GROWTH_MAX = 0.05;

interface Asked {
  readonly seed: number;
  readonly runs: number;
  /** real time */
  readonly minutes: number;
  /** print the history of each seed */
  readonly isVerbose: boolean;
  readonly plants: readonly Plant[];
  /** null: seeds are simulated */
  readonly fleet: { readonly agents: number; readonly holdSec: number } | null;
}

function readArguments(): Asked {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      runs: { type: 'string' },
      minutes: { type: 'string' },
      trace: { type: 'boolean', default: false },
      plant: { type: 'string' },
      agents: { type: 'string' },
      hold: { type: 'string' },
    },
  });
  const number = (text: string | undefined, otherwise: number): number => {
    const value = text === undefined ? otherwise : Number(text);
    if (!Number.isFinite(value) || value < 0) throw new Error(`${text} is no number`);
    return value;
  };
  const hasEnd = values.runs !== undefined || values.minutes !== undefined;
  return {
    seed: number(values.seed, randomInt(SEEDS)),
    runs: values.runs === undefined ? (hasEnd ? Number.MAX_SAFE_INTEGER : 1_000) : number(values.runs, 0),
    minutes: values.minutes === undefined ? Number.MAX_SAFE_INTEGER : number(values.minutes, 0),
    isVerbose: values.trace,
    plants: values.plant === undefined ? [] : plantsOf(values.plant),
    fleet:
      values.agents === undefined
        ? null
        : {
            agents: number(values.agents, 0),
            holdSec: Math.max(SETTLED_SEC + 5, number(values.hold, HOLD_SEC)),
          },
  };
}

function plantsOf(name: string): readonly Plant[] {
  const plant = PLANTED_FAULTS.get(name);
  if (plant === undefined)
    throw new Error(`no planted fault ${name}: ${[...PLANTED_FAULTS.keys()].join(', ')}`);
  return [plant];
}

type Simulate = (seed: number, faultsMax?: number) => Promise<Outcome>;

/** The same seed with fewer faults, as long as it fails. */
async function shortest(simulate: Simulate, failing: Outcome): Promise<{ outcome: Outcome; faults: number }> {
  for (let faults = 0; faults < failing.faultsDrawn; faults += 1) {
    const outcome = await simulate(failing.seed, faults);
    if (outcome.violations.length > 0) return { outcome, faults };
  }
  // Once more, with the traces of what was thrown.
  return { outcome: await simulate(failing.seed), faults: failing.faultsDrawn };
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** @returns the exit code */
async function holdFleet({ agents, holdSec }: NonNullable<Asked['fleet']>): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const { simulateFleet } = await import('./simulation.js');
  const heapBytes: number[] = [];
  const look = (): void => {
    collect();
    heapBytes.push(process.memoryUsage().heapUsed);
  };
  const looksAtSec = [SETTLED_SEC, holdSec - 1];
  const { ending, violations } = await simulateFleet(
    agents,
    holdSec * 1_000,
    looksAtSec.map((atSec) => ({ afterMs: atSec * 1_000, call: look })),
  );
  const [settled = Number.NaN, last = Number.NaN] = heapBytes;
  const growth = last / settled - 1;
  say(
    `${agents} agents: ${(settled / 1e6).toFixed(1)} MB of heap after ${looksAtSec[0]} s of holding, ` +
      `${(last / 1e6).toFixed(1)} MB after ${looksAtSec[1]} s (${(growth * 100).toFixed(1)} %); ${ending}`,
  );
  for (const violation of violations.slice(0, 5)) say(`  BROKEN ${violation}`);
  return ending === 'pass' && violations.length === 0 && growth <= GROWTH_MAX ? 0 : 1;
}

async function main(): Promise<number> {
  const asked = readArguments();
  register('./hooks.js', import.meta.url, { data: { plants: asked.plants } });
  useVirtualTimers();
  // Much of a run is short-lived: a larger young generation is collected less often.
  setFlagsFromString(`--max-semi-space-size=${YOUNG_MIB}`);
  // Its time is spread over very many functions. At first, optimising each that is a little warm takes more than it saves.
  setFlagsFromString(`--interrupt-budget=${OPTIMIZE_AFTER_BYTES}`);
  // An agent that cannot connect makes an error for each try.
  Error.stackTraceLimit = 0;
  if (asked.fleet !== null) return await holdFleet(asked.fleet);
  const { simulate } = await import('./simulation.js');
  say(`simulating from seed ${asked.seed}`);
  const beganMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const endings = new Map<string, number>();
  let [runs, events, virtualMs] = [0, 0, 0];
  for (; runs < asked.runs && performance.now() - beganMs < asked.minutes * 60_000; runs += 1) {
    const outcome = await simulate(asked.seed + runs);
    events += outcome.events;
    virtualMs += outcome.virtualMs;
    endings.set(outcome.ending, (endings.get(outcome.ending) ?? 0) + 1);
    if (asked.isVerbose) {
      for (const line of outcome.trace) say(line);
      say(`seed ${outcome.seed} comes to ${outcome.ending}, history ${outcome.digest.toString(16)}`);
    }
    if (outcome.violations.length === 0) continue;
    Error.stackTraceLimit = STACK_FRAMES;
    const { outcome: short, faults } = await shortest(simulate, outcome);
    say(`seed ${outcome.seed} fails with its first ${faults} of ${outcome.faultsDrawn} faults:`);
    for (const line of short.trace) say(`  ${line}`);
    for (const violation of short.violations.slice(0, 5)) say(`  BROKEN ${violation}`);
    say(`again: npm run simulate -- --seed ${outcome.seed} --runs 1`);
    return 1;
  }
  const seconds = (performance.now() - beganMs) / 1_000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const cpuSeconds = (user + system) / 1e6;
  const shares = [...endings].sort(([, a], [, b]) => b - a).map(([ending, count]) => `${ending} ${count}`);
  say(
    `${runs} runs, ${(virtualMs / 3_600_000).toFixed(1)} simulated hours and ${events} events in ${seconds.toFixed(1)} s ` +
      `(${Math.round((runs * 60) / cpuSeconds)} runs a minute of one core): no promise broken; ${shares.join(', ')}`,
  );
  return 0;
}

process.exitCode = await main();
