/**
 * Owns that one compiled output runs on every Node that the package claims.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { nodeRuntime } from '../support/node-runtimes.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { runCli } from '../support/run-cli.ts';

const MAJORS = [20, 22, 24, 26] as const;

async function hold2000(runtime: string): Promise<RunReport> {
  const args = ['--target', 'self', '--conns', '2000', '--duration', '2s', '--json', '-'];
  const { code, stdout, stderr } = await runCli(args, { runtime });
  assert.equal(code, 0, stderr);
  // A warning of the runtime is text for nobody: deprecated calls and experimental modules show here first.
  assert.doesNotMatch(stderr, /Warning:/);
  return JSON.parse(stdout) as RunReport;
}

for (const major of MAJORS) {
  test(`the compiled output holds 2,000 connections on Node ${major}`, async (t) => {
    const runtime = nodeRuntime(major);
    if ('missing' in runtime) {
      t.skip(`not run on Node ${major}: ${runtime.missing}`);
      return;
    }
    const report = await hold2000(runtime.path);
    assert.equal(report.verdict, 'pass');
    assert.equal(report.connections.held, 2_000);
    assert.equal(report.kernel.established, 2_000);
    assert.deepEqual(schemaErrors(report), []);
    t.diagnostic(`ran on Node ${runtime.version}`);
  });
}

test('the compiled output holds 2,000 connections on the Node that runs this test', async (t) => {
  if (MAJORS.some((major) => process.version.startsWith(`v${major}.`))) {
    t.diagnostic(`Node ${process.version} is one of those above`);
    return;
  }
  assert.equal((await hold2000(process.execPath)).connections.held, 2_000);
  t.diagnostic(`ran on Node ${process.version}`);
});
