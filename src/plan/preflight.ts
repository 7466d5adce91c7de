/**
 * Owns judging a plan before anything is opened: one finding per resource, with the arithmetic and the command that
 * fixes it. Must never compute a capacity of its own (capacity.ts): a finding refuses exactly when its bound is
 * below what is wanted. docs/TUNING.md has a section for each `what`.
 */
import { ADDRESSES_MAX, type Family, parseAddress } from '../base/address.ts';
import type { Finding, Severity } from '../base/errors.ts';
import { type PortRange, portCount, subtractPorts, tupleFactors } from '../base/tuple-space.ts';
import { counted, formatBytes, formatCount, formatDuration } from '../base/units.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { askForAddresses, freeName, loopbackAfter, sourceIpFlag } from './alias-command.ts';
import {
  bufferPagesFree,
  conntrackBinds,
  conntrackFree,
  filesFree,
  isOnThisHost,
  memoryFree,
  type PlanBasis,
  slackOf,
} from './capacity.ts';
import {
  beginFinding,
  bufferPagesSure,
  bufferPagesWorst,
  DESCRIPTORS_RESERVED,
  HOLDER_BYTES,
  HOLDERS_MAX,
  holdersFinding,
  holdersFor,
  KERNEL_BYTES_PER_END,
  memoryBytes,
  NR_OPEN_DEFAULT,
  type Shape,
  systemFiles,
} from './cost.ts';
import { uringFinding } from './engine-choice.ts';
import { restingFix, restingWords } from './resting.ts';

/** The most that `fs.nr_open` can be set to (sysctl_nr_open_max in fs/file.c). */
const NR_OPEN_MAX = 2_147_483_584;

/** Memory above this share of what is free is named: the estimate does not know the target's own buffers. */
const MEMORY_WARN_RATIO = 0.8;

/** The first SYN retransmit leaves after one second (RFC 6298): a shorter timeout makes each lost SYN a failure. */
const SYN_RETRANSMIT_FIRST_MS = 1_000;

/** Half-open requests that Linux leaves for known peers when SYN cookies are off: a quarter of the backlog. */
const SYN_BACKLOG_USABLE_RATIO = 0.75;

/**
 * Every finding of a plan, in the order in which a person would check them.
 * @param basis the numbers of the plan
 */
export function preflight(basis: PlanBasis): Finding[] {
  return [
    sourceAddresses(basis),
    tuples(basis),
    ephemeralPorts(basis),
    reservedPorts(basis),
    timeWait(basis),
    descriptorsPerProcess(basis),
    descriptorsPerSystem(basis),
    memory(basis),
    holdersFinding(basis.wanted, basis.shape, basis.facts.tasks),
    ...beginFinding(basis.wanted, basis.shape),
    tcpMem(basis),
    conntrack(basis),
    ...acceptBacklog(basis),
    connectTimeout(basis),
  ];
}

function sourceAddresses({ addresses, spec }: PlanBasis): Finding {
  const what = 'source-addresses';
  const unit = 'addresses';
  if (addresses.length === 0) {
    const target = spec.endpoints[0]?.address ?? 'the target';
    return {
      what,
      unit,
      severity: 'refuse',
      needed: 1,
      available: 0,
      message: `no source address of this host reaches ${target}`,
      fix: `ip route get ${target}`,
    };
  }
  const [first, last] = [addresses[0], addresses.at(-1)];
  const names =
    addresses.length === 1 ? first : addresses.length === 2 ? `${first}, ${last}` : `${first} ... ${last}`;
  return {
    what,
    unit,
    severity: 'ok',
    needed: null,
    available: addresses.length,
    fix: null,
    message: `${counted(addresses.length, 'source address', 'source addresses')}: ${names}`,
  };
}

