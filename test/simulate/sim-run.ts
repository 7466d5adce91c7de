/**
 * Owns one coordinator of a simulation: the real run in a process of its own, with who judges it. Must never judge itself
 * (invariants.ts).
 */
import type { Token } from '../../src/control/token.ts';
import { NeverRanError } from '../../src/coordinator/expected-agents.ts';
import { Run } from '../../src/coordinator/run.ts';
import { LEASE_TIMES } from '../../src/run/lease.ts';
import type { SourceSpec } from '../../src/run/run-spec.ts';
import type { Phase } from '../../src/stats/stats.ts';
import { COORDINATOR_HOST } from './faults.ts';
import { Invariants } from './invariants.ts';
import type { Scenario } from './scenario.ts';
import type { SimProcess } from './virtual-time.ts';
import type { World } from './world.ts';

/** Where agents join. */
export const PORT = 7_000;

/** What a run of a simulation is made of. */
interface SimRunOptions {
  readonly world: World;
  readonly scenario: Scenario;
  readonly token: Token;
  /** of the coordinator's host, for the local agent */
  readonly sources: SourceSpec;
  readonly hostOf: (agent: string) => string;
  readonly onPhase: (phase: Phase) => void;
  /** the coordinator is gone, however it ended */
  readonly onOver: (ending: string) => void;
}

/** One coordinator. */
export class SimRun {
  readonly process: SimProcess;
  readonly invariants: Invariants;
  readonly #options: SimRunOptions;
  readonly #run: Run;
  #phase: Phase | null = null;

  constructor(options: SimRunOptions) {
    const { world, scenario, hostOf } = options;
    const { spec, onAgentLoss, waitAgentsMs, hosts, hasLocalAgent, holders } = scenario;
    this.#options = options;
    const number = world.watches.length;
    this.process = world.spawn(number === 0 ? 'coordinator' : `coordinator ${number + 1}`, COORDINATOR_HOST);
    this.process.run = number;
    this.invariants = new Invariants(world, spec, LEASE_TIMES, number, hostOf);
    world.watches.push(this.invariants);
    world.time.current = this.process;
    this.process.onDeath.push(() => options.onOver('killed'));
    this.#run = new Run({
      spec: { ...spec, sources: options.sources, holders },
      targetText: ['tcp://127.0.0.1:8000'],
      entryPath: '',
      toolVersion: '0.0.0',
      clock: world.clockOf(COORDINATOR_HOST),
      listen: { host: '10.0.0.1', port: PORT },
      token: options.token,
      hasLocalAgent,
      remoteAgents: hosts.length,
      waitAgentsMs,
      onAgentLoss,
      ssh: null,
      onProgress: ({ phase }) => this.#progressed(phase),
      onNote: (line) => world.note(`run: ${line}`),
      onListening: () => {},
      onRecord: (entry) => this.invariants.onRecord(entry),
    });
  }

  #progressed(phase: Phase): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    if (phase === 'ended') this.invariants.onEnded();
    this.#options.onPhase(phase);
  }

  interrupt(): void {
    if (this.process.state !== 'dead') this.#run.interrupt('SIGINT');
  }

  async start(): Promise<void> {
    const { world, onOver } = this.#options;
    let ending = 'never ran';
    try {
      const report = await this.#run.start();
      ending = report.verdict;
      world.note(`run: ${report.verdict}: ${report.reason}`);
      this.invariants.onReport(report);
    } catch (error) {
      if (!(error instanceof NeverRanError)) throw error;
      world.note(`run: ${error.message}`);
    }
    onOver(ending);
    this.process.die();
  }
}
