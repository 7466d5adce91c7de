/** Tests that what targets said is counted on connections that ended, once for each, within the bound. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SaidColumns } from '../../src/engine/said-columns.ts';

const bytesOf = (text: string): Uint8Array => Buffer.from(text);

function say(columns: SaidColumns, slot: number, text: string): void {
  const bytes = bytesOf(text);
  columns.note(slot, bytes, 0, bytes.length);
}

function end(columns: SaidColumns, slot: number): void {
  columns.ended(slot);
  columns.forget(slot);
}

test('the first and the last text of a connection that ends count; what came between does not', () => {
  const columns = new SaidColumns(4);
  for (const slot of [0, 1])
    for (const text of ['220 hello', 'what?', '421 too many']) say(columns, slot, text);
  say(columns, 2, '220 hello');
  say(columns, 3, '220 hello');
  for (const slot of [0, 1, 2]) end(columns, slot);
  assert.deepEqual(columns.texts(), {
    texts: [
      { text: '220 hello', first: 3, last: 0 },
      { text: '421 too many', first: 0, last: 2 },
    ],
    other: 0,
  });
});

test('a slot that is used again has said nothing yet', () => {
  const columns = new SaidColumns(1);
  say(columns, 0, 'one');
  columns.forget(0);
  end(columns, 0);
  assert.deepEqual(columns.texts(), { texts: [], other: 0 });
});

test('more texts than there is room for are counted; one that a connection ends with has room kept for it', () => {
  const columns = new SaidColumns(1_000);
  // Each of them stays open: what it said stays in use.
  for (let slot = 0; slot < 900; slot++) say(columns, slot, `greeting ${slot}`);
  for (let slot = 900; slot < 950; slot++) {
    say(columns, slot, `greeting ${slot}`);
    say(columns, slot, '-ERR max number of clients reached');
    end(columns, slot);
  }
  assert.deepEqual(columns.texts().texts, [
    { text: '-ERR max number of clients reached', first: 0, last: 50 },
  ]);
  // Their greetings found no room, and were not the last that was said.
  assert.equal(columns.texts().other, 0);
  for (let slot = 0; slot < 900; slot++) end(columns, slot);
  const { texts, other } = columns.texts();
  assert.equal(texts.length, 16);
  assert.equal(
    texts.reduce((sum, { first, last }) => sum + first + last, other),
    950,
  );
});

test('texts of connections that stayed open make room for later ones', () => {
  const columns = new SaidColumns(2);
  for (let round = 0; round < 2_000; round++) {
    say(columns, 0, `round ${round}`);
    columns.forget(0);
  }
  say(columns, 1, 'the end');
  end(columns, 1);
  assert.deepEqual(columns.texts(), { texts: [{ text: 'the end', first: 1, last: 0 }], other: 0 });
});

test('only the first 120 bytes tell texts apart', () => {
  const columns = new SaidColumns(2);
  say(columns, 0, `${'x'.repeat(120)}a`);
  say(columns, 1, `${'x'.repeat(120)}b`);
  end(columns, 0);
  end(columns, 1);
  assert.deepEqual(columns.texts().texts, [{ text: 'x'.repeat(120), first: 2, last: 0 }]);
});

test('of what is too long the last line counts beside its beginning, where it has one that is short enough', () => {
  const columns = new SaidColumns(8);
  const greeting = `INFO {"id":"${'x'.repeat(300)}"} \r\n`;
  const beginning = greeting.slice(0, 120);
  say(columns, 0, greeting);
  say(columns, 1, `${greeting}-ERR 'maximum connections exceeded'\r\n`);
  say(columns, 2, `${greeting}-ERR 'maximum connections exceeded'\r\n`);
  // Without a line of its own at the end, or with one as long as a text may be, and longer.
  say(columns, 3, `${greeting}${'y'.repeat(120)}`);
  say(columns, 4, `${greeting}${'z'.repeat(121)}`);
  for (const slot of [0, 1, 2, 3, 4]) end(columns, slot);
  assert.deepEqual(columns.texts(), {
    texts: [
      { text: beginning, first: 5, last: 0 },
      { text: "-ERR 'maximum connections exceeded'\\r\\n", first: 0, last: 2 },
      { text: 'y'.repeat(120), first: 0, last: 1 },
    ],
    other: 0,
  });
});

test('long messages of which only the last line is kept leave room for those of others', () => {
  const columns = new SaidColumns(2);
  for (let message = 0; message < 2_000; message++)
    say(columns, 0, `${message} ${'x'.repeat(200)}\nend ${message % 3}`);
  say(columns, 1, 'further');
  for (const slot of [0, 1]) end(columns, slot);
  assert.deepEqual(
    columns
      .texts()
      .texts.map(({ text }) => text.slice(0, 8))
      .toSorted(),
    ['0 xxxxxx', 'end 1', 'further'],
  );
});
