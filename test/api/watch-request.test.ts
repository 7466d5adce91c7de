/** Tests what a run may be asked to be watched for: what cannot be is refused before the start, and a silent target fails it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startServe } from '../support/faults.ts';
import { runCli } from '../support/run-cli.ts';

/** Port 9 needs no listener: what is refused is refused before anything is opened. */
const TARGET = ['--target', '127.0.0.1:9'];

describe('a requirement that nothing can keep', () => {
  const tried: readonly [what: string, args: readonly string[], says: RegExp][] = [
    ['nothing verifies', ['--require', 'verified>=100%'], /nothing verifies a silent tcp:\/\/ connection/],
    ['nothing probes', ['--require', 'probe_p99<1s'], /without probes nothing is measured/],
    ['more than all', ['--require', 'held>=6'], /no run of 5 connections can keep it.*held is 0 to 5/s],
    ['fewer than none', ['--require', 'failed<0'], /failed is 0 or more/],
  ];
  for (const [what, args, says] of tried) {
    it(`is refused before the start: ${what}`, async () => {
      const { stderr, code } = await runCli([...TARGET, '-c', '5', ...args]);
      assert.equal(code, 2);
      assert.match(stderr, says);
    });
  }
});

describe('--target-stats that brings no counts', () => {
  it('is reported while the run goes on, and the run does not pass', async () => {
    const stats = 'http://127.0.0.1:1/';
    const { stdout, stderr, code } = await runCli(
      ['-t', 'self', '-c', '10', '-d', '1500ms', '--target-stats', stats],
      { timeoutMs: 120_000 },
    );
    assert.equal(code, 1, stdout);
    assert.match(stdout, /^FAIL held 10 of 10/m);
    assert.match(stdout.replaceAll(/\s+/g, ' '), /the target was to report its own \(http:.*ECONNREFUSED/);
    assert.match(stderr, /the target does not report what it holds: http:\/\/127\.0\.0\.1:1\/: ECONNREFUSED/);
  });
});

describe('--target-stats of several targets', () => {
  it('adds what they hold: one of two is no proof, and both are', async (t) => {
    const [first, second] = [await startServe(t, []), await startServe(t, [])];
    const run = [
      ...[first, second].flatMap(({ port }) => ['-t', `127.0.0.1:${port}`]),
      '-c',
      '20',
      '-d',
      '5s',
    ];
    const one = await runCli([...run, '--target-stats', first.statsUrl], { timeoutMs: 120_000 });
    assert.equal(one.code, 1, one.stdout);
    assert.match(
      one.stdout.replaceAll(/\s+/g, ' '),
      /held by our own count, .* no more than 10 open connections/,
    );
    const both = await runCli([...run, '--target-stats', `${first.statsUrl},${second.statsUrl}`], {
      timeoutMs: 120_000,
    });
    assert.equal(both.code, 0, both.stdout);
    const twice = await runCli([...run, '--target-stats', `${first.statsUrl},${first.statsUrl}`]);
    assert.equal(twice.code, 2);
    assert.match(twice.stderr, /--target-stats: http:\/\/.* is given twice/);
  });
});

describe('more than can be watched', () => {
  it('is refused with the number and the bound', async () => {
    const many = Array.from({ length: 257 }, (_, index) => `http://127.0.0.1:${1_000 + index}`).join(',');
    const urls = await runCli([...TARGET, '-c', '5', '--target-stats', many]);
    assert.equal(urls.code, 2);
    assert.match(urls.stderr, /257 addresses; at most 256 are possible/);
    const requirements = Array.from({ length: 65 }, () => ['--require', 'held>=1']).flat();
    const asked = await runCli([...TARGET, '-c', '5', ...requirements]);
    assert.equal(asked.code, 2);
    assert.match(asked.stderr, /65 requirements; at most \d+ are possible/);
  });
});
