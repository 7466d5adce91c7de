/**
 * Owns what a host's kernel said during a run: reading its counters, fill levels and settings from /proc, which counters
 * changed, readings with their least and most, and how many sockets of ours it counts. Must never judge it (diagnosis.ts).
 */

import { addressToBigInt } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { addressesHere } from './ip-command.ts';
import { readSysctl, readSysctlNumbers, readText } from './proc-file.ts';

/** Some quantity that was read every few seconds. */
export interface KernelSample {
  readonly min: number;
  readonly max: number;
  readonly last: number;
  /** what it cannot exceed; null: no limit, or not known */
  readonly limit: number | null;
}

/** One reading; a quantity that could not be read is absent. */
type KernelReadings = Readonly<Record<string, { readonly value: number; readonly limit: number | null }>>;

/** What one agent's kernel said; it is of the whole network namespace, not of this run alone. */
export interface KernelEvidence {
  /** changes since the ramp began, by the kernel's own names; those that did not change are absent */
  readonly counters: Readonly<Record<string, number>>;
  /** by name: `conntrack`, `neighbours`, `tcp-sockets`, `time-wait`, `tcp-memory-pages` */
  readonly samples: Readonly<Record<string, KernelSample>>;
  /** seconds after its call at which this kernel sends a SYN again */
  readonly synLadderSec: readonly number[];
  /** an endpoint is an address of this host, so that its listener's counters are among these */
  readonly hasLocalEndpoint: boolean;
  /** connections of other programs of this host to the endpoints, before the ramp; absent: not asked, or could not be */
  readonly othersBefore?: number;
  /** what was seen of this host's own network while the run went on; absent: nothing was looked at */
  readonly ownNetwork?: OwnNetwork;
  /** by `address:port` of an endpoint that is an address of this host; absent: none, or not looked at */
  readonly farSide?: Readonly<Record<string, FarSide>>;
  /** by `address:port`, when the hold was over and connections were missing; absent: not tried */
  readonly aftermath?: Readonly<Record<string, Aftermath>>;
}

/** Faults of this host's own network, seen at a look each few seconds in ramp and hold. */
interface OwnNetwork {
  /** devices towards the endpoints by name, that were down at the last look with losses after it, or at the end */
  readonly linksDown: Readonly<Record<string, 'administrative' | 'carrier'>>;
  /** endpoints (`address:port`) without a route */
  readonly routesLost: readonly string[];
  /** source addresses of the run that this host no longer has */
  readonly addressesLost: readonly string[];
}

/** The target's side of its sockets, where this host's kernel is also the target's. */
export interface FarSide {
  /** established, and accepted by no process (inode 0): the most at one look, and the last look of the hold */
  readonly waitingMax: number;
  readonly waitingLast: number;
  /** established and accepted, at the last look of the hold */
  readonly takenLast: number;
  /** half open there (SYN-RECV) while they are established here: the most at one look, and the last look of the hold (absent: not known) */
  readonly halfOpenMax: number;
  readonly halfOpenLast?: number;
  /** at a look its listener's queue was full (Recv-Q above Send-Q) */
  readonly isQueueFull: boolean;
  /** the most in its listener's queue at two looks in turn, those of others and those that were closed since included; absent: not known */
  readonly queuedMax?: number;
  /** SYNs and handshakes that its listener dropped for a full queue since the first look; null or absent: not known */
  readonly queueDrops?: number | null;
  /** the process that listened when the ramp began is gone; null: its process could not be found */
  readonly isOwnerGone: boolean | null;
  /** descriptors of that process, the most at one look, and its limit; null: could not be read */
  readonly descriptorsUsed: number | null;
  readonly descriptorsMax: number | null;
}

/** One further try after losses. */
export interface Aftermath {
  /** of one new connect with a port of the kernel's choice */
  readonly connect: 'taken' | 'refused' | 'unreachable' | 'silent';
  /** the same from the first source and port of the plan; null: not tried */
  readonly planConnect: 'taken' | 'refused' | 'unreachable' | 'silent' | null;
  /** whether a router is between; null: not known */
  readonly isRouted: boolean | null;
  /** an ARP or neighbour request to the endpoint's own address, where no router is between; null: not asked */
  readonly isNeighbourThere: boolean | null;
  /** the ICMP or ICMPv6 error that a connect was answered with, and whether its sender is this host; absent: none came */
  readonly rejected?: {
    readonly by: string;
    readonly type: number;
    readonly code: number;
    readonly isOwn: boolean;
  };
}

