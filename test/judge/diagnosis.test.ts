/**
 * Owns the proof that every diagnosis comes from a real run of its fault and from no other: the fixtures were recorded
 * by test/support/record-faults.ts.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Party } from '../../src/base/outcome.ts';
import { diagnose } from '../../src/judge/diagnosis.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { repositoryRoot } from '../support/run-cli.ts';

const FOLDER = join(repositoryRoot, 'test', 'judge', 'fixtures');

type DiagnosisFacts = Parameters<typeof diagnose>[0];
type Evidence = NonNullable<DiagnosisFacts['evidence']>;
type HostEvidence = DiagnosisFacts['kernel']['hosts'][number];

/** As it was recorded with agents that sent no evidence. */
function olderFactsOf(name: string): DiagnosisFacts {
  return (JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as { facts: DiagnosisFacts }).facts;
}

/** So many milliseconds each. */
function lengths(...list: readonly number[]): {
  histogram: readonly number[];
  leastMs: number;
  mostMs: number;
} {
  const recorder = new LatencyRecorder();
  for (const ms of list) recorder.record(ms);
  return { histogram: recorder.sparse(), leastMs: Math.min(...list), mostMs: Math.max(...list) };
}

function connect(how: 'taken' | 'refused' | 'silent', isRouted: boolean): Partial<HostEvidence> {
  return { aftermath: { 'x:1': { connect: how, planConnect: null, isRouted, isNeighbourThere: null } } };
}

const FAR_SIDE = {
  waitingMax: 0,
  waitingLast: 0,
  takenLast: 0,
  halfOpenMax: 0,
  isQueueFull: false,
  isOwnerGone: false,
  descriptorsUsed: null,
  descriptorsMax: null,
};
/** One more connect was answered by a router on the way. */
const ROUTER_REJECTS: Partial<HostEvidence> = {
  aftermath: {
    'x:1': {
      connect: 'unreachable',
      planConnect: null,
      isRouted: true,
      isNeighbourThere: null,
      rejected: { by: '192.168.0.1', type: 3, code: 13, isOwn: false },
    },
  },
};

/** What agents of today show of the same runs. */
const SHOWN: Readonly<
  Record<
    string,
    readonly [evidence: Evidence, host?: Partial<HostEvidence>, counters?: Record<string, number>]
  >
> = {
  'path-forgot-drop': [{ notAcknowledged: 1_000 }, connect('taken', true)],
  'path-forgot-reset': [{}, connect('taken', true)],
  'rst-storm': [{}, connect('taken', false)],
  'target-refused': [{}, connect('refused', false)],
  'path-ports-100': [
    {
      connectsAt: {
        folds: 0,
        counts: { established: [50, 50], answeredNo: [], silent: [0, 0, 100, 100] },
      },
    },
  ],
  'path-unreachable': [{}, ROUTER_REJECTS, { IcmpInDestUnreachs: 8 }],
  'target-accept-queue': [{}, { farSide: { 'x:1': { ...FAR_SIDE, isQueueFull: true } } }],
  'target-ended': [
    {
      lossesAt: {
        folds: 4,
        counts: { fin: [...Array.from({ length: 200 }, () => 0), 1_000], rst: [], silent: [] },
      },
      lossAgeMs: {
        fin: lengths(...Array.from({ length: 100 }, (_, at) => 1_000 + 20 * at)),
        rst: lengths(),
      },
    },
  ],
  'target-memory': [{}, { farSide: { 'x:1': { ...FAR_SIDE, isOwnerGone: true } } }],
  'target-never-answers': [{}, { farSide: { 'x:1': { ...FAR_SIDE, takenLast: 500 } } }],
  'target-stops-answering': [{ acknowledged: 500 }],
};

function factsOf(name: string): DiagnosisFacts {
  const facts = olderFactsOf(name);
  const [evidence, host = {}, more = {}] = SHOWN[name] ?? [];
  if (evidence === undefined) return facts;
  const hosts = facts.kernel.hosts.map((each) => ({ ...each, ...host }));
  const counters = { ...facts.kernel.counters, ...more };
  return { ...facts, evidence, kernel: { ...facts.kernel, counters, hosts } };
}

