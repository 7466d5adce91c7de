/**
 * Owns how many of the addresses that a host lacks a quota really needs.
 * Must never know how an address is added, or which ones the host has.
 */
import { parseAddress } from '../base/address.ts';
import type { Endpoint } from '../base/endpoint.ts';
import { slackOf } from '../plan/capacity.ts';

export interface AliasChoiceRequest {
  /** sources that are there */
  readonly present: readonly string[];
  /** addresses that may be added, in order of preference */
  readonly candidates: readonly string[];
  readonly endpoints: readonly Endpoint[];
  /** source ports of each address */
  readonly portsEach: number;
  /** connections */
  readonly wanted: number;
}

/**
 * How many candidates, from the front, make the tuple space large enough for the quota with its slack.
 * @returns all of them when even they do not suffice; 0 when what is there does
 */
export function aliasesNeeded(request: AliasChoiceRequest): number {
  const { present, candidates, endpoints, portsEach } = request;
  const tuplesOf = (address: string): number => {
    const { family } = parseAddress(address);
    return portsEach * endpoints.filter((endpoint) => endpoint.family === family).length;
  };
  // All addresses of one family are worth the same: two numbers instead of a filter per address.
  const worth = new Map<boolean, number>();
  const worthOf = (address: string): number => {
    const isV6 = address.includes(':');
    const known = worth.get(isV6) ?? tuplesOf(address);
    worth.set(isV6, known);
    return known;
  };
  let missing = slackOf(request.wanted);
  for (const address of present) missing -= worthOf(address);
  let count = 0;
  while (missing > 0 && count < candidates.length) {
    missing -= worthOf(candidates[count]!);
    count += 1;
  }
  return count;
}