function tuples(basis: PlanBasis): Finding {
  const { wanted, choice, addresses, spec, tuplesInTimeWait } = basis;
  const factors = tupleFactors(
    addresses,
    spec.endpoints.map(({ family }) => family),
    choice.portCount,
  );
  const less = tuplesInTimeWait > 0 ? `, less ${formatCount(tuplesInTimeWait)} in TIME_WAIT` : '';
  const needed = Math.ceil(wanted * basis.perConnection);
  const available = basis.tuples - tuplesInTimeWait;
  const short = basis.bounds.tuples < wanted;
  return {
    what: 'tuples',
    unit: 'tuples',
    severity: short ? 'refuse' : 'ok',
    needed,
    available,
    message: `needs ${formatCount(needed)} tuples${restingWords(wanted, needed)}, has ${formatCount(available)} (${factors}${less})`,
    fix: !short ? null : needed > wanted ? restingFix(spec, wanted, available) : tuplesFix(basis),
  };
}

/** More addresses; more ports too when the user narrowed them; patience when TIME_WAIT alone is in the way. */
function tuplesFix({ wanted, tuples: all, choice, addresses, facts, spec }: PlanBasis): string {
  if (all >= wanted) return 'sleep 60';
  const family = familyToGrow(addresses, spec);
  const perAddress = choice.portCount * spec.endpoints.filter((end) => end.family === family).length;
  if (perAddress === 0) {
    return spec.sources.ports === null
      ? `--source-ip ${freeName(1)}: an address of this host`
      : '--source-ports 1024-65535';
  }
  const count = Math.ceil((wanted - all) / perAddress);
  if (addresses.length + count > ADDRESSES_MAX) {
    return `${formatCount(ADDRESSES_MAX)} source addresses on one host are not enough: add endpoints or agents`;
  }
  const isMixed = spec.endpoints.some((end) => end.family !== family);
  const kind = isMixed ? `IPv${family} source address` : 'source address';
  const add = `add ${counted(count, kind, `${kind}es`)}`;
  // All of 127.0.0.0/8 is ours already: naming more of it is enough.
  if (addresses.length > 0 && addresses.every((address) => address.startsWith('127.'))) {
    return `${add}: ${sourceIpFlag([...addresses, ...loopbackAfter(addresses, count)])}`;
  }
  const device = deviceOf(addresses, family, spec, facts);
  const { flag, byHand, request } = askForAddresses(addresses, count, family, device);
  return `${add}: ${flag} --alias-dev ${device ?? 'auto'} (by hand: ${byHand}); ${request}`;
}

/** The family that more addresses bring most in: that of most endpoints; of two alike, that of the first source. */
function familyToGrow(addresses: readonly string[], { endpoints }: PlanBasis['spec']): Family {
  const first = parseAddress(addresses[0] ?? endpoints[0]?.address ?? '127.0.0.1').family;
  const endsOf = (family: Family): number => endpoints.filter((end) => end.family === family).length;
  const other: Family = first === 4 ? 6 : 4;
  return endsOf(other) > endsOf(first) ? other : first;
}

function deviceOf(
  addresses: readonly string[],
  family: Family,
  { endpoints }: PlanBasis['spec'],
  facts: HostFacts,
): string | null {
  const own = facts.hostAddresses.find((one) => one.family === family && addresses.includes(one.address));
  const end = endpoints.find((one) => one.family === family)?.address;
  return own?.device ?? facts.routes.find((route) => route.address === end)?.device ?? null;
}

function ephemeralPorts({ choice, facts, pairs, wanted }: PlanBasis): Finding {
  const range = facts.localPortRange;
  const inside = range === null ? 'ip_local_port_range' : `ip_local_port_range ${rangeText(range)}`;
  const outside = range === null ? null : portCount(subtractPorts(choice.ports, [range]));
  const common = { what: 'ephemeral-ports', unit: 'ports', available: outside };
  if (!choice.usesEphemeral) {
    return {
      ...common,
      severity: 'ok',
      needed: null,
      fix: null,
      message: `all source ports are outside ${inside}: the rest of the host keeps its ephemeral ports`,
    };
  }
  return {
    ...common,
    severity: 'warn',
    needed: pairs === 0 ? null : Math.ceil(slackOf(wanted) / pairs),
    message:
      `source ports inside ${inside} are used: while the run lasts, other programs on this host ` +
      'may find no free port',
    fix: 'add source addresses (--source-ip), so that the ports outside the range suffice',
  };
}

