/** Tests the judge of histories: it takes an honest one, and rejects each kind of doctored one. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { AgentMessage, CoordinatorMessage } from '../../src/control/message.ts';
import type { RecordedMessage } from '../../src/coordinator/run-settings.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { type History, type SeenConnection, violationsOf } from './history.ts';

const LEASE = { quietMs: 5_000, leaseMs: 15_000, marginMs: 5_000 };
const TOTAL = 4;

type Said = AgentMessage | CoordinatorMessage;

function stats(epoch: number, counts: Partial<Record<'established' | 'closed', number>> = {}): Said {
  return {
    type: 'stats',
    epoch,
    sentAtMs: 0,
    quota: 2,
    stats: { ...emptyStats(), ...counts },
    holders: [],
    settled: true,
    kernel: [],
  } as unknown as Said;
}

const quota = (connections: number): Said => ({
  type: 'quota',
  connections,
  ratePerSec: null,
  pendingMax: 1,
});

function said(atMs: number, agent: string, message: Said, epoch = agent === 'ada' ? 1 : 2): RecordedMessage {
  return { atMs, agent, epoch, message };
}

const ADDRESS = { ada: '127.7.0.1', bob: '127.7.0.2' } as const;

function connection(
  name: 'ada' | 'bob',
  port: number,
  openedMs: number,
  closedMs: number | null,
): SeenConnection {
  return { source: ADDRESS[name], port, openedMs, closedMs };
}

/** Heartbeats each second, both ends included. */
function beats(agent: string, fromMs: number, toMs: number, epoch?: number): RecordedMessage[] {
  const list: RecordedMessage[] = [];
  for (let atMs = fromMs; atMs <= toMs; atMs += 1_000)
    list.push(said(atMs, agent, stats(epoch ?? (agent === 'ada' ? 1 : 2)), epoch));
  return list;
}

function history(change: Partial<History>): History {
  const records = [
    said(900, 'ada', quota(2)),
    said(900, 'bob', quota(2)),
    ...beats('ada', 0, 30_000),
    ...beats('bob', 0, 30_000),
    said(5_000, 'ada', { type: 'hold' }),
    said(5_000, 'bob', { type: 'hold' }),
    said(25_000, 'ada', { type: 'stop', reason: 'held' }),
    said(25_000, 'bob', { type: 'stop', reason: 'held' }),
  ];
  return {
    total: TOTAL,
    lease: LEASE,
    connections: [
      connection('ada', 1, 2_000, 25_100),
      connection('ada', 2, 2_000, 25_100),
      connection('bob', 1, 2_000, 25_100),
      connection('bob', 2, 2_000, 25_100),
    ],
    agentOf: { [ADDRESS.ada]: 'ada', [ADDRESS.bob]: 'bob' },
    exitCode: 0,
    held: TOTAL,
    endedMs: 31_000,
    sightMs: 1_000,
    ...change,
    records: (change.records ?? records).toSorted((a, b) => a.atMs - b.atMs),
  };
}

function assertRejected(change: Partial<History>, why: RegExp): void {
  const violations = violationsOf(history(change));
  assert(
    violations.some((violation) => why.test(violation)),
    `${why} is not among ${JSON.stringify(violations)}`,
  );
}

/** bob falls silent at 10 s, and its quota goes to ada at `handedMs`. */
function handedOver(handedMs: number, lastOfBobMs: number): Partial<History> {
  return {
    exitCode: 4,
    held: 2,
    records: [
      said(900, 'ada', quota(2)),
      said(900, 'bob', quota(2)),
      ...beats('ada', 0, 40_000),
      ...beats('bob', 0, 10_000),
      said(handedMs, 'ada', quota(4)),
    ],
    connections: [
      connection('ada', 1, 2_000, 40_000),
      connection('ada', 2, 2_000, 40_000),
      connection('bob', 1, 2_000, lastOfBobMs),
      connection('bob', 2, 2_000, lastOfBobMs),
      connection('ada', 3, handedMs + 100, 40_000),
      connection('ada', 4, handedMs + 100, 40_000),
    ],
    endedMs: 41_000,
  };
}

