/**
 * Owns the bounds within which the generator's own numbers can be trusted. Beyond them the verdict says `generator
 * limited`. Must never look at the target.
 */

import { formatSeconds, STAND_STILL_MS_MIN } from '../base/clock.ts';
import { formatMs } from '../base/units.ts';
import type { HolderHealth, PhaseLoad } from '../stats/stats.ts';

/** Above this share of a core a holder has no time left: what it measures is its own queue. */
const CPU_SHARE_MAX = 0.9;
/** Above this share of the time a holder was ready to run and had no core. */
const CPU_WAIT_SHARE_MAX = 0.25;
/** A phase shorter than this says nothing about shares. */
const PHASE_MS_MIN = 500;
/** 99 % of the loop's turns must be no later than this. */
const LOOP_LAG_P99_MS_MAX = 100;
/** 99 % of the connects must be called no later than this after their intended time. */
const SCHEDULE_LAG_P99_MS_MAX = 100;
/** A holder that was late for its rate by so much at once, or by this share of the ramp in all, has changed the load. */
const SCHEDULE_SHIFT_MS_MAX = 1_000;
const SCHEDULE_SHIFT_SHARE_MAX = 0.05;
/** Above this share of the run a holder stood still for garbage collection. */
const GC_SHARE_MAX = 0.05;

/** What is beyond its bound, in words; empty: nothing. */
interface GeneratorHealth {
  readonly limits: readonly string[];
  /** whether connect and probe latencies measure the target rather than us */
  readonly isLatencyTrustworthy: boolean;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function loadLimits(id: string, phase: string, load: PhaseLoad): string[] {
  if (load.wallMs < PHASE_MS_MIN) return [];
  const limits: string[] = [];
  const cpu = load.cpuMs / load.wallMs;
  const wait = load.waitMs / load.wallMs;
  if (cpu > CPU_SHARE_MAX) limits.push(`holder ${id} used ${percent(cpu)} of a core while ${phase}`);
  if (wait > CPU_WAIT_SHARE_MAX) {
    limits.push(`holder ${id} waited for a core ${percent(wait)} of the time while ${phase}`);
  }
  return limits;
}

function holderLimits(holder: HolderHealth): string[] {
  const { id } = holder;
  const limits = [...loadLimits(id, 'ramping', holder.ramp), ...loadLimits(id, 'holding', holder.hold)];
  if (holder.loopLagMsMax >= STAND_STILL_MS_MIN) {
    limits.push(`holder ${id} stood still for ${formatSeconds(holder.loopLagMsMax)}`);
  }
  if (holder.loopLagMsP99 > LOOP_LAG_P99_MS_MAX) {
    limits.push(`holder ${id}: 1 % of its turns were late by ${formatMs(holder.loopLagMsP99)} or more`);
  }
  if (holder.scheduleLagMsP99 > SCHEDULE_LAG_P99_MS_MAX) {
    limits.push(
      `holder ${id}: 1 % of its connects were called ${formatMs(holder.scheduleLagMsP99)} or more after their time`,
    );
  }
  limits.push(...shiftLimits(holder));
  const wallMs = holder.ramp.wallMs + holder.hold.wallMs;
  if (wallMs >= PHASE_MS_MIN && holder.gcMs / wallMs > GC_SHARE_MAX) {
    limits.push(`holder ${id} stood still ${percent(holder.gcMs / wallMs)} of the time to collect garbage`);
  }
  return limits;
}

/** A rate is never caught up with, so a late holder opens later than was asked. */
function shiftLimits({ id, scheduleShiftMs, scheduleShiftMsMax, ramp }: HolderHealth): string[] {
  const isLong = scheduleShiftMsMax >= SCHEDULE_SHIFT_MS_MAX;
  const isLarge = ramp.wallMs >= PHASE_MS_MIN && scheduleShiftMs / ramp.wallMs > SCHEDULE_SHIFT_SHARE_MAX;
  if (!isLong && !isLarge) return [];
  const longest = `(${formatMs(scheduleShiftMsMax)} at once)`;
  return [
    `holder ${id} was late for its rate: its connects came ${formatMs(scheduleShiftMs)} later than asked ${longest}`,
  ];
}

/** Looks at the health of every holder of a run. */
export function judgeGenerator(holders: readonly HolderHealth[]): GeneratorHealth {
  const limits = holders.flatMap(holderLimits);
  return { limits, isLatencyTrustworthy: limits.length === 0 };
}

/** The limits in one phrase: the first one, and how many more there are. */
export function limitsPhrase(limits: readonly string[]): string {
  const more = limits.length > 1 ? ` (and ${limits.length - 1} more)` : '';
  return `${limits[0] ?? ''}${more}`;
}

/** A holder that was blind for longer than a probe may take. */
export interface BlindHolder {
  readonly id: string;
  /** milliseconds */
  readonly forMs: number;
}

/**
 * The holder that stood still for longest during the hold, where that breaks the proof by probes: an answer that was overdue
 * meanwhile was not noticed. Without probes the kernel is the proof, and it does not stand still with us.
 * @param probeTimeoutMs null: nothing is probed
 * @returns null: none
 */
export function blindHolder(
  holders: readonly HolderHealth[],
  probeTimeoutMs: number | null,
): BlindHolder | null {
  if (probeTimeoutMs === null) return null;
  let blind: BlindHolder | null = null;
  for (const { id, holdLagMsMax } of holders) {
    if (holdLagMsMax > Math.max(probeTimeoutMs, blind?.forMs ?? 0)) blind = { id, forMs: holdLagMsMax };
  }
  return blind;
}
