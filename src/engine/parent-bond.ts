/**
 * Owns what the kernel does to this process when the process that forked it ends, however that happens: a process that is
 * stopped (SIGSTOP) reads no closed pipe, and would stay for ever with its sockets.
 * Must never be used by a process that a person started: a service outlives the shell it was typed in.
 *
 * The request (PR_SET_PDEATHSIG, prctl(2)) holds from the moment it is made, so a parent that ended before it is looked for
 * afterwards. It speaks of the parent's *thread* that forked us, which for Node is the main thread.
 */
import { constants } from 'node:os';
import * as libc from './libc.ts';

/**
 * From now on the kernel kills this process when its parent ends: for one that has nothing to give back but sockets.
 * @param parentPid the pid that the parent told us; null: it told none
 * @returns whether the parent is still there; false: this process must end by itself, now
 */
export function endWithParent(parentPid: number | null): boolean {
  return bind(constants.signals.SIGKILL, parentPid);
}

/**
 * From now on the kernel continues this process, if it is stopped, when its parent ends: for one that has aliases to give
 * back and so must do its own closing, which the end of its pipe begins. One that runs does not notice.
 * @returns as `endWithParent`
 */
export function wakeAtParentsEnd(parentPid: number | null): boolean {
  return bind(constants.signals.SIGCONT, parentPid);
}

function bind(signal: number, parentPid: number | null): boolean {
  // A kernel that refuses leaves us where we were without it: the end of the pipe ends this process unless it is stopped.
  libc.setParentDeathSignal(signal);
  return parentPid === null || process.ppid === parentPid;
}

/** The parent's pid as it stands in an argument or a variable; null where there is none. */
export function parentPidOf(text: string | undefined): number | null {
  return text !== undefined && /^[1-9]\d{0,9}$/.test(text) ? Number(text) : null;
}
