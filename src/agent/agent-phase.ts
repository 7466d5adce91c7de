/**
 * Owns the phases of an agent's run, and the stages of the agent around it, as values: what exists in each, which one
 * follows from which, and what a message of the coordinator means in a phase. Must never do what a message asks for
 * (agent-run.ts, agent.ts).
 *
 *   offering -> offered -> securing -> starting -> ready -> running -> holding -> counting -> closing -> over
 *
 * A refusal leads from offering, offered, securing, starting or ready to refused; `stop` from there, or from any phase
 * before counting, to counting; losing the coordinator from anywhere to over. The agent around it:
 *
 *   joining -> serving -> done -> over
 *
 * A refusal leads from joining or serving to refused, and from there to done, where it had a run, or to over.
 */
import type { ExitCode } from '../base/errors.ts';
import type { Channel } from '../control/channel.ts';
import type { AgentMessage, CoordinatorMessage, CoordinatorMessageOf } from '../control/message.ts';
import type { EndReason } from '../run/run-event.ts';
import type { Preparation } from '../sources/preparation.ts';
import { emptyStats, type Stats } from '../stats/stats.ts';
import type { HolderPool } from './holder-pool.ts';
import type { KernelWatch } from './kernel-watch.ts';

/** The host is looked at. */
interface Offering {
  readonly name: 'offering';
}

/** What this host can do is said; a quota is waited for. */
export interface Offered {
  readonly name: 'offered';
  readonly prepared: Preparation;
  /** connections that were offered */
  readonly connectionsMax: number;
}

/** Sources are added and checked for a quota. */
interface Securing {
  readonly name: 'securing';
  readonly offer: Offered;
  readonly connections: number;
  /** settles when no further address is added */
  readonly secured: Promise<unknown>;
}

/** What there is as soon as holders are. */
interface Staff {
  readonly offer: Offered;
  /** the plan for the quota; its sources work */
  readonly prepared: Preparation;
  /** the quota */
  readonly connections: number;
  /** how often the quota has grown */
  readonly growths: number;
  /** of a quota of 0 there are none */
  readonly holders: HolderPool;
}

/** The holders load. */
interface Starting extends Staff {
  readonly name: 'starting';
}

/** What was there when the holders had answered. */
interface Prepared extends Staff {
  /** connections of other programs of this host to the endpoints, before ours; null: the kernel could not be asked */
  readonly othersBefore: number | null;
}

/** Everything stands by for the barrier. */
export interface Ready extends Prepared {
  readonly name: 'ready';
}

interface Started extends Prepared {
  /** when `start` came, on the host's monotonic clock */
  readonly startedMs: number;
  readonly watch: KernelWatch;
}

/** Connections are opened. */
export interface Running extends Started {
  readonly name: 'running';
}

/** The ramp is over everywhere. */
export interface Holding extends Started {
  readonly name: 'holding';
  /** settles when the kernel's count at the end of the ramp is there */
  readonly counted: Promise<void>;
}

/** Phases of an agent that takes part. */
export type Active = Offering | Offered | Securing | Starting | Ready | Running | Holding;

/** The agent takes no part; the coordinator has not ended the run yet. */
interface Refused {
  readonly name: 'refused';
  readonly from: Active;
}

/** The end has begun: what is open is counted for the last time. */
interface Counting {
  readonly name: 'counting';
  readonly from: Active;
}

/** Everything is closed and given back. */
interface Closing {
  readonly name: 'closing';
  readonly from: Active;
  /** what was counted when closing began: what is closed by then is not lost */
  readonly atEnd: Stats;
}

/** Nothing is left. */
interface Over {
  readonly name: 'over';
}

export type RunPhase = Active | Refused | Counting | Closing | Over;

export const OFFERING: Offering = { name: 'offering' };
export const OVER: Over = { name: 'over' };

/** @param connectionsMax connections that are offered */
export function offered(_: Offering, prepared: Preparation, connectionsMax: number): Offered {
  return { name: 'offered', prepared, connectionsMax };
}

/**
 * @param connections the quota
 * @param secured settles when no further address is added
 */
export function securing(offer: Offered, connections: number, secured: Promise<unknown>): Securing {
  return { name: 'securing', offer, connections, secured };
}

/** @param prepared the plan for the quota, whose sources work */
export function starting(
  { offer, connections }: Securing,
  prepared: Preparation,
  holders: HolderPool,
): Starting {
  return { name: 'starting', offer, prepared, connections, growths: 0, holders };
}

