/**
 * Owns Node's timers in a simulation: what the program sets is due on the virtual clock, in the process that set it. Must
 * never replace `setImmediate`, by which the simulation itself goes on.
 */
import type { Due } from './virtual-time.ts';
import { currentWorld } from './world.ts';

/** What `setTimeout` and `setInterval` give. */
class VirtualTimer {
  due: Due | null = null;

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}

function wait(timer: VirtualTimer, delayMs: number, call: () => void): void {
  const { time } = currentWorld();
  timer.due = time.after(delayMs, time.current, call, true);
}

function cancel(timer: VirtualTimer | undefined | null): void {
  if (timer?.due) timer.due.isCancelled = true;
}

/** From now on timers of this process are virtual ones. */
export function useVirtualTimers(): void {
  const setTimeout = (call: () => void, delayMs = 0): VirtualTimer => {
    const timer = new VirtualTimer();
    wait(timer, delayMs, call);
    return timer;
  };
  const setInterval = (call: () => void, periodMs: number): VirtualTimer => {
    const timer = new VirtualTimer();
    const again = (): void => {
      // Before the call, which may cancel it.
      wait(timer, periodMs, again);
      call();
    };
    wait(timer, periodMs, again);
    return timer;
  };
  Object.assign(globalThis, { setTimeout, setInterval, clearTimeout: cancel, clearInterval: cancel });
}
