/**
 * Owns what the whole program does when something breaks: the target, the path, or one of its own processes.
 * Each test looks at the far side or at the kernel, never at the program's word alone.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { totalOf } from '../../src/base/outcome.ts';
import { type BenchRun, startBench, until } from '../support/bench-run.ts';
import { clientEnds, kernelCounter, serverEnds } from '../support/kernel-view.ts';
import { freePort, startNetTarget } from '../support/net-target.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { runCli, startCli } from '../support/run-cli.ts';
import { testEngine } from '../support/test-engine.ts';
import { HANG_MS } from '../support/waiting.ts';

/** The promise of the manual: whatever is killed, nothing of the run is left after so long. */
const OUTPUT_LINES_MAX = 40;

function lineCount(text: string): number {
  return text.trimEnd().split('\n').length;
}

/** The exit code and the report, which must be as its schema says whatever happened. */
async function outcomeOf(run: BenchRun) {
  const { code, stdout, stderr } = await run.result;
  assert.notEqual(code, 70, stderr);
  const report = run.report();
  assert.deepEqual(schemaErrors(report), []);
  assert.equal(report.exitCode, code, 'the exit code in the report');
  return { code, stdout, stderr, report };
}

test('nothing listens: 130,000 refusals are one counted reason, in seconds and in few lines', async (t) => {
  const port = await freePort();
  const failsBefore = kernelCounter('Tcp', 'AttemptFails');
  const run = startBench(t, ['--target', `127.0.0.1:${port}`, '--conns', '130k', '--duration', '10m'], {});
  const { code, stdout, stderr, report } = await outcomeOf(run);
  assert.equal(code, 1, stderr);
  const { failed, unattempted } = report.connections;
  assert.deepEqual(Object.keys(failed), ['refused']);
  assert.equal((failed.refused ?? 0) + unattempted, 130_000);
  // On a host with no core to spare they take longer than a ramp goes on in which nothing is established, and the report says so.
  const isGivenUp = report.notes.some((note) => note.includes('nothing new was established for 20 s'));
  assert.equal(unattempted > 0, isGivenUp, report.notes.join());
  assert.equal(report.whoRanOut, 'target');
  assert.match(stdout, /^FAIL held 0 of 130,000/m);
  // One line of progress each five seconds comes on top, for as long as a busy host takes.
  const progress = stderr.match(/^ *\d+ s {2}/gm) ?? [];
  const tookSec = (Date.parse(report.endedAt) - Date.parse(report.startedAt)) / 1_000;
  assert(progress.length <= 5 + tookSec / 5, stderr);
  const lines = lineCount(stdout) + lineCount(stderr) - progress.length;
  assert(lines <= OUTPUT_LINES_MAX, `${lines} lines:\n${stdout}${stderr}`);
  assert.equal(report.hold.seconds, 0, 'it does not wait for a hold in which nothing is held');
  // The kernel's own count: it refused each of them itself, and none was sent more than once.
  const fails = kernelCounter('Tcp', 'AttemptFails') - failsBefore;
  assert(fails >= 130_000 - unattempted, `the kernel counts ${fails} failed connects`);
});

test('target killed in mid-hold: every connection is dropped by reason, and the run ends soon', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(
    t,
    ['--target', `127.0.0.1:${target.port}`, '--conns', '2000', '--duration', '10m'],
    {},
  );
  await run.saw(/holding/);
  await until('the target has accepted all', HANG_MS, async () => (await target.counts()).open === 2_000);
  await target.kill();
  const { code, stderr, report } = await outcomeOf(run);
  assert.equal(code, 1, stderr);
  // It ends by itself long before the hold is over, and before this test would end it.
  assert(report.hold.seconds < 600, `${report.hold.seconds} s`);
  const { fin = 0, rst = 0 } = report.connections.dropped;
  assert.equal(fin + rst, 2_000, JSON.stringify(report.connections.dropped));
  assert.equal(totalOf(report.connections.dropped), 2_000);
  assert.equal(report.connections.open, 0);
  assert.equal(report.whoRanOut, 'target');
  assert.equal(clientEnds(target.port).count, 0);
});

test('target killed in mid-ramp: what was open is dropped, the rest refused, and they sum to the quota', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(
    t,
    ['--target', `127.0.0.1:${target.port}`, '--conns', '6000', '--rate', '2000/s', '--duration', '60s'],
    {},
  );
  await until('the target has accepted some', 60_000, async () => (await target.counts()).open > 1_000);
  await target.kill();
  const { code, stderr, report } = await outcomeOf(run);
  assert.equal(code, 1, stderr);
  const { established, failed, dropped, unattempted } = report.connections;
  assert(established > 1_000 && established < 6_000, `${established} established`);
  assert.equal(totalOf(dropped), established, JSON.stringify(dropped));
  assert.equal(established + totalOf(failed) + unattempted, 6_000);
  assert((failed.refused ?? 0) > 0, JSON.stringify(failed));
});

