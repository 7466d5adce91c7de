/**
 * Owns looking at this host's own network while a run goes on: devices towards the endpoints, routes, source addresses. What was not there at
 * the start is not missed later. Must never change anything, or start a program: it is read every few seconds.
 */
import { networkInterfaces } from 'node:os';
import { addressToBigInt } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import type { OwnNetwork } from './kernel-evidence.ts';
import { readText } from './proc-file.ts';

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
      if (index === 0 || fields.length < 8) return [];
      return [{ to: hostOrder(fields[1] ?? ''), mask: hostOrder(fields[7] ?? '') }];
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

function addressesHere(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return new Set(all.map(({ address }) => address));
}

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