/** What one kernel counted of our sockets, beside our own count at that moment. */
export interface KernelCount {
  readonly agent: string;
  readonly when: 'ramp-end' | 'hold-end';
  /** our sockets that the kernel calls ESTABLISHED; null: could not be asked */
  readonly established: number | null;
  /** our own count right before and right after; one between them is no difference */
  readonly openBefore: number;
  readonly open: number;
  /** of other programs of this host to the endpoints, not among `established`; absent: not known apart */
  readonly others?: number;
  readonly method: 'sock-diag' | 'ss' | 'proc-net-tcp' | 'none';
}

/** The counters that a report keeps: those of retransmits, queues, memory and aborts. */
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
  'TCPDeferAcceptDrop',
  'TCPAbortOnTimeout',
  'TCPAbortOnMemory',
  'TCPMemoryPressures',
  'TCPTimeouts',
  'TCPSynRetrans',
  'PruneCalled',
  'TCPRetransFail',
  'IpInReceives',
  'IpInDelivers',
  'IpForwDatagrams',
  'IpOutRequests',
  'IpOutTransmits',
  'IpOutNoRoutes',
  'Ip6InReceives',
  'Ip6InDelivers',
  'Ip6OutForwDatagrams',
  'Ip6OutRequests',
  'Ip6OutTransmits',
  'Ip6OutNoRoutes',
  'IcmpInDestUnreachs',
  'IcmpInTimeExcds',
  'Icmp6InDestUnreachs',
  'Icmp6InTimeExcds',
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

/** The most steps that are given: further ones lie beyond any connect timeout in use. */
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

/** Kernel settings that matter to source addresses; null: could not be read. */
export interface NetworkSettings {
  /** `net.ipv4.neigh.default.gc_thresh3`: neighbours that this kernel can know; not to be seen inside a container */
  readonly neighboursMax: number | null;
  /** `rp_filter` by device, the stricter of `all` and the device's own: 0 off, 1 strict, 2 loose */
  readonly rpFilter: Readonly<Record<string, number>>;
  /** `promote_secondaries` by device, the larger of `all` and the device's own */
  readonly promoteSecondaries: Readonly<Record<string, number>>;
}

/**
 * One reading of this network namespace (the neighbour table and TCP memory are the whole kernel's).
 * @param procRoot default `/proc`
 * @returns by name; what cannot be read is absent
 */
export function readKernel(procRoot = '/proc'): KernelReadings {
  const readings: Record<string, { value: number; limit: number | null }> = {};
  const add = (name: string, value: number | null, limit: number | null): void => {
    if (value !== null && Number.isFinite(value)) readings[name] = { value, limit };
  };
  add(
    'conntrack',
    readSysctl(procRoot, 'net/netfilter/nf_conntrack_count'),
    readSysctl(procRoot, 'net/netfilter/nf_conntrack_max'),
  );
  add('neighbours', neighbourEntries(procRoot), readSysctl(procRoot, 'net/ipv4/neigh/default/gc_thresh3'));
  const sockstat = /^TCP: (.*)$/m.exec(readText(procRoot, 'net/sockstat') ?? '')?.[1] ?? '';
  add('tcp-sockets', numberAfter(sockstat, 'inuse'), null);
  add('time-wait', numberAfter(sockstat, 'tw'), readSysctl(procRoot, 'net/ipv4/tcp_max_tw_buckets'));
  add(
    'tcp-memory-pages',
    numberAfter(sockstat, 'mem'),
    readSysctlNumbers(procRoot, 'net/ipv4/tcp_mem')?.[2] ?? null,
  );
  return readings;
}

/**
 * The TCP counters, and how many processes the kernel has killed for lack of memory.
 * @param procRoot default `/proc`
 */