test('a target that stops accepting: timeouts, and the steps are named as SYN retransmits', async (t) => {
  // With a short backlog the kernel would answer by SYN cookies, and the clients think themselves connected.
  const target = await startNetTarget(t, { acceptMax: 1_000, backlog: 256 });
  const sentBefore = kernelCounter('TcpExt', 'TCPSynRetrans');
  const options = ['--rate', '3000/s', '--connect-timeout', '3500ms', '--duration', '1s'];
  const run = startBench(t, ['--target', `127.0.0.1:${target.port}`, '--conns', '3000', ...options], {});
  const { code, stdout, stderr, report } = await outcomeOf(run);
  const sent = kernelCounter('TcpExt', 'TCPSynRetrans') - sentBefore;
  assert.equal(code, 1, stderr);
  const { timeout = 0 } = report.connections.failed;
  // The kernel completes as many handshakes more as the backlog takes: established is not accepted. Those under way when it fills up are
  // complete for the client alone: on a busy host as many as the queue of SYNs takes, which is as long (inet_csk_reqsk_queue_is_full()).
  assert(timeout >= 3_000 - 1_000 - 257 - 257 && timeout <= 2_000, `${timeout} timed out`);
  assert.deepEqual(report.connections.failed, { timeout });
  assert.equal(report.connections.established, 3_000 - timeout);
  assert.equal(clientEnds(target.port).count, 0, 'we closed what was open');
  // RFC 6298: a SYN is sent again after 1 s, and at the latest 2 s after that.
  const { synRetransmits, retransmittedConnects } = report.ramp;
  // A target that accepts too slowly on a busy host has some of the others ask again, too.
  assert(
    retransmittedConnects >= timeout && retransmittedConnects <= 3_000,
    `${retransmittedConnects} connects with a retransmit, ${timeout} timed out`,
  );
  assert(synRetransmits >= 2 * timeout, `${synRetransmits} retransmits of ${timeout} connects`);
  assert(synRetransmits <= sent, `we say ${synRetransmits}, the kernel ${sent}`);
  t.diagnostic(`SYN retransmits: the report says ${synRetransmits}, the kernel's counter ${sent}`);
  assert.match(stdout, /connects needed a SYN retransmit/);
});

/** Somebody's listener, and 100 ports of which it has one. */
async function takenPort(t: TestContext, address: string): Promise<string> {
  const taken = createServer().listen(0, address);
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  return port + 99 > 65_535 ? `${port - 99}-${port}` : `${port}-${port + 99}`;
}

test('a source port on which a process listens is passed over, and 100 % is held', async (t) => {
  const target = await startNetTarget(t);
  const ports = await takenPort(t, '127.0.0.2');
  const sources = ['--source-ip', '127.0.0.2', '--source-ports', ports];
  const args = ['--target', `127.0.0.1:${target.port}`, '--conns', '90', '--duration', '1s', ...sources];
  const run = startBench(t, args, {});
  const { code, stdout, stderr, report } = await outcomeOf(run);
  assert.equal(code, 0, stdout + stderr);
  assert.equal(report.connections.held, 90);
  assert.deepEqual(report.connections.failed, {});
  assert.deepEqual(report.connections.localSkips, { 'port-in-use': 1 });
  assert.match(stdout, /skipped +1 +port-in-use 1/);
  assert.equal((await target.counts()).accepted, 90, 'what the target accepted');
});

test('a port that a process has on all addresses is known beforehand: 99 of 100 ports give exactly 99', async (t) => {
  const target = await startNetTarget(t);
  const ports = await takenPort(t, '0.0.0.0');
  const sources = ['--source-ip', '127.0.0.2', '--source-ports', ports];
  const args = ['--target', `127.0.0.1:${target.port}`, '--duration', '1s', '--holders', '2', ...sources];
  const tooMany = await runCli([...args, '--conns', '100']);
  assert.equal(tooMany.code, 3, tooMany.stderr);
  assert.match(tooMany.stdout, /needs 100 tuples, has 99/);
  const run = startBench(t, [...args, '--conns', '99'], {});
  const { code, stdout, stderr, report } = await outcomeOf(run);
  assert.equal(code, 0, stdout + stderr);
  assert.equal(report.connections.held, 99);
  assert.equal((await target.counts()).accepted, 99, 'what the target accepted');
});

