/**
 * Owns what is known about one host, as plain data that can cross the control channel as JSON (limits, tables, addresses,
 * routes), and gathering it, in well under 150 ms and whatever the number of its sockets.
 * Must never judge a fact (plan/preflight.ts), change a setting, load a module, or throw because something cannot be read.
 *
 * Every fact that could not be read is null. A null never refuses a run.
 */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { availableParallelism, hostname } from 'node:os';
import { withZone } from '../base/address.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { after } from '../time/timer.ts';
import { missingPrograms, type RunProgram, runProgram } from './command.ts';
import { type EndpointRoute, type HostAddress, readHostAddresses, readRoutes } from './ip-command.ts';
import { countSockets } from './kernel-count.ts';
import {
  hasCapability,
  type KernelRoots,
  parsePortList,
  readCgroupMemory,
  readListenPortsAny,
  readSysctl,
  readSysctlNumbers,
  readTaskRoom,
  readText,
  type TaskRoom,
} from './proc-file.ts';

interface ConntrackFacts {
  /** whether connections of this host are being tracked; null: not known */
  readonly active: boolean | null;
  /** entries now */
  readonly count: number | null;
  /** entries at most (`nf_conntrack_max`) */
  readonly max: number | null;
}

interface SockstatFacts {
  /** TCP sockets in use, IPv4 */
  readonly inuse: number | null;
  /** TCP sockets in TIME_WAIT */
  readonly timeWait: number | null;
  /** pages that TCP buffers hold now, counted against `tcp_mem` */
  readonly memPages: number | null;
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
  /** programs that are asked about this host, and are not there; absent: not looked for */
  readonly toolsMissing?: readonly ToolName[];
  readonly hostAddresses: readonly HostAddress[];
  /** one per address of the target */
  readonly routes: readonly EndpointRoute[];
}

/** Programs that this host is asked with. */
const TOOLS = ['ip', 'ss', 'arping'] as const;
export type ToolName = (typeof TOOLS)[number];

interface FactsOptions {
  /** default `/proc` */
  readonly procRoot?: string;
  /** default `/sys` */
  readonly sysRoot?: string;
  /** runs `ip`; default: really */
  readonly run?: RunProgram;
  /** sends one datagram, to see whether it is tracked; default: really, on loopback */
  readonly probeConntrack?: () => Promise<void>;
}

/** 4 KiB on x64 and on most arm64; some arm64 kernels use 64 KiB. */
const PAGE_SIZE_DEFAULT_BYTES = 4_096;

/**
 * Everything that preflight and planning want to know about this host.
 * @param endpoints what the run connects to: their routes are read
 * @param options other roots and another way to run programs, for tests
 * @returns facts; what cannot be read is null
 */
export async function gatherHostFacts(
  endpoints: readonly Endpoint[],
  options: FactsOptions = {},
): Promise<HostFacts> {
  const roots: KernelRoots = { procRoot: options.procRoot ?? '/proc', sysRoot: options.sysRoot ?? '/sys' };
  const run = options.run ?? runProgram;
  const targets = [...new Set(endpoints.map(({ address, zone }) => withZone(address, zone)))];
  const sockstat = readSockstat(roots.procRoot);
  const tcpTimestamps = readSysctl(roots.procRoot, 'net/ipv4/tcp_timestamps');
  const [hostAddresses, conntrack, timeWaitOnTuples] = await Promise.all([
    readHostAddresses(run),
    readConntrack(roots.procRoot, options.probeConntrack ?? sendToMyself),
    readTimeWait(endpoints, tcpTimestamps, sockstat, roots.procRoot),
  ]);
  const missing = new Set(missingPrograms(TOOLS));
  return {
    platform: process.platform,
    hostname: hostname(),
    cpus: availableParallelism(),
    ...readMemory(roots),
    ...readDescriptors(roots.procRoot),
    tasks: readTaskRoom(roots),
    ...readPorts(roots.procRoot),
    ...readTcpSettings(roots.procRoot),
    tcpTimestamps,
    sockstat,
    pageSizeBytes: readPageSize(roots.procRoot),
    conntrack,
    timeWaitOnTuples,
    toolsMissing: TOOLS.filter((tool) => missing.has(tool)),
    hostAddresses,
    routes: await readRoutes(targets, hostAddresses, run),
  };
}

function readMemory(roots: KernelRoots) {
  const text = readText(roots.procRoot, 'meminfo') ?? '';
  const cgroup = readCgroupMemory(roots);
  return {
    memoryTotalBytes: kilobytes(text, 'MemTotal'),
    memoryAvailableBytes: kilobytes(text, 'MemAvailable'),
    cgroupMemoryLimitBytes: cgroup.limitBytes,
    cgroupMemoryUsedBytes: cgroup.usedBytes,
  };
}

function kilobytes(text: string, name: string): number | null {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
  return match === null ? null : Number(match[1]) * 1024;
}

function readDescriptors(procRoot: string) {
  const limits = /^Max open files\s+(\S+)\s+(\S+)/m.exec(readText(procRoot, 'self/limits') ?? '');
  const nrOpen = readSysctl(procRoot, 'fs/nr_open');
  const fileNr = readSysctlNumbers(procRoot, 'fs/file-nr');
  return {
    nofileSoft: limitNumber(limits?.[1], nrOpen),
    nofileHard: limitNumber(limits?.[2], nrOpen),
    canRaiseNofile: hasCapability('CAP_SYS_RESOURCE', procRoot),
    canBindPrivileged: hasCapability('CAP_NET_BIND_SERVICE', procRoot),
    // The third number of file-nr is file-max, kept as a fallback: some containers hide the sysctl alone.
    fileMax: readSysctl(procRoot, 'fs/file-max') ?? fileNr?.[2] ?? null,
    fileUsed: fileNr?.[0] ?? null,
    nrOpen,
  };
}

