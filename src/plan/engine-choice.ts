/**
 * Owns which engine a host uses for a run: what was asked, what the protocol needs, and whether io_uring works there.
 * Must never try io_uring (engine/drivers/uring-probe.ts).
 */
import { isTls } from '../base/endpoint.ts';
import type { Finding } from '../base/errors.ts';
import { counted, formatCount } from '../base/units.ts';
import type { HostFacts } from '../host/host-facts.ts';
import type { EngineChoice, RunSpec } from '../run/run-spec.ts';
import { holdersFor, KERNEL_BYTES_PER_END, type Shape } from './cost.ts';

type Asked = Pick<RunSpec, 'engine' | 'protocol'>;

/** Whether it matters if io_uring works on this host. */
export function mayUseUring({ engine, protocol }: Asked): boolean {
  return engine !== 'epoll' && !isTls(protocol);
}

/**
 * For how many connections the rings are tried: no more than the memory of this host has room for, because making rings for millions takes
 * seconds in which the agent says nothing, and preflight refuses what memory cannot hold.
 * @param wanted connections, at least 0
 */
export function connectionsToTry(
  wanted: number,
  { memoryAvailableBytes }: Pick<HostFacts, 'memoryAvailableBytes'>,
): number {
  if (memoryAvailableBytes === null) return wanted;
  return Math.min(wanted, Math.floor(memoryAvailableBytes / KERNEL_BYTES_PER_END));
}

/** The engine, whatever was found out about this host. */
export function chooseEngine(asked: Asked, { uringRefusal }: Pick<HostFacts, 'uringRefusal'>): EngineChoice {
  const { engine = 'auto', protocol } = asked;
  if (engine === 'epoll') return { name: 'epoll', why: 'as --engine says' };
  if (isTls(protocol)) return { name: 'epoll', why: `${protocol} needs common descriptors` };
  if (engine === 'uring') return { name: 'uring', why: 'as --engine says' };
  if (uringRefusal === undefined) return { name: 'epoll', why: 'io_uring was not tried' };
  if (uringRefusal !== null) return { name: 'epoll', why: `io_uring: ${uringRefusal}` };
  return { name: 'uring', why: 'io_uring works here' };
}

/** Enough for the rings of millions of connections, whatever the limit was. */
const ROOMY_DESCRIPTORS = 4_096;

interface UringRoom {
  /** connections */
  readonly wanted: number;
  readonly available: number;
  readonly shape: Shape;
  readonly facts: Pick<HostFacts, 'uringRefusal'>;
}

/** What preflight says of descriptors where the engine is io_uring: connections take none. */
export function uringFinding({ wanted, available, shape, facts }: UringRoom): Finding {
  const { uringRefusal = null } = facts;
  const holders = counted(holdersFor(Math.min(wanted, available), shape), 'holder');
  const common = { what: 'descriptors-per-process', unit: 'connections', needed: wanted, available };
  if (uringRefusal !== null) {
    const message = `--engine uring cannot be: io_uring: ${uringRefusal}`;
    const other = 'use --engine auto, which takes epoll here';
    const fix = uringRefusal.includes('ulimit -n') ? `ulimit -n ${ROOMY_DESCRIPTORS}, or ${other}` : other;
    return { ...common, severity: 'refuse', message, fix };
  }
  const limit = `at most ${formatCount(shape.perHolder)} connections each`;
  return available >= wanted
    ? {
        ...common,
        severity: 'ok',
        fix: null,
        message: `connections take no descriptors with io_uring: ${holders}`,
      }
    : {
        ...common,
        severity: 'refuse',
        fix: 'use more --holders',
        message: `needs ${formatCount(wanted)} connections in ${holders}, ${limit}`,
      };
}