/** The holders of the quota have answered. */
export function ready(phase: Starting, othersBefore: number | null): Ready {
  return { ...phase, name: 'ready', othersBefore };
}

/** @param startedMs now, on the host's monotonic clock */
export function running(phase: Ready, startedMs: number, watch: KernelWatch): Running {
  return { ...phase, name: 'running', startedMs, watch };
}

/** @param counted settles when the kernel's count at the end of the ramp is there */
export function holding(phase: Running, counted: Promise<void>): Holding {
  return { ...phase, name: 'holding', counted };
}

/** The same phase with a larger quota. */
export function grown<Growing extends Ready | Running | Holding>(
  phase: Growing,
  connections: number,
): Growing {
  return { ...phase, connections, growths: phase.growths + 1 };
}

/** One that has started is not refused but stopped: its connections are counted. */
export function refused(phase: Exclude<Active, Running | Holding>): Refused {
  return { name: 'refused', from: phase };
}

/** The orderly end begins. */
export function counting(phase: Active | Refused): Counting {
  return { name: 'counting', from: phase.name === 'refused' ? phase.from : phase };
}

/** @param atEnd what was counted last before anything is closed */
export function closing({ from }: Counting, atEnd: Stats): Closing {
  return { name: 'closing', from, atEnd };
}

/** Whether the end has not begun; asked after each wait, because a refusal and `stop` do not wait for us. */
export function isActive(phase: RunPhase): phase is Active {
  return !['refused', 'counting', 'closing', 'over'].includes(phase.name);
}

/** Whether `start` has come, and the end has not. */
export function isStarted(phase: RunPhase): phase is Running | Holding {
  return phase.name === 'running' || phase.name === 'holding';
}

/** Whether the quota may grow: holders stand by or work. */
export function mayGrow(phase: RunPhase): phase is Ready | Running | Holding {
  return phase.name === 'ready' || isStarted(phase);
}

/** The phase itself, or the one that has ended; null: nothing is left of it. */
export function activeOf(phase: RunPhase): Active | null {
  if (phase.name === 'over') return null;
  return 'from' in phase ? phase.from : phase;
}

function staffOf(phase: RunPhase): Staff | null {
  const active = activeOf(phase);
  return active !== null && 'holders' in active ? active : null;
}

/** The holders of a phase, also of one that has ended; null: there are none yet, or none any more. */
export function holdersOf(phase: RunPhase): HolderPool | null {
  return staffOf(phase)?.holders ?? null;
}

/** The quota; 0 before its holders are there. */
export function connectionsOf(phase: RunPhase): number {
  return staffOf(phase)?.connections ?? 0;
}

/** Whether no holder has anything left to open, and the whole quota has holders: one that grows waits for its further ones. */
export function isSettled(phase: RunPhase): boolean {
  const staff = staffOf(phase);
  return staff === null || (staff.holders.settled && staff.holders.quota >= staff.connections);
}

/** What counts as this host's in a phase. */
export function statsOf(phase: RunPhase): Stats {
  return phase.name === 'closing' ? phase.atEnd : (holdersOf(phase)?.stats() ?? emptyStats());
}

/** What a coordinator says about the run itself; the link's own messages are the agent's. */
export type RunMessage = Exclude<
  CoordinatorMessage,
  { type: 'spec' | 'renew' | 'resumed' | 'counted' | 'verdict' }
>;

/** What is to be done, with the phase in which it is. */
type Order =
  | { readonly do: 'prepare'; readonly phase: Offered; readonly quota: CoordinatorMessageOf<'quota'> }
  | {
      readonly do: 'grow';
      readonly phase: Ready | Running | Holding;
      readonly quota: CoordinatorMessageOf<'quota'>;
    }
  | { readonly do: 'start'; readonly phase: Ready; readonly elapsedMs: number }
  | { readonly do: 'stop-opening'; readonly holders: HolderPool }
  | { readonly do: 'hold'; readonly phase: Running }
  /** `isHeld`: the hold was over */
  | { readonly do: 'stop'; readonly phase: Active | Refused; readonly isHeld: boolean }
  | { readonly do: 'nothing' };

/** The reason of `stop` when the hold was over (run/run-event.ts). */
const HELD: EndReason['type'] = 'held';

const NOTHING: Order = { do: 'nothing' };