export function readCounters(procRoot = '/proc'): TcpCounters {
  const killed = numberAfter((readText(procRoot, 'vmstat') ?? '').replaceAll('\n', ' '), 'oom_kill');
  return { ...readTcpExt(procRoot), ...(killed === null ? {} : { oom_kill: killed }) };
}

/** The first column of the first row below the head, in hexadecimal (net/core/neighbour.c, neigh_stat_seq_show). */
function neighbourEntries(procRoot: string): number | null {
  const first = (readText(procRoot, 'net/stat/arp_cache') ?? '').split('\n')[1]?.trim().split(/\s+/)[0] ?? '';
  return /^[0-9a-f]{1,8}$/.test(first) ? Number.parseInt(first, 16) : null;
}

function numberAfter(text: string, name: string): number | null {
  const match = new RegExp(`(?:^| )${name} (\\d+)`).exec(text);
  const number = match === null ? Number.NaN : Number(match[1]);
  return Number.isFinite(number) ? number : null;
}

/** Counters by the kernel's names; `Tcp` and `TcpExt` share no name. */
type TcpCounters = Readonly<Record<string, number>>;

/** What stands before the kernel's own name of a counter, by group: those of Ip, Icmp and Tcp have names in common. */
const GROUPS: ReadonlyMap<string, string> = new Map([
  ['Tcp', ''],
  ['TcpExt', ''],
  ['Ip', 'Ip'],
  ['Icmp', 'Icmp'],
]);

/** A column that is no number is none of the kernel's. */
function addCounters(
  counters: Record<string, number>,
  names: readonly string[],
  fields: readonly string[],
): void {
  for (const [index, name] of names.entries()) {
    const count = Number(fields[index] ?? 0);
    if (Number.isFinite(count)) counters[name] = count;
  }
}

/**
 * The Tcp, Ip and Icmp counters of /proc/net/snmp, the TcpExt counters of /proc/net/netstat, and those of /proc/net/snmp6, whose names
 * begin with `Ip6` or `Icmp6`.
 * @param procRoot default `/proc`
 * @returns counters by name; empty when neither file can be read
 */
function readTcpExt(procRoot = '/proc'): TcpCounters {
  const counters: Record<string, number> = {};
  for (const path of ['net/snmp', 'net/netstat']) {
    // Two lines a group: `Tcp: Name Name ...` and `Tcp: 1 2 ...`.
    const names = new Map<string, string[]>();
    for (const line of (readText(procRoot, path) ?? '').split('\n')) {
      const [group = '', ...fields] = line.trim().split(/\s+/);
      const name = group.slice(0, -1);
      const prefix = GROUPS.get(name);
      if (prefix === undefined) continue;
      const heads = names.get(name);
      if (heads === undefined) names.set(name, fields);
      else
        addCounters(
          counters,
          heads.map((head) => prefix + head),
          fields,
        );
    }
  }
  for (const [, name = '', value] of (readText(procRoot, 'net/snmp6') ?? '').matchAll(
    /^((?:Ip|Icmp)6\w+)\s+(\d+)$/gm,
  ))
    addCounters(counters, [name], [value ?? '0']);
  return counters;
}

/**
 * What happened between two readings.
 * @param before the earlier one
 * @param after the later one
 * @returns counters that changed
 */
export function tcpExtDelta(before: TcpCounters, after: TcpCounters): TcpCounters {
  const delta: Record<string, number> = {};
  for (const [name, value] of Object.entries(after)) {
    const change = value - (before[name] ?? 0);
    if (change !== 0) delta[name] = change;
  }
  return delta;
}

/**
 * Reads the kernel settings that matter to many source addresses on one host.
 * @param devices names of the devices whose settings are read
 * @param procRoot `/proc` or a test's folder
 */
export function readNetworkSettings(devices: readonly string[], procRoot = '/proc'): NetworkSettings {
  // The kernel takes the larger of `all` and the device's own value (Documentation/networking/ip-sysctl.rst).
  const byDevice = (name: string): Record<string, number> => {
    const all = readSysctl(procRoot, `net/ipv4/conf/all/${name}`) ?? 0;
    return Object.fromEntries(
      devices.flatMap((device) => {
        const own = readSysctl(procRoot, `net/ipv4/conf/${device}/${name}`);
        return own === null ? [] : [[device, Math.max(all, own)]];
      }),
    );
  };
  return {
    neighboursMax: readSysctl(procRoot, 'net/ipv4/neigh/default/gc_thresh3'),
    rpFilter: byDevice('rp_filter'),
    promoteSecondaries: byDevice('promote_secondaries'),
  };
}

