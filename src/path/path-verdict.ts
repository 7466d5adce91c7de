/**
 * Owns the judgement of a path by what a whoami target saw: one sentence, the ceiling, and what would lift it.
 * Must never open a connection or guess beyond the counts.
 */

import { type PortRange, portCount } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import { type SeenCounts, translatedAddresses, translatedPairs } from '../stats/observed-sources.ts';
import { KERNEL_PORTS, NAT_PORTS } from './path-plan.ts';

type PathKind =
  /** every connection arrived from the address that it was bound to */
  | 'preserved'
  /** every connection arrived from another address */
  | 'translated'
  /** some did, some did not */
  | 'mixed'
  /** the target reported nothing */
  | 'unknown';

export interface PathVerdict {
  readonly kind: PathKind;
  /** connections that the target reported on */
  readonly told: number;
  /** whether the path left our source ports alone */
  readonly portsKept: 'all' | 'some' | 'none';
  /** addresses that are not ours and that the target saw */
  readonly translatedTo: readonly string[];
  /** connections at most that the path lets through to these endpoints; null: it sets no limit by ports */
  readonly ceiling: number | null;
  /** what a person reads first */
  readonly sentence: string;
  /** one line each: what would lift the ceiling */
  readonly lift: readonly string[];
}

interface PathEvidence {
  readonly seen: SeenCounts;
  /** every endpoint is an address of this host */
  readonly isLoopback?: boolean;
  /** why nothing was established; null: something was */
  readonly failure?: string | null;
  /** ports of each address of the hop, as the user says; null: taken from what was seen */
  readonly ports: readonly PortRange[] | null;
}

/** Fewer ports than this say nothing on the range that they come from. */
const PORTS_TELLING_MIN = 100;
const NAMED_MAX = 4;

/** A program that does not name its source ports gets them from the kernel's range, and from nowhere else. */
function usesKernelPorts(seen: SeenCounts): boolean {
  return (
    seen.portKept === 0 &&
    seen.portChanged >= PORTS_TELLING_MIN &&
    seen.portMin !== null &&
    seen.portMax !== null &&
    seen.portMin >= KERNEL_PORTS.from &&
    seen.portMax <= KERNEL_PORTS.to
  );
}

function named(addresses: readonly string[]): string {
  if (addresses.length === 1) return addresses[0] ?? '';
  const shown = addresses.slice(0, NAMED_MAX).join(', ');
  return `${formatCount(addresses.length)} addresses (${shown}${addresses.length > NAMED_MAX ? ', ...' : ''})`;
}

/**
 * Judges the path.
 * @param evidence what the target reported of some connections, a hundred or more to be sure of a range of ports
 */
export function judgePath({ seen, ports, isLoopback = false, failure = null }: PathEvidence): PathVerdict {
  const reported = seen.sourceKept + seen.sourceChanged;
  const portsKept = seen.portChanged === 0 ? 'all' : seen.portKept === 0 ? 'none' : 'some';
  const common = { told: reported, portsKept } as const;
  if (reported === 0) {
    return {
      ...common,
      kind: 'unknown',
      translatedTo: [],
      ceiling: null,
      sentence:
        failure === null
          ? 'the target reported nothing: start it with c100k-bench serve --mode whoami'
          : `nothing is known of the path: ${failure}`,
      lift: failure === null ? [] : ['start c100k-bench serve --mode whoami where the server is'],
    };
  }
  if (seen.sourceChanged === 0) {
    return {
      ...common,
      kind: 'preserved',
      translatedTo: [],
      ceiling: null,
      sentence: isLoopback
        ? 'loopback: the target is on this host, and nothing is between: no ceiling from a path'
        : 'your router forwards without translating: no 64k ceiling from the path',
      lift: [],
    };
  }
  const translatedTo = translatedAddresses(seen);
  const pairs = Math.max(1, translatedPairs(seen).length);
  const isKernelRange = ports === null && usesKernelPorts(seen);
  const portsEach = portCount(ports ?? [isKernelRange ? KERNEL_PORTS : NAT_PORTS]);
  const ceiling = pairs * portsEach;
  const share =
    seen.sourceKept === 0 ? 'everything' : `${formatCount(seen.sourceChanged)} of ${formatCount(reported)}`;
  return {
    ...common,
    kind: seen.sourceKept === 0 ? 'translated' : 'mixed',
    translatedTo,
    ceiling,
    sentence: `${share} arrives from ${named(translatedTo)}: ${formatCount(ceiling)} connections at most`,
    lift: [`that is ${arithmetic(translatedTo.length, pairs, portsEach)}`, ...liftOf(seen, isKernelRange)],
  };
}

function arithmetic(addresses: number, pairs: number, portsEach: number): string {
  const ports = `${formatCount(portsEach)} ports`;
  if (pairs === addresses) return `${formatCount(addresses)} x ${ports}, counted for each server port`;
  return `${formatCount(pairs)} pairs of address and endpoint x ${ports}, if each endpoint is a server port of its own`;
}

/** A NAT keeps a port that is free; what changes every port opens connections of its own. */
function liftOf(seen: SeenCounts, isKernelRange: boolean): string[] {
  if (seen.portKept > 0) {
    return [
      'forward without masquerading: DNAT alone keeps the source, and the ceiling is gone',
      'or more addresses: an SNAT pool, or more public addresses each masqueraded to its own',
      'or more endpoints: forward further ports to further server ports',
      'c100k-bench plan --via masquerade:1 (or snat:<n>) does the arithmetic',
    ];
  }
  const range = `${KERNEL_PORTS.from}-${KERNEL_PORTS.to}`;
  return [
    'no port was kept: a proxy, or a NAT that changes every port',
    ...(isKernelRange
      ? [
          `its ports come from ${range} alone, the kernel's default: ` +
            `give it all of them (HAProxy: source <address>:1024-65535) for ${formatCount(portCount([NAT_PORTS]))} each`,
        ]
      : []),
    'or more source addresses on the proxy: ip addr add, and one server line with its own source for each',
    'c100k-bench plan --via haproxy:<sources>x<endpoints> prints the lines',
  ];
}
