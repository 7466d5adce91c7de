/**
 * Owns facts and a run that plan tests start from: the machine of docs/TUNING.md, one endpoint on loopback.
 * Must never be imported by the product.
 */
import type { HostFacts } from '../../src/host/host-facts.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';

export const FACTS: HostFacts = {
  platform: 'linux',
  hostname: 'box',
  cpus: 2,
  memoryTotalBytes: 24e9,
  memoryAvailableBytes: 24e9,
  cgroupMemoryLimitBytes: null,
  cgroupMemoryUsedBytes: null,
  tasks: null,
  nofileSoft: 20_000,
  nofileHard: 20_000,
  canRaiseNofile: false,
  canBindPrivileged: false,
  fileMax: 2_466_183,
  fileUsed: 412,
  nrOpen: 1_048_576,
  localPortRange: { from: 32_768, to: 60_999 },
  reservedPorts: [],
  unprivilegedPortStart: 1_024,
  listenPortsAny: [],
  tcpMem: [287_901, 383_869, 575_802],
  pageSizeBytes: 4_096,
  sockstat: { inuse: 5, timeWait: 0, memPages: 93 },
  twBucketsMax: 131_072,
  tcpTimestamps: 1,
  tcpTwReuse: 2,
  conntrack: { active: false, count: 0, max: 262_144 },
  somaxconn: 4_096,
  tcpMaxSynBacklog: 2_048,
  tcpSyncookies: 1,
  synLinearTimeouts: 4,
  synRetries: 6,
  timeWaitOnTuples: null,
  hostAddresses: [
    { address: '127.0.0.1', family: 4, prefix: 8, device: 'lo', scope: 'host', usable: true },
    { address: '192.168.0.101', family: 4, prefix: 24, device: 'eth0', scope: 'global', usable: true },
  ],
  routes: [
    { address: '127.0.0.1', device: 'lo', source: '127.0.0.1', local: true },
    { address: '192.168.0.7', device: 'eth0', source: '192.168.0.101', local: false },
  ],
};

export const SPEC: RunSpec = {
  endpoints: [{ address: '127.0.0.1', port: 8_000, family: 4 }],
  protocol: 'tcp',
  connections: 130_000,
  ratePerSec: null,
  pendingMax: 2_000,
  connectTimeoutMs: 10_000,
  holdMs: 60_000,
  close: 'fin',
  probeEveryMs: null,
  probeTimeoutMs: 5_000,
  sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
  holders: null,
  onDrop: 'count',
  wantsLossDetails: false,
};

/** The same run towards another host. */
export const SPEC_FAR: RunSpec = { ...SPEC, endpoints: [{ address: '192.168.0.7', port: 8_000, family: 4 }] };

export const LOOPBACK_4 = ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'];
