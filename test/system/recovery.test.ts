/**
 * Owns the proof of how a fleet comes back: nginx, and HAProxy with two servers, are restarted while connections are held, and what the
 * report says of the incident is compared with what the target wrote down.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from '../../src/judge/report.ts';
import type { Incident } from '../../src/stats/incident-log.ts';
import { startBench, until } from '../support/bench-run.ts';
import { type Deployed, type DeployedNginx, deployHaproxy, deployNginx } from '../support/deployed.ts';
import { whyNot } from '../support/targets.ts';

/** 50,000 by hand, on a quiet machine: `DEPLOYED=50000`. */
const HELD = Number(process.env.DEPLOYED ?? 3_000);
/** How long the target is away. */
const AWAY_MS = 1_500;

interface Rehearsal {
  readonly report: RunReport;
  readonly incident: Incident;
  /** when the ramp began, milliseconds since the epoch */
  readonly beganMs: number;
  readonly text: string;
}

/** Holds connections, restarts the target, and waits until all are back. @param accepted what the target has written down */
async function rehearse(
  t: TestContext,
  target: Deployed,
  accepted: () => readonly number[],
  flags: readonly string[],
): Promise<Rehearsal> {
  const events = `${process.env.TMPDIR ?? '/tmp'}/c100k-events-${process.pid}-${target.port}.ndjson`;
  const run = startBench(t, [
    ...['--target', `http://127.0.0.1:${target.port}`, '--conns', `${HELD}`, '--duration', '10m'],
    ...['--on-drop', 'reopen', '--require', 'held>=0', '--report', 'full', '--events', events],
    ...flags,
  ]);
  await until('the hold has begun', 120_000, () => / holding /.test(run.stderr()));
  // The holders hear of the hold some moments later; what is lost before that does not come back.
  await sleep(2_000);
  await target.stop();
  await sleep(AWAY_MS);
  await target.start();
  await until('all are back', 240_000, () => accepted().length >= 2 * HELD);
  await sleep(1_500);
  run.child.kill('SIGINT');
  const { stdout } = await run.result;
  const report = run.report();
  const [incident] = report.incidents ?? [];
  assert(incident !== undefined && report.incidents?.length === 1, 'one incident');
  const [first = '{}'] = readFileSync(events, 'utf8').split('\n');
  const { at, atMs } = JSON.parse(first) as { at: string; atMs: number };
  return { report, incident, beganMs: Date.parse(at) - atMs, text: stdout };
}

function countBefore(sortedMs: readonly number[], ms: number): number {
  const at = sortedMs.findIndex((each) => each > ms);
  return at < 0 ? sortedMs.length : at;
}

/** The curve of what is back lies between what the target had accepted a second before and a second after. */
function assertAgrees({ incident, beganMs, report }: Rehearsal, accepted: readonly number[]): void {
  const startMs = beganMs + incident.atSec * 1_000;
  const again = accepted.filter((ms) => ms > startMs);
  const { missing, bucketMs } = incident.curve;
  // The holder sees what is back no earlier than it looks.
  const slackMs = 1_000 + report.generator.loopLagMsMax;
  const worst = missing.indexOf(Math.max(...missing));
  let compared = 0;
  for (let at = worst; at < missing.length; at++) {
    const endMs = startMs + (at + 1) * bucketMs;
    const back = incident.missingMax - missing[at]!;
    assert(back >= countBefore(again, endMs - slackMs) - 1, `too few at ${at}: ${back}`);
    assert(back <= countBefore(again, endMs + slackMs), `too many at ${at}: ${back}`);
    compared++;
  }
  assert(compared >= 1);
}

/** The most first requests within one second. */
function peakPerSec(accepted: readonly number[]): number {
  let [most, from] = [0, 0];
  for (const [at, ms] of accepted.entries()) {
    while (accepted[from]! < ms - 1_000) from++;
    most = Math.max(most, at - from + 1);
  }
  return most;
}

function assertWhole(t: TestContext, { report, incident, text }: Rehearsal): void {
  const { p50, p99, all } = incident.backSec;
  t.diagnostic(`${incident.missingMax} lost; back after ${p50} s (half), ${p99} s (99 %), ${all} s (all)`);
  assert.equal(incident.missingMax, HELD);
  assert.equal(incident.hasEnded, true);
  assert.equal(incident.lost, report.connections.reopened);
  assert(incident.backSec.all !== null && incident.backSec.all >= AWAY_MS / 1_000);
  assert(incident.backSec.p50! <= incident.backSec.p99! && incident.backSec.p99! <= incident.backSec.all);
  assert.match(text, /incidents +at /);
}

const skip = whyNot('nginx');

for (const policy of ['immediate', 'fixed:2s', 'backoff:500ms..4s']) {
  test(`nginx is restarted, --reopen-after ${policy}: the curve agrees with its log, limits are kept and broken`, {
    skip,
  }, async (t) => {
    const target = await deployNginx(t, 'one', HELD);
    const rehearsal = await rehearse(t, target, target.firstRequestsMs, [
      ...['--reopen-after', policy, '--require', 'recovery_p99<5m', '--require', 'recovery_p99<1s'],
    ]);
    assertWhole(t, rehearsal);
    assertAgrees(rehearsal, target.firstRequestsMs());
    // It was away for longer than a second.
    assert.deepEqual(
      rehearsal.report.requirements
        .filter(({ isDefault, metric }) => !isDefault && metric !== 'held')
        .map(({ passed }) => passed),
      [true, false],
    );
  });
}

