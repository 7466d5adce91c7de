/**
 * Owns when a forked process is over for its parent: it has ended, and all that it said has been read. Must never end one.
 *
 * Node says `exit` when the kernel says that the process has ended, and reads its pipe by itself: on a busy host the last messages come after `exit`. The end of
 * the pipe comes after them, as `disconnect` (child_process, Event: 'exit', of the documentation of Node).
 */
import type { ChildProcess } from 'node:child_process';

/**
 * Calls back once, when both have happened.
 * @param child forked with a channel; one without, or whose channel this process has closed, is over when it has ended
 * @param over gets its exit code, or null and the signal that ended it
 */
export function whenOver(
  child: ChildProcess,
  over: (code: number | null, signal: NodeJS.Signals | null) => void,
): void {
  child.once('exit', (code, signal) => {
    if (child.connected) child.once('disconnect', () => over(code, signal));
    else over(code, signal);
  });
}
