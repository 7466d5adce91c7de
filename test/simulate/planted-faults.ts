/**
 * Owns the faults by which the simulator itself is tested: one line of the program each, as it is compiled, and what it becomes. Must
 * never be part of the program.
 */
import type { Plant } from './hooks.ts';

/** By name. */
export const PLANTED_FAULTS: ReadonlyMap<string, Plant> = new Map([
  [
    'an agent that is not heard goes on opening',
    {
      module: 'run/lease',
      from: 'openUntilMs: contactMs + times.quietMs,',
      to: 'openUntilMs: contactMs + times.leaseMs,',
    },
  ],
  [
    'an agent that is not heard looks at the target once more',
    {
      module: 'agent/agent-run',
      from: 'this.#options.clock.monotonicMs() < this.#ends.openUntilMs;',
      to: 'true;',
    },
  ],
  [
    'connections outlive the lease',
    {
      module: 'run/lease',
      from: 'liveUntilMs: contactMs + times.leaseMs - rhythmOf(times).closeEarlyMs,',
      to: 'liveUntilMs: contactMs + times.leaseMs * 2,',
    },
  ],
  [
    'the lease counts from the answer, not from what was answered',
    {
      module: 'agent/agent',
      from: 'Math.max(this.#contactMs, Math.min(sentAtMs, askedMs))',
      to: 'this.#clock.monotonicMs()',
    },
  ],
  [
    'the remainder of a split is lost',
    { module: 'run/quota', from: 'index < remainder ? share + 1 : share', to: 'share' },
  ],
  [
    'holders are not sent the renewed lease',
    { module: 'agent/agent-run', from: 'holdersOf(this.#phase)?.lease(this.#ends);', to: '' },
  ],
  [
    'one holder overwrites the counts of another',
    {
      module: 'stats/stats',
      from: 'established: a.established + b.established,',
      to: 'established: b.established,',
    },
  ],
  [
    'a lost quota is handed over before the lease is over',
    { module: 'run/quota', from: 'atMs - agent.lastSeenMs >= leaseMs', to: 'true' },
  ],
  [
    'the hold begins before all have settled',
    {
      module: 'run/run-state',
      from: "agent.stage !== 'running' || !agent.settled",
      to: "agent.stage !== 'running'",
    },
  ],
  [
    'what a lost agent held still counts as open',
    {
      module: 'run/agent-record',
      from: 'stats: withAllLost(agent.stats, DropReason.agentLost, agent.quota),',
      to: 'stats: agent.stats,',
    },
  ],
  [
    'a silent agent is never lost',
    {
      module: 'run/run-state',
      from: 'isLive(agent) && atMs - agent.lastSeenMs > terms.leaseMs',
      to: 'false',
    },
  ],
  [
    'an agent without contact never ends',
    { module: 'agent/agent', from: 'nowMs >= run.liveUntilMs', to: 'false' },
  ],
  [
    'a quota that grows gets tuples that a holder has',
    { module: 'agent/agent-quota', from: 'tuplesFrom: taken.tuplesEnd', to: 'tuplesFrom: 0' },
  ],
  [
    'what was added to a host is not given back',
    {
      module: 'sources/alias-lease',
      from: 'const failed = await this.#removeSoon(() => this.held);',
      to: 'const failed = [];',
    },
  ],
  [
    'connects in flight of a lost holder stay attempted',
    {
      module: 'stats/stats',
      from: 'const attempted = stats.attempted - stats.pending;',
      to: 'const attempted = stats.attempted;',
    },
  ],
  [
    'what was lost in a stage is not held against it',
    {
      module: 'engine/stage-ledger',
      from: 'Math.max(0, asked - worstMissing)',
      to: 'asked',
    },
  ],
  [
    'the counts of a stage begin with those of the run',
    {
      module: 'engine/stage-ledger',
      from: 'established: now.established - this.#base.established,',
      to: 'established: now.established,',
    },
  ],
  [
    'the parts of the line are not cut where they were given',
    {
      module: 'run/schedule',
      from: 'first.from += taken;',
      to: 'first.from += Math.max(1, taken - 1);',
    },
  ],
  [
    'closes in their turn are not counted',
    { module: 'engine/load-follower', from: 'this.#parts.tally.churned++;', to: '' },
  ],
  [
    'closes on the way down are counted as closes in their turn',
    { module: 'engine/load-follower', from: 'tally.lowered++;', to: 'tally.churned++;' },
  ],
  [
    'one in its turn closes without another in its place',
    {
      module: 'engine/load-follower',
      from: 'this.#parts.opener.ask(1, dueMs, nowMs);',
      to: '',
    },
  ],
  [
    'an agent that stays serves one run only',
    { module: 'agent/agent', from: 'if (!options.stay || stopped !== null)', to: 'if (true)' },
  ],
  ['what an agent gives up is not given back', { module: 'agent/agent', from: 'run.abandon();', to: '' }],
]);
