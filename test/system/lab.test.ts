import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from '../support/bench-run.ts';
import { whyNoNetwork } from '../support/network.ts';
import { startProcess } from '../support/run-cli.ts';

const LAB = join(dirname(dirname(fileURLToPath(import.meta.url))), 'lab', 'main.js');
const skip = whyNoNetwork() ?? false;

function namespacesOf(pid: number): string[] {
  if (!existsSync('/run/netns')) return [];
  return readdirSync('/run/netns').filter((name) => name.startsWith(`c100k-${pid}-`));
}

function foldersOf(pid: number): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith(`c100k-lab-${pid}-`));
}

/** Processes whose command line names the lab's folder or that live in its namespaces are gone with them. */
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} in the middle of a lab network leaves no namespace, process or file`, {
    skip,
  }, async () => {
    const lab = startProcess([process.execPath, LAB, 'S2', '--short'], { timeoutMs: 60_000 });
    const pid = lab.child.pid ?? 0;
    await until(
      'the network stands',
      30_000,
      () => namespacesOf(pid).length === 3 && foldersOf(pid).length > 0,
    );
    const inside = namespacesOf(pid);
    lab.child.kill(signal);
    const ended = await lab.result;
    assert.equal(ended.signal, signal, ended.stderr);
    assert.deepEqual(namespacesOf(pid), [], `of ${inside.join(', ')}`);
    assert.deepEqual(foldersOf(pid), []);
    assert.deepEqual(
      (existsSync('/etc/netns') ? readdirSync('/etc/netns') : []).filter((name) =>
        name.startsWith(`c100k-${pid}-`),
      ),
      [],
    );
  });
}

test('the lab refuses a network that it does not know, and a document from shrunk ranges', async () => {
  const unknown = await startProcess([process.execPath, LAB, 'S99'], {}).result;
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /S1\|S2\|/);
  const shrunk = await startProcess([process.execPath, LAB, 'all', '--short', '--write'], {}).result;
  assert.equal(shrunk.code, 2);
  assert.match(shrunk.stderr, /not with --short/);
});