test('a holder killed in mid-hold: its connections are lost by a reason of their own, the others keep on', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(
    t,
    ['--target', `127.0.0.1:${target.port}`, '--conns', '3001', '--holders', '3', '--duration', '3s'],
    {},
  );
  await run.saw(/holding/);
  await until('the target has accepted all', HANG_MS, async () => (await target.counts()).open === 3_001);
  const holders = run.pids('holder');
  assert.equal(holders.length, 3);
  process.kill(holders[1] ?? assert.fail('there are two'), 'SIGKILL');
  await until('the target sees a third gone', HANG_MS, async () => (await target.counts()).open <= 2_001);
  const left = (await target.counts()).open;
  assert(left === 2_000 || left === 2_001, `${left} are left`);
  assert.equal(clientEnds(target.port).count, left);
  const { code, stdout, report } = await outcomeOf(run);
  assert.equal(code, 4);
  assert.equal(report.verdict, 'incomplete');
  assert.match(stdout, /^INCOMPLETE/m);
  assert.equal(report.whoRanOut, 'generator');
  assert.deepEqual(report.connections.dropped, { 'holder-lost': 3_001 - left });
  assert.equal(report.connections.held, left, 'the others were held all the while');
  assert.equal(report.kernel.established, left, 'the kernel at the end of the hold');
  assert(
    report.notes.some((note) => /holder .* was lost/.test(note)),
    report.notes.join('\n'),
  );
  await run.gone(HANG_MS);
});

test('the agent killed in mid-hold: the CLI ends with 4 and agent-lost, and no holder is left', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(
    t,
    ['--target', `127.0.0.1:${target.port}`, '--conns', '2000', '--duration', '10m'],
    {},
  );
  await run.saw(/holding/);
  const [agent = 0] = run.pids('agent');
  process.kill(agent, 'SIGKILL');
  await until('no holder is left', HANG_MS, () => run.pids('holder').length === 0);
  await until('the target sees all gone', HANG_MS, async () => (await target.counts()).open === 0);
  const { code, report } = await outcomeOf(run);
  assert(report.hold.seconds < 600, 'the CLI ends long before the hold is over');
  assert.equal(code, 4);
  assert.equal(report.verdict, 'incomplete');
  assert.deepEqual(report.connections.dropped, { 'agent-lost': 2_000 });
  await run.gone(HANG_MS);
});

test('the agent killed while it starts: the CLI says so at once and ends with 4, instead of waiting for it', async (t) => {
  const target = await startNetTarget(t);
  const args = ['--target', `127.0.0.1:${target.port}`, '--conns', '2000'];
  const run = startBench(t, args, {});
  await until('the agent is there', HANG_MS, () => run.pids('agent').length === 1);
  process.kill(run.pids('agent')[0] ?? 0, 'SIGKILL');
  const { code, stderr } = await run.result;
  assert.equal(code, 4, stderr);
  assert.match(stderr, /agent.*killed by SIGKILL/);
  assert.match(stderr, /hint: /);
  await run.gone(HANG_MS);
  assert.equal((await target.counts()).accepted, 0);
});

async function killCli(t: TestContext, args: readonly string[], when: (open: number) => boolean) {
  const target = await startNetTarget(t);
  const run = startBench(t, ['--target', `127.0.0.1:${target.port}`, ...args], {});
  await until('enough are open', HANG_MS, async () => when((await target.counts()).open));
  assert(run.pids('holder').length > 0 && run.pids('agent').length === 1);
  process.kill(run.pid, 'SIGKILL');
  const goneMs = await run.gone(HANG_MS);
  await until('the target sees all gone', HANG_MS, async () => (await target.counts()).open === 0);
  // One may wait to be accepted, and has been closed by then.
  await until('the kernel has none on the target', HANG_MS, () => serverEnds(target.port) === 0);
  t.diagnostic(`everything was gone after ${Math.round(goneMs)} ms`);
}

test('the CLI killed in mid-ramp: agent and holders are gone, and so are the connections', async (t) => {
  await killCli(
    t,
    ['--conns', '10000', '--rate', '1000/s', '--duration', '10m', '--holders', '2'],
    (open) => open > 500,
  );
});

test('the CLI killed in mid-hold: agent and holders are gone, and so are the connections', async (t) => {
  await killCli(t, ['--conns', '3000', '--duration', '10m', '--holders', '2'], (open) => open === 3_000);
});

for (const delayMs of [50, 250, 500, 750]) {
  test(`the CLI killed ${delayMs} ms after its first line, while others still start: nothing is left`, async (t) => {
    const target = await startNetTarget(t);
    const args = [
      '--target',
      `127.0.0.1:${target.port}`,
      '--conns',
      '20000',
      '--holders',
      '4',
      '--duration',
      '10m',
    ];
    const run = startBench(t, args, {});
    await run.saw(/c100k-bench --target/);
    await sleep(delayMs);
    process.kill(run.pid, 'SIGKILL');
    await run.gone(HANG_MS);
    await until('the target sees all gone', HANG_MS, async () => (await target.counts()).open === 0);
  });
}