function reservedPorts({ facts, spec }: PlanBasis): Finding {
  const asked = spec.sources.ports ?? [{ from: 1_024, to: 65_535 }];
  const lost = portCount(asked) - portCount(subtractPorts(asked, facts.reservedPorts));
  const common = { what: 'reserved-ports', unit: 'ports', needed: null, available: lost };
  if (lost === 0) {
    return {
      ...common,
      severity: 'ok',
      fix: null,
      message: 'no source port is in ip_local_reserved_ports',
    };
  }
  const explicit = spec.sources.ports !== null;
  return {
    ...common,
    severity: explicit ? 'warn' : 'ok',
    message:
      `${counted(lost, 'port')} of ${explicit ? '--source-ports' : '1024-65535'} ` +
      `${lost === 1 ? 'is' : 'are'} in ip_local_reserved_ports and left out`,
    fix: explicit ? 'sysctl net.ipv4.ip_local_reserved_ports' : null,
  };
}

function timeWait({ facts, tuplesInTimeWait, bounds, wanted, spec }: PlanBasis): Finding {
  const common = { what: 'time-wait', unit: 'tuples', needed: null, available: facts.sockstat.timeWait };
  if (facts.tcpTimestamps !== 0) {
    const now = facts.sockstat.timeWait ?? 0;
    return {
      ...common,
      severity: 'ok',
      fix: null,
      message: `TCP timestamps are on: tuples in TIME_WAIT (${formatCount(now)} on this host now) are taken over`,
    };
  }
  if (tuplesInTimeWait === 0) {
    return {
      ...common,
      severity: spec.close === 'fin' ? 'warn' : 'ok',
      available: 0,
      message:
        'TCP timestamps are off: none of our tuples is in TIME_WAIT now, and ' +
        (spec.close === 'fin' ? 'after this run each stays in it for 60 s' : '--close rst leaves none'),
      fix: spec.close === 'fin' ? '--close rst' : null,
    };
  }
  return {
    ...common,
    severity: bounds.tuples < wanted ? 'refuse' : 'warn',
    available: tuplesInTimeWait,
    message:
      `${counted(tuplesInTimeWait, 'tuple')} towards the target ${tuplesInTimeWait === 1 ? 'is' : 'are'} in ` +
      'TIME_WAIT and TCP timestamps are off: unusable for 60 s',
    fix: 'sysctl -w net.ipv4.tcp_timestamps=1',
  };
}

function descriptorsPerProcess({ facts, wanted, shape, spec, bounds }: PlanBasis): Finding {
  const available = bounds.descriptors;
  if (shape.engine === 'uring') return uringFinding({ wanted, available, shape, facts });
  const limit = facts.nofileHard;
  const common = { what: 'descriptors-per-process', unit: 'descriptors', needed: wanted, available };
  const perHolder =
    limit === null
      ? `${formatCount(shape.perHolder)} a holder (limit not known)`
      : `${formatCount(shape.perHolder)} a holder (${formatCount(limit)} less ${DESCRIPTORS_RESERVED})`;
  if (available >= wanted) {
    const holders = counted(holdersFor(wanted, shape), 'holder');
    const message = `needs ${formatCount(wanted)} descriptors: ${holders}, at most ${perHolder}`;
    return { ...common, severity: 'ok', fix: null, message };
  }
  const needed = shape.perHolder > 0 ? Math.ceil(wanted / shape.perHolder) : Number.POSITIVE_INFINITY;
  const count = Math.min(spec.holders ?? HOLDERS_MAX, HOLDERS_MAX);
  const most = spec.holders === null ? `at most ${count}` : `--holders ${spec.holders}`;
  return {
    ...common,
    severity: 'refuse',
    message:
      `needs ${formatCount(wanted)} descriptors, has ${formatCount(available)}: ${most} x ${perHolder}` +
      (Number.isFinite(needed) ? `; that would take ${formatCount(needed)} holders` : ''),
    fix: needed <= HOLDERS_MAX ? `--holders ${needed}` : ulimitFix(wanted, shape, facts),
  };
}

