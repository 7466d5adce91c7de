/** Owns the watch over a simulated host's kernel: nothing runs out there. The comparison of counts is the real one. */
import type { KernelEvidence } from '../../../src/host/kernel-evidence.ts';

export { countBesideHolders, OwnTuples } from '../../../src/agent/kernel-watch.ts';

export function watchedHost(): object {
  return {};
}

/** As src/agent/kernel-watch.ts has it. */
export class KernelWatch {
  start(): void {}
  stop(): void {}

  phaseEnds(): Promise<void> {
    return Promise.resolve();
  }

  evidence(): KernelEvidence {
    return { counters: {}, samples: {}, synLadderSec: [], hasLocalEndpoint: false };
  }
}