test('a CLI killed with its built-in target leaves none of its workers', async (t) => {
  const run = startBench(t, ['--target', 'self', '--conns', '2000', '--duration', '10m'], {});
  await run.saw(/holding/);
  assert(run.pids('serve-worker').length > 0);
  process.kill(run.pid, 'SIGKILL');
  await run.gone(HANG_MS);
});

test('256 descriptors are too few for 130,000: refused with the arithmetic and the command, nothing opened', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(t, ['--target', `127.0.0.1:${target.port}`, '--conns', '130k'], {
    descriptorsMax: 256,
  });
  const { code, stdout, report } = await outcomeOf(run);
  assert.equal(code, 3);
  assert.match(stdout, /^REFUSED/m);
  // With io_uring each ring takes a descriptor, and holds no more connections than there are descriptors.
  assert.match(
    stdout.replace(/\s+/g, ' '),
    testEngine() === 'epoll'
      ? /needs 130,000 descriptors, has 49,152/
      : /needs 130,000 descriptors, has 49,152|130,000 connections need \d+ rings/,
  );
  assert.match(stdout, /ulimit -n \d+|--holders \d+/);
  assert.equal(report.verdict, 'refused');
  assert.equal((await target.counts()).accepted, 0, 'what the target accepted');
});

test('1,001 connections from 1,000 tuples are refused with the product', async (t) => {
  const target = await startNetTarget(t);
  const sources = ['--source-ip', '127.0.0.2', '--source-ports', '20000-20999'];
  const run = startBench(t, ['--target', `127.0.0.1:${target.port}`, '--conns', '1001', ...sources], {});
  const { code, stdout, report } = await outcomeOf(run);
  assert.equal(code, 3);
  assert.match(
    stdout.replace(/\s+/g, ' '),
    /needs 1,001 tuples, has 1,000 \(1 source address x 1,000 ports x 1 endpoint\)/,
  );
  assert.match(stdout, /add 1 source address: --source-ip 127\.0\.0\.2-127\.0\.0\.3/);
  assert.equal(report.connections.attempted, 0);
  assert.equal((await target.counts()).accepted, 0, 'what the target accepted');
});

test('a report path that cannot be written is found before anything is opened', async (t) => {
  const target = await startNetTarget(t);
  const folder = mkdtempSync(join(tmpdir(), 'c100k-report-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'report.json'));
  for (const path of [join(folder, 'report.json'), join(folder, 'missing', 'report.json')]) {
    const args = ['--target', `127.0.0.1:${target.port}`, '--conns', '1000', '--json', path];
    const { code, stdout, stderr } = await runCli(args);
    assert.equal(code, 5, stderr);
    assert.equal(stdout, '');
    assert.equal(lineCount(stderr), 2, stderr);
    assert.match(stderr, /cannot be written[^\n]*\n {2}hint: /);
  }
  assert.equal((await target.counts()).accepted, 0, 'what the target accepted');
});

test('a separate serve process counts the same: asked by SIGUSR2 while the run holds, and at its end', async (t) => {
  const { target, port, lines } = await startServe(t);
  const sources = ['--source-ip', '127.0.0.2-127.0.0.4'];
  const run = startBench(
    t,
    ['--target', `127.0.0.1:${port}`, '--conns', '3000', '--duration', '2s', ...sources],
    {},
  );
  await run.saw(/holding/);
  target.kill('SIGUSR2');
  await until('serve answers', HANG_MS, () => lines().length === 2);
  assert.match(lines()[1] ?? '', /^holds 3,000 now, 3,000 at most, from 3 source addresses/);
  assert.equal(clientEnds(port).count, 3_000);
  const { code, stderr } = await outcomeOf(run);
  assert.equal(code, 0, stderr);
  target.kill('SIGTERM');
  await until('serve ends', HANG_MS, () => target.exitCode !== null);
  assert.equal(target.exitCode, 0);
  assert.match(lines()[2] ?? '', /^holds 0 now, 3,000 at most.*accepted 3,000 in all/);
});

/** `c100k-bench serve` as a process of its own. */
async function startServe(t: TestContext) {
  const { child, result } = startCli(['serve', '--port', '0'], { timeoutMs: 60_000 });
  t.after(() => {
    child.kill('SIGTERM');
    return result;
  });
  let stdout = '';
  child.stdout?.on('data', (text: string) => {
    stdout += text;
  });
  const lines = (): string[] => stdout.split('\n').filter((line) => line !== '');
  await until('serve listens', 60_000, () => lines().length > 0);
  const port = Number(/^listening on 127\.0\.0\.1:(\d+)/.exec(lines()[0] ?? '')?.[1]);
  assert(port > 0, stdout);
  return { target: child, port, lines };
}
