/** Tests `path` from the command line, against a target that says whom it saw, and one that does not. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PathReport } from '../../../src/report/plan-text.ts';
import { startServe } from '../../support/faults.ts';
import { runCli } from '../../support/run-cli.ts';

describe('c100k-bench path', () => {
  it('says what the target saw of our address, as text and as JSON', async (t) => {
    const { port } = await startServe(t, ['--mode', 'whoami']);
    const args = ['path', '--target', `127.0.0.1:${port}`, '--samples', '20', '--source-ip', '127.0.0.5'];
    const { code, stdout, stderr } = await runCli([...args, '--json', '-']);
    assert.equal(code, 0, stderr);
    const report = JSON.parse(stdout) as PathReport;
    assert.deepEqual([report.samples, report.established, report.exitCode], [20, 20, 0]);
    assert.deepEqual(report.endpoints, [`127.0.0.1:${port}`]);
    assert(JSON.stringify(report.seen).includes('127.0.0.5'), stdout);
    const text = await runCli(args);
    assert.equal(text.code, 0);
    assert.match(text.stdout, /127\.0\.0\.5/);
  });

  it('ends with 1 where the target says nothing', async (t) => {
    const { port } = await startServe(t, ['--mode', 'hold']);
    const { code, stdout } = await runCli(['path', '--target', `127.0.0.1:${port}`, '--samples', '2']);
    assert.equal(code, 1, stdout);
    assert.match(stdout, /application never answered.*start c100k-bench serve --mode whoami/s);
  });

  it('refuses what has no path, and flags that cannot be, before anything is opened', async () => {
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [['--target', 'self'], /there is no path to --target self/],
      [['--target', '127.0.0.1:9', '--samples', '0'], /--samples/],
      [['--target', '127.0.0.1:9', '--idle-max', 'soon'], /--idle-max/],
      [['--target', '127.0.0.1:9', '--via-ports', 'abc'], /--via-ports/],
    ];
    for (const [args, says] of wrong) {
      const { code, stderr, stdout } = await runCli(['path', ...args]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, says);
      assert.equal(stdout, '');
    }
  });
});
