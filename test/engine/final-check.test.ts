/** Tests that each connection is asked once more at the end of a phase: by a probe that was sent after it, or by a keepalive. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { DropReason } from '../../src/base/outcome.ts';
import { ConnectionTable, SlotState } from '../../src/engine/connection-table.ts';
import { asksPerMsOf, FinalChecker } from '../../src/engine/final-check.ts';
import { hasCapability } from '../../src/host/proc-file.ts';
import type { Evidence } from '../../src/stats/evidence.ts';
import { kernelCounter } from '../support/kernel-view.ts';
import { settled } from '../support/waiting.ts';
import { cleanUp, deafListener, EngineRun, specTo, Target } from './engine-run.ts';

afterEach(cleanUp);

type Counts = { -readonly [Field in keyof Evidence['finalCheck']['holdEnd']]: number };

/**
 * A check over sockets of which the test says how long nothing has come.
 * @param isMarked the driver says by itself what came since it was asked to hear; then `idleMs` below a second is that
 */
function checkOf(
  slots: number,
  byProbe: boolean,
  perMs = 20,
  openedAtMs = -1_000,
  isMarked = false,
  mayProbeWindow = false,
) {
  const table = new ConnectionTable(slots);
  for (let tuple = 0; tuple < slots; tuple++) table.state[table.take(tuple)] = SlotState.open;
  const idleMs = new Float64Array(slots).fill(10_000);
  const isOn = new Uint8Array(slots);
  const log: string[] = [];
  const more = { isThere: false };
  const check: FinalChecker = new FinalChecker(
    table,
    {
      setKeepalive: (slot, on) => {
        isOn[slot] = on ? 1 : 0;
        log.push(`${on ? 'on' : 'off'} ${slot}`);
      },
      probeWindow: (slot) => log.push(`window ${slot}`),
      beginHearing: (slot) => log.push(`hears ${slot}`),
      hasMore: () => more.isThere,
      hasHeard: (looked, count, isHeard) => {
        if (isMarked) log.push(`looks ${count}`);
        for (let at = 0; isMarked && at < count; at++)
          isHeard[at] = (idleMs[looked[at] ?? -1] ?? 0) < 1_000 ? 1 : 0;
        return isMarked;
      },
    },
    {
      mayProbeWindow: () => mayProbeWindow,
      probeSoon: (slot) => log.push(`probe ${slot}`),
      idleMs: (slot) => {
        log.push(`asks ${slot}`);
        return idleMs[slot] ?? -1;
      },
      silent: (slot) => {
        log.push(`silent ${slot}`);
        check.lost(slot, DropReason.timeout);
      },
    },
    byProbe,
  );
  const counts: Counts = { asked: 0, answered: 0, reset: 0, silent: 0 };
  let isDone = false;
  check.begin(counts, 0, perMs, openedAtMs, () => {
    isDone = true;
  });
  /** Time goes on until the check has nothing to do, or to a moment. */
  const runTo = (toMs: number): void => {
    for (let nowMs = 0; nowMs <= toMs; nowMs++) check.turn(nowMs);
  };
  return { check, counts, idleMs, isOn, log, more, runTo, isDone: () => isDone };
}

test('the queue of this host takes what is asked in a clock tick of 4 ms and two that are made up for', () => {
  for (const backlog of [100, 1_000, 2_000]) assert((4 + 2) * asksPerMsOf(backlog) <= backlog);
  assert.equal(asksPerMsOf(null), asksPerMsOf(1_000));
  assert.equal(asksPerMsOf(1_000_000), 400);
});

test('a keepalive that the far kernel answers proves its connection, and none is sent any more', () => {
  const { counts, idleMs, isOn, runTo, isDone } = checkOf(3, false);
  runTo(20);
  assert.deepEqual([...isOn], [1, 1, 1]);
  idleMs.fill(20);
  runTo(80);
  assert.deepEqual(counts, { asked: 3, answered: 3, reset: 0, silent: 0 });
  assert.deepEqual([...isOn, isDone()], [0, 0, 0, true]);
});

test('a clock tick of the kernel is no answer: a silent one is asked twice, once more where another has answered, and then lost', () => {
  const { check, counts, idleMs, log, isDone } = checkOf(2, false);
  for (let nowMs = 0; nowMs <= 10_000 && !isDone(); nowMs++) {
    // Nothing comes for the first; its time since then is known to ten milliseconds.
    idleMs[0] = 2_000 + nowMs - (nowMs % 10);
    idleMs[1] = nowMs < 1_500 ? 5_000 + nowMs : 10;
    check.turn(nowMs);
  }
  assert(isDone());
  assert.equal(log.filter((line) => line === 'on 0').length, 3);
  assert.deepEqual(counts, { asked: 2, answered: 1, reset: 0, silent: 1 });
  assert(log.includes('silent 0') && !log.includes('silent 1'), 'one lost packet is no lost connection');
});

