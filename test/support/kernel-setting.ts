/** A setting of the kernel that is the whole machine's, changed for as long as a part of a test needs it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { settled } from './waiting.ts';

/**
 * Sets it, and puts back what it was. A shell of a session of its own does both: it reads from this process, so that the
 * setting is put back too when this process is killed, alone or with its whole group.
 * @param path below /proc/sys
 */
export async function withKernelSetting<T>(
  path: string,
  value: string,
  action: () => Promise<T>,
): Promise<T> {
  const before = readFileSync(path, 'utf8').trim();
  const script = `trap '' HUP INT TERM; echo ${value} > ${path} && echo set; cat; echo ${before} > ${path}`;
  const guard = spawn('setsid', ['sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const over = once(guard, 'exit');
  try {
    await settled(`${path} is ${value}`, once(guard.stdout, 'data'));
    return await action();
  } finally {
    guard.stdin.end();
    await over;
    const after = readFileSync(path, 'utf8').trim();
    if (after !== before) process.emitWarning(`${path} is ${after}, and was ${before}`);
  }
}
