/**
 * Owns a pool of equal pieces of memory that requests of a ring point at. Must never know what is in them.
 */
import type { MappedMemory, UringKernel } from './uring-binding.ts';
import { RingError } from './uring-ring.ts';

/** So many cells; the last one that was given back is taken first, so that few are ever touched. Only the constructor allocates. */
export class Cells {
  readonly #kernel: UringKernel;
  readonly #memory: MappedMemory;
  readonly #size: number;
  readonly #views: readonly Uint8Array[];
  readonly #lengths: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;

  /**
   * @param size bytes of each
   * @throws RingError when there is no memory
   */
  constructor(kernel: UringKernel, count: number, size: number) {
    const memory = kernel.map(count * size, -1, 0);
    if (typeof memory === 'number') throw new RingError('map', -memory);
    this.#kernel = kernel;
    this.#memory = memory;
    this.#size = size;
    this.#views = Array.from(
      { length: count },
      (_, cell) => new Uint8Array(memory.buffer, cell * size, size),
    );
    this.#lengths = new Int32Array(count);
    this.#free = Int32Array.from({ length: count }, (_, cell) => count - 1 - cell);
    this.#freeCount = count;
  }

  get hasFree(): boolean {
    return this.#freeCount > 0;
  }

  /** A free cell, or -1. */
  take(): number {
    return this.#freeCount > 0 ? this.#free[--this.#freeCount]! : -1;
  }

  release(cell: number): void {
    this.#free[this.#freeCount++] = cell;
  }

  /** Where a cell is for the kernel. */
  address(cell: number): number {
    return this.#memory.address + cell * this.#size;
  }

  bytes(cell: number): Uint8Array {
    return this.#views[cell]!;
  }

  /** Remembers how much of a cell counts. */
  setLength(cell: number, length: number): void {
    this.#lengths[cell] = length;
  }

  length(cell: number): number {
    return this.#lengths[cell]!;
  }

  end(): void {
    this.#kernel.unmap(this.#memory);
  }
}
