/**
 * Owns every use of the program `ip`: the only reader of `ip -j` (addresses, devices, routes), and batches of commands.
 * Must never decide which addresses are ours (sources/) or what a failure means, and must never send a packet: routes are
 * asked of the kernel.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Family, isAddress, isLoopback, parseAddress, parseCidr } from '../base/address.ts';
import { isTable, type Table } from '../base/shape.ts';
import type { RunProgram } from './command.ts';

const READ_TIMEOUT_MS = 5_000;
const BATCH_TIMEOUT_MS = 15_000;

/** How the kernel writes "for ever" (INFINITY_LIFE_TIME in include/uapi/linux/if_addr.h and include/net/addrconf.h). */
const FOREVER_SEC = 0xffff_ffff;

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

/** What `ip -j addr` says of one address; only what is read here. */
interface AddressJson {
  readonly family: string | undefined;
  readonly local: string | undefined;
  readonly prefixlen: number | undefined;
  readonly scope: string | undefined;
  readonly label: string | undefined;
  readonly valid_life_time: number | undefined;
  readonly isUsable: boolean;
}

interface DeviceJson {
  readonly ifname: string | undefined;
  readonly flags: readonly string[];
  readonly addr_info: readonly AddressJson[];
}

/** What `ip -j route get` says. */
interface RouteJson {
  readonly type: string | undefined;
  readonly dst: string | undefined;
  readonly from: string | undefined;
  readonly dev: string | undefined;
  readonly gateway: string | undefined;
  readonly prefsrc: string | undefined;
}

/** `ip` has many versions and stand-ins: a field of another kind is as good as none. */
const textIn = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
const numberIn = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);
const listIn = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

function addressIn(info: Table): AddressJson {
  return {
    family: textIn(info.family),
    local: textIn(info.local),
    prefixlen: numberIn(info.prefixlen),
    scope: textIn(info.scope),
    label: textIn(info.label),
    valid_life_time: numberIn(info.valid_life_time),
    isUsable: info.tentative !== true && info.deprecated !== true && info.dadfailed !== true,
  };
}

function deviceIn(device: Table): DeviceJson {
  return {
    ifname: textIn(device.ifname),
    flags: listIn(device.flags).filter((flag) => typeof flag === 'string'),
    addr_info: listIn(device.addr_info).filter(isTable).map(addressIn),
  };
}

function routeIn(route: Table): RouteJson {
  return {
    type: textIn(route.type),
    dst: textIn(route.dst),
    from: textIn(route.from),
    dev: textIn(route.dev),
    gateway: textIn(route.gateway),
    prefsrc: textIn(route.prefsrc),
  };
}

/** An address that is on a device now. */
export interface PresentAddress extends HostAddress {
  /** IPv4 only */
  readonly label: string | null;
  /** seconds until the kernel removes it; null: for ever */
  readonly validSec: number | null;
  /** its device carries no neighbours (loopback, dummy): its packets leave by another one */
  readonly isOnVirtualDevice: boolean;
}

interface AddressesNow {
  readonly addresses: readonly PresentAddress[];
  /** the names of all devices, also of those without an address */
  readonly devices: readonly string[];
}

/**
 * Every address of this host with its lifetime, in the order of its devices: 1,000 in 7 ms.
 * @returns null when `ip` is missing or fails
 */
export async function readAddressesNow(run: RunProgram): Promise<AddressesNow | null> {
  const result = await run('ip', ['-j', 'addr'], { timeoutMs: READ_TIMEOUT_MS });
  const devices = result.code === 0 && !result.truncated ? parseList(result.stdout, deviceIn) : null;
  if (devices === null) return null;
  return {
    addresses: devices.flatMap((device) => device.addr_info.flatMap((info) => presentOn(device, info))),
    devices: devices.flatMap((device) => (device.ifname === undefined ? [] : [device.ifname])),
  };
}