/**
 * A limit at which 8 holders (or one for each core) suffice; how to get it depends on whether we may raise it. No limit can
 * be above fs.nr_open: then more holders share the rest, and when not even all of them suffice, fs.nr_open must grow.
 */
function ulimitFix(wanted: number, shape: Shape, facts: HostFacts): string {
  const limitFor = (holders: number): number => Math.ceil(wanted / holders) + DESCRIPTORS_RESERVED;
  const asked = shape.holdersAsked === null ? null : Math.min(shape.holdersAsked, HOLDERS_MAX);
  const limit = limitFor(asked ?? Math.min(HOLDERS_MAX, Math.max(8, shape.cpus)));
  const highest = facts.nrOpen ?? NR_OPEN_DEFAULT;
  if (limit <= highest) return ulimitText(limit, facts);
  const holders = Math.ceil(wanted / Math.max(1, highest - DESCRIPTORS_RESERVED));
  if (holders <= HOLDERS_MAX) {
    // Left alone, a run takes as many holders as its descriptors need.
    const flag = asked === null ? '' : ` and --holders ${holders}`;
    return `${ulimitText(limitFor(holders), facts)}${flag} (fs.nr_open allows no more than ${highest})`;
  }
  const least = limitFor(HOLDERS_MAX);
  if (least > NR_OPEN_MAX) return 'ask for fewer connections (--conns), or spread the run over more hosts';
  const nrOpen = Math.min(NR_OPEN_MAX, roundUp(least));
  return `sysctl -w fs.nr_open=${nrOpen} && ${ulimitText(least, facts)}, with --holders ${HOLDERS_MAX}`;
}

function ulimitText(limit: number, facts: HostFacts): string {
  if (facts.canRaiseNofile) return `ulimit -n ${limit}`;
  return `ulimit -n ${limit}, or where that is refused: sudo prlimit --pid $$ --nofile=${limit}:${limit}`;
}

function descriptorsPerSystem({ facts, wanted, shape, bounds }: PlanBasis): Finding {
  const needed = systemFiles(wanted, shape);
  const free = filesFree(facts);
  const common = { what: 'descriptors-per-system', unit: 'descriptors', needed, available: free };
  if (free === null) return unknown(common, 'fs.file-max');
  const short = bounds['system-descriptors'] < wanted;
  return {
    ...common,
    severity: short ? 'refuse' : 'ok',
    message:
      `needs ${formatCount(needed)} open files on this host (${endsText(wanted, shape)}), ` +
      `has ${formatCount(free)} (fs.file-max less those in use)`,
    fix: short ? `sysctl -w fs.file-max=${roundUp((facts.fileUsed ?? 0) + needed)}` : null,
  };
}

function memory({ facts, wanted, shape, bounds }: PlanBasis): Finding {
  const needed = memoryBytes(wanted, shape);
  const free = memoryFree(facts);
  const common = { what: 'memory', unit: 'bytes', needed, available: free };
  if (free === null) return unknown(common, 'free memory');
  const holders = holdersFor(wanted, shape);
  const ratio = needed / Math.max(1, free);
  const severity = bounds.memory < wanted ? 'refuse' : ratio > MEMORY_WARN_RATIO ? 'warn' : 'ok';
  const group = facts.cgroupMemoryLimitBytes;
  const inGroup = group !== null && free < (facts.memoryAvailableBytes ?? Number.POSITIVE_INFINITY);
  return {
    ...common,
    severity,
    message:
      `needs about ${formatBytes(needed)} (${endsText(wanted, shape)} x ${formatCount(KERNEL_BYTES_PER_END)} B, ` +
      `${counted(holders, 'holder')} x ${formatBytes(HOLDER_BYTES)}${sessionsText(wanted, shape.sessionBytes ?? 0)}), ` +
      `has ${formatBytes(free)}` +
      (inGroup ? ' in its control group' : ''),
    fix: severity === 'ok' ? null : memoryFix(inGroup, Math.ceil(needed / MEMORY_WARN_RATIO)),
  };
}

