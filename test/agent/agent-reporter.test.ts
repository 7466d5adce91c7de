import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { AgentReporter, LossQueue, writePartialReport } from '../../src/agent/agent-reporter.ts';
import type { AgentMessage, AgentMessageOf } from '../../src/control/message.ts';
import { LOSS_BATCH_MAX, type Loss } from '../../src/stats/loss.ts';
import { emptyStats, type Stats } from '../../src/stats/stats.ts';

interface Made {
  readonly report: AgentReporter;
  readonly sent: AgentMessage[];
  /** sends the stats message of a second, and gives it back */
  readonly second: (stats: Partial<Stats>, isSettled?: boolean) => AgentMessageOf<'stats'>;
}

function made(): Made {
  const sent: AgentMessage[] = [];
  const report = new AgentReporter(3, { monotonicMs: () => 4_711 }, (message) => sent.push(message));
  const second: Made['second'] = (stats, isSettled = false) => {
    const counted = { quota: 9, holders: [], isSettled, kernel: [] };
    report.sendStats({ ...counted, stats: { ...emptyStats(), ...stats } });
    const message = sent.at(-1);
    assert(message?.type === 'stats');
    return message;
  };
  return { report, sent, second };
}

const LOSS: Loss = {
  ...{ atMs: 5, holder: 'ada/1', source: '10.0.0.1:9', endpoint: '10.0.0.2:80', ageMs: 1 },
  ...{ reason: 'rst', count: 4 },
};

const sources = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`10.0.${index >> 8}.${index & 255}`, 1]));

test('a table of more than 1,024 sources stays out of the report of each second, a shorter one stays in', () => {
  const openByEndpoint = sources(1_024);
  const { stats } = made().second({ open: 7, openBySource: sources(1_025), openByEndpoint });
  assert.deepEqual(stats.openBySource, {});
  assert.deepEqual(stats.openByEndpoint, openByEndpoint);
  assert.equal(stats.open, 7);
});

test('a histogram that has not changed is left out, and comes again after a cut, behind the message that is needed', () => {
  const { report, sent, second } = made();
  const offer: AgentMessage = {
    ...{ type: 'offer', connectionsMax: 9, boundBy: 'tuples' },
    ...{ findings: [], sources: [], notes: [] },
  };
  report.say(offer);
  const connectUs = [7, 2];
  assert.deepEqual(second({ connectUs }).stats.connectUs, connectUs);
  assert.notDeepEqual(second({ connectUs }).stats.connectUs, connectUs);
  report.sayAgain();
  assert.deepEqual(sent.at(-1), offer);
  assert.deepEqual(second({ connectUs }).stats.connectUs, connectUs);
});

test('a stats message names its epoch, the clock and the quota; details of losses go before it', () => {
  const { report, sent, second } = made();
  report.addLosses([LOSS]);
  const { epoch, sentAtMs, quota } = second({ failed: {} });
  assert.deepEqual({ epoch, sentAtMs, quota }, { epoch: 3, sentAtMs: 4_711, quota: 9 });
  assert.deepEqual(
    sent.map(({ type }) => type),
    ['losses', 'stats'],
  );
});

test('that everything is settled is worth a message of its own, once, and again after there is more to open', () => {
  const { report, second } = made();
  assert.equal(report.isChanged(false), false);
  assert.equal(report.isChanged(true), true);
  second({}, true);
  assert.equal(report.isChanged(true), false);
  report.expectOpening();
  assert.equal(report.isChanged(true), true);
});

test('the final message has what was open before closing, what was closed after it, and is said again after a cut', () => {
  const { report, sent } = made();
  report.sendDone({
    atEnd: { ...emptyStats(), open: 9, bytesIn: 1, lossDetailsCut: 2 },
    closed: { ...emptyStats(), open: 0, closed: 9, bytesIn: 5, bytesOut: 6 },
    ...{ holders: [], kernel: [], notes: ['a note'] },
    evidence: { counters: {}, samples: {}, synLadderSec: [1, 3], hasLocalEndpoint: true },
  });
  const done = sent.at(-1);
  assert(done?.type === 'done');
  const { open, closed, bytesIn, bytesOut, lossDetailsCut } = done.stats;
  assert.deepEqual(
    { open, closed, bytesIn, bytesOut, lossDetailsCut },
    { open: 9, closed: 9, bytesIn: 5, bytesOut: 6, lossDetailsCut: 2 },
  );
  assert.deepEqual(done.evidence?.synLadderSec, [1, 3]);
  report.sayAgain();
  assert.deepEqual(sent.at(-1), done);
});