function presentOn({ ifname = '', flags }: DeviceJson, info: AddressJson): PresentAddress[] {
  const { local, valid_life_time: valid = FOREVER_SEC } = info;
  if (local === undefined || (info.family !== 'inet' && info.family !== 'inet6') || !isAddress(local))
    return [];
  const family = info.family === 'inet' ? 4 : 6;
  return [
    {
      address: parseAddress(local).address,
      family,
      prefix: info.prefixlen ?? (family === 4 ? 32 : 128),
      device: ifname,
      scope: info.scope ?? 'global',
      usable: info.isUsable,
      label: info.label ?? null,
      validSec: valid >= FOREVER_SEC ? null : valid,
      isOnVirtualDevice: flags.includes('LOOPBACK') || flags.includes('NOARP'),
    },
  ];
}

/**
 * Every address of this host, as facts: by `ip`, else Node's own list (which knows neither tentative nor deprecated
 * addresses).
 */
export async function readHostAddresses(run: RunProgram): Promise<HostAddress[]> {
  const now = await readAddressesNow(run);
  if (now === null) return addressesOfNode();
  return now.addresses.map(({ address, family, prefix, device, scope, usable }) => ({
    ...{ address, family, prefix, device, scope, usable },
  }));
}

/** The addresses of all devices that are up, without the help of a program: what getifaddrs(3) lists. */
export function addressesHere(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return new Set(all.map(({ address }) => address));
}

function addressesOfNode(): HostAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([device, infos]) =>
    (infos ?? []).map((info): HostAddress => {
      const { address, family, prefix } = parseCidr(withoutZone(info.cidr ?? info.address));
      const isLinkLocal = family === 6 && address.startsWith('fe80:');
      const scope = info.internal ? 'host' : isLinkLocal ? 'link' : 'global';
      return { address, family, prefix, device, scope, usable: true };
    }),
  );
}

/**
 * How this host reaches each address; where `ip` is missing, the source that the kernel picks for a connected UDP socket,
 * which sends nothing.
 * @param targets IP literals, each once; a link-local one with its zone (`fe80::1%eth0`)
 * @param hostAddresses from `readHostAddresses`
 * @returns one route per target, in the same order
 */
export async function readRoutes(
  targets: readonly string[],
  hostAddresses: readonly HostAddress[],
  run: RunProgram,
): Promise<EndpointRoute[]> {
  const answers = await askRoutes(run, targets.map(routeQuestion));
  if (answers === null) {
    return Promise.all(targets.map((target) => routeOfUdpSocket(target, hostAddresses)));
  }
  const routes = new Map(answers.map((route) => [canonical(route.dst ?? ''), route]));
  return targets.map((target) => {
    const route = routes.get(canonical(target));
    return {
      address: withoutZone(target),
      device: route?.dev ?? null,
      source: route?.prefsrc ?? null,
      local: route?.type === 'local' || isOwn(target, hostAddresses),
    };
  });
}

/**
 * The device by which packets of each source leave towards a target.
 * @returns device by source; a source without a route, or without `ip`, is absent
 */
export async function readSourceDevices(
  run: RunProgram,
  sources: readonly string[],
  target: string,
): Promise<Map<string, string>> {
  const answers = await askRoutes(
    run,
    sources.map((source) => `${routeQuestion(target)} from ${source}`),
  );
  const devices = new Map<string, string>();
  for (const { from, dev } of answers ?? []) {
    if (from !== undefined && dev !== undefined) devices.set(from, dev);
  }
  return devices;
}

/** The next hop towards a target. @returns null: none, or not known */
export async function readGateway(run: RunProgram, target: string): Promise<string | null> {
  const answers = await askRoutes(run, [routeQuestion(target)]);
  return answers?.[0]?.gateway ?? null;
}

/**
 * One `ip -batch` of `route get`.
 * @param questions what follows `route get`
 * @returns the answers that came, in order; null when `ip` is missing
 */
async function askRoutes(run: RunProgram, questions: readonly string[]): Promise<RouteJson[] | null> {
  if (questions.length === 0) return [];
  const result = await run('ip', ['-j', '-force', '-batch', '-'], {
    timeoutMs: READ_TIMEOUT_MS,
    input: questions.map((question) => `route get ${question}\n`).join(''),
  });
  // A line that is no answer stands for an error, which is on stderr.
  return result.missing ? null : result.stdout.split('\n').flatMap((line) => parseList(line, routeIn) ?? []);
}

