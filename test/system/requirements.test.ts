/** Owns the proof that CI can trust `--require`: exit codes, early ends, JUnit, GitHub. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { echoScript, run, startScript, temporaryFolder } from '../support/faults.ts';
import { freePort } from '../support/net-target.ts';
import { repositoryRoot, runCli } from '../support/run-cli.ts';

const CLOSES_TEN = `let count = 0;\n${echoScript('count++; socket.pipe(socket); if (count <= 10) setTimeout(() => socket.destroy(), 2_000);')}`;

function required(...texts: string[]): string[] {
  return texts.flatMap((text) => ['--require', text]);
}

test('a requirement on held replaces the default: 990 of 1,000 are enough when 99 % are asked for', async (t) => {
  const { port } = await startScript(t, CLOSES_TEN);
  const args = [
    '--target',
    `echo://127.0.0.1:${port}`,
    '--conns',
    '1000',
    '--duration',
    '3s',
    '--probe-every',
    '1s',
  ];
  const enough = ['held>=99%', 'held>=990', 'dropped<=10', 'verified>=99%', 'probe_max<30s', 'rate>=1/s'];
  const { report, result } = await run(t, [...args, ...required(...enough)]);
  assert.equal(result.code, 0, report.reason);
  assert.equal(report.verdict, 'pass');
  assert.match(report.reason, /990 of 1,000 held, as required/);
  assert.deepEqual(
    report.requirements.map(({ passed }) => passed),
    enough.map(() => true),
  );
  for (const text of enough) assert.ok(result.stdout.includes(`✓ ${text}`), text);
});

test('one connection more than was held is a failure, and so is any other broken requirement', async (t) => {
  const { port } = await startScript(t, CLOSES_TEN);
  const args = [
    '--target',
    `echo://127.0.0.1:${port}`,
    '--conns',
    '1000',
    '--duration',
    '3s',
    '--probe-every',
    '1s',
  ];
  const { report, result } = await run(t, [...args, ...required('held>=991', 'dropped<=9')]);
  assert.equal(result.code, 1);
  assert.equal(report.verdict, 'fail');
  assert.equal(report.requirements.filter(({ passed }) => !passed).length, 2);
  assert.match(result.stdout, /✗ dropped<=9 {2}\(10\)/);
});

test('what the generator could not do is 4, not 1, whatever was required', async (t) => {
  const { port } = await startScript(t, echoScript());
  const blocker = `import net from 'node:net';
for (let port = 22500; port < 22510; port++) net.createServer().listen(port, '127.0.0.9');
setTimeout(() => console.log(1), 200);`;
  await startScript(t, blocker);
  const from = ['--source-ip', '127.0.0.9', '--source-ports', '22500-22599'];
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '100', '--duration', '1s', ...from];
  const { report, result } = await run(t, [...args, ...required('held>=95')]);
  assert.equal(result.code, 4, report.reason);
  assert.equal(report.whoRanOut, 'generator');
  const enough = await run(t, [...args, ...required('held>=90')]);
  assert.equal(enough.result.code, 0, enough.report.reason);
});

test('with --abort-early a run of ten minutes ends as soon as it cannot pass any more', async (t) => {
  const { port } = await startScript(t, CLOSES_TEN);
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '1000', '--duration', '10m', '--abort-early'];
  const began = performance.now();
  const { report, result } = await run(t, [...args, ...required('held>=995')]);
  assert.ok(performance.now() - began < 20_000);
  assert.equal(result.code, 1);
  assert.match(report.reason, /ended early because held>=995 could no longer hold/);
  assert.equal(report.connections.held, 990);
});

test('with --abort-early a broken latency ends the ramp', async (t) => {
  const { port } = await startScript(t, echoScript());
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '50000', '--rate', '100/s', '--abort-early'];
  const { report, result } = await run(t, [...args, '--duration', '1s', ...required('connect_max<1us')]);
  assert.ok(result.code === 1 || result.code === 4, `exit ${result.code}: ${report.reason}`);
  assert.match(report.reason, /connect_max<1us could no longer hold/);
  assert.ok(report.connections.established < 5_000);
});

test('malformed requirements are refused before anything is opened, with what to type', async () => {
  const target = ['--target', `127.0.0.1:${await freePort()}`, '--conns', '10', '--duration', '1s'];
  for (const [text, hint] of [
    ['heldd>=5', /did you mean --require 'held>=5'/],
    ['held', /held>=99\.9%/],
    ['connect_p99<250', /250ms/],
    ['probe_p99<50ms', /echo:\/\//],
  ] as const) {
    const { code, stderr, stdout } = await runCli([...target, '--require', text]);
    assert.equal(code, 2, text);
    assert.match(stderr, hint);
    assert.equal(stdout, '');
  }
});

test('JUnit, Prometheus and GitHub get the result, and a file that cannot be written is found before the start', async (t) => {
  const folder = temporaryFolder(t);
  const [junit, prometheus, summary] = ['junit.xml', 'run.prom', 'summary.md'].map((name) =>
    join(folder, name),
  );
  writeFileSync(summary!, 'of an earlier step\n');
  const { port } = await startScript(t, CLOSES_TEN);
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '500', '--duration', '3s', '--no-progress'];
  const { code, stderr } = await runCli(
    [...args, ...required('held>=500', 'connect_p99<30s'), '--junit', junit!, '--prometheus', prometheus!],
    { env: { GITHUB_ACTIONS: 'true', GITHUB_STEP_SUMMARY: summary! } },
  );
  assert.equal(code, 1);
  assert.match(stderr, /^::error title=c100k-bench \S+%3A held>=500::was 490/m);
  assert.match(readFileSync(summary!, 'utf8'), /^of an earlier step\n### ❌ FAIL held 490 of 500/);
  assert.match(readFileSync(prometheus!, 'utf8'), /^c100k_connections\{state="held"\} 490$/m);
  const schema = join(repositoryRoot, 'test', 'support', 'junit.xsd');
  const lint = spawnSync('xmllint', ['--noout', '--schema', schema, junit!], { encoding: 'utf8' });
  if (lint.error === undefined) assert.equal(lint.status, 0, lint.stderr);
  assert.match(readFileSync(junit!, 'utf8'), /tests="2" failures="1" errors="0"/);
  const nowhere = await runCli([...args, '--junit', join(folder, 'no', 'x.xml')]);
  assert.equal(nowhere.code, 5);
  assert.match(nowhere.stderr, /give --junit a file/);
});