test('details that find no room in the final messages are counted in it', () => {
  const { report, sent } = made();
  const many = 62 * 1_000;
  report.addLosses(Array.from({ length: many }, () => ({ ...LOSS, count: 1 })));
  report.sendDone({
    ...{ atEnd: emptyStats(), closed: emptyStats() },
    ...{ holders: [], kernel: [], evidence: null, notes: [] },
  });
  const details = sent.reduce(
    (sum, message) => sum + (message.type === 'losses' ? message.losses.length : 0),
    0,
  );
  const done = sent.at(-1);
  assert(done?.type === 'done' && done.stats.lossDetailsCut !== undefined);
  assert.equal(details + done.stats.lossDetailsCut, many);
});

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-partial-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('the last stats are for their owner alone, in a folder that is made for them', (t) => {
  const path = join(folderOf(t), 'new', 'partial.json');
  assert.equal(writePartialReport(path, { a: 1 }), path);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { a: 1 });
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('in a folder like /tmp a link or a pipe that waits there gets nothing, and nothing hangs', (t) => {
  const folder = folderOf(t);
  chmodSync(folder, 0o1777);
  const victim = join(folder, 'victim');
  writeFileSync(victim, 'precious');
  symlinkSync('victim', join(folder, 'link.json'));
  execFileSync('mkfifo', [join(folder, 'pipe.json')]);
  for (const name of ['link.json', 'pipe.json']) {
    assert.equal(writePartialReport(join(folder, name), { a: 1 }), null);
  }
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.deepEqual(readdirSync(folder).sort(), ['link.json', 'pipe.json', 'victim']);
});

const lossAt = (atMs: number, count = 1): Loss => ({
  atMs,
  holder: 'h',
  source: '127.0.0.1:1',
  endpoint: '127.0.0.1:2',
  ageMs: 0,
  reason: 'rst',
  count,
});
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, index) => from + index);

function queueOf(): { readonly queue: LossQueue; readonly messages: number[][]; told(): number[] } {
  const messages: number[][] = [];
  const queue = new LossQueue((losses) => messages.push(losses.map(({ atMs }) => atMs)));
  return { queue, messages, told: () => messages.flat() };
}

test('what 50 holders tell within a second goes in one message, before the report, and all of it', () => {
  const { queue, messages, told } = queueOf();
  for (const holder of range(0, 50)) queue.add(range(holder * 5, holder * 5 + 5).map((at) => lossAt(at)));
  assert.equal(messages.length, 0);
  queue.nextReport();
  assert.equal(messages.length, 1);
  assert.deepEqual(told(), range(0, 250));
  assert.equal(queue.cut, 0);
});

test('full messages go at once, 20 between two reports, and the rest with the next ones, in order', () => {
  const { queue, messages, told } = queueOf();
  for (const holder of range(0, 50))
    queue.add(range(holder * 1_000, holder * 1_000 + 1_000).map((at) => lossAt(at)));
  assert.equal(messages.length, 20);
  queue.nextReport();
  assert.equal(messages.length, 40);
  queue.nextReport();
  assert.equal(messages.length, 50);
  assert.deepEqual(told(), range(0, 50_000));
  assert.equal(queue.cut, 0);
});

test('before the final report more may go, and what is left then is counted by connections', () => {
  const { queue, messages } = queueOf();
  queue.add(range(0, 70_000).map((at) => lossAt(at, 3)));
  queue.finish();
  assert.equal(messages.length, 60);
  assert.equal(queue.cut, 3 * 10_000);
});

test('more than 100,000 that wait are left out and counted', () => {
  const { queue } = queueOf();
  queue.add(range(0, 100_000 + 77).map((at) => lossAt(at)));
  assert.equal(queue.cut, 77);
});

test('whatever comes and whenever reports are due: in order, none twice, and none missing but those that are counted', () => {
  const step = fc.oneof(fc.constant('report' as const), fc.integer({ min: 1, max: 15_000 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { queue, messages, told } = queueOf();
      let next = 0;
      let sinceReport = 0;
      for (const each of steps) {
        if (each === 'report') {
          queue.nextReport();
          sinceReport = messages.length;
        } else {
          queue.add(range(next, next + each).map((at) => lossAt(at)));
          next += each;
        }
        assert(messages.length - sinceReport <= 40);
      }
      queue.finish();
      const all = told();
      assert.equal(all.length + queue.cut, next);
      assert(all.every((at, index) => index === 0 || at > all[index - 1]!));
      assert(messages.every((message) => message.length >= 1 && message.length <= LOSS_BATCH_MAX));
    }),
    { numRuns: 60 },
  );
});
