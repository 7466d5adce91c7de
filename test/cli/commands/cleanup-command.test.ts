/** Tests `cleanup` from the command line where no run has crashed; what a crash leaves is tested in test/system/sources-crash.test.ts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createNetwork, whyNoNetwork } from '../../support/network.ts';
import { cliPath } from '../../support/run-cli.ts';

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
});
