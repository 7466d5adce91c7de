/**
 * Owns the processes of the parent bond's tests: a parent that forks a child and prints its pid, the child, and one that
 * prints whether a given pid is its parent.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { endWithParent, parentPidOf, wakeAtParentsEnd } from '../../src/engine/parent-bond.ts';

/** The compiled path of this program. */
export const BOND_ENTRY = fileURLToPath(import.meta.url);

function main(role: string | undefined, argument: string | undefined): void {
  if (role === 'parent') {
    const child = fork(BOND_ENTRY, ['child', argument ?? ''], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', () => process.stdout.write(`${child.pid}\n`));
  }
  if (role === 'child') {
    if (argument === 'end') endWithParent(null);
    if (argument === 'wake') wakeAtParentsEnd(null);
    // Nothing but a signal ends it, not even the end of its pipe.
    setInterval(() => {}, 1_000);
    process.send?.('bound');
  }
  if (role === 'late') {
    const parentPid = parentPidOf(argument);
    process.stdout.write(`${wakeAtParentsEnd(parentPid)} ${endWithParent(parentPid)}\n`);
  }
}

if (process.argv[1] === BOND_ENTRY) main(process.argv[2], process.argv[3]);
