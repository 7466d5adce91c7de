/**
 * Owns `process` for an agent and a coordinator under simulation: signals and the end of its parent come to its own simulated process, and
 * its pipe is a simulated one.
 */
import type { SimProcess } from '../virtual-time.ts';
import { currentWorld } from '../world.ts';

const me = (): SimProcess => currentWorld().time.current;

/** As Node has it, as far as these ask. */
export const process = {
  pid: 1,
  env: {},
  get connected(): boolean {
    return me().parentPipe !== null;
  },
  get send(): ((message: unknown) => void) | undefined {
    return me().parentPipe ?? undefined;
  },
  on(event: string, call: (...values: unknown[]) => void): void {
    me().on(event, call);
  },
  /** The group of an agent that is gone: its holders died with it. */
  kill(): boolean {
    return true;
  },
};
