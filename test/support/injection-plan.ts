/**
 * Owns what is done to which process of a run, and when, drawn from a seed: the same seed gives the same injection. Must never
 * touch a process (injections.ts does).
 */

/** Who it is done to. `serve` is the parent of a target that runs by itself. */
export type Victim = 'cli' | 'agent' | 'holder' | 'serve' | 'worker';
/** kill: SIGKILL. stop: SIGSTOP for good. pause: SIGSTOP, and SIGCONT after `pauseMs`. orphan: SIGSTOP, then SIGKILL of its parent. */
export type Kind = 'kill' | 'stop' | 'pause' | 'orphan';
export type InjectionPhase = 'start' | 'ramping' | 'holding' | 'draining';

export interface Injection {
  readonly seed: number;
  /** `self`: the run forks its target; `serve`: it runs by itself */
  readonly target: 'self' | 'serve';
  readonly protocol: 'tcp' | 'echo';
  /** 2,000 to 20,000 */
  readonly connections: number;
  readonly holders: number;
  readonly victim: Victim;
  readonly kind: Kind;
  readonly phase: InjectionPhase;
  /** after the phase began */
  readonly delayMs: number;
  /** 1,000 to 6,000 */
  readonly pauseMs: number;
}

export const PROBE_TIMEOUT_MS = 2_000;

/** Numbers from 0 to below 1 (mulberry32): the same for the same seed. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Who forks whom; null: nobody of ours. */
export function parentOf(victim: Victim, target: Injection['target']): Victim | null {
  switch (victim) {
    case 'agent':
      return 'cli';
    case 'holder':
      return 'agent';
    case 'worker':
      return target === 'self' ? 'cli' : 'serve';
    default:
      return null;
  }
}

const DELAY_MS_MAX: Readonly<Record<InjectionPhase, number>> = {
  start: 400,
  ramping: 1_500,
  holding: 1_200,
  draining: 30,
};

/** The injection of a seed. */
export function injectionOf(seed: number): Injection {
  const random = randomOf(seed);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;
  const target = pick(['self', 'serve'] as const);
  const victims: readonly Victim[] = ['cli', 'agent', 'holder', 'worker'];
  const victim = pick(target === 'serve' ? [...victims, 'serve' as const] : victims);
  const isOrphanable = parentOf(victim, target) !== null;
  const kind = pick<Kind>(isOrphanable ? ['kill', 'stop', 'pause', 'orphan'] : ['kill', 'stop', 'pause']);
  const phase = pick<InjectionPhase>(['start', 'ramping', 'holding', 'draining']);
  return {
    seed,
    target,
    protocol: pick(['tcp', 'echo'] as const),
    connections: Math.round(2_000 * 10 ** random()),
    holders: 2 + Math.floor(random() * 2),
    victim,
    kind,
    phase,
    delayMs: Math.round(random() * DELAY_MS_MAX[phase]),
    pauseMs: Math.round(1_000 + random() * 5_000),
  };
}

/** One line that says it all. */
export function describeInjection(one: Injection): string {
  const { seed, target, protocol, connections, holders, victim, kind, phase, delayMs, pauseMs } = one;
  const how = kind === 'pause' ? `pause ${pauseMs} ms` : kind;
  return `seed ${seed}: ${how} ${victim}, ${phase} + ${delayMs} ms, ${connections} ${protocol} to ${target}, ${holders} holders`;
}