/** Every recorded run, and all that may be said about it. */
const EXPECTED: Readonly<Record<string, readonly [party: Party | null, ...rules: string[]]>> = {
  'generator-alias': ['generator', 'generator-alias'],
  'generator-cpu': ['generator', 'generator-cpu'],
  'generator-descriptors': ['generator', 'generator-descriptors'],
  'generator-limited': [null],
  'generator-lost': ['generator', 'generator-lost'],
  'generator-memory': ['generator', 'generator-memory'],
  'generator-ports': ['generator', 'generator-ports'],
  'path-conntrack': ['path', 'path-conntrack'],
  'path-forgot-drop': ['path', 'path-forgot'],
  'path-forgot-reset': ['unknown', 'path-forgot'],
  'path-forgot-silent': [null],
  'path-ports-100': ['path', 'path-limit'],
  'path-ports-100-silent': ['unknown', 'unknown'],
  'path-ports-28232': ['unknown', 'unknown'],
  'path-translated': ['path', 'path-translated'],
  'path-unreachable': ['path', 'path-rejected'],
  'rst-storm': ['target', 'target-closed'],
  'target-accept-queue': ['target', 'target-accept-queue'],
  'target-closes': ['target', 'target-closes'],
  'target-descriptors-accept-stops': ['target', 'target-descriptors'],
  'target-descriptors-closes': ['target', 'target-descriptors'],
  'target-descriptors-said': ['target', 'target-descriptors'],
  'target-ended': ['target', 'target-ended'],
  'target-memory': ['target', 'target-memory'],
  'target-never-answers': ['target', 'target-silent'],
  'target-refused': ['target', 'target-refused'],
  'target-stops-answering': ['target', 'target-silent'],
};

test('every recording is expected, and every expectation is recorded', () => {
  const recorded = readdirSync(FOLDER).map((file) => file.replace(/\.json$/, ''));
  assert.deepEqual(recorded.toSorted(), Object.keys(EXPECTED).toSorted());
});

for (const [name, [party, ...rules]] of Object.entries(EXPECTED)) {
  test(`${name}: ${rules.join(', ') || 'nothing'} and nothing else`, () => {
    const list = diagnose(factsOf(name));
    assert.deepEqual(
      list.map(({ what }) => what),
      rules,
    );
    assert.equal(list[0]?.party ?? null, party);
    for (const { message, next, count } of list) {
      assert.ok(message.length > 20 && next.length > 10, `${message} / ${next}`);
      assert.ok(count > 0);
    }
  });
}

for (const name of Object.keys(SHOWN))
  test(`${name}: without that evidence no party is named, or the same`, () => {
    const [expected] = EXPECTED[name] ?? [];
    for (const { party } of diagnose(olderFactsOf(name)))
      assert.ok(party === expected || party === 'unknown', party);
  });

