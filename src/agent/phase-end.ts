/**
 * Owns what an agent does when the ramp or the hold is over: each connection is asked once more, and the kernel's count is taken beside that
 * of the holders. Must never end a phase itself (agent-run.ts).
 */
import { parseAddress } from '../base/address.ts';
import { formatSeconds } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import { totalOf } from '../base/outcome.ts';
import { counted } from '../base/units.ts';
import { asksPerMsOf } from '../engine/final-check.ts';
import { runProgram } from '../host/command.ts';
import { countEstablished } from '../host/kernel-count.ts';
import type { KernelCount, KernelEvidence } from '../host/kernel-evidence.ts';
import { readText } from '../host/proc-file.ts';
import { finalCheckMsMax, isChanging, type RunSpec } from '../run/run-spec.ts';
import type { Stats } from '../stats/stats.ts';
import { lookAfter } from './aftermath.ts';
import { type Active, type Holding, holdersOf, isStarted, type Running } from './agent-phase.ts';
import { countBesideHolders, OwnTuples } from './kernel-watch.ts';
import type { ConnectFrom } from './one-connect.ts';

/** What there is to count of one agent. */
interface Counted {
  readonly agent: string;
  readonly spec: RunSpec;
  /** get what is counted and what is to be said */
  readonly kernel: KernelCount[];
  readonly notes: string[];
}

/** Where no probe asks, a segment without payload does: a far kernel that has dropped the connection resets it now, and not only at the end. */
export async function countRampEnd(phase: Running, counted: Counted): Promise<void> {
  const { spec } = counted;
  // What is open is another number from one moment to the next: it is counted when it stays.
  if (isChanging(spec)) return await phase.watch.phaseEnds();
  if (spec.probeEveryMs === null)
    void phase.holders.checkFinally('rampEnd', finalCheckMsMax(spec), hostAsksPerMs());
  await countKernel(phase, 'ramp-end', counted);
  await phase.watch.phaseEnds();
}

/** What is on its way when a load that changes has come to its end. */
const FREEZE_MS_MAX = 2_000;

/** Nothing more is opened. Of a load that changes, what is on its way may come to its end. */
export async function endOpening(phase: Active, spec: RunSpec): Promise<void> {
  if (isStarted(phase) && isChanging(spec))
    await phase.holders.freeze(FREEZE_MS_MAX + (spec.probeEveryMs === null ? 0 : spec.probeTimeoutMs));
  holdersOf(phase)?.stopOpening();
}

/**
 * What counts as held has answered after the hold was due to end.
 * @param isHeld the hold was over: nothing has ended it early
 */
export async function countHoldEnd(
  phase: Running | Holding,
  isHeld: boolean,
  counted: Counted,
): Promise<void> {
  const { agent, spec, kernel, notes } = counted;
  if (phase.name === 'running' || !isHeld) {
    await lookAtKernel(phase, counted);
    return;
  }
  const limitMs = finalCheckMsMax(spec);
  const [areAllAsked] = await Promise.all([
    phase.holders.checkFinally('holdEnd', limitMs, hostAsksPerMs()),
    lookAtKernel(phase, counted),
  ]);
  if (!areAllAsked)
    notes.push(
      `agent ${agent} could not ask each of its connections once more within ${formatSeconds(limitMs)}`,
    );
  if (phase.holders.stats().open === (kernel.at(-1)?.open ?? 0)) return;
  // The check has found some that the kernel still had when it was asked.
  kernel.pop();
  await countKernel(phase, 'hold-end', counted);
}

/** What the kernel has of our connections, on our side and, where it is the same kernel, on theirs. */
async function lookAtKernel(phase: Running | Holding, counted: Counted): Promise<void> {
  await countKernel(phase, 'hold-end', counted);
  await phase.watch.phaseEnds();
}

/** How fast connections are asked: no faster than this host's own queue can take. */
function hostAsksPerMs(): number {
  const backlog = Number(readText('/proc', 'sys/net/core/netdev_max_backlog') ?? Number.NaN);
  return asksPerMsOf(Number.isFinite(backlog) && backlog > 0 ? backlog : null);
}

/** Connections of other programs of this host to the endpoints; null: the kernel cannot tell. To be asked before ours begin. */
export async function countOthers({ agent, spec: { endpoints }, notes }: Counted): Promise<number | null> {
  const query = { sources: null, ports: null, endpoints, isOurs: () => false };
  const { others } = await countEstablished(query);
  if (others !== null && others > 0)
    notes.push(
      `before the ramp other programs on the host of agent ${agent} had ${counted(others, 'connection')} to the endpoints: they are not counted`,
    );
  return others;
}

/** Asks the kernel, between two looks at what the holders count. */
async function countKernel(
  { name, holders, prepared }: Running | Holding,
  when: KernelCount['when'],
  { agent, spec, kernel }: Counted,
): Promise<void> {
  if (holders.size === 0) return;
  const { addresses, ports } = prepared.plan;
  const { endpoints } = spec;
  const count = await countBesideHolders({ sources: addresses, ports, endpoints }, async () => {
    await holders.freshReport(true);
    const tuples = new OwnTuples({ addresses, ports, endpoints }, holders.openTuples());
    return { open: holders.stats().open, tuples, isSettling: name === 'running' && when === 'hold-end' };
  });
  kernel.push({ agent, when, ...count });
}

/**
 * What the kernel said, with one more look at the endpoints where something is missing: it tells a target that ended from a
 * timeout, and a way that was cut from one that forgot.
 * @param mayConnect asked before each connect of that look
 */
export async function evidenceAtEnd(
  { prepared, watch, othersBefore }: Running | Holding,
  spec: RunSpec,
  stats: Stats,
  mayConnect: () => boolean,
): Promise<KernelEvidence> {
  const kernelSaid = (): KernelEvidence => ({
    ...watch.evidence(),
    ...(othersBefore === null ? {} : { othersBefore }),
  });
  const holdEnd = stats.evidence?.finalCheck.holdEnd;
  const missing = totalOf(stats.failed) + totalOf(stats.dropped);
  if (missing + (holdEnd?.reset ?? 0) + (holdEnd?.silent ?? 0) === 0) return kernelSaid();
  const { addresses, ports } = prepared.plan;
  // What the further tries are answered with is not of the run.
  const { counters } = watch.evidence();
  const { refused = 0, unreachable = 0, prohibited = 0 } = stats.failed;
  const errors = Object.entries(counters).filter(([name]) => name.startsWith('Icmp'));
  // Where none came through, a router without a route may have been asked too often to say so.
  const isAllSilent = stats.established === 0 && (stats.failed.timeout ?? 0) > 0;
  const isAnyRejected = refused + unreachable + prohibited > 0 || errors.length > 0 || isAllSilent;
  const fromOf = ({ family }: Endpoint): ConnectFrom | null => {
    const address = addresses.find((each) => parseAddress(each).family === family);
    return address === undefined ? null : { address, port: ports[0]?.from ?? 0 };
  };
  const aftermath = await lookAfter(runProgram, spec.endpoints, { isAnyRejected, fromOf, mayConnect });
  return { ...kernelSaid(), counters, aftermath };
}
