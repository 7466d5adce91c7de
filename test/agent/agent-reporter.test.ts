import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentReporter } from '../../src/agent/agent-reporter.ts';
import type { AgentMessage, AgentMessageOf } from '../../src/control/message.ts';
import type { Loss } from '../../src/stats/loss.ts';
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