test('a reset is the answer of a kernel that has no such connection; an end in order is neither', () => {
  const { check, counts, idleMs, runTo, isDone } = checkOf(3, false);
  runTo(20);
  check.lost(0, DropReason.rst);
  check.lost(1, DropReason.fin);
  idleMs[2] = 1;
  runTo(80);
  assert.deepEqual(counts, { asked: 3, answered: 1, reset: 1, silent: 0 });
  assert(isDone());
});

test('a probe that was out before the check does not count: the one after it does', () => {
  const { check, counts, log, runTo, isDone } = checkOf(1, true);
  runTo(5);
  check.answered(0);
  assert.deepEqual([counts.answered, isDone()], [0, false]);
  assert.deepEqual(log, ['probe 0', 'probe 0']);
  check.probed(0);
  check.answered(0);
  assert.deepEqual(counts, { asked: 1, answered: 1, reset: 0, silent: 0 });
  assert(isDone());
});

test('a check that begins while another runs ends that one, and asks anew', () => {
  const { check, counts, idleMs, isDone, runTo } = checkOf(2, false);
  runTo(20);
  const next: Counts = { asked: 0, answered: 0, reset: 0, silent: 0 };
  check.begin(next, 30, 20, -1_000, () => {});
  assert(isDone());
  // What has answered the first one is idle again after a second.
  for (let nowMs = 30; nowMs < 1_040; nowMs++) check.turn(nowMs);
  assert.deepEqual([counts.asked, next.asked], [2, 0]);
  check.turn(1_041);
  idleMs.fill(1);
  check.turn(1_120);
  assert.deepEqual([next.asked, next.answered], [2, 2]);
});

/**
 * Keepalives as the kernel sends them: at once, or when the socket was idle for a second, which it rounds up to 32 ms; and a queue that takes
 * `room` in a clock tick of 4 ms and drops the others, which are due again after 75 s.
 */
function kernelOf(heardAtMs: Float64Array, room: number) {
  const dueAtMs = new Float64Array(heardAtMs.length).fill(Number.POSITIVE_INFINITY);
  let dropped = 0;
  return {
    ask: (slot: number, nowMs: number): void => {
      const idleAtMs = (heardAtMs[slot] ?? 0) + 1_000;
      dueAtMs[slot] = idleAtMs > nowMs ? Math.ceil(idleAtMs / 32) * 32 : nowMs;
    },
    tick: (nowMs: number): void => {
      if (nowMs % 4 !== 0) return;
      let left = room;
      for (let slot = 0; slot < dueAtMs.length; slot++) {
        if ((dueAtMs[slot] ?? 0) > nowMs) continue;
        dueAtMs[slot] = Number.POSITIVE_INFINITY;
        if (left-- > 0) heardAtMs[slot] = nowMs;
        else dropped++;
      }
    },
    dropped: () => dropped,
  };
}

for (const [what, isCut] of [
  ['those whose keepalives a queue of this host has dropped are asked until all have answered', false],
  ['and those behind a path that is cut are lost, a round after the last answer', true],
] as const)
  test(`a target has just spoken to all of them: ${what}`, () => {
    const slots = 20_000;
    const { check, counts, idleMs, log, isDone } = checkOf(slots, false, 160);
    // It took 100 ms for that, and was done a moment before the check.
    const heardAtMs = Float64Array.from({ length: slots }, (_, slot) => -150 + slot / 200);
    const kernel = kernelOf(heardAtMs, 1_000);
    let seen = 0;
    for (let nowMs = 0; nowMs <= 10_000 && !isDone(); nowMs++) {
      check.turn(nowMs);
      for (; seen < log.length; seen++) {
        const [, slot] = /^on (\d+)$/.exec(log[seen] ?? '') ?? [];
        if (slot !== undefined && !(isCut && Number(slot) >= 15_000)) kernel.ask(Number(slot), nowMs);
      }
      kernel.tick(nowMs);
      for (let slot = 0; slot < slots; slot++) idleMs[slot] = nowMs - (heardAtMs[slot] ?? 0);
    }
    assert(isDone());
    assert(kernel.dropped() > 5_000, `${kernel.dropped()} were dropped`);
    const silent = isCut ? 5_000 : 0;
    assert.deepEqual(counts, { asked: slots, answered: slots - silent, reset: 0, silent });
    assert.equal(log.filter((line) => line === 'on 19999').length, isCut ? 4 : 3);
  });

