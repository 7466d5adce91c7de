/**
 * Owns writing to what cannot be replaced: a pipe, a device, one of our own descriptors. Must never wait for a reader while
 * a run goes on: what a pipe does not take is kept, and told when it is too much or nobody reads to the end.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { type OutputPlace, OutputRefused } from './output-path.ts';

const { O_APPEND, O_NOCTTY, O_NONBLOCK, O_WRONLY } = constants;
/** Bytes that wait for a reader at most. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** Between two tries to write to a pipe that takes nothing. */
const RETRY_MS = 20;
/** Tries without one byte taken: 5 s. */
const RETRIES_MAX = 250;
/** The lowest bits of `flags` in fdinfo (proc(5)), octal: 0 is read only. */
const ACCESS_MODE = 0o3;

type StreamPlace = Exclude<OutputPlace, { kind: 'file' }>;

/** One pipe, device or descriptor. */
export class StreamFile {
  readonly #place: StreamPlace;
  #fd: number | null = null;
  #isBorrowed = false;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;

  constructor(place: StreamPlace) {
    this.#place = place;
  }

  /**
   * Tries what can be tried without a trace. A pipe is not opened: its reader would take the closing for the end.
   * @throws the error of the system call, or OutputRefused
   */
  check(): void {
    const place = this.#place;
    if (place.kind === 'descriptor') {
      fstatSync(place.fd);
      checkWritable(place.fd);
    }
    if (place.kind !== 'device') return;
    // A device that is full says so only when something is written to it; a line break changes no JSON.
    this.append('\n');
    this.finish();
  }

  /**
   * Writes what the far side takes at once, and keeps the rest.
   * @throws the error of the system call, or OutputRefused when too much waits
   */
  append(text: string): void {
    const bytes = Buffer.from(text);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#flush();
    if (this.#waitingBytes > WAITING_BYTES_MAX) throw new OutputRefused('its reader does not keep up');
  }

  /**
   * Waits until all is taken, at most 5 s after the last byte that was; then closes.
   * @throws the error of the system call, or OutputRefused when nobody reads
   */
  finish(): void {
    try {
      for (let retries = 0; this.#waitingBytes > 0; retries += 1) {
        if (retries > RETRIES_MAX) throw new OutputRefused('nobody reads it');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
        if (this.#flush()) retries = 0;
      }
    } finally {
      this.#waiting = [];
      this.#waitingBytes = 0;
      if (this.#fd !== null && !this.#isBorrowed) closeSync(this.#fd);
      this.#fd = null;
    }
  }

  /** @returns whether some bytes were taken */
  #flush(): boolean {
    const before = this.#waitingBytes;
    for (let [bytes] = this.#waiting; bytes !== undefined; [bytes] = this.#waiting) {
      const fd = this.#fd ?? this.#open();
      if (fd === null) break;
      const count = writeSome(fd, bytes);
      this.#waitingBytes -= count;
      if (count === bytes.length) this.#waiting.shift();
      else this.#waiting[0] = bytes.subarray(count);
      if (count === 0) break;
    }
    return this.#waitingBytes < before;
  }

  /** null: a pipe that nobody reads yet */
  #open(): number | null {
    const place = this.#place;
    if (place.kind === 'descriptor' && !fstatSync(place.fd).isFIFO()) {
      this.#isBorrowed = true;
      this.#fd = place.fd;
      return place.fd;
    }
    // Opened anew, a pipe does not make us wait, and whoever else has it open is not changed.
    const path = place.kind === 'descriptor' ? `/proc/self/fd/${place.fd}` : place.path;
    try {
      const fd = openSync(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
      this.#fd = fd;
      return fd;
    } catch (error) {
      // fifo(7): no reader.
      if ((error as NodeJS.ErrnoException).code === 'ENXIO' && place.kind !== 'device') return null;
      throw error;
    }
  }
}

function writeSome(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}

function checkWritable(fd: number): void {
  const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '1';
  if ((Number.parseInt(flags, 8) & ACCESS_MODE) === 0) throw new OutputRefused('it is open for reading only');
}
