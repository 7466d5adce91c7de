/** Owns `fork` and the bond to the parent for a pool of holders under simulation. */
import { SimChild } from '../sim-child.ts';
import { currentWorld } from '../world.ts';

/** A holder's process, as `node:child_process` gives one. */
export function fork(): SimChild {
  return new SimChild(currentWorld());
}

/** As src/engine/parent-bond.ts has it: in the simulation each child dies with its parent. */
export function bindChild<Child>(_kind: string, start: (bond: string) => Child): Child {
  return start('ignore');
}