test('many connections are asked evenly, not in one moment', () => {
  const { counts, runTo } = checkOf(5_000, false);
  runTo(19);
  assert.equal(counts.asked, 0, 'what came before the phase was over is no answer');
  runTo(30);
  assert(counts.asked > 0 && counts.asked <= 11 * 20, `${counts.asked}`);
  runTo(320);
  assert.equal(counts.asked, 5_000);
});

test('a turn that is late makes up for two milliseconds and no more, and its next one for no more than its own', () => {
  const { check, counts } = checkOf(5_000, false);
  check.turn(20);
  const before = counts.asked;
  check.turn(500);
  assert.equal(counts.asked - before, 2 * 20);
  check.turn(501);
  assert(counts.asked - before <= 3 * 20 + 1, `${counts.asked}`);
});

test('a keepalive is asked for when the youngest connection was idle for a second: before, the kernel would bunch them', () => {
  const { counts, runTo } = checkOf(100, false, 20, -100);
  runTo(919);
  assert.equal(counts.asked, 0);
  runTo(930);
  assert.equal(counts.asked, 100);
});

test('a part of one connection a millisecond is one every so many', () => {
  const { counts, runTo } = checkOf(100, false, 0.25);
  runTo(119);
  assert.equal(counts.asked, 25);
});

test('the first are looked at while others are still to be asked', () => {
  const { check, counts, idleMs, log } = checkOf(5_000, false);
  idleMs.fill(1);
  for (let nowMs = 20; counts.answered === 0; nowMs++) check.turn(nowMs);
  assert(counts.asked < 1_500, `${counts.asked} were asked before the first look`);
  assert(log.indexOf('off 0') > log.indexOf('on 500'), 'each has 50 ms to answer');
});

test('a few that are silent among many are asked eight times and slowly, because a full queue of this host loses packets too', () => {
  const { check, counts, idleMs, log, isDone } = checkOf(1_000, false, 100);
  const asksAt: number[] = [];
  const asks = (): number => log.filter((line) => line === 'on 0').length;
  for (let nowMs = 0; nowMs <= 20_000 && !isDone(); nowMs++) {
    // All answer but forty; of these, thirty-nine answer the fifth time.
    const isFifth = asks() >= 5;
    for (let slot = 0; slot < 1_000; slot++)
      idleMs[slot] = slot === 0 || (slot < 40 && !isFifth) ? 10_000 + nowMs : 1;
    const before = log.length;
    check.turn(nowMs);
    const asked = log.slice(before).filter((line) => line.startsWith('on ')).length;
    if (counts.asked === 1_000 && counts.answered >= 900) asksAt.push(asked);
  }
  assert(isDone());
  assert.equal(asks(), 8);
  assert(
    Math.max(...asksAt) <= 2 * 20 && asksAt.some((count) => count > 0),
    `${Math.max(...asksAt)} in a turn`,
  );
  assert.deepEqual(counts, { asked: 1_000, answered: 999, reset: 0, silent: 1 });
});

test('where the driver hears by itself, one question is for hundreds, and TCP_INFO is for the few that are silent', () => {
  const { check, counts, idleMs, log, isDone } = checkOf(1_000, false, 100, -1_000, true);
  idleMs.fill(1);
  for (let nowMs = 0; nowMs <= 20_000 && !isDone(); nowMs++) {
    // The driver does not hear of two; of one of them the kernel says in the end that something came: no false loss.
    idleMs[500] = 20_000 + nowMs;
    idleMs[501] = nowMs < 2_000 ? 20_000 + nowMs : 1_500;
    check.turn(nowMs);
  }
  const of = (what: string): string[] => log.filter((line) => line.startsWith(what));
  assert(
    of('hears').length === 1_000 && log.indexOf('hears 0') < log.indexOf('on 0'),
    'first it hears, then it asks',
  );
  assert(of('looks').length < 100, `${of('looks').length} questions`);
  assert.deepEqual(counts, { asked: 1_000, answered: 999, reset: 0, silent: 1 });
  assert.deepEqual([...new Set(of('asks'))].sort(), ['asks 500', 'asks 501']);
  assert.deepEqual(of('silent'), ['silent 500']);
});

