import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { RunReport } from '../../../src/judge/report.ts';
import { CountingServer } from '../../support/counting-server.ts';
import { schemaErrors } from '../../support/report-schema.ts';
import { runCli, startCli } from '../../support/run-cli.ts';
import { until } from '../../support/waiting.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-run-'));

/** The far side, none of ours. */
let far: CountingServer;
let target = '';

before(async () => {
  far = await CountingServer.listen();
  target = far.target;
});

after(async () => {
  await far.close();
  rmSync(folder, { recursive: true, force: true });
});

const CONNECTIONS = 200;
const base = (): string[] => ['-t', target, '-c', String(CONNECTIONS), '-d', '300ms'];

describe('a run from the command line', () => {
  it('ends with the verdict on stdout and exit 0, the far side held as many, and its report is what the schema says', async () => {
    const path = join(folder, 'report.json');
    const result = await runCli([...base(), '--json', path]);
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stdout, /^PASS \(kernel only\) held 200 of 200 for /m);
    assert.equal(far.openMax, CONNECTIONS);
    await until('the far side holds none', () => far.open === 0);
    const [options, ...progress] = result.stderr.trimEnd().split('\n');
    assert.match(
      options ?? '',
      /^c100k-bench --target 127\.0\.0\.1:\d+ --conns 200 --duration 300ms --json /,
    );
    assert.match(progress.join('\n'), /holding +200 of 200 open/);
    assert.ok(
      !`${result.stderr}${result.stdout}`.includes('\u001b'),
      'no escape sequences without a terminal',
    );
    const report = JSON.parse(readFileSync(path, 'utf8')) as RunReport;
    assert.deepEqual(schemaErrors(report), []);
    assert.equal(report.connections.held, CONNECTIONS);
    assert.equal(report.exitCode, 0);
    assert.deepEqual(readdirSync(folder), ['report.json']);
  });

  it('prints JSON alone on stdout with --json -, and the text on stderr', async () => {
    const result = await runCli([...base(), '--json', '-']);
    const report = JSON.parse(result.stdout) as RunReport;
    assert.deepEqual(schemaErrors(report), []);
    assert.match(result.stderr, /^PASS \(kernel only\) held 200 of 200/m);
  });

  it('writes nothing on stderr with --quiet', async () => {
    const result = await runCli([...base(), '--quiet']);
    assert.equal(result.stderr, '');
    assert.match(result.stdout, /^PASS /m);
  });

  it('writes only changes of phase with --no-progress', async () => {
    const args = ['-t', target, '-c', String(CONNECTIONS), '-d', '1s'];
    const result = await runCli([...args, '--no-progress', '--progress-every', '100ms']);
    const lines = result.stderr.trimEnd().split('\n').slice(1);
    assert.ok(lines.length <= 3, result.stderr);
  });

  it('starts and stops the built-in target for --target self', async () => {
    const result = await runCli(['-t', 'self', '-c', '200', '-d', '300ms']);
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stdout, /the built-in target accepted 200 connections and held\s+200 at once/);
  });

  it('fails with exit 1 and one counted reason when nothing listens', async () => {
    // The port was just free: nothing listens there.
    const free = await freePort();
    const result = await runCli(['-t', `127.0.0.1:${free}`, '-c', '200', '-d', '300ms']);
    assert.equal(result.code, 1, result.stderr);
    assert.match(result.stdout, /^FAIL held 0 of 200/m);
    assert.match(result.stdout, /^failed +200 {2}refused 200$/m);
  });
});

describe('an interrupted run', () => {
  const long = (): string[] => ['-t', target, '-c', '200', '-d', '1h'];

  it('closes everything, writes its report and ends with 130 on the first Ctrl-C', async () => {
    const path = join(folder, 'interrupted.json');
    const running = startCli([...long(), '--json', path]);
    await running.saw(/holding/);
    // On a busy machine some still wait in its accept queue, and are not held.
    await until('the far side has taken all', () => far.open === CONNECTIONS);
    running.child.kill('SIGINT');
    const result = await running.result;
    assert.equal(result.code, 130, result.stderr);
    assert.match(result.stdout, /^INCOMPLETE held 200 of 200/m);
    assert.match(result.stdout, /interrupted by SIGINT/);
    const report = JSON.parse(readFileSync(path, 'utf8')) as RunReport;
    assert.equal(report.exitCode, 130);
    assert.deepEqual(schemaErrors(report), []);
    await until('the far side holds none', () => far.open === 0);
  });

  it('ends with 143 on SIGTERM', async () => {
    const running = startCli(long());
    await running.saw(/holding/);
    running.child.kill('SIGTERM');
    const result = await running.result;
    assert.equal(result.code, 143, result.stderr);
    assert.match(result.stdout, /interrupted by SIGTERM/);
  });

  it('ends at once on the second Ctrl-C, and leaves no connection', async () => {
    const running = startCli(long());
    await running.saw(/holding/);
    running.child.kill('SIGINT');
    running.child.kill('SIGINT');
    const result = await running.result;
    assert.equal(result.code, 130);
    await until('the far side holds none', () => far.open === 0);
  });
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  assert(address !== null && typeof address === 'object');
  return address.port;
}
