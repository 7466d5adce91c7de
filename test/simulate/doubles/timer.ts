/** Owns the clock that the modules under simulation read for themselves; timers are the real module's, on simulated ones. */
import { currentWorld } from '../world.ts';

export {
  after,
  DueTimer,
  every,
  pause,
  realWaiting,
  waitUntil,
} from '../../../src/time/timer.ts';

/** The clock of the host whose process is running. */
export const systemClock = {
  monotonicMs: () => hostClock().monotonicMs(),
  wallMs: () => hostClock().wallMs(),
};

function hostClock(): ReturnType<ReturnType<typeof currentWorld>['clockOf']> {
  const world = currentWorld();
  return world.clockOf(world.time.current.host);
}