/** A fault that looks the same in the counts, and must be told apart. */
const LOOK_ALIKES: readonly (readonly [rule: string, lookAlike: string, because: string])[] = [
  ['path-limit', 'target-accept-queue', 'SYNs vanish there too, but the listener of this host overflowed'],
  ['path-limit', 'path-ports-100-silent', 'a plateau that nothing proves may be the target'],
  ['path-limit', 'target-descriptors-said', 'SYNs vanish there too, but the target says why'],
  ['path-limit', 'path-conntrack', 'SYNs vanish there too, but in our own full table'],
  ['path-conntrack', 'path-ports-100', 'connections are tracked there too, but the table is not full'],
  [
    'path-forgot',
    'target-stops-answering',
    'probes time out there too, but the far kernel acknowledges them',
  ],
  ['path-forgot', 'target-ended', 'connections end there too, but not in answer to a probe'],
  ['path-forgot', 'rst-storm', 'resets come there too, but not in answer to a probe'],
  ['path-forgot', 'generator-cpu', 'probes time out there too, but we were too late ourselves'],
  ['path-translated', 'path-ports-100', 'a hop has no port left there too, but nobody said what he sees'],
  ['path-rejected', 'path-conntrack', 'some find the target unreachable there too, for lack of an entry'],
  ['target-silent', 'path-forgot-drop', 'probes time out there too, but nobody acknowledges them'],
  ['target-silent', 'target-descriptors-accept-stops', 'some are never answered there, but a full number is'],
  ['target-silent', 'generator-cpu', 'probes time out there too, but we were too late ourselves'],
  ['target-descriptors', 'target-never-answers', 'connections are not answered there too, but none at all'],
  ['target-descriptors', 'path-ports-100', 'a plateau too, but at no limit of descriptors'],
  ['target-closes', 'target-ended', 'closed by the far side too, but long after they were opened'],
  ['target-closes', 'target-descriptors-closes', 'closed at once there too, but those above a limit only'],
  ['target-closed', 'path-forgot-reset', 'reset there too, but by a router, in answer to probes'],
  ['target-closed', 'generator-lost', 'lost in mid-hold there too, but with a process of ours'],
  ['target-ended', 'target-closes', 'all closed there too, but each right after it was opened'],
  ['target-ended', 'rst-storm', 'many lost at once there too, but most are still held'],
  ['target-ended', 'target-memory', 'all closed at once there too, but the kernel says why'],
  ['target-memory', 'target-ended', 'killed there too, but not by the kernel'],
  ['target-refused', 'path-unreachable', 'answered with an error there too, but by a router'],
  ['target-accept-queue', 'path-ports-28232', 'SYNs vanish there too, but no listener of ours overflows'],
  ['generator-ports', 'path-ports-28232', 'ports ran out there too, but not ours'],
  ['generator-descriptors', 'target-descriptors-said', 'descriptors ran out there too, but not ours'],
  ['generator-memory', 'target-memory', 'memory ran out there too, but not ours'],
  ['generator-lost', 'target-ended', 'a process was killed there too, but not ours'],
  ['generator-alias', 'path-forgot-drop', 'connections go silent there too, but our address is there'],
  ['generator-cpu', 'generator-limited', 'beyond the bounds there too, but nothing is missing'],
  ['generator-cpu', 'target-stops-answering', 'probes time out there too, but our loop was never late'],
];

for (const [rule, lookAlike, because] of LOOK_ALIKES) {
  test(`${lookAlike} is not ${rule}: ${because}`, () => {
    const names = diagnose(factsOf(lookAlike)).map(({ what }) => what);
    assert.ok(!names.includes(rule), names.join(', '));
  });
}

test('every rule has a look-alike', () => {
  const rules = new Set(Object.values(EXPECTED).flatMap(([, ...names]) => names));
  rules.delete('unknown');
  assert.deepEqual([...new Set(LOOK_ALIKES.map(([rule]) => rule))].toSorted(), [...rules].toSorted());
});

test('the evidence says the numbers: 100 connections, a limit of 1,024', () => {
  assert.match(diagnose(factsOf('path-ports-100'))[0]!.message, /100 connections are held and answered/);
  assert.match(diagnose(factsOf('target-descriptors-closes'))[0]!.message, /limit of 1,024/);
});

test('a range of ports that a whoami target saw in part is not used up', () => {
  const facts = factsOf('path-translated');
  const seen = facts.seen!;
  assert.match(
    diagnose(facts)[0]!.message,
    /1,500 connections from 192\.168\.0\.102, and every port from 20000 to 21499/,
  );
  const partly = diagnose({ ...facts, seen: { ...seen, portMax: seen.portMax! + 100 } });
  assert.ok(partly.every(({ what }) => what !== 'path-translated'));
});

/** A NAT that ends at a number: the order of the connects, and every answer. */
function plateauAt(established: number): DiagnosisFacts {
  const facts = factsOf('path-ports-100');
  return {
    ...facts,
    asked: { ...facts.asked, connections: 150_000 },
    connections: {
      ...facts.connections,
      established,
      open: established,
      verified: established,
      held: established,
      failed: { timeout: 150_000 - established },
    },
  };
}

test('ports of one address and of two are recognised, and a number between is a limit without a reason', () => {
  const at = (established: number): string => diagnose(plateauAt(established))[0]!.message;
  assert.match(at(28_232), /28,232 connections: one address x 28,232 ports/);
  assert.match(at(129_024), /2 addresses x 64,512 ports/);
  assert.match(at(64_512), /one address x 64,512 ports/);
  assert.match(at(100_000), /100,000 connections are held and answered/);
});

