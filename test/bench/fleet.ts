/**
 * Owns several holders that share one quota, driven without an agent, so that only holders are measured.
 * Must never judge what it measures.
 */

import { slicesOf, TupleMap } from '../../src/base/tuple-space.ts';
import { splitEvenly } from '../../src/run/quota.ts';
import type { EngineName, HolderSpec } from '../../src/run/run-spec.ts';
import { HolderProcess } from '../agent/holder-process.ts';

/** All source ports that need no privilege. */
const PORTS = [{ from: 1_024, to: 65_535 }];

export interface FleetOptions {
  readonly port: number;
  readonly connections: number;
  readonly holders: number;
  readonly addresses: readonly string[];
  /** over all holders */
  readonly pendingMax: number;
  /** absent: epoll */
  readonly engine?: EngineName;
  /** hard limit of descriptors of each holder; absent: that of this process */
  readonly descriptorsMax?: number;
}

/** Holders with disjoint slices of one tuple space. */
export class Fleet {
  readonly holders: readonly HolderProcess[];
  readonly #specs: readonly HolderSpec[];

  constructor(options: FleetOptions) {
    const { port, connections, holders, addresses, pendingMax, engine = 'epoll', descriptorsMax } = options;
    const endpoints = [{ address: '127.0.0.1', port, family: 4 as const }];
    const quotas = splitEvenly(connections, holders);
    const slices = slicesOf(new TupleMap({ addresses, ports: PORTS, endpoints }).size, quotas);
    this.#specs = quotas.map((quota, index) => ({
      id: `bench/${index}`,
      engine,
      addresses,
      ports: PORTS,
      endpoints,
      sliceFrom: slices[index]!.from,
      sliceTo: slices[index]!.to,
      connections: quota,
      ratePerSec: null,
      pendingMax: Math.ceil(pendingMax / holders),
      connectTimeoutMs: 30_000,
      close: 'rst',
      protocol: 'tcp',
      probeEveryMs: null,
      probeTimeoutMs: 5_000,
    }));
    const limits = descriptorsMax === undefined ? '' : `ulimit -n ${descriptorsMax}`;
    this.holders = quotas.map(() => new HolderProcess(limits));
  }

  async prepare(): Promise<void> {
    await Promise.all(this.holders.map((holder, index) => holder.prepare(this.#specs[index]!)));
  }

  /** Begins to connect; settles when all holders have. */
  async open(timeoutMs: number): Promise<void> {
    for (const holder of this.holders) holder.send({ type: 'start' });
    await Promise.all(
      this.holders.map((holder) => holder.until('a holder settles', () => holder.settled, timeoutMs)),
    );
  }

  /** Sums over fresh reports of all holders. */
  async read(): Promise<{ open: number; established: number; cpuMs: number; residentBytes: number }> {
    const reports = await Promise.all(this.holders.map((holder) => holder.report()));
    const sum = (of: (report: (typeof reports)[number]) => number): number =>
      reports.reduce((total, report) => total + of(report), 0);
    return {
      open: sum(({ stats }) => stats.open),
      established: sum(({ stats }) => stats.established),
      cpuMs: sum(({ health }) => health.cpuUserMs + health.cpuSystemMs),
      residentBytes: sum(({ health }) => health.residentBytes),
    };
  }

  get isSettled(): boolean {
    return this.holders.every(({ settled }) => settled);
  }

  async stop(): Promise<void> {
    await Promise.all(this.holders.map((holder) => holder.stop()));
  }
}
