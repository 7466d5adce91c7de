/** Tests what an engine notes for a diagnosis: times of calls and losses, places, gaps, texts; against far sides that count for themselves. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { DropReason, FailReason } from '../../src/base/outcome.ts';
import { TupleMap } from '../../src/base/tuple-space.ts';
import { ConnectionTable } from '../../src/engine/connection-table.ts';
import { EvidenceRecorder } from '../../src/engine/evidence-recorder.ts';
import type { Evidence } from '../../src/stats/evidence.ts';
import { until } from '../support/waiting.ts';
import { cleanUp, EngineRun, ManualClock, specTo, Target } from './engine-run.ts';

afterEach(cleanUp);

/** A recorder with slots whose connects were called at these times. */
function recorderOf(
  callsMs: readonly number[],
  endpoints = 1,
): { recorder: EvidenceRecorder; table: ConnectionTable } {
  const spec = specTo(80, 2_000, {
    addresses: ['127.0.0.2', '127.0.0.3'],
    ports: [{ from: 1_024, to: 4_095 }],
    endpoints: Array.from({ length: endpoints }, (_, at) => ({
      address: '127.0.0.1',
      port: 80 + at,
      family: 4,
    })),
  });
  const table = new ConnectionTable(callsMs.length);
  const recorder = new EvidenceRecorder(spec, new TupleMap(spec), table);
  for (const [tuple, calledMs] of callsMs.entries()) {
    const slot = table.take(tuple);
    table.intendedAtMs[slot] = calledMs - 1;
    table.calledLateMs[slot] = 1;
    recorder.called(slot);
  }
  return { recorder, table };
}

test('a connect counts at its call, however long its answer takes; a later start is added', () => {
  const { recorder } = recorderOf([0, 300, 600, 900]);
  recorder.startsLater(1_000);
  recorder.opened(0, 5_000);
  recorder.failed(1, FailReason.timeout, true, false);
  recorder.failed(2, FailReason.refused, false, false);
  recorder.opened(3, 950);
  const { folds, counts } = recorder.evidence().connectsAt;
  // 1,900 ms need buckets of 8 ms.
  assert.equal(folds, 3);
  const at = (list: readonly number[]): number[] =>
    list.flatMap((count, bucket) => (count === 1 ? [bucket * 8] : []));
  assert.deepEqual(at(counts.established), [1_000, 1_896]);
  assert.deepEqual(at(counts.answeredNo), [1_600]);
  assert.deepEqual(at(counts.silent), [1_296]);
});

test('gaps are in the order of the calls: every third refused has two between, whatever the order of the answers', () => {
  const { recorder } = recorderOf(Array.from({ length: 30 }, () => 0));
  for (let slot = 0; slot < 30; slot++) if (slot % 3 !== 0) recorder.opened(slot, 10);
  for (let slot = 0; slot < 30; slot += 3) recorder.failed(slot, FailReason.refused, false, false);
  const gaps = recorder.evidence().gapsBetweenFailures;
  assert.deepEqual([gaps[2], gaps.reduce((sum, each) => sum + each, 0)], [9, 9]);
});

test('a silent connect is no answer, so it makes no gap', () => {
  const { recorder } = recorderOf([0, 0]);
  for (const slot of [0, 1]) recorder.failed(slot, FailReason.timeout, true, false);
  assert.equal(
    recorder.evidence().gapsBetweenFailures.reduce((sum, each) => sum + each, 0),
    0,
  );
});

const sumOf = (
  table: Evidence['byEndpoint'],
  pick: (row: Evidence['byEndpoint'][string]) => number,
): number => Object.values(table).reduce((sum, row) => sum + pick(row), 0);

