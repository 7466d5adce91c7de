/**
 * Owns what the kernel does to a process when the one that forked it ends, however that happens: a process that is stopped
 * (SIGSTOP) reads no closed pipe, and would stay for ever with its sockets.
 * Must never bind a process that a person started to the end of another: a service outlives the shell it was typed in.
 *
 * The parent binds its child right after the fork, with a pipe that no process writes to: the parent has its writing end, the child
 * an open file of its reading end, and the kernel sends the child a signal when the last writer is gone. So a child that has
 * not run a line of its own is bound too, unless it is stopped between the fork and the next line of a parent that is killed in
 * that same millisecond: the kernel takes a pid for this, and no process has it before the fork. A child asks for the same again
 * once it has loaded (PR_SET_PDEATHSIG, prctl(2)), for a parent that could not. Both hold from the moment they are made, so a parent that ended before is looked for afterwards.
 */
import type { ChildProcess } from 'node:child_process';
import { closeSync, constants as files, openSync } from 'node:fs';
import { constants } from 'node:os';
import { startProgram } from '../host/command.ts';
import * as libc from './libc.ts';

/** kill: it has nothing to give back but sockets. wake: it has aliases to give back, so it is continued and closes by itself. */
type AtParentsEnd = 'kill' | 'wake';

const SIGNALS: Readonly<Record<AtParentsEnd, number>> = {
  kill: constants.signals.SIGKILL,
  wake: constants.signals.SIGCONT,
};

/** The writing end of the pipe of this process; null: not made yet. It stays open for as long as this process lives. */
let writer: number | null = null;

/** A new open file of the reading end: who gets its signal is a property of the open file, so each child needs its own. */
function openReader(): number | null {
  writer ??= libc.pipeWriter();
  if (writer < 0) {
    writer = null;
    return null;
  }
  try {
    return openSync(`/proc/self/fd/${writer}`, files.O_RDONLY | files.O_NONBLOCK);
  } catch {
    return null;
  }
}

/**
 * Starts a child that the kernel ends, or wakes, when this process ends.
 * @param start forks it, with what it is given as one more descriptor of its stdio; `ignore`: there is no descriptor left, or
 *   no /proc, and the child is bound once it has loaded
 * @returns the child; one that could not be started says so by its `error`, and has no pipes
 */
export function bindChild(
  atEnd: AtParentsEnd,
  start: (descriptor: number | 'ignore') => ChildProcess,
): ChildProcess {
  const reader = openReader();
  if (reader === null) return startProgram(() => start('ignore'));
  try {
    const child = startProgram(() => start(reader));
    // A kernel that refuses leaves us where we were without it.
    if (child.pid !== undefined) libc.signalAtPipeEnd(reader, child.pid, SIGNALS[atEnd]);
    return child;
  } finally {
    closeSync(reader);
  }
}

/**
 * From now on the kernel does this to this process when the thread that forked it ends, which for Node is its parent's main
 * thread, and so its parent. One that runs does not notice that it is woken.
 * @param parentPid the pid that the parent has given; null: it has given none
 * @returns whether the parent is still there; false: this process must end by itself, now
 */
export function bindToParent(atEnd: AtParentsEnd, parentPid: number | null): boolean {
  // A kernel that refuses leaves us where we were without it: the end of the pipe ends this process unless it is stopped.
  libc.setParentDeathSignal(SIGNALS[atEnd]);
  return parentPid === null || process.ppid === parentPid;
}

/** The parent's pid as it stands in an argument or a variable; null where there is none. */
export function parentPidOf(text: string | undefined): number | null {
  return text !== undefined && /^[1-9]\d{0,9}$/.test(text) ? Number(text) : null;
}
