/** Owns the proof that every loss is on the ledger, and that ledger, books and kernel agree. */
import assert from 'node:assert/strict';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SCENARIOS } from '../support/fault-scenarios.ts';
import {
  childrenOf,
  echoScript,
  run,
  startRun,
  startScript,
  startServe,
  temporaryFolder,
  until,
} from '../support/faults.ts';
import { whyNoNetwork } from '../support/network.ts';
import { runCli, startCli } from '../support/run-cli.ts';
import { startHaproxy, whyNot } from '../support/targets.ts';

const needsNetwork = { skip: whyNoNetwork() ?? false };
const needsHaproxy = { skip: whyNot('haproxy') || whyNot('nginx') };

test(
  '5,000 of 20,000 are reset with ss -K: ledger, our count and the kernel say so, one by one',
  needsNetwork,
  async (t) => {
    const { report, losses, result } = await SCENARIOS['rst-storm']!.run(t);
    assert.deepEqual(report.connections.dropped, { rst: 5_000 });
    assert.equal(report.connections.held, 15_000);
    assert.equal(result.code, 1);
    assert.equal(report.kernel.established, 15_000);
    for (const { established, openBefore, open } of report.kernel.counts) {
      assert.ok(established !== null && established <= openBefore && established >= open);
    }
    assert.equal(losses.length, 5_000);
    assert.equal(new Set(losses.map(({ source }) => source)).size, 5_000, 'no connection is listed twice');
    for (const { source, reason, count, ageMs } of losses) {
      assert.ok(source.startsWith('127.0.0.3:') && reason === 'rst' && count === 1 && (ageMs ?? 0) > 500);
    }
    assert.deepEqual(
      report.losses.counts.map(({ reason, source, count }) => [reason, source, count]),
      [['rst', '127.0.0.3', 5_000]],
    );
    assert.equal(report.losses.detailsCut, 0);
  },
);

test(
  'HAProxy is asked to end immediately (SIGTERM): all are dropped by FIN within a second',
  needsHaproxy,
  async (t) => {
    const haproxy = await startHaproxy({ maxconn: 4_000 });
    t.after(() => haproxy.stop());
    const started = startRun(t, [
      '--target',
      `127.0.0.1:${haproxy.port}`,
      '--conns',
      '2000',
      '--duration',
      '10s',
    ]);
    await started.cli.saw(/holding/);
    await sleep(1_500);
    process.kill(haproxy.pids()[0]!, 'SIGTERM');
    const { report, losses } = await started.finish();
    assert.deepEqual(report.connections.dropped, { fin: 2_000 });
    const times = losses.map(({ atMs }) => atMs).sort((a, b) => a - b);
    assert.equal(times.length, 2_000);
    assert.ok(times[1_999]! - times[0]! < 1_000, `within ${times[1_999]! - times[0]!} ms`);
    assert.equal(report.diagnoses[0]?.what, 'target-ended');
  },
);

test('HAProxy is asked to end when it can (SIGUSR1): all are held', needsHaproxy, async (t) => {
  const haproxy = await startHaproxy({ maxconn: 4_000 });
  t.after(() => haproxy.stop());
  const started = startRun(t, [
    '--target',
    `127.0.0.1:${haproxy.port}`,
    '--conns',
    '2000',
    '--duration',
    '4s',
  ]);
  await started.cli.saw(/holding/);
  await sleep(1_000);
  process.kill(haproxy.pids()[0]!, 'SIGUSR1');
  const { report, losses } = await started.finish();
  assert.equal(report.connections.held, 2_000, report.reason);
  assert.equal(losses.length, 0);
});

/** Closes `count` of its connections some time after the first came, once. */
function lossyScript(count: number, afterMs: number): string {
  const code = `all.push(socket); if (all.length === 1) setTimeout(() => { for (const one of all.slice(0, ${count})) one.destroy(); }, ${afterMs});`;
  return `const all = [];\n${echoScript(code)}`;
}

test('with --on-drop reopen losses are opened again at the rate, counted apart, and held keeps its minimum', async (t) => {
  const { port } = await startScript(t, lossyScript(300, 3_000));
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '1000', '--rate', '2000/s', '--duration', '8s'];
  const { report, losses, result } = await run(t, [...args, '--on-drop', 'reopen']);
  const { connections: c } = report;
  assert.deepEqual(c.dropped, { fin: 300 });
  assert.equal(c.reopened, 300);
  assert.equal(c.open, 1_000);
  assert.equal(c.established, 1_300);
  assert.equal(c.attempted, 1_300);
  assert.ok(c.held <= 1_000 - 1 && c.held >= 700, `${c.held} held`);
  assert.equal(losses.length, 300);
  assert.equal(result.code, 1, 'a loss is not hidden by opening it again');
  assert.equal(report.kernel.established, 1_000);
});

