/**
 * Owns what is known about one host, as plain data: limits, tables, addresses, routes. It can cross the control
 * channel as JSON. Must never gather (host/facts-reader.ts) and must never judge (plan/preflight.ts).
 *
 * Every fact that could not be read is null. A null never refuses a run.
 */
import type { Family } from '../base/address.ts';
import type { PortRange } from '../base/tuple-space.ts';

/** One address that the host has on a device. */
export interface HostAddress {
  readonly address: string;
  readonly family: Family;
  /** prefix length */
  readonly prefix: number;
  readonly device: string;
  /** `global`, `site`, `link` or `host` */
  readonly scope: string;
  /** a source may be bound to it: neither tentative, nor deprecated, nor failed its duplicate check */
  readonly usable: boolean;
}

/** How this host reaches one address of the target. */
export interface EndpointRoute {
  /** the endpoint's address */
  readonly address: string;
  /** the device that packets leave by; `lo` for an address of this host; null: no route, or not known */
  readonly device: string | null;
  /** the source address that the kernel would choose; null: no route */
  readonly source: string | null;
  /** the address belongs to this host: both ends of each connection live here */
  readonly local: boolean;
}

export interface ConntrackFacts {
  /** whether connections of this host are being tracked; null: not known */
  readonly active: boolean | null;
  /** entries now */
  readonly count: number | null;
  /** entries at most (`nf_conntrack_max`) */
  readonly max: number | null;
}

export interface SockstatFacts {
  /** TCP sockets in use, IPv4 */
  readonly inuse: number | null;
  /** TCP sockets in TIME_WAIT */
  readonly timeWait: number | null;
  /** pages that TCP buffers hold now, counted against `tcp_mem` */
  readonly memPages: number | null;
}

/** Room for further tasks: processes and their threads. */
export interface TaskRoom {
  /** what sets the limit */
  readonly by: 'ulimit -u' | 'pids.max';
  readonly limit: number;
  /** tasks that may still be started, at least 0 */
  readonly free: number;
}

export interface HostFacts {
  /** as Node names it: `linux` */
  readonly platform: string;
  readonly hostname: string;
  /** cores that this process may use */
  readonly cpus: number;
  readonly memoryTotalBytes: number | null;
  readonly memoryAvailableBytes: number | null;
  /** the tightest memory limit of the control groups above us; null: none */
  readonly cgroupMemoryLimitBytes: number | null;
  /** what that control group uses now; null: no limit */
  readonly cgroupMemoryUsedBytes: number | null;
  /** why io_uring does not work here, for a person; null: it does; absent: it was not tried */
  readonly uringRefusal?: string | null;
  /** descriptors that this process may have open: soft and hard limit */
  readonly nofileSoft: number | null;
  readonly nofileHard: number | null;
  /** CAP_SYS_RESOURCE: the hard limit can be raised, up to `nrOpen` */
  readonly canRaiseNofile: boolean;
  /** CAP_NET_BIND_SERVICE: source ports below `unprivilegedPortStart` can be bound */
  readonly canBindPrivileged: boolean;
  /** null: no limit, or not known */
  readonly tasks: TaskRoom | null;
  /** `fs.file-max`: open files on the whole system */
  readonly fileMax: number | null;
  /** files open on the whole system now */
  readonly fileUsed: number | null;
  /** `fs.nr_open`: the highest that a descriptor limit can be set */
  readonly nrOpen: number | null;
  /** `ip_local_port_range`, where the kernel takes ephemeral ports from */
  readonly localPortRange: PortRange | null;
  /** `ip_local_reserved_ports` */
  readonly reservedPorts: readonly PortRange[];
  /** `ip_unprivileged_port_start`, 1024 by default */
  readonly unprivilegedPortStart: number | null;
  /** ports on which some process listens at 0.0.0.0 or [::]; no source can be bound to them */
  readonly listenPortsAny: readonly number[];
  /** `tcp_mem`, in pages: [low, pressure, high] */
  readonly tcpMem: readonly [number, number, number] | null;
  readonly pageSizeBytes: number;
  readonly sockstat: SockstatFacts;
  /** `tcp_max_tw_buckets` */
  readonly twBucketsMax: number | null;
  /** `tcp_timestamps`: not 0 means on */
  readonly tcpTimestamps: number | null;
  /** `tcp_tw_reuse`: 0 off, 1 on, 2 loopback only */
  readonly tcpTwReuse: number | null;
  readonly conntrack: ConntrackFacts;
  readonly somaxconn: number | null;
  readonly tcpMaxSynBacklog: number | null;
  /** `tcp_syncookies`: 0 off, 1 when the SYN backlog is full, 2 always */
  readonly tcpSyncookies: number | null;
  /** `tcp_syn_linear_timeouts`; null on kernels before 6.5 */
  readonly synLinearTimeouts: number | null;
  readonly synRetries: number | null;
  /**
   * TIME_WAIT sockets of this host towards the endpoints. Counted only while TCP timestamps are off, because
   * with timestamps on a connect from an explicit port takes such a tuple over; null: not counted.
   */
  readonly timeWaitOnTuples: number | null;
  readonly hostAddresses: readonly HostAddress[];
  /** one per address of the target */
  readonly routes: readonly EndpointRoute[];
}
