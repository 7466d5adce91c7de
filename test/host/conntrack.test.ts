import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { afterEach, test } from 'node:test';
import { readConntrack } from '../../src/host/conntrack.ts';
import { HANG_MS } from '../support/waiting.ts';
import { type FakeKernel, fakeKernel } from './fake-kernel.ts';

let kernel: FakeKernel | null = null;
afterEach(() => kernel?.remove());

const COUNT = 'proc/sys/net/netfilter/nf_conntrack_count';
const MAX = 'proc/sys/net/netfilter/nf_conntrack_max';

test('without the files nothing is tracked', async () => {
  kernel = fakeKernel();
  assert.deepEqual(await readConntrack(kernel.procRoot), { active: false, count: null, max: null });
});

test('a maximum without a count leaves it open', async () => {
  kernel = fakeKernel({ [MAX]: '262144\n' });
  assert.deepEqual(await readConntrack(kernel.procRoot), { active: null, count: null, max: 262_144 });
});

test('entries prove tracking, and then no datagram is sent', async () => {
  kernel = fakeKernel({ [COUNT]: '5\n', [MAX]: '100\n' });
  const facts = await readConntrack(kernel.procRoot, () => assert.fail('no probe is needed'));
  assert.deepEqual(facts, { active: true, count: 5, max: 100 });
});

test('an empty table tracks when our own datagram makes an entry, and does not when it makes none', async () => {
  const fake = fakeKernel({ [COUNT]: '0\n', [MAX]: '100\n' });
  kernel = fake;
  assert.equal((await readConntrack(fake.procRoot, async () => {})).active, false);
  const tracked = await readConntrack(fake.procRoot, async () => fake.write(COUNT, '1\n'));
  assert.deepEqual(tracked, { active: true, count: 1, max: 100 });
});

/** A network namespace of its own, in which a rule is or is not there; it ends with its process. */
function trackedInNamespace(rules: string): string {
  const module = new URL('../../src/host/conntrack.js', import.meta.url).href;
  const script = `import(${JSON.stringify(module)}).then(async (m) => console.log((await m.readConntrack('/proc')).active))`;
  const shell = `ip link set lo up && ${rules} && exec "$0" -e "$1"`;
  const result = spawnSync('unshare', ['-n', 'sh', '-c', shell, process.execPath, script], {
    encoding: 'utf8',
    timeout: HANG_MS,
  });
  return result.status === 0 ? result.stdout.trim() : `failed: ${result.stderr}`;
}

const canTest =
  process.getuid?.() === 0 && spawnSync('unshare', ['-n', 'nft', 'list', 'tables']).status === 0
    ? false
    : 'needs root, unshare and nft';

test('the kernel itself: a fresh namespace does not track', { skip: canTest }, () => {
  assert.equal(trackedInNamespace('true'), 'false');
});

test('the kernel itself: one stateful rule and it tracks', { skip: canTest }, () => {
  const rule =
    "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new accept'";
  assert.equal(trackedInNamespace(rule), 'true');
});