/** What TLS adds; nothing without it. */
function sessionsText(wanted: number, sessionBytes: number): string {
  return sessionBytes === 0 ? '' : `, ${counted(wanted, 'TLS session')} x ${formatBytes(sessionBytes)}`;
}

function memoryFix(inGroup: boolean, bytes: number): string {
  const mebibytes = Math.ceil(bytes / 2 ** 20);
  return inGroup
    ? `raise the memory limit to at least ${mebibytes}M (docker --memory ${mebibytes}m, systemd MemoryMax=${mebibytes}M)`
    : 'spread the run over more hosts, or ask for fewer connections (--conns)';
}

function tcpMem({ facts, wanted, shape, bounds }: PlanBasis): Finding {
  const sure = bufferPagesSure(wanted, shape);
  const worst = bufferPagesWorst(wanted, shape);
  const free = bufferPagesFree(facts);
  const common = { what: 'tcp-mem', unit: 'pages', needed: sure, available: free };
  if (facts.tcpMem === null || free === null) return unknown(common, 'net.ipv4.tcp_mem');
  const [low, pressure, high] = facts.tcpMem;
  const used = facts.sockstat.memPages ?? 0;
  if (bounds['tcp-mem'] < wanted) {
    return {
      ...common,
      severity: 'refuse',
      message:
        `needs ${formatCount(sure)} pages of TCP buffers (one for each connect in flight), ` +
        `has ${formatCount(free)} (tcp_mem ${formatCount(high)} less ${formatCount(used)} in use)`,
      fix: tcpMemFix([low, pressure, high], used + worst),
    };
  }
  // Below the second number nothing changes; above it the kernel shrinks buffers; above the third it drops.
  const underPressure = used + worst > pressure;
  return {
    ...common,
    severity: underPressure ? 'warn' : 'ok',
    needed: underPressure ? worst : sure,
    message: underPressure
      ? `if bytes lie unread on every connection, TCP buffers take ${formatCount(used + worst)} pages: ` +
        `more than ${formatCount(pressure)}, where the kernel begins to save (tcp_mem)`
      : `needs ${formatCount(sure)} pages of TCP buffers, at worst ${formatCount(worst)}, ` +
        `of ${formatCount(high)} (tcp_mem); silent connections need none`,
    fix: underPressure ? tcpMemFix([low, pressure, high], used + worst) : null,
  };
}

function tcpMemFix([low]: readonly [number, number, number], pages: number): string {
  const pressure = roundUp(pages);
  return `sysctl -w net.ipv4.tcp_mem="${Math.min(low, pressure)} ${pressure} ${roundUp(pressure * 1.5)}"`;
}

function conntrack({ facts, spec, wanted, bounds }: PlanBasis): Finding {
  const free = conntrackFree(facts);
  const common = { what: 'conntrack', unit: 'entries', needed: wanted, available: free };
  if (facts.conntrack.active !== true) {
    return {
      ...common,
      severity: 'ok',
      needed: null,
      fix: null,
      message:
        facts.conntrack.active === null
          ? 'whether this host tracks connections is not known'
          : 'this host does not track connections (conntrack)',
    };
  }
  if (free === null) return unknown(common, 'nf_conntrack_max');
  const binds = conntrackBinds(facts, spec.endpoints);
  const severity: Severity = free >= wanted ? 'ok' : binds && bounds.conntrack < wanted ? 'refuse' : 'warn';
  const { count, max } = facts.conntrack;
  return {
    ...common,
    severity,
    message:
      `this host tracks connections: needs ${formatCount(wanted)} entries, has ${formatCount(free)} ` +
      `(nf_conntrack_max ${formatCount(max ?? 0)} less ${formatCount(count ?? 0)})` +
      (severity === 'warn' ? '; on loopback this matters unless lo is left untracked' : ''),
    fix:
      severity === 'ok' ? null : `sysctl -w net.netfilter.nf_conntrack_max=${roundUp((count ?? 0) + wanted)}`,
  };
}