test('a few of many are asked again soon after their first look, and a path that is slow has its time as before', () => {
  const soon = checkOf(1_000, false, 100, -1_000, true);
  soon.idleMs.fill(1).fill(20_000, 0, 5);
  soon.runTo(300);
  assert.equal(soon.log.filter((line) => line === 'on 0').length, 3, 'three times within 300 ms');
  const slow = checkOf(1_000, false, 100, -1_000, true);
  slow.idleMs.fill(20_000);
  slow.runTo(400);
  assert.equal(slow.log.filter((line) => line === 'on 0').length, 1);
});

test('a window probe is no keepalive: it leaves at once, more of them do, and none has to be ended', () => {
  const { counts, idleMs, log, runTo } = checkOf(1_000, false, 20, -1_000, true, true);
  idleMs.fill(20_000);
  runTo(19);
  assert.equal(counts.asked, 0);
  // Sixty-four, and then fifty a millisecond, where it would be twenty keepalives.
  runTo(39);
  assert(counts.asked >= 1_000 - 64 && counts.answered === 0, `${counts.asked}`);
  idleMs.fill(1);
  runTo(150);
  assert.deepEqual(counts, { asked: 1_000, answered: 1_000, reset: 0, silent: 0 });
  assert(log.indexOf('hears 0') < log.indexOf('window 0'));
  assert.deepEqual(
    log.filter((line) => /^(on|off) /.test(line)),
    [],
  );
});

test('far kernels that answer at once are looked at as they are asked; those of a path have their time, and cost no look before', () => {
  const near = checkOf(3_000, false, 20, -1_000, true, true);
  near.idleMs.fill(1);
  near.runTo(20);
  assert.equal(near.counts.answered, 1_024, 'a turn');
  assert.equal(near.check.nextAtMs(20), 20);
  near.runTo(22);
  assert.equal(near.counts.answered, 3_000);
  near.runTo(27);
  assert(near.isDone(), 'there is nothing to wait for');
  const far = checkOf(1_000, false, 20, -1_000, true, true);
  far.idleMs.fill(20_000);
  far.runTo(39);
  assert.equal(far.log.filter((line) => line.startsWith('looks')).length, 1);
  far.idleMs.fill(1);
  far.runTo(150);
  assert.deepEqual(far.counts, { asked: 1_000, answered: 1_000, reset: 0, silent: 0 });
});

test('a reset is heard as a segment before it is an event: it is counted as a reset, and the check waits for the event', () => {
  const { check, counts, idleMs, more, runTo, isDone } = checkOf(3, false, 20, -1_000, true, true);
  idleMs.fill(1);
  more.isThere = true;
  runTo(30);
  assert.deepEqual([counts.answered, isDone()], [3, false], 'what has happened is not all said yet');
  // The driver says now that two have ended, one of them in order.
  check.lost(0, DropReason.rst);
  check.lost(1, DropReason.fin);
  more.isThere = false;
  runTo(31);
  assert(isDone());
  assert.deepEqual(counts, { asked: 3, answered: 2, reset: 1, silent: 0 });
});

test('a check is not over in the moment of its last answer, and not kept from its end by what goes on happening', () => {
  const quiet = checkOf(3, false, 20, -1_000, true, true);
  quiet.idleMs.fill(1);
  quiet.runTo(22);
  assert.deepEqual([quiet.counts.answered, quiet.isDone()], [3, false]);
  quiet.runTo(26);
  assert(quiet.isDone());
  const busy = checkOf(3, false, 20, -1_000, true, true);
  busy.idleMs.fill(1);
  busy.more.isThere = true;
  busy.runTo(1_000);
  assert.equal(busy.isDone(), false);
  busy.runTo(1_030);
  assert(busy.isDone());
});

test('what is reset long after it has answered has answered', () => {
  const { check, counts, idleMs, isDone, runTo } = checkOf(2, false, 20, -1_000, true, true);
  idleMs[0] = 1;
  idleMs[1] = 20_000;
  runTo(200);
  assert.deepEqual([counts.answered, isDone()], [1, false]);
  check.lost(0, DropReason.rst);
  assert.deepEqual(counts, { asked: 2, answered: 1, reset: 0, silent: 0 });
});