test('a number near a limit is a remark: a NAT that ends there is not named after it', () => {
  const [first] = diagnose(plateauAt(1_012));
  assert.equal(first?.what, 'path-limit');
  assert.match(first.message, /also just below a descriptor limit of 1,024/);
});

test('a handful of connects without an answer is no plateau, whatever the number that is held', () => {
  const facts = plateauAt(149_991);
  assert.deepEqual(
    diagnose(facts).map(({ party, what, count }) => [party, what, count]),
    [['unknown', 'unknown', 9]],
  );
});

test('a few probes that were lost on the way do not turn a silent application into a path that forgot', () => {
  const facts = factsOf('target-stops-answering');
  const [first, second] = diagnose({ ...facts, evidence: { acknowledged: 480, notAcknowledged: 20 } });
  assert.deepEqual([first?.what, first?.count], ['target-silent', 480]);
  assert.deepEqual([second?.party, second?.count], ['unknown', 20]);
});

test('refused connects are named after who listens only as far as no ICMP error stands behind them', () => {
  const facts = factsOf('target-refused');
  const { refused = 0 } = facts.connections.failed;
  const of = (counters: Record<string, number>, host: Partial<HostEvidence> = {}) =>
    diagnose({
      ...facts,
      evidence: {},
      kernel: {
        ...facts.kernel,
        counters: { ...facts.kernel.counters, ...counters },
        hosts: facts.kernel.hosts.map((each) => ({ ...each, ...host })),
      },
    }).map(({ party, what, count }) => [party, what, count]);
  const answer = {
    connect: 'refused',
    planConnect: 'refused',
    isRouted: false,
    isNeighbourThere: null,
  } as const;
  const answered = (by: string, code: number, isOwn = false): Partial<HostEvidence> => ({
    aftermath: { 'x:1': { ...answer, rejected: { by, type: 3, code, isOwn } } },
  });
  assert(refused > 20);
  assert.deepEqual(of({}), [['target', 'target-refused', refused]]);
  assert.deepEqual(of({ IcmpInDestUnreachs: 3 }), [['target', 'target-refused', refused]]);
  // Who sent them was not seen.
  assert.deepEqual(of({ IcmpInDestUnreachs: refused }, { aftermath: {} }), [
    ['unknown', 'path-rejected', refused],
  ]);
  // One more connect was answered by a RST: the errors are of something else.
  assert.deepEqual(of({ IcmpInDestUnreachs: refused }, { aftermath: { 'x:1': answer } }), [
    ['target', 'target-refused', refused],
  ]);
  // Behind a router a filter on the way sends the same packet as a closed port.
  const [behind] = diagnose({
    ...facts,
    evidence: {},
    kernel: {
      ...facts.kernel,
      hosts: facts.kernel.hosts.map((each) => ({ ...each, ...connect('refused', true) })),
    },
  });
  assert.deepEqual([behind?.party, behind?.what, behind?.count], ['unknown', 'refused', refused]);
  assert.match(`${behind?.message} ${behind?.next}`, /filter on the way.*ss -ltn.*tcpdump/);
  const seen = answered('10.0.0.254', 3);
  assert.deepEqual(of({ IcmpInDestUnreachs: refused }, seen), [['path', 'path-rejected', refused]]);
  assert.deepEqual(of({ Icmp6InDestUnreachs: 20 }, seen), [
    ['target', 'target-refused', refused - 20],
    ['path', 'path-rejected', 20],
  ]);
  // Our own kernel says of a next hop that does not answer: host unreachable.
  assert.deepEqual(of({ IcmpInDestUnreachs: 3 }, answered('10.0.0.2', 1, true)), [
    ['target', 'target-refused', refused],
  ]);
  assert.deepEqual(of({ IcmpInDestUnreachs: refused }, answered('10.0.0.2', 13, true)), [
    ['generator', 'generator-firewall', refused],
  ]);
});