describe('the judge of histories', () => {
  it('takes an honest run, and one whose lost quota went to another in time', () => {
    assert.deepEqual(violationsOf(history({})), []);
    assert.deepEqual(violationsOf(history(handedOver(30_100, 24_000))), []);
  });

  it('rejects a quota that is handed over while the lost agent may still act', () => {
    assertRejected(handedOver(20_000, 24_000), /quotas of 6 are out, of 4: .*bob 2/);
  });

  it('rejects a quota that shrinks', () => {
    const records = [said(900, 'ada', quota(3)), said(1_000, 'ada', quota(2)), ...beats('ada', 0, 30_000)];
    assertRejected({ records, connections: [], exitCode: 4 }, /ada: its quota shrank/);
  });

  it('rejects more connections at the target than were asked for', () => {
    const { connections } = history({});
    assertRejected(
      { connections: [...connections, connection('ada', 3, 3_000, 3_100)] },
      /5 connections, of 4/,
    );
  });

  it('rejects an agent with more connections than its quota', () => {
    assertRejected(
      {
        exitCode: 4,
        connections: [1, 2, 3].map((port) => connection('ada', port, 2_000, 25_000)),
      },
      /ada has 3 connections, its quotas allow 2/,
    );
  });

  it('rejects a 4-tuple that is held twice', () => {
    assertRejected(
      {
        exitCode: 4,
        connections: [connection('ada', 1, 2_000, 25_000), connection('ada', 1, 3_000, 25_000)],
      },
      /127\.7\.0\.1:1 has two owners/,
    );
  });

  it('rejects a connection that is opened after the quiet time', () => {
    const silent = handedOver(30_100, 24_000);
    assertRejected(
      { ...silent, connections: [connection('bob', 3, 16_500, 17_000)] },
      /bob .* was opened at 16500, the agent was heard at 10000/,
    );
  });

  it('rejects a connection that is held through a silence that is longer than the lease', () => {
    assertRejected(handedOver(60_000, 27_000), /bob .* was open until 27000 through a silence of 17000 ms/);
    const neverClosed = handedOver(60_000, 24_000);
    assertRejected(
      { ...neverClosed, connections: [connection('bob', 1, 2_000, null)] },
      /bob .* through a silence/,
    );
  });

  it('rejects a connection of an agent that was never heard', () => {
    assertRejected(
      { exitCode: 4, connections: [connection('bob', 1, 2_000, 3_000)], records: beats('ada', 0, 5_000) },
      /bob .* was opened/,
    );
  });

  it('rejects a counter that falls within an epoch, and one that vanishes, but not one of a new epoch', () => {
    const falling = [
      said(1_000, 'ada', stats(1, { established: 2 })),
      said(2_000, 'ada', stats(1, { established: 1 })),
    ];
    assertRejected({ records: falling, connections: [], exitCode: 4 }, /established of ada fell from 2 to 1/);
    const dropped = { ...emptyStats(), dropped: { fin: 3 } };
    const vanishing = [
      said(1_000, 'ada', { ...stats(1), stats: dropped } as unknown as Said),
      said(2_000, 'ada', stats(1)),
    ];
    assertRejected(
      { records: vanishing, connections: [], exitCode: 4 },
      /dropped\.fin of ada fell from 3 to 0/,
    );
    const renewed = [said(1_000, 'ada', stats(1, { established: 2 }), 1), said(2_000, 'ada#3', stats(3), 3)];
    assert.deepEqual(violationsOf(history({ records: renewed, connections: [], exitCode: 4 })), []);
  });

  it('rejects exit 0 when the report, or the target in the hold phase, had fewer', () => {
    assertRejected({ held: TOTAL - 1 }, /exit 0, but held is 3 of 4/);
    const { connections } = history({});
    const early = connections.map((each, index) => (index === 0 ? { ...each, closedMs: 15_000 } : each));
    assertRejected({ connections: early }, /exit 0, but the target held 3 of 4 at 15000/);
    assertRejected(
      { connections: connections.slice(1) },
      /exit 0, but the target had 3 of 4 when the hold began/,
    );
  });
});
