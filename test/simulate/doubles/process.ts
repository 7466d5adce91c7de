/** Owns `process` for an agent under simulation: signals and the end of its parent come to its own simulated process. */
import { currentWorld } from '../world.ts';

/** As Node has it, as far as the agent asks. */
export const process = {
  connected: false,
  on(event: string, call: (...values: unknown[]) => void): void {
    currentWorld().time.current.on(event, call);
  },
};
