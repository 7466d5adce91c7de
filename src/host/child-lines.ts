/**
 * Owns the lines that a child process writes to a pipe. Must never wait for their end: a pipe closes with its last writer.
 */
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/**
 * Calls with each line that a child writes.
 * @param stream null: the child has no such pipe
 */
export function eachLine(stream: Readable | null, onLine: (line: string) => void): void {
  if (stream === null) return;
  // What cannot be read is the end of it: the child itself says by its exit what became of it.
  stream.on('error', () => {});
  createInterface({ input: stream }).on('line', onLine);
}