test('what was ended partly by FIN and partly by RST says both counts, and is neither "reset" nor "closed" alone', () => {
  const facts = factsOf('rst-storm');
  const saidOf = (dropped: DiagnosisFacts['connections']['dropped']): string | undefined =>
    diagnose({ ...facts, connections: { ...facts.connections, dropped } })[0]?.message;
  assert.match(saidOf({ rst: 5_000 }) ?? '', /^5,000 connections were reset by the far side,/);
  assert.match(saidOf({ fin: 5_000 }) ?? '', /^5,000 connections were closed by the far side,/);
  for (const fin of [2_000, 3_000]) {
    const rst = 5_000 - fin;
    const both = `closed by the far side \\(${fin / 1_000},000 by FIN, ${rst / 1_000},000 by RST\\)`;
    assert.match(saidOf({ fin, rst }) ?? '', new RegExp(`^5,000 connections were ${both},`));
  }
});

test('an answer other than the user expects is no "no", and the hint is about what is expected', () => {
  const facts = factsOf('rst-storm');
  const [found] = diagnose({
    ...facts,
    connections: { ...facts.connections, dropped: {}, failed: { handshake: 200 }, unattempted: 0 },
    troubles: { 'answer differs from --expect': 200 },
    evidence: { said: { texts: [{ text: 'OK 14', first: 200, last: 0 }] } },
  });
  assert.deepEqual([found?.party, found?.what, found?.count], ['target', 'target-handshake', 200]);
  assert.match(found?.message ?? '', /answered other than --expect says; it said "OK 14"/);
  assert.match(found?.next ?? '', /--expect \/\^OK\//);
});

test('probes that no kernel acknowledged are of the accept queue where that overflowed on this host, and lost packets elsewhere', () => {
  const facts = factsOf('rst-storm');
  const lossy = {
    ...facts,
    connections: {
      ...facts.connections,
      established: 60,
      open: 30,
      verified: 30,
      dropped: { 'probe-timeout': 30 },
      failed: {},
      unattempted: 0,
    },
    ramp: { retransmittedConnects: 41 },
    evidence: { acknowledged: 6, notAcknowledged: 24 },
  };
  const at = (farSide: NonNullable<HostEvidence['farSide']>, drops: number) =>
    diagnose({
      ...lossy,
      kernel: {
        ...facts.kernel,
        counters: { ListenOverflows: drops, ListenDrops: drops },
        hosts: facts.kernel.hosts.map((host) => ({ ...host, ...connect('taken', false), farSide })),
      },
    }).map(({ what, count }) => [what, count]);
  const full = { 'x:1': { ...FAR_SIDE, isQueueFull: true, queuedMax: 6, queueDrops: 300 } };
  assert.deepEqual(at(full, 276), [['target-accept-queue', 30]]);
  // Another listener of this host overflowed.
  assert.deepEqual(at({ 'x:1': { ...FAR_SIDE, queuedMax: 0, queueDrops: 0 } }, 276), [['path-loss', 30]]);
  assert.deepEqual(at({}, 0), [['path-loss', 30]]);
});

test('what the target said to those that it closed young names no party for resets that came later, behind a router', () => {
  const facts = factsOf('rst-storm');
  const of = (late: number, texts: NonNullable<Evidence['said']>['texts']) =>
    diagnose({
      ...facts,
      asked: { ...facts.asked, probeEveryMs: null },
      connections: {
        ...facts.connections,
        open: 0,
        dropped: { fin: 149, rst: late },
        failed: {},
        unattempted: 0,
      },
      losses: { ...facts.losses, young: 149, resetsOnProbe: 0 },
      kernel: {
        ...facts.kernel,
        hosts: facts.kernel.hosts.map((host) => ({ ...host, ...connect('taken', true), farSide: {} })),
      },
      evidence: {
        lossAgeMs: {
          fin: lengths(...Array.from({ length: 149 }, () => 3)),
          rst: lengths(...Array.from({ length: late }, (_, at) => 3_000 + at * 100)),
        },
        said: { texts },
      },
    }).map(({ party, what, count }) => [party, what, count]);
  const tooMany = { text: 'Too many connections', first: 149, last: 0 };
  assert.deepEqual(of(51, [tooMany]), [
    ['target', 'target-closes', 149],
    ['unknown', 'resets', 51],
  ]);
  const own = { text: 'ERR shutting down, closed', first: 0, last: 51 };
  assert.deepEqual(of(51, [tooMany, own]), [
    ['target', 'target-closes', 149],
    ['target', 'target-closed', 51],
  ]);
});

test('a few that were closed young have no age of those that were held', () => {
  const facts = factsOf('rst-storm');
  const spread = (count: number, fromMs: number, stepMs: number): number[] =>
    Array.from({ length: count }, (_, at) => fromMs + at * stepMs);
  const messageOf = (young: number): string | undefined =>
    diagnose({
      ...facts,
      asked: { ...facts.asked, probeEveryMs: null },
      connections: {
        ...facts.connections,
        open: 0,
        dropped: { fin: 150, rst: young },
        failed: {},
        unattempted: 0,
      },
      losses: { ...facts.losses, young, resetsOnProbe: 0 },
      evidence: {
        lossAgeMs: { fin: lengths(...spread(150, 6_000, 100)), rst: lengths(...spread(young, 3, 0)) },
      },
    }).find(({ what }) => what === 'target-closes' || what === 'resets')?.message;
  assert.match(
    messageOf(5) ?? '',
    /^5 connections were (?:closed|reset) soon after they were opened(?!.*half of them)/,
  );
  assert.match(messageOf(40) ?? '', /^40 connections .*half of them within 3 ms/);
});

test('what a kernel does not have any more at the end is named by what a new connect finds, and by who is between', () => {
  const facts = factsOf('rst-storm');
  const of = (how: Parameters<typeof connect>[0], isRouted: boolean, rampEnd: number) =>
    diagnose({
      ...facts,
      asked: { ...facts.asked, probeEveryMs: null },
      connections: { ...facts.connections, open: 0, dropped: { rst: 300 }, failed: {}, unattempted: 0 },
      losses: { ...facts.losses, young: 0, resetsOnProbe: 0, burstMax: 300 },
      kernel: {
        ...facts.kernel,
        hosts: facts.kernel.hosts.map((host) => ({ ...host, ...connect(how, isRouted), farSide: {} })),
      },
      evidence: {
        finalCheck: {
          rampEnd: { asked: 300, answered: 300 - rampEnd, reset: rampEnd, silent: 0 },
          holdEnd: { asked: 300 - rampEnd, answered: 0, reset: 300 - rampEnd, silent: 0 },
        },
      },
    }).map(({ party, what, count }) => [party, what, count]);
  assert.deepEqual(of('taken', false, 0), [['target', 'target-rebooted', 300]]);
  assert.deepEqual(of('refused', false, 0), [['target', 'target-rebooted', 300]]);
  assert.deepEqual(of('taken', true, 0), [['unknown', 'path-forgot', 300]]);
  assert.deepEqual(of('silent', true, 0), [['unknown', 'unknown', 300]]);
  // Those that it did not have a second after the ramp were never there.
  assert.deepEqual(of('taken', false, 300), [['target', 'target-accept-queue', 300]]);
});

test('what ends once it is asked at the end of the hold has no timeout, though all are of one age', () => {
  const facts = factsOf('rst-storm');
  const of = (asked: number, answered: number) =>
    diagnose({
      ...facts,
      connections: {
        ...facts.connections,
        established: 40,
        open: 0,
        dropped: { fin: 40 },
        failed: {},
        unattempted: 0,
      },
      losses: { ...facts.losses, young: 0, resetsOnProbe: 0, burstMax: 40 },
      evidence: {
        lossAgeMs: { fin: lengths(...Array.from({ length: 40 }, () => 8_040)), rst: lengths() },
        finalCheck: {
          rampEnd: { asked: 0, answered: 0, reset: 0, silent: 0 },
          holdEnd: { asked, answered, reset: 0, silent: 0 },
        },
      },
    }).map(({ what }) => what);
  assert.deepEqual(of(0, 0), ['target-timeout']);
  for (const answered of [0, 30, 40]) assert(!of(40, answered).includes('target-timeout'), `${answered}`);
});