/**
 * What a message means in a phase: the one place that judges it. In every other phase than its own a message means
 * nothing: after a cut the coordinator says again what the agent may have missed.
 */
export function orderIn(phase: RunPhase, message: RunMessage): Order {
  switch (message.type) {
    case 'quota':
      if (phase.name === 'offered') return { do: 'prepare', phase, quota: message };
      return mayGrow(phase) && message.connections > phase.connections
        ? { do: 'grow', phase, quota: message }
        : NOTHING;
    case 'start':
      return phase.name === 'ready' ? { do: 'start', phase, elapsedMs: message.elapsedMs ?? 0 } : NOTHING;
    case 'stop-opening': {
      const holders = isActive(phase) ? holdersOf(phase) : null;
      return holders === null ? NOTHING : { do: 'stop-opening', holders };
    }
    case 'hold':
      return phase.name === 'running' ? { do: 'hold', phase } : NOTHING;
    case 'stop':
      return isActive(phase) || phase.name === 'refused'
        ? { do: 'stop', phase, isHeld: message.reason === HELD }
        : NOTHING;
  }
}

/** The coordinator has not sent the spec of a run yet. */
interface Joining {
  readonly name: 'joining';
}

/** This host takes part in a run. */
interface Serving<Run> {
  readonly name: 'serving';
  readonly run: Run;
}

/** It does not do what it was asked for, and waits until the coordinator ends the run, or its part of it. */
interface Refusing<From> {
  readonly name: 'refused';
  readonly from: From;
  /** with which it ends */
  readonly code: ExitCode;
  /** monotonic, as every moment here */
  readonly atMs: number;
}

/** Everything is closed and reported; what is missing is the coordinator's orderly close. */
interface Done<Run> {
  readonly name: 'done';
  readonly from: Serving<Run> | Refusing<Serving<Run>>;
  readonly atMs: number;
  /** the coordinator has read `done`; what is missing is the end of the run for all */
  readonly isCounted: boolean;
}

/** Nothing is left of it. */
interface Ended {
  readonly name: 'over';
  /** one of the two did not want the other: asking again immediately would bring the same answer */
  readonly wasTurnedAway: boolean;
}

/** Where an agent stands around its run (agent.ts), with what exists then. */
export type AgentStage<Run> = Joining | Serving<Run> | Refusing<Joining | Serving<Run>> | Done<Run> | Ended;

/** The part of a run that a stage has; null: none yet, or none any more. */
export function runIn<Run>(stage: AgentStage<Run>): Run | null {
  switch (stage.name) {
    case 'serving':
      return stage.run;
    case 'refused':
    case 'done':
      return runIn<Run>(stage.from);
    case 'joining':
    case 'over':
      return null;
  }
}

/** The refusal that has led to a stage; null: none has. */
export function refusalIn<Run>(stage: AgentStage<Run>): Refusing<Joining | Serving<Run>> | null {
  if (stage.name === 'done') return refusalIn<Run>(stage.from);
  return stage.name === 'refused' ? stage : null;
}

/** Refused; a refusal that comes later changes nothing. @param code with which the agent ends */
export function withRefusal<Run>(stage: AgentStage<Run>, code: ExitCode, atMs: number): AgentStage<Run> {
  if (stage.name !== 'joining' && stage.name !== 'serving') return stage;
  return { name: 'refused', from: stage, code, atMs };
}

/** Everything of the run is closed and reported. */
export function withDone<Run>(stage: AgentStage<Run>, atMs: number): AgentStage<Run> {
  if (stage.name === 'serving') return { name: 'done', from: stage, atMs, isCounted: false };
  if (stage.name !== 'refused' || stage.from.name !== 'serving') return stage;
  return { name: 'done', from: { ...stage, from: stage.from }, atMs, isCounted: false };
}

/**
 * The channel to the coordinator; while it is down, a new one may be tried from `nextTryMs` on. `id` grows with each, so that a late
 * event of an old one is known as such.
 */
export type Link = { readonly id: number } & (
  | { readonly name: 'down'; readonly nextTryMs: number }
  | { readonly name: 'connecting' }
  | {
      readonly name: 'up';
      readonly channel: Channel<AgentMessage>;
      /** one that brings nothing is tried until then */
      readonly nextTryMs: number;
      readonly helloAtMs: number;
      /** a hello with `resume` waits for its `resumed` */
      readonly isResuming: boolean;
      /** when the last message was sent that the coordinator may answer */
      readonly askedMs: number;
    }
);
