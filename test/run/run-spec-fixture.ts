/** Owns a small spec of a run for tests of the coordinator. Must never name a target that could answer. */
import type { RunSpec } from '../../src/run/run-spec.ts';

/** Ten silent connections to nobody. */
export function runSpec(change: Partial<RunSpec> = {}): RunSpec {
  return {
    endpoints: [{ address: '127.0.0.1', port: 80, family: 4 }],
    protocol: 'tcp',
    connections: 10,
    ratePerSec: null,
    pendingMax: 100,
    connectTimeoutMs: 5_000,
    holdMs: 300,
    close: 'rst',
    probeEveryMs: null,
    probeTimeoutMs: 10_000,
    sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
    holders: null,
    onDrop: 'count',
    wantsLossDetails: false,
    ...change,
  };
}
