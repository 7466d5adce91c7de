/** Tests `cleanup` from the command line where no run has crashed; what a crash leaves is tested in test/system/sources-crash.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createNetwork, whyNoNetwork } from '../../support/network.ts';
import { cliPath, inheritedEnvironment } from '../../support/run-cli.ts';
import { HANG_MS } from '../../support/waiting.ts';

const skip = whyNoNetwork() ?? false;

describe('c100k-bench cleanup', () => {
  it('says that there is nothing, and leaves an address that only looks like ours', { skip }, async (t) => {
    const network = await createNetwork(t, {
      box: { on: { lan: ['10.9.0.1/24'] } },
      other: { on: { lan: ['10.9.0.2/24'] } },
    });
    const box = network.host('box');
    const cleanup = (...flags: string[]) => box.run([process.execPath, cliPath, 'cleanup', ...flags]);
    const nothing = await cleanup();
    assert.deepEqual([nothing.code, nothing.stdout], [0, 'nothing to remove\n'], nothing.stderr);
    await box.must(
      ...'ip addr add 10.9.0.200/32 dev eth0 label eth0:c100k valid_lft 900 preferred_lft 900'.split(' '),
    );
    for (const flags of [['--dry-run'], []]) {
      const { code, stdout } = await cleanup(...flags);
      assert.equal(code, 0);
      assert.match(stdout, /^left 10\.9\.0\.200\/32 dev eth0: no record says whose it is/);
    }
    assert.match(await box.must('ip', 'addr'), /10\.9\.0\.200\/32/);
  });

  it('that cannot read the addresses says so, and does not advise to install what is there', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'c100k-cleanup-'));
    t.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'ip'), '#!/bin/sh\nexit 2\n', { mode: 0o755 });
    const { status, stderr } = spawnSync(process.execPath, [cliPath, 'cleanup'], {
      encoding: 'utf8',
      env: { ...inheritedEnvironment(), PATH: `${folder}:${process.env.PATH}` },
      timeout: 4 * HANG_MS,
    });
    assert.equal(status, 3, stderr);
    assert.match(stderr, /`ip -j addr` failed\n {2}hint: see what it says: ip -j addr\n$/);
  });
});