test('each outcome counts at its endpoint, its source and its block of ports; what is given up was not asked', () => {
  const { recorder } = recorderOf(
    Array.from({ length: 16 }, () => 0),
    2,
  );
  for (let slot = 0; slot < 8; slot++) recorder.opened(slot, 1);
  for (let slot = 8; slot < 12; slot++) recorder.failed(slot, FailReason.timeout, true, false);
  recorder.failed(12, FailReason.refused, false, true);
  recorder.givenUp(13);
  recorder.lost(0, DropReason.rst, 5_000);
  recorder.notCalled(-1, FailReason.sourceExhausted, 7, 1);
  const { byEndpoint, bySourceOutcome, byPortBlock } = recorder.evidence();
  for (const table of [byEndpoint, bySourceOutcome]) {
    assert.equal(
      sumOf(table, ({ asked }) => asked),
      14 + 7,
    );
    assert.equal(
      sumOf(table, ({ established }) => established),
      8,
    );
    assert.equal(
      sumOf(table, ({ failed }) => failed.timeout ?? 0),
      4,
    );
    assert.equal(
      sumOf(table, ({ failed }) => failed.refused ?? 0),
      0,
      'one that is tried again has not failed',
    );
    assert.equal(table['*']?.failed['source-exhausted'], 7);
  }
  assert.equal(byEndpoint['127.0.0.1:80']?.asked, 8 - 2, 'one of its own is tried again, one was given up');
  assert.equal(bySourceOutcome['127.0.0.2']?.dropped.rst, 1);
  assert.deepEqual(byPortBlock.asked.slice(0, 3), [0, 14, 0]);
  assert.deepEqual([byPortBlock.established[1], byPortBlock.silent[1], byPortBlock.answeredNo[1]], [8, 4, 0]);
});

test('age and silence at a loss are those that the far side made', async () => {
  const target = await Target.listen((socket) => {
    socket.resume();
    setImmediate(() => socket.write('hello'));
  });
  const clock = new ManualClock();
  const run = new EngineRun(specTo(target.port, 10), clock);
  await run.open();
  await until('all greetings are read', () => run.stats().bytesIn === 50);
  run.advance(clock, 30_000);
  for (const socket of target.sockets) socket.write('again');
  await until('all second texts are read', () => run.stats().bytesIn === 100);
  run.advance(clock, 12_000);
  for (const socket of target.sockets) socket.end();
  await until('all ends are read', () => run.stats().open === 0);
  const { evidence } = await run.stop();
  assert.deepEqual(evidence?.lossAgeMs.fin, {
    histogram: evidence?.lossAgeMs.fin.histogram,
    leastMs: 42_000,
    mostMs: 42_000,
  });
  assert.equal(evidence?.lossAgeMs.fin.histogram[1], 10);
  assert.deepEqual(
    [evidence?.lossSilenceMs.fin.leastMs, evidence?.lossSilenceMs.fin.mostMs],
    [12_000, 12_000],
  );
  assert.deepEqual(evidence?.lossAgeMs.rst.histogram, []);
  assert.equal(evidence?.lossesAt.counts.fin[Math.floor(42_000 / 2 ** evidence.lossesAt.folds)], 10);
  assert.deepEqual(evidence?.said.texts, [
    { text: 'again', first: 0, last: 10 },
    { text: 'hello', first: 10, last: 0 },
  ]);
});

test('what is still open has said nothing that counts', async () => {
  const target = await Target.listen((socket) => socket.resume().write('welcome'));
  const run = new EngineRun(specTo(target.port, 5));
  await run.open();
  await until('all greetings are read', () => run.stats().bytesIn === 35);
  const { evidence } = await run.stop();
  assert.deepEqual(evidence?.said, { texts: [], other: 0 });
});

test('a target that says no and closes is quoted under each protocol', async () => {
  const text = '-ERR max number of clients reached\r\n';
  let turned = 0;
  const target = await Target.listen((socket) => {
    turned++;
    socket.resume().end(text);
  });
  for (const protocol of ['tcp', 'echo', 'http', 'ws', 'whoami'] as const) {
    const before = turned;
    const probes = protocol === 'echo' ? { probeEveryMs: 60_000 } : {};
    const run = new EngineRun(specTo(target.port, 4, { protocol, ...probes }));
    await run.open();
    await until('all are closed', () => run.stats().open === 0);
    const { evidence } = await run.stop();
    const [said, ...others] = evidence?.said.texts ?? [];
    assert.equal(said?.text, String.raw`-ERR max number of clients reached\r\n`, protocol);
    assert.deepEqual([said?.first, others], [turned - before, []], protocol);
  }
});

test('a refusal over HTTP is its status line and when to come back, without what differs each second', async () => {
  const target = await Target.listen((socket) => {
    socket.once('data', () =>
      socket.end(`HTTP/1.1 503 Too Busy\r\nDate: ${turns++}\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n`),
    );
  });
  let turns = 0;
  for (const protocol of ['http', 'ws'] as const) {
    const run = new EngineRun(specTo(target.port, 6, { protocol }));
    await run.open();
    const { evidence } = await run.stop();
    const text = String.raw`HTTP/1.1 503 Too Busy\r\nRetry-After: 7`;
    assert.deepEqual(evidence?.said.texts, [{ text, first: 6, last: 0 }], protocol);
  }
});