test('a target that restarts in mid-hold gets its connections back', async (t) => {
  const { port, child } = await startScript(t, echoScript());
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '500', '--duration', '8s', '--on-drop', 'reopen'];
  const started = startRun(t, args);
  await started.cli.saw(/holding/);
  await sleep(1_000);
  child.kill('SIGKILL');
  await sleep(1_500);
  await startScript(t, echoScript('socket.pipe(socket);', 4_096, '127.0.0.1', port));
  const { report } = await started.finish();
  assert.equal(report.connections.open, 500, report.reason);
  assert.equal(report.connections.held, 0);
  // One may have been lost again, in the queue of the listener that was dying.
  const lost = report.losses.counts.reduce((sum, { count }) => sum + count, 0);
  assert.ok(lost >= 500 && report.connections.reopened === lost, `${report.connections.reopened} of ${lost}`);
  assert.deepEqual(report.connections.failed, {}, 'tries in vain are not failures of the run');
});

test('what a dead holder had is one line of the ledger, with its number', async (t) => {
  const target = await startServe(t, ['--workers', '1']);
  const args = [
    '--target',
    `127.0.0.1:${target.port}`,
    '--conns',
    '1000',
    '--duration',
    '4s',
    '--holders',
    '2',
  ];
  const started = startRun(t, args);
  await started.cli.saw(/holding/);
  await sleep(1_500);
  const [agent] = childrenOf(started.cli.child.pid ?? 0);
  process.kill(childrenOf(agent ?? assert.fail('there is an agent'))[0]!, 'SIGKILL');
  const { report, losses } = await started.finish();
  assert.deepEqual(
    losses.map(({ reason, count, holder }) => [reason, count, holder]),
    [['holder-lost', 500, 'local/1']],
  );
  assert.equal(
    report.losses.counts.reduce((sum, { count }) => sum + count, 0),
    500,
  );
  assert.equal(report.losses.detailsCut, 0);
});

test('an events file that cannot be written is found before the start', async (t) => {
  const folder = temporaryFolder(t);
  const { port } = await startScript(t, lossyScript(100, 1_500));
  const to = ['--target', `127.0.0.1:${port}`, '--conns', '200', '--duration', '2s', '--quiet'];
  for (const path of [join(folder, 'no', 'such', 'folder'), folder, '/dev/full']) {
    const { code, stdout, stderr } = await runCli([...to, '--events', path]);
    assert.equal(code, 5, path);
    assert.match(stderr, /give --events a file/);
    assert.equal(stdout, '', 'nothing was run');
  }
});

test('an events file that fills up during the run does not stop it, and is reported at the end', async (t) => {
  const folder = temporaryFolder(t);
  const { port } = await startScript(t, lossyScript(100, 1_500));
  const events = join(folder, 'events.ndjson');
  const to = ['--target', `127.0.0.1:${port}`, '--conns', '200', '--duration', '3s', '--events', events];
  const { code, stdout, stderr } = await runCli(to, { wrap: 'trap "" XFSZ; ulimit -f 4; exec "$@"' });
  assert.equal(code, 5, stderr);
  assert.match(stdout, /^FAIL held 100 of 200/m);
  assert.match(stderr, /the events cannot be written/);
});

test('a ledger is of one run, and may be moved away while it is written', async (t) => {
  const folder = temporaryFolder(t);
  const script = `const all = [];
${echoScript('all.push(socket); if (all.length === 200) { setTimeout(() => all[0].destroy(), 1_500); setTimeout(() => all[1].destroy(), 4_500); }')}`;
  const { port } = await startScript(t, script);
  const events = join(folder, 'events.ndjson');
  writeFileSync(events, 'of another run\n');
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '200', '--duration', '7s', '--events', events];
  const cli = startCli(args);
  await until(() => readFileSync(events, 'utf8').includes('"fin"'), 15_000, 'the first loss is written');
  renameSync(events, `${events}.1`);
  await cli.result;
  for (const file of [`${events}.1`, events]) {
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    assert.equal(lines.length, 1, file);
    assert.equal((JSON.parse(lines[0]!) as { reason: string }).reason, 'fin');
  }
});
