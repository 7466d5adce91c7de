/**
 * Owns the processes of the parent bond's tests: a parent that forks a child and prints its pid, the child, one that prints
 * whether a given pid is its parent, and a parent that binds a child which can ask for nothing itself.
 */
import { fork, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { bindChild, bindToParent, parentPidOf } from '../../src/engine/parent-bond.ts';

/** The compiled path of this program. */
export const BOND_ENTRY = fileURLToPath(import.meta.url);

function main(role: string | undefined, argument: string | undefined): void {
  if (role === 'parent') {
    const child = fork(BOND_ENTRY, ['child', argument ?? ''], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', () => process.stdout.write(`${child.pid}\n`));
  }
  if (role === 'binder') {
    const atEnd = argument === 'wake' ? 'wake' : 'kill';
    const start = (bond: number | 'ignore') =>
      spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', bond] });
    // The second one: what binds the first must not be spent by it.
    const children =
      argument === 'none' ? [start('ignore')] : [bindChild('kill', start), bindChild(atEnd, start)];
    for (const { pid } of children) process.kill(pid!, 'SIGSTOP');
    process.stdout.write(`${children.map(({ pid }) => pid).join(' ')}\n`);
    setInterval(() => {}, 1_000);
  }
  if (role === 'child') {
    if (argument === 'end') bindToParent('kill', null);
    if (argument === 'wake') bindToParent('wake', null);
    // Nothing but a signal ends it, not even the end of its pipe.
    setInterval(() => {}, 1_000);
    process.send?.('bound');
  }
  if (role === 'late') {
    const parentPid = parentPidOf(argument);
    process.stdout.write(`${bindToParent('wake', parentPid)} ${bindToParent('kill', parentPid)}\n`);
  }
}

if (process.argv[1] === BOND_ENTRY) main(process.argv[2], process.argv[3]);
