/**
 * Owns the hosts that several networks have in common: clients on the WAN, the router, the server.
 * Must never hold what only one network has.
 */
import type { PortRange } from '../../src/base/tuple-space.ts';
import type { HostSpec } from '../support/network.ts';
import type { Scale } from './description.ts';

export const PUBLIC = '1.2.3.4';
export const ROUTER = '192.168.0.1';
export const SERVER = '192.168.0.101';
export const HAPROXY = '192.168.0.102';

/** What a server that takes 130,000 connections at once sets. */
export const ACCEPTING = { 'net.core.somaxconn': 65_535, 'net.ipv4.tcp_max_syn_backlog': 65_535 } as const;

/** One machine on the WAN with as many addresses as its connections need. */
export function wanClient(addresses: number, more: Partial<HostSpec> = {}): HostSpec {
  return { on: { wan: Array.from({ length: addresses }, (_, index) => `1.2.3.${11 + index}/24`) }, ...more };
}

/** The server behind the router. */
export function lanServer(address: string = SERVER): HostSpec {
  return { on: { lan: [`${address}/24`] }, routes: [`default via ${ROUTER}`], sysctls: ACCEPTING };
}

/** The router of the question: 1.2.3.4 outside, 192.168.0.1 inside. */
export function router(
  nft: string,
  more: { wan?: readonly string[]; lan?: readonly string[] } = {},
): HostSpec {
  return {
    on: {
      wan: [`${PUBLIC}/24`, ...(more.wan ?? [])],
      lan: [`${ROUTER}/24`, ...(more.lan ?? [])],
    },
    sysctls: { 'net.ipv4.ip_forward': 1 },
    nft,
  };
}

/** An nft ruleset that forwards, and rewrites sources or not. */
export function natRules(forward: readonly string[], rewrite: readonly string[], chains = ''): string {
  return `
table ip nat {
  ${chains}
  chain forwarded {
    ${forward.join('\n    ')}
  }
  chain rewritten {
    ${rewrite.join('\n    ')}
  }
  chain forward-ports {
    type nat hook prerouting priority dstnat
    iifname "eth0" jump forwarded
  }
  chain rewrite-sources {
    type nat hook postrouting priority srcnat
    oifname "eth1" jump rewritten
  }
}
`;
}

/** `:1024-65535` is what NAT does by itself; a shrunk range has to be said. */
export function toPorts(scale: Scale): string {
  return scale.isShort ? `:${rangeText(scale.natPorts)}` : '';
}

export function rangeText({ from, to }: PortRange): string {
  return `${from}-${to}`;
}

/** The masquerade rule with the scale's ports. */
export function masquerade(scale: Scale): string {
  return scale.isShort ? `ip protocol tcp masquerade to ${toPorts(scale)}` : 'masquerade';
}

/** Enough connects in flight that those which get no port wait beside each other and not in a row. */
export const PATIENT: readonly string[] = ['--max-pending', '8000', '--connect-timeout', '8s'];
