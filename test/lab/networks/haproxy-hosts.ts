/** Owns the hosts of the networks with HAProxy: router, HAProxy and server on one LAN. Must never start anything. */
import { addressRange } from '../../../src/base/address.ts';
import type { HostSpec } from '../../support/network.ts';
import type { Scale } from '../description.ts';
import { ACCEPTING, HAPROXY, lanServer, natRules, ROUTER, rangeText, router, wanClient } from '../hosts.ts';

/** @param addresses of the HAProxy host, from 192.168.0.102 upward */
export function haproxyHosts(scale: Scale, addresses: number): Record<string, HostSpec> {
  return {
    client: wanClient(3),
    router: router(natRules([`tcp dport 8000 dnat to ${HAPROXY}:80`], [])),
    haproxy: {
      on: { lan: addressRange(HAPROXY, addresses).map((address) => `${address}/24`) },
      routes: [`default via ${ROUTER}`],
      sysctls: {
        ...ACCEPTING,
        'net.ipv4.ip_local_port_range': rangeText(scale.kernelPorts).replace('-', ' '),
      },
    },
    server: lanServer(),
  };
}
