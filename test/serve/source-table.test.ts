import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sockAddr } from '../../src/engine/drivers/sockaddr.ts';
import { SourceTable } from '../../src/serve/source-table.ts';

const peer = (address: string): Uint8Array => sockAddr(address, 40_000).bytes;

test('any sequence of opens and closes counts the same as a plain map, and frees what has gone', () => {
  // Neighbouring addresses, as a load generator has them, and the two families mixed.
  const address = fc.oneof(
    fc.tuple(fc.nat(3), fc.nat(255)).map(([a, b]) => `127.0.${a}.${b}`),
    fc.nat(40).map((group) => `fd00::${(group + 1).toString(16)}`),
  );
  const step = fc.record({ address, closes: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
      const table = new SourceTable();
      const model = new Map<string, number>();
      const opened: { entry: number; address: string }[] = [];
      for (const { address, closes } of steps) {
        opened.push({ entry: table.add(peer(address)), address });
        model.set(address, (model.get(address) ?? 0) + 1);
        for (let close = 1; close < closes && opened.length > 0; close++) {
          const gone = opened.splice((closes * 7919) % opened.length, 1)[0]!;
          table.remove(gone.entry);
          const left = model.get(gone.address)! - 1;
          if (left === 0) model.delete(gone.address);
          else model.set(gone.address, left);
        }
        assert.equal(table.size, model.size);
      }
      assert.deepEqual(new Map(table.list(1_000)), model);
      for (const { entry } of opened) table.remove(entry);
      assert.equal(table.size, 0);
      assert.deepEqual(table.list(1_000), []);
    }),
    { numRuns: 300 },
  );
});

test('an IPv4 address is the same source when it arrives on a dual-stack listener', () => {
  const table = new SourceTable();
  const mapped = table.add(peer('::ffff:127.0.0.2'));
  assert.equal(table.add(peer('127.0.0.2')), mapped);
  assert.deepEqual(table.list(10), [['127.0.0.2', 2]]);
});

test('a list is cut to the number of entries that was asked for', () => {
  const table = new SourceTable();
  for (let last = 1; last <= 100; last++) table.add(peer(`10.0.0.${last}`));
  assert.equal(table.list(30).length, 30);
  assert.equal(table.size, 100);
});