test('a far kernel answers one window probe in half a second: the next check waits for that', () => {
  const { check, idleMs, log, runTo } = checkOf(2, false, 20, -1_000, true, true);
  idleMs.fill(1);
  runTo(100);
  const next: Counts = { asked: 0, answered: 0, reset: 0, silent: 0 };
  check.begin(next, 100, 20, -1_000, () => {});
  for (let nowMs = 100; nowMs < 620; nowMs++) check.turn(nowMs);
  assert.equal(next.asked, 0);
  for (let nowMs = 620; nowMs < 720; nowMs++) check.turn(nowMs);
  assert.deepEqual(next, { asked: 2, answered: 2, reset: 0, silent: 0 });
  assert.equal(log.filter((line) => line === 'window 0').length, 2);
});

test('a window probe that is not answered is sent once more, and then its connection is lost', () => {
  const { counts, idleMs, log, isDone, runTo } = checkOf(2, false, 20, -1_000, true, true);
  idleMs.fill(20_000);
  for (let nowMs = 0; nowMs <= 10_000 && !isDone(); nowMs++) runTo(nowMs);
  assert(isDone());
  assert.deepEqual(counts, { asked: 2, answered: 0, reset: 0, silent: 2 });
  assert.equal(log.filter((line) => line === 'window 1').length, 2);
});

test('a connection that cannot be looked at is neither answered nor lost, and the check ends', () => {
  const { counts, idleMs, log, isDone, runTo } = checkOf(3, false);
  runTo(20);
  idleMs.set([1, -1, 1]);
  runTo(20_000);
  assert(isDone());
  assert.deepEqual(counts, { asked: 3, answered: 2, reset: 0, silent: 0 });
  assert.deepEqual(
    log.filter((line) => line.startsWith('silent')),
    [],
  );
});

async function checked(
  run: EngineRun,
  which: 'rampEnd' | 'holdEnd',
): Promise<Evidence['finalCheck']['holdEnd']> {
  await settled('the check ends', new Promise<void>((done) => run.engine.checkFinally(which, 20, done)));
  const { evidence } = run.stats();
  assert(evidence !== undefined);
  return evidence.finalCheck[which];
}

test('with probes each connection answers one that the far side got after the check began', async () => {
  const bytes = new Map<unknown, number>();
  const target = await Target.listen((socket) =>
    socket.on('data', (data) => {
      bytes.set(socket, (bytes.get(socket) ?? 0) + data.length);
      socket.write(data);
    }),
  );
  const run = new EngineRun(specTo(target.port, 40, { protocol: 'echo', probeEveryMs: 600_000 }));
  run.engine.start();
  await settled('each has answered its first probe', run.settled);
  run.engine.markHold();
  const before = [...bytes.values()];
  assert.deepEqual(await checked(run, 'holdEnd'), { asked: 40, answered: 40, reset: 0, silent: 0 });
  assert.deepEqual(
    [...bytes.values()],
    before.map((each) => each + 16),
  );
  assert.equal(run.stats().verifiedInHold, 40);
  await run.stop();
});

test('a target that answers no more before its hold is over holds nothing', async () => {
  let isAnswering = true;
  const target = await Target.listen((socket) =>
    socket.on('data', (data) => {
      if (isAnswering) socket.write(data);
    }),
  );
  const run = new EngineRun(
    specTo(target.port, 20, { protocol: 'echo', probeEveryMs: 600_000, probeTimeoutMs: 1_000 }),
  );
  run.engine.start();
  await settled('each has answered its first probe', run.settled);
  run.engine.markHold();
  isAnswering = false;
  assert.deepEqual(await checked(run, 'holdEnd'), { asked: 20, answered: 0, reset: 0, silent: 20 });
  const { openMin, dropped, evidence } = run.stats();
  assert.deepEqual([openMin, dropped], [0, { 'probe-timeout': 20 }]);
  assert.equal(evidence?.acknowledged, 20, 'its kernel has what we sent');
  await run.stop();
});

test('the kernel of a target that accepts no connection answers one segment, without a byte of payload', async () => {
  const deaf = deafListener(64);
  const run = new EngineRun(specTo(deaf.port, 30));
  await run.open();
  const counter = hasCapability('CAP_NET_ADMIN') ? 'TCPWinProbe' : 'TCPKeepAlive';
  const before = kernelCounter('TcpExt', counter);
  assert.deepEqual(await checked(run, 'rampEnd'), { asked: 30, answered: 30, reset: 0, silent: 0 });
  assert(kernelCounter('TcpExt', counter) - before >= 30);
  assert.deepEqual([run.stats().open, run.stats().bytesOut], [30, 0]);
  assert.deepEqual(await checked(run, 'holdEnd'), { asked: 30, answered: 30, reset: 0, silent: 0 });
  await run.stop();
  deaf.close();
});
