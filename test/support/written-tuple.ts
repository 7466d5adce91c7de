/** Owns a tuple of a space, written out for a test to compare. Must never be used where a tuple is opened. */
import type { Endpoint } from '../../src/base/endpoint.ts';
import { TupleMap, type TupleSpace } from '../../src/base/tuple-space.ts';

/** The tuple of an index. */
export function tupleAt(
  space: TupleSpace,
  index: number,
): { readonly address: string; readonly port: number; readonly endpoint: Endpoint } {
  const map = new TupleMap(space);
  const address = space.addresses[map.addressIndexAt(index)];
  const endpoint = space.endpoints[map.endpointIndexAt(index)];
  if (address === undefined || endpoint === undefined) throw new RangeError(`tuple ${index} of ${map.size}`);
  return { address, port: map.portAt(index), endpoint };
}