/** Sources and endpoints that are looked at: the first ones. */
const LOOKED_AT_MAX = 256;
/** In `flags` of a device: it is administratively up (IFF_UP, linux/if.h). */
const IFF_UP = 1;
const IPV4_BITS = 32;

/** What is looked at. */
interface Looked {
  readonly devices: readonly string[];
  readonly endpoints: readonly Endpoint[];
  readonly sources: readonly string[];
  /** default `/proc`, `/sys`, and the addresses that this process sees */
  readonly procRoot?: string;
  readonly sysRoot?: string;
  readonly addresses?: () => ReadonlySet<string>;
}

/** Looks at one host's network. */
export class OwnNetworkWatch {
  readonly #looked: Looked;
  readonly #devices: readonly string[];
  readonly #endpoints: readonly Endpoint[];
  readonly #sources: readonly string[];

  constructor(looked: Looked) {
    this.#looked = looked;
    const devices = [...new Set(looked.devices)];
    this.#devices = devices.filter((device) => this.#downHow(device) === null);
    const routes = this.#routes();
    this.#endpoints = looked.endpoints.slice(0, LOOKED_AT_MAX).filter((each) => isRouted(each, routes));
    const here = this.#addresses();
    this.#sources = looked.sources.filter((source) => here.has(source)).slice(0, LOOKED_AT_MAX);
  }

  /** What is missing now of what was there at the start. */
  look(): OwnNetwork {
    const linksDown: Record<string, 'administrative' | 'carrier'> = {};
    for (const device of this.#devices) {
      const how = this.#downHow(device);
      if (how !== null) linksDown[device] = how;
    }
    const routes = this.#routes();
    const here = this.#addresses();
    return {
      linksDown,
      routesLost: this.#endpoints.filter((each) => !isRouted(each, routes)).map(formatEndpoint),
      addressesLost: this.#sources.filter((source) => !here.has(source)),
    };
  }

  /** null: it is up, or its state cannot be read. */
  #downHow(device: string): 'administrative' | 'carrier' | null {
    const root = this.#looked.sysRoot ?? '/sys';
    const flags = Number(readText(root, `class/net/${device}/flags`) ?? Number.NaN);
    if (Number.isNaN(flags)) return null;
    if ((flags & IFF_UP) === 0) return 'administrative';
    return readText(root, `class/net/${device}/carrier`)?.trim() === '0' ? 'carrier' : null;
  }

  /** IPv4 routes of the main table: destination and mask as they stand in memory of a little-endian host. */
  #routes(): readonly Route[] {
    const text = readText(this.#looked.procRoot ?? '/proc', 'net/route') ?? '';
    return text.split('\n').flatMap((line, index) => {
      const fields = line.split('\t');
      const [to = '', mask = ''] = [fields[1], fields[7]];
      if (index === 0 || !ADDRESS_HEX.test(to) || !ADDRESS_HEX.test(mask)) return [];
      return [{ to: hostOrder(to), mask: hostOrder(mask) }];
    });
  }

  #addresses(): ReadonlySet<string> {
    return this.#looked.addresses?.() ?? addressesHere();
  }
}

interface Route {
  readonly to: number;
  readonly mask: number;
}

/** An IPv4 address in /proc/net/route. */
const ADDRESS_HEX = /^[0-9A-F]{8}$/;

/** Eight hexadecimal digits, the first byte last. */
function hostOrder(hex: string): number {
  const bytes = hex.match(/../g) ?? [];
  return Number.parseInt(bytes.toReversed().join(''), 16);
}

/** Of IPv6 nothing is said: it is taken as not looked at. */
function isRouted({ address, family }: Endpoint, routes: readonly Route[]): boolean {
  if (family !== 4) return false;
  const bits = BigInt.asUintN(IPV4_BITS, addressToBigInt(address));
  return routes.some(({ to, mask }) => (bits & BigInt(mask)) === BigInt(to));
}
