/**
 * Owns what a host's kernel said during a run: counters that changed, readings with their least and most, and how many
 * sockets of ours it counts. Must never
 * read it (host/kernel-readings.ts) and must never judge it (diagnosis.ts).
 */

/** Some quantity that was read every few seconds. */
export interface KernelSample {
  readonly min: number;
  readonly max: number;
  readonly last: number;
  /** what it cannot exceed; null: no limit, or not known */
  readonly limit: number | null;
}

/** One reading; a quantity that could not be read is absent. */
export type KernelReadings = Readonly<
  Record<string, { readonly value: number; readonly limit: number | null }>
>;

/** What one agent's kernel said; it speaks of the whole network namespace, not of this run alone. */
export interface KernelEvidence {
  /** changes since the ramp began, by the kernel's own names; those that did not change are absent */
  readonly counters: Readonly<Record<string, number>>;
  /** by name: `conntrack`, `neighbours`, `tcp-sockets`, `time-wait`, `tcp-memory-pages` */
  readonly samples: Readonly<Record<string, KernelSample>>;
  /** seconds after its call at which this kernel sends a SYN again */
  readonly synLadderSec: readonly number[];
  /** an endpoint is an address of this host, so that its listener's counters are among these */
  readonly hasLocalEndpoint: boolean;
}

/** What one kernel counted of our sockets, beside our own count at that moment. */
export interface KernelCount {
  readonly agent: string;
  readonly when: 'ramp-end' | 'hold-end';
  /** sockets that the kernel calls ESTABLISHED between our sources and the endpoints; null: could not be asked */
  readonly established: number | null;
  /** our own count right before and right after; one between them is no difference */
  readonly openBefore: number;
  readonly open: number;
  readonly method: 'ss' | 'proc-net-tcp' | 'none';
}

/** The counters that a report keeps: all that speak of retransmits, queues, memory and aborts. */
const KERNEL_COUNTERS: readonly string[] = [
  'ActiveOpens',
  'AttemptFails',
  'EstabResets',
  'RetransSegs',
  'OutRsts',
  'ListenOverflows',
  'ListenDrops',
  'TCPReqQFullDrop',
  'TCPReqQFullDoCookies',
  'TCPBacklogDrop',
  'TCPAbortOnTimeout',
  'TCPAbortOnMemory',
  'TCPMemoryPressures',
  'TCPTimeouts',
  'TCPSynRetrans',
  'PruneCalled',
  'oom_kill',
];

/** Adds a reading to what was read before. */
export function withReadings(
  samples: Readonly<Record<string, KernelSample>>,
  readings: KernelReadings,
): Record<string, KernelSample> {
  const next: Record<string, KernelSample> = { ...samples };
  for (const [name, { value, limit }] of Object.entries(readings)) {
    const before = next[name];
    next[name] = {
      min: Math.min(value, before?.min ?? value),
      max: Math.max(value, before?.max ?? value),
      last: value,
      limit,
    };
  }
  return next;
}

/** The counters that the report keeps, out of all that changed. */
export function keptCounters(delta: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(KERNEL_COUNTERS.flatMap((name) => (delta[name] ? [[name, delta[name]]] : [])));
}

/** The most steps that are told: further ones lie beyond any connect timeout in use. */
const LADDER_STEPS = 8;

/**
 * When a SYN without an answer is sent again.
 * @param linearTimeouts `tcp_syn_linear_timeouts` (Linux 6.5 and later; tcp_timer.c): so many retransmits one second
 *   apart, before each wait is twice as long as the one before; null or 0 on older kernels
 * @returns seconds after the first SYN: 1, 2, 3, 4, 5, 7, 11, 19 for 4; 1, 3, 7, 15, ... for 0
 */
export function synLadderSec(linearTimeouts: number | null): number[] {
  const steps: number[] = [];
  let at = 0;
  for (let step = 0; step < LADDER_STEPS; step += 1) {
    at += 2 ** Math.max(0, step - (linearTimeouts ?? 0));
    steps.push(at);
  }
  return steps;
}
