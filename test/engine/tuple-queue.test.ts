/** Tests that a queue of tuples keeps everything, in order, over any number of its blocks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TupleQueue } from '../../src/engine/tuple-queue.ts';

test('what was put first comes first, as a list would give it, also beyond 2^32 and over many blocks', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.nat({ max: 9_000 })), { minLength: 1, maxLength: 12 }),
      (moves) => {
        const queue = new TupleQueue();
        const list: number[] = [];
        let next = 2 ** 40;
        let taken = 0;
        for (const [isPut, count] of moves) {
          for (let nth = 0; nth < count; nth++) {
            if (isPut) {
              queue.put(next, next - 2 ** 40);
              list.push(next++);
            } else if (queue.size > 0) {
              assert.equal(queue.oldestAtMs, list[taken]! - 2 ** 40);
              assert.equal(queue.take(), list[taken++]);
            }
          }
          assert.equal(queue.size, list.length - taken);
        }
      },
    ),
    { numRuns: 50 },
  );
});

test('an empty queue has no oldest, and nothing can be taken from it', () => {
  const queue = new TupleQueue();
  assert.equal(queue.oldestAtMs, Number.POSITIVE_INFINITY);
  assert.throws(() => queue.take(), /nothing waits/);
});