/** What `route get` takes: the zone of an address is the device that its packets leave by. */
function routeQuestion(target: string): string {
  const [address, zone] = target.split('%');
  return zone === undefined ? target : `${address} dev ${zone}`;
}

/** The kernel's choice of source for a target, without `ip`. Connecting a UDP socket sends no packet. */
async function routeOfUdpSocket(
  target: string,
  hostAddresses: readonly HostAddress[],
): Promise<EndpointRoute> {
  const local = isOwn(target, hostAddresses);
  const socket = createSocket(isIP(target) === 6 ? 'udp6' : 'udp4');
  try {
    socket.connect(9, target);
    await once(socket, 'connect');
    const source = socket.address().address;
    const owner = hostAddresses.find((own) => canonical(own.address) === canonical(source));
    return {
      address: withoutZone(target),
      device: local ? 'lo' : (owner?.device ?? null),
      source: withoutZone(source),
      local,
    };
  } catch {
    return { address: withoutZone(target), device: null, source: null, local };
  } finally {
    socket.close();
  }
}

function isOwn(target: string, hostAddresses: readonly HostAddress[]): boolean {
  const [address = '', zone] = target.split('%');
  return (
    isLoopback(address) ||
    hostAddresses.some(
      (own) => canonical(own.address) === canonical(address) && (zone === undefined || own.device === zone),
    )
  );
}

/** Texts of one address compare equal; a zone (`%eth0`) is no part of the address. */
function canonical(address: string): string {
  const bare = withoutZone(address);
  return isAddress(bare) ? parseAddress(bare).address : bare;
}

function withoutZone(text: string): string {
  return text.replace(/%[^/]*/, '');
}

function parseList<Item>(text: string, itemIn: (value: Table) => Item): Item[] | null {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.filter(isTable).map(itemIn) : null;
  } catch {
    return null;
  }
}

interface BatchResult {
  /** `ip` is not installed */
  readonly missing: boolean;
  /** what the kernel or `ip` said, by the position of the command; absent: it succeeded */
  readonly errors: ReadonlyMap<number, string>;
}

/**
 * Runs the commands in order, going on after one that fails (`-force`): 500 in about 20 ms.
 * @param lines arguments of `ip`, one command each, without line breaks
 * @returns the errors; when `ip` ended before the last line, the rest counts as failed
 */
export async function runIpBatch(run: RunProgram, lines: readonly string[]): Promise<BatchResult> {
  if (lines.length === 0) return { missing: false, errors: new Map() };
  const result = await run('ip', ['-force', '-batch', '-'], {
    timeoutMs: BATCH_TIMEOUT_MS,
    input: `${lines.join('\n')}\n`,
  });
  if (result.missing) return { missing: true, errors: new Map() };
  const errors = parseBatchErrors(result.stderr);
  // Neither success (0) nor "some commands failed" (1, with a line each): it was stopped on its way.
  if (result.code !== 0 && errors.size === 0) {
    const why = result.stderr.trim().split('\n').at(-1) || 'ip was stopped';
    return { missing: false, errors: new Map(lines.map((_, index) => [index, why])) };
  }
  return { missing: false, errors };
}

/**
 * The errors in what `ip -force -batch -` writes to stderr: a line or more with the reason, then `Command failed -:7`.
 * @param text stderr, in English (LC_ALL=C)
 * @returns reason by position, from 0
 */
function parseBatchErrors(text: string): Map<number, string> {
  const errors = new Map<number, string>();
  let reason = '';
  for (const line of text.split('\n')) {
    const failed = /^Command failed \S*:(\d+)$/.exec(line.trim());
    if (failed === null) {
      if (line.trim() !== '') reason = line.trim();
      continue;
    }
    errors.set(
      Number(failed[1]) - 1,
      reason.replace(/^(?:Error: |RTNETLINK answers: )/, '') || 'unknown error',
    );
    reason = '';
  }
  return errors;
}