test('jitter lowers the peak of what the target has to accept', { skip }, async (t) => {
  const peaks: number[] = [];
  for (const jitter of ['0%', '100%']) {
    const target: DeployedNginx = await deployNginx(t, 'one', HELD);
    const { incident, beganMs } = await rehearse(t, target, target.firstRequestsMs, [
      '--reopen-after',
      'fixed:10s',
      '--reopen-jitter',
      jitter,
    ]);
    const startMs = beganMs + incident.atSec * 1_000;
    peaks.push(peakPerSec(target.firstRequestsMs().filter((ms) => ms > startMs)));
    t.diagnostic(`jitter ${jitter}: at most ${peaks.at(-1)} within a second`);
  }
  const [without = 0, spread = 0] = peaks;
  // 3,000 in one moment against 3,000 over ten seconds: a tenth, where nothing else is slow.
  assert(spread < without * 0.6, `${spread} a second with jitter, ${without} without`);
});

test('HAProxy with two servers is restarted: all come back over both', {
  skip: skip || whyNot('haproxy'),
}, async (t) => {
  const servers = [await deployNginx(t, 'one', HELD), await deployNginx(t, 'two', HELD)];
  const front = await deployHaproxy(t, servers, 'roundrobin', HELD);
  const accepted = (): number[] =>
    servers.flatMap((server) => server.firstRequestsMs()).toSorted((a, b) => a - b);
  const rehearsal = await rehearse(t, front, accepted, [
    '--reopen-after',
    'backoff:500ms..4s',
    '--reopen-jitter',
    '50%',
  ]);
  assertWhole(t, rehearsal);
  assertAgrees(rehearsal, accepted());
  const counts = servers.map((server) => server.firstRequestsMs().length);
  for (const count of counts) assert(count >= HELD * 0.9, counts.join(' and '));
});

/** How many connections a server holds, by the kernel's own count. */
function heldBy({ port }: { readonly port: number }): number {
  const filter = ['-Htn', 'state', 'established', 'sport', '=', `:${port}`];
  return execFileSync('ss', filter, { encoding: 'utf8' }).split('\n').filter(Boolean).length;
}

const sumOf = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** What all hold, at a moment at which none of HAProxy's checks is under way. */
async function countsOfAll(servers: readonly { readonly port: number }[], held: number): Promise<number[]> {
  let counts: number[] = [];
  await until('they hold all', 60_000, () => {
    counts = servers.map(heldBy);
    return sumOf(counts) === held;
  });
  return counts;
}

for (const balance of ['roundrobin', 'leastconn']) {
  test(`three back ends behind HAProxy, ${balance}: counted as they count themselves, also after one was restarted`, {
    skip: skip || whyNot('haproxy'),
  }, async (t) => {
    const names = ['one', 'two', 'three'];
    const servers: DeployedNginx[] = [];
    for (const name of names) servers.push(await deployNginx(t, name));
    const front = await deployHaproxy(t, servers, balance);
    const held = 900;
    const run = startBench(t, [
      ...['--target', `http://127.0.0.1:${front.port}`, '--conns', `${held}`, '--duration', '10m'],
      ...['--on-drop', 'reopen', '--reopen-after', 'fixed:500ms', '--backend-from', 'header:X-Served-By'],
      ...['--require', 'held>=0', '--require', 'balance<=3', '--require', 'balance<1'],
    ]);
    await until('the hold has begun', 120_000, () => / holding /.test(run.stderr()));
    await sleep(2_000);
    const before = await countsOfAll(servers, held);
    await servers[0]?.stop();
    await until('the others have all', 120_000, () => sumOf(servers.map(heldBy)) === held);
    await servers[0]?.start();
    await sleep(2_500);
    const after = await countsOfAll(servers, held);
    run.child.kill('SIGINT');
    await run.result;
    const report = run.report();
    const countsOf = (open: Readonly<Record<string, number>> | undefined): number[] =>
      names.map((name) => open?.[name] ?? 0);
    if (balance === 'roundrobin') assert.deepEqual(before, [300, 300, 300]);
    assert.deepEqual(countsOf(report.balance?.start?.open), before);
    assert.deepEqual(countsOf(report.balance?.end?.open), after);
    assert.equal(after[0], 0, 'what was restarted has none: nothing new came');
    assert.equal(report.balance?.ratioAtStart, (Math.max(...before) * 3) / held);
    const ratio = (Math.max(...after) * 3) / held;
    assert(Math.abs((report.balance?.ratioAtEnd ?? 0) - ratio) < 1e-9);
    const judged = report.requirements.filter(({ metric }) => metric === 'balance');
    assert.deepEqual(
      judged.map(({ passed }) => passed),
      [true, false],
    );
    assert(Math.abs((judged[0]?.actual ?? 0) - ratio) < 1e-9);
  });
}

test('a run in which nothing is lost does not pass a limit on its recovery, and says why', {
  skip,
}, async (t) => {
  const target = await deployNginx(t, 'one');
  const run = startBench(t, [
    ...['--target', `http://127.0.0.1:${target.port}`, '--conns', '50', '--duration', '1s'],
    ...['--on-drop', 'reopen', '--require', 'recovery_p99<30s'],
  ]);
  const { code, stdout } = await run.result;
  assert.equal(code, 1);
  assert.deepEqual(run.report().incidents, []);
  assert.match(stdout, /recovery_p99<30s.*no incident/);
});
