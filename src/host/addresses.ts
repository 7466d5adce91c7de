/**
 * Owns reading which addresses this host has and by which device it reaches an address.
 * Must never add or remove an address, and must never send a packet: routes are asked of the kernel.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { isAddress, isLoopback, parseAddress } from '../base/address.ts';
import type { RunCommand } from './command.ts';
import type { EndpointRoute, HostAddress } from './host-facts.ts';

const IP_TIMEOUT_MS = 3_000;

/** What `ip -j addr` says of one address; only what is read here. */
interface IpAddressJson {
  readonly family?: string;
  readonly local?: string;
  readonly prefixlen?: number;
  readonly scope?: string;
  readonly tentative?: boolean;
  readonly deprecated?: boolean;
  readonly dadfailed?: boolean;
}

interface IpDeviceJson {
  readonly ifname?: string;
  readonly flags?: readonly string[];
  readonly addr_info?: readonly IpAddressJson[];
}

interface IpRouteJson {
  readonly type?: string;
  readonly dst?: string;
  readonly dev?: string;
  readonly prefsrc?: string;
}

/**
 * Every address of this host, in the order of its devices: `ip -j addr`, else Node's own list (which knows
 * neither tentative nor deprecated addresses).
 * @param run runs a program
 */
export async function readHostAddresses(run: RunCommand): Promise<HostAddress[]> {
  const result = await run('ip', ['-j', 'addr'], { timeoutMs: IP_TIMEOUT_MS });
  const devices = result.code === 0 && !result.truncated ? parseJson<IpDeviceJson[]>(result.stdout) : null;
  if (devices === null) return addressesOfNode();
  return devices.flatMap((device) =>
    (device.addr_info ?? []).flatMap((info) => hostAddress(device.ifname ?? '', info)),
  );
}

function hostAddress(device: string, info: IpAddressJson): HostAddress[] {
  if (info.local === undefined || (info.family !== 'inet' && info.family !== 'inet6')) return [];
  const family = info.family === 'inet' ? 4 : 6;
  return [
    {
      address: canonical(info.local),
      family,
      prefix: info.prefixlen ?? (family === 4 ? 32 : 128),
      device,
      scope: info.scope ?? 'global',
      usable: info.tentative !== true && info.deprecated !== true && info.dadfailed !== true,
    },
  ];
}

function addressesOfNode(): HostAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([device, infos]) =>
    (infos ?? []).map((info): HostAddress => {
      const family = info.family === 'IPv4' ? 4 : 6;
      const linkLocal = family === 6 && info.address.toLowerCase().startsWith('fe80:');
      return {
        address: canonical(info.address),
        family,
        prefix: Number(info.cidr?.split('/')[1] ?? (family === 4 ? 32 : 128)),
        device,
        scope: info.internal ? 'host' : linkLocal ? 'link' : 'global',
        usable: true,
      };
    }),
  );
}

/**
 * How this host reaches each address: one `ip -j -batch` for all of them; where `ip` is missing, the source
 * that the kernel picks for a connected UDP socket, which sends nothing.
 * @param targets IP literals, each once
 * @param hostAddresses from `readHostAddresses`
 * @param run runs a program
 * @returns one route per target, in the same order
 */
export async function readRoutes(
  targets: readonly string[],
  hostAddresses: readonly HostAddress[],
  run: RunCommand,
): Promise<EndpointRoute[]> {
  if (targets.length === 0) return [];
  const result = await run('ip', ['-j', '-force', '-batch', '-'], {
    timeoutMs: IP_TIMEOUT_MS,
    input: targets.map((target) => `route get ${target}\n`).join(''),
  });
  if (result.missing) {
    return Promise.all(targets.map((target) => routeOfUdpSocket(target, hostAddresses)));
  }
  const routes = new Map<string, IpRouteJson>();
  for (const line of result.stdout.split('\n')) {
    const route = parseJson<IpRouteJson[]>(line)?.[0];
    if (route?.dst !== undefined) routes.set(canonical(route.dst), route);
  }
  return targets.map((target) => {
    const route = routes.get(canonical(target));
    return {
      address: target,
      device: route?.dev ?? null,
      source: route?.prefsrc ?? null,
      local: route?.type === 'local' || isOwn(target, hostAddresses),
    };
  });
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
    return { address: target, device: local ? 'lo' : (owner?.device ?? null), source, local };
  } catch {
    return { address: target, device: null, source: null, local };
  } finally {
    socket.close();
  }
}

function isOwn(target: string, hostAddresses: readonly HostAddress[]): boolean {
  return isLoopback(target) || hostAddresses.some((own) => canonical(own.address) === canonical(target));
}

/** Texts of one address compare equal; a zone (`%eth0`) is no part of the address. */
function canonical(address: string): string {
  const bare = address.split('%')[0] ?? '';
  return isAddress(bare) ? parseAddress(bare).address : bare;
}

function parseJson<Shape>(text: string): Shape | null {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? (value as Shape) : null;
  } catch {
    return null;
  }
}