/** Only where the target is on this host: another host's backlog cannot be read. */
function acceptBacklog({ facts, spec, wanted }: PlanBasis): Finding[] {
  if (!spec.endpoints.some((endpoint) => isOnThisHost(endpoint, facts))) return [];
  const needed = Math.min(spec.pendingMax, wanted);
  const { somaxconn, tcpMaxSynBacklog } = facts;
  const what = 'accept-backlog';
  if (somaxconn === null) {
    return [unknown({ what, unit: 'connections', needed, available: null }, 'net.core.somaxconn')];
  }
  // With SYN cookies on, a full SYN backlog drops nothing: only the accept queue counts.
  const synLimit =
    facts.tcpSyncookies === 0 && tcpMaxSynBacklog !== null
      ? Math.floor(tcpMaxSynBacklog * SYN_BACKLOG_USABLE_RATIO)
      : Number.POSITIVE_INFINITY;
  const available = Math.min(somaxconn, synLimit);
  const short = available < needed;
  const name = synLimit < somaxconn ? 'tcp_max_syn_backlog without SYN cookies' : 'somaxconn';
  return [
    {
      what,
      unit: 'connections',
      needed,
      available,
      severity: short ? 'warn' : 'ok',
      message: short
        ? `up to ${formatCount(needed)} connects in flight, but a listener here queues at most ` +
          `${formatCount(available)} (${name}): the rest lose their SYN and come a second later`
        : `up to ${formatCount(needed)} connects in flight, a listener here can queue ${formatCount(available)} ` +
          `(${name}), if its own backlog allows`,
      fix: short ? backlogFix(needed, somaxconn, synLimit) : null,
    },
  ];
}

function backlogFix(needed: number, somaxconn: number, synLimit: number): string {
  const settings: string[] = [];
  if (somaxconn < needed) settings.push(`net.core.somaxconn=${roundUp(needed)}`);
  if (synLimit < needed) {
    settings.push(`net.ipv4.tcp_max_syn_backlog=${roundUp(needed / SYN_BACKLOG_USABLE_RATIO)}`);
  }
  return `sysctl -w ${settings.join(' ')}`;
}

function connectTimeout({ spec }: PlanBasis): Finding {
  const short = spec.connectTimeoutMs <= SYN_RETRANSMIT_FIRST_MS;
  return {
    what: 'connect-timeout',
    unit: 'milliseconds',
    severity: short ? 'warn' : 'ok',
    needed: SYN_RETRANSMIT_FIRST_MS + 1,
    available: spec.connectTimeoutMs,
    message: short
      ? `connects give up after ${formatDuration(spec.connectTimeoutMs)}, before a lost SYN is sent again (1s)`
      : `connects give up after ${formatDuration(spec.connectTimeoutMs)}, a lost SYN is sent again after 1s`,
    fix: short ? '--connect-timeout 10s' : null,
  };
}

/** A resource that could not be read never refuses. */
function unknown(common: Pick<Finding, 'what' | 'unit' | 'needed' | 'available'>, name: string): Finding {
  return { ...common, severity: 'ok', message: `${name} could not be read on this host`, fix: null };
}

function endsText(wanted: number, shape: Shape): string {
  return shape.endsHere === 2 ? `${formatCount(wanted)} x 2 ends` : `${counted(wanted, 'connection')}`;
}

function rangeText(range: PortRange): string {
  return `${range.from}-${range.to}`;
}

/** Two significant digits upwards, so that what is typed is a figure that a person would choose. */
function roundUp(value: number): number {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, value))) - 1);
  return Math.ceil(value / step) * step;
}
