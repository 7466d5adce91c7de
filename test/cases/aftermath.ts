/**
 * Owns what a host shows right after a run: its link, its route and neighbour entry towards the target, and whether one further
 * connect is taken. Must never wait for longer than that takes.
 */
import type { Host } from '../support/network.ts';

/** Endpoints that are tried. */
const ENDPOINTS_MAX = 4;
const CONNECT_SECONDS = 2;

export interface Aftermath {
  /** `up`, `down`, `lowerlayerdown`; null: the host has loopback alone */
  readonly link: string | null;
  /** by address of the target: whether this host has a route, and the state of the next hop's neighbour entry */
  readonly targets: Readonly<Record<string, { readonly hasRoute: boolean; readonly nextHop: string | null }>>;
  /** what one further connect from a port of the kernel's choice came to, by endpoint */
  readonly connects: Readonly<Record<string, 'taken' | 'refused' | 'unreachable' | 'silent'>>;
}

async function connectOnce(
  host: Host,
  address: string,
  port: string,
): Promise<Aftermath['connects'][string]> {
  const script = `exec 3<>/dev/tcp/${address}/${port}`;
  const { code, stderr } = await host.run(['timeout', String(CONNECT_SECONDS), 'bash', '-c', script]);
  if (code === 0) return 'taken';
  if (/refused/i.test(stderr)) return 'refused';
  return /unreachable|No route|not permitted|prohibited/i.test(stderr) ? 'unreachable' : 'silent';
}

/** The neighbour entry of whoever a packet to the address goes to first. */
async function nextHopOf(host: Host, routeText: string, address: string): Promise<string | null> {
  const via = / via (\S+)/.exec(routeText)?.[1] ?? address;
  const { stdout } = await host.run(['ip', 'neigh', 'show', via]);
  return stdout.trim().split(/\s+/).at(-1) || null;
}

/** Looks once, after a run. @param endpoints as the report names them */
export async function lookAfter(host: Host, endpoints: readonly string[]): Promise<Aftermath> {
  const link = await host.run(['cat', '/sys/class/net/eth0/operstate']);
  const targets: Record<string, { hasRoute: boolean; nextHop: string | null }> = {};
  const connects: Record<string, Aftermath['connects'][string]> = {};
  for (const endpoint of endpoints.slice(0, ENDPOINTS_MAX)) {
    const at = endpoint.lastIndexOf(':');
    const address = endpoint.slice(0, at).replace(/^\[|\]$/g, '');
    connects[endpoint] = await connectOnce(host, address, endpoint.slice(at + 1));
    if (targets[address] !== undefined) continue;
    const route = await host.run(['ip', 'route', 'get', address]);
    targets[address] = { hasRoute: route.code === 0, nextHop: await nextHopOf(host, route.stdout, address) };
  }
  return { link: link.code === 0 ? link.stdout.trim() : null, targets, connects };
}
