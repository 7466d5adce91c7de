/** Tests which back end a connection has by its first bytes, in one piece or many, and that counts follow what is open. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { BackendTally } from '../../../src/engine/protocols/backend.ts';
import { until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, specTo, Target } from '../engine-run.ts';

afterEach(cleanUp);

function cameTo(tally: BackendTally, slot: number, text: string): void {
  const bytes = Buffer.from(text);
  tally.came(slot, bytes, bytes.length);
}

test('connections are counted by back end while they are open', async () => {
  let accepted = 0;
  const target = await Target.listen((socket) => {
    socket.write(`web-${accepted++ % 3}\nweb-9\n`);
  });
  const run = new EngineRun(specTo(target.port, 30, { backendFrom: '/^(\\S+)\\n/' }));
  await run.open();
  const counted = (): Record<string, number> => ({ ...run.stats().backends });
  await until('all are named', () => Object.values(counted()).reduce((sum, count) => sum + count, 0) === 30);
  assert.deepEqual(counted(), { 'web-0': 10, 'web-1': 10, 'web-2': 10 });
  let left = 5;
  for (const socket of target.sockets) if (left-- > 0) socket.resetAndDestroy();
  await until('five are lost', () => run.stats().dropped.rst === 5);
  assert.equal(
    Object.values(counted()).reduce((sum, count) => sum + count, 0),
    25,
  );
  await run.stop();
  assert.deepEqual(
    counted(),
    { 'web-0': 0, 'web-1': 0, 'web-2': 0 },
    'a back end that has none left is one too',
  );
});

test('http: the header of the first response names it; a run without the flag counts nothing', async () => {
  const target = await Target.listen((socket) => {
    socket.on('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nX-Serv');
      setTimeout(() => socket.write('ed-By: b7\r\nContent-Length: 0\r\n\r\n'), 20);
    });
  });
  const over = { protocol: 'http' as const, probeEveryMs: 60_000, backendFrom: 'header:X-Served-By' };
  const run = new EngineRun(specTo(target.port, 8, over));
  const stats = await run.open();
  assert.deepEqual([stats.verified, { ...stats.backends }], [8, { b7: 8 }]);
  await run.stop();
  const { backendFrom: _, ...without } = over;
  const plain = new EngineRun(specTo(target.port, 2, without));
  assert.equal('backends' in (await plain.open()), false);
  await plain.stop();
});

test('a name that comes byte by byte is one name, and a slot that is used again is looked at anew', () => {
  const tally = new BackendTally(/^id=(\w+);/, 4);
  for (const byte of 'id=abc;x') cameTo(tally, 1, byte);
  assert.deepEqual(tally.counts(), { abc: 1 });
  tally.forget(1);
  cameTo(tally, 1, 'id=');
  tally.forget(1);
  cameTo(tally, 1, 'id=d;');
  assert.deepEqual(tally.counts(), { abc: 0, d: 1 });
});

test('what has no name in its first bytes is looked at no more', () => {
  const tally = new BackendTally(/(late)/, 2);
  cameTo(tally, 0, 'x'.repeat(1_024));
  cameTo(tally, 0, 'late');
  // The first bytes end within a piece, too.
  cameTo(tally, 1, `${'x'.repeat(1_022)}late`);
  assert.deepEqual(tally.counts(), {});
});

test('the number of names and their length are bounded, their text is one clean line', () => {
  const tally = new BackendTally(/^([^;]*);/s, 200);
  for (let slot = 0; slot < 100; slot++) cameTo(tally, slot, `server-${slot};`);
  const counts = tally.counts();
  assert.equal(Object.keys(counts).length, 65);
  assert.deepEqual([counts['server-0'], counts['server-63'], counts[' others']], [1, 1, 36]);
  tally.forget(99);
  assert.equal(tally.counts()[' others'], 35);
  const hostile = new BackendTally(/^([^;]*);/s, 4);
  cameTo(hostile, 0, '\u001b[31m evil\nname;');
  cameTo(hostile, 1, `${'n'.repeat(500)};`);
  cameTo(hostile, 2, '  ;');
  cameTo(hostile, 3, ' others;');
  const names = Object.keys(hostile.counts());
  assert.equal(names.length, 4);
  assert(
    names.every((name) => /^[^\p{C}]{1,64}$/u.test(name)),
    JSON.stringify(names),
  );
  assert.deepEqual(names.slice(2), ['(empty)', 'others']);
});

test('bytes over which an expression goes back and forth do not hold up a holder', () => {
  // By going back and forth alone this takes 2^40 steps.
  const tally = new BackendTally(/^(?:a+)+(;)$/, 1);
  cameTo(tally, 0, 'a'.repeat(40));
  assert.deepEqual(tally.counts(), {});
});
