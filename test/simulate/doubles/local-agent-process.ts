/** Owns `fork` for the local agent of a coordinator under simulation. */
import { SimLocalAgent } from '../sim-local-agent.ts';
import { currentWorld } from '../world.ts';

/** The agent's process, as `node:child_process` gives one. */
export function fork(_entryPath: string, args: readonly string[]): SimLocalAgent {
  return new SimLocalAgent(currentWorld(), args);
}
