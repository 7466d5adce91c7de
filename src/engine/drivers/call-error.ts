/**
 * Owns the error of a system call without which a part of the program cannot be made. Must never be thrown for a single connection: what
 * fails there is a count.
 */
import { Errno } from '../libc.ts';

/** The name of an errno, such as `EMFILE`. @param errno positive */
function errnoName(errno: number): string {
  return Object.entries(Errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
}

/** Which call failed, and why: `epoll_create1 failed with EMFILE`. */
export class CallError extends Error {
  readonly call: string;
  /** positive */
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call} failed with ${errnoName(errno)}`);
    this.name = 'CallError';
    this.call = call;
    this.errno = errno;
  }
}

/** What a call returned, where that is no error. @throws CallError */
export function succeeded(call: string, returned: number): number {
  if (returned < 0) throw new CallError(call, -returned);
  return returned;
}