/** A limit as /proc/self/limits writes it; `unlimited` is bounded by fs.nr_open. */
function limitNumber(text: string | undefined, nrOpen: number | null): number | null {
  if (text === 'unlimited') return nrOpen;
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null;
}

function readPorts(procRoot: string) {
  return {
    localPortRange: asRange(readSysctlNumbers(procRoot, 'net/ipv4/ip_local_port_range')),
    reservedPorts: parsePortList(readText(procRoot, 'sys/net/ipv4/ip_local_reserved_ports') ?? ''),
    unprivilegedPortStart: readSysctl(procRoot, 'net/ipv4/ip_unprivileged_port_start'),
    listenPortsAny: readListenPortsAny(procRoot),
  };
}

function asRange(numbers: number[] | null): PortRange | null {
  const [from, to] = numbers ?? [];
  return from !== undefined && to !== undefined && from <= to ? { from, to } : null;
}

function readTcpSettings(procRoot: string) {
  const [low, pressure, high] = readSysctlNumbers(procRoot, 'net/ipv4/tcp_mem') ?? [];
  const hasTcpMem = low !== undefined && pressure !== undefined && high !== undefined;
  return {
    tcpMem: hasTcpMem ? ([low, pressure, high] as const) : null,
    twBucketsMax: readSysctl(procRoot, 'net/ipv4/tcp_max_tw_buckets'),
    tcpTwReuse: readSysctl(procRoot, 'net/ipv4/tcp_tw_reuse'),
    somaxconn: readSysctl(procRoot, 'net/core/somaxconn'),
    tcpMaxSynBacklog: readSysctl(procRoot, 'net/ipv4/tcp_max_syn_backlog'),
    tcpSyncookies: readSysctl(procRoot, 'net/ipv4/tcp_syncookies'),
    synLinearTimeouts: readSysctl(procRoot, 'net/ipv4/tcp_syn_linear_timeouts'),
    synRetries: readSysctl(procRoot, 'net/ipv4/tcp_syn_retries'),
  };
}

function readSockstat(procRoot: string): SockstatFacts {
  const line = /^TCP: (.*)$/m.exec(readText(procRoot, 'net/sockstat') ?? '')?.[1] ?? '';
  const fieldOf = (name: string): number | null => {
    const match = new RegExp(`(?:^| )${name} (\\d+)`).exec(line);
    return match === null ? null : Number(match[1]);
  };
  return { inuse: fieldOf('inuse'), timeWait: fieldOf('tw'), memPages: fieldOf('mem') };
}

/** The kernel tells programs its page size in their auxiliary vector (AT_PAGESZ, pairs of words). */
function readPageSize(procRoot: string): number {
  const AT_PAGESZ = 6n;
  const bytes = Buffer.from(readText(procRoot, 'self/auxv') ?? '', 'latin1');
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    if (bytes.readBigUInt64LE(at) === AT_PAGESZ) return Number(bytes.readBigUInt64LE(at + 8));
  }
  return PAGE_SIZE_DEFAULT_BYTES;
}

/** See `HostFacts.timeWaitOnTuples`: the count costs time, so it is taken only where it matters. */
async function readTimeWait(
  endpoints: readonly Endpoint[],
  tcpTimestamps: number | null,
  sockstat: SockstatFacts,
  procRoot: string,
): Promise<number | null> {
  if (tcpTimestamps !== 0 || endpoints.length === 0) return null;
  if (sockstat.timeWait === 0) return 0;
  const counted = await countSockets({ state: 'time-wait', endpoints, sources: null, ports: null, procRoot });
  return counted.count;
}

const PROBE_TIMEOUT_MS = 50;

/**
 * How it is decided: the files exist in every network namespace once the code is loaded, also where nothing
 * tracks, so their presence says nothing. Entries in the table (count > 0) prove tracking. With none, one
 * UDP datagram is sent from a socket to itself on 127.0.0.1: where a hook is registered, that alone makes an
 * entry, and the count is no longer 0. (Rules cannot be asked instead: that needs root and knowledge of nft and
 * of both kinds of iptables.) Not seen this way: rules that track IPv6 only, or everything except loopback, on
 * a host that has had no other traffic.
 * @param procRoot `/proc` or a test's folder
 * @param probe sends the datagram
 */
async function readConntrack(procRoot: string, probe: () => Promise<void>): Promise<ConntrackFacts> {
  const max =
    readSysctl(procRoot, 'net/netfilter/nf_conntrack_max') ?? readSysctl(procRoot, 'net/nf_conntrack_max');
  let count = readSysctl(procRoot, 'net/netfilter/nf_conntrack_count');
  if (count === null) return { active: max === null ? false : null, count, max };
  if (count === 0) {
    await probe();
    count = readSysctl(procRoot, 'net/netfilter/nf_conntrack_count') ?? 0;
  }
  return { active: count > 0, count, max };
}

/** One datagram to our own socket on loopback; gives up after 50 ms. */
async function sendToMyself(): Promise<void> {
  const socket = createSocket('udp4');
  const late = new AbortController();
  const timer = after(PROBE_TIMEOUT_MS, () => late.abort());
  try {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening', { signal: late.signal });
    const arrived = once(socket, 'message', { signal: late.signal });
    socket.send('x', socket.address().port, '127.0.0.1');
    await arrived;
  } catch {
    // No loopback, or a rule that drops it: the count then says what it says.
  } finally {
    timer.cancel();
    socket.close();
  }
}
