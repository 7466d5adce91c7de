/** Tests the probe of io_uring on real refusals: each is made in a process of its own, as far as this machine allows. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Params, type UringKernel, uringKernel } from '../../../src/engine/drivers/uring-binding.ts';
import { probeUring } from '../../../src/engine/drivers/uring-probe.ts';
import { Errno } from '../../../src/engine/libc.ts';
import { withKernelSetting } from '../../support/kernel-setting.ts';
import { URING_SKIP } from './driver-harness.ts';

type UringRefusal = NonNullable<ReturnType<typeof probeUring>>;

const ENTRY = fileURLToPath(new URL('./refusal-entry.js', import.meta.url));
const SYSCTL = '/proc/sys/kernel/io_uring_disabled';
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

/** What the probe says in a process of its own. @param prefix a command that begins it */
async function refusalIn(
  how: string,
  prefix: readonly string[] = [],
  uid?: number,
): Promise<UringRefusal | null> {
  const [file = '', ...args] = [...prefix, process.execPath, ENTRY, how];
  const identity = uid === undefined ? {} : { uid, gid: uid };
  const { stdout } = await promisify(execFile)(file, args, identity);
  return JSON.parse(stdout) as UringRefusal | null;
}

test('a process that nothing is refused to has io_uring', { skip: URING_SKIP }, async () => {
  assert.equal(await refusalIn('none'), null);
});

test('where it works the probe says so, and leaves nothing behind', { skip: URING_SKIP }, () => {
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  const before = descriptors();
  const mappings = (): number =>
    readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => line.includes('io_uring')).length;
  for (let times = 0; times < 20; times++) assert.equal(probeUring(), null);
  // Node itself may open a few meanwhile.
  assert(descriptors() < before + 10, `${before} descriptors before, ${descriptors()} after`);
  assert.equal(mappings(), 0, 'no ring is mapped any more');
});

for (const call of ['setup', 'enter', 'register']) {
  test(`seccomp that refuses io_uring_${call}, as container runtimes do, is named`, {
    skip: URING_SKIP,
  }, async () => {
    const refusal = await refusalIn(`eperm-${call}`);
    assert.equal(refusal?.obstacle, 'seccomp');
    assert.match(refusal!.text, /^not permitted \(seccomp/);
  });

  test(`seccomp that hides io_uring_${call} is named`, { skip: URING_SKIP }, async () => {
    const refusal = await refusalIn(`enosys-${call}`);
    assert.equal(refusal?.obstacle, 'seccomp');
    assert.match(refusal!.text, /seccomp hides it/);
  });
}

const sysctlSkip = URING_SKIP || (isRoot ? false : 'only root may set kernel.io_uring_disabled');

test('kernel.io_uring_disabled is named where it refuses, and only there', { skip: sysctlSkip }, async () => {
  // 1 leaves root's rings alone, other tests' among them.
  await withKernelSetting(SYSCTL, '1', async () => {
    const refusal = await refusalIn('none', [], NOBODY);
    assert.equal(refusal?.obstacle, 'sysctl');
    assert.match(refusal!.text, /kernel\.io_uring_disabled is 1/);
    assert.equal(await refusalIn('none'), null, 'root may still');
    for (const call of ['setup', 'enter', 'register']) {
      const filtered = await refusalIn(`eperm-${call}`);
      assert.equal(filtered?.obstacle, 'seccomp', `root may, and a filter refuses io_uring_${call}`);
    }
    // A user namespace has every capability of its own, and none that the kernel asks for here.
    const inside = await refusalIn('none', ['unshare', '--user', '--map-root-user']);
    assert.equal(inside?.obstacle, 'sysctl');
  });
});

test('locked memory that does not suffice is named', { skip: sysctlSkip }, async (t) => {
  // 0 leaves io_uring to everybody: this process may not have every capability.
  const refusal = await withKernelSetting(SYSCTL, '0', () =>
    refusalIn('none', ['sh', '-c', 'ulimit -l 16 && exec "$0" "$@"'], NOBODY),
  );
  if (refusal === null) {
    t.skip(`kernel ${release()} does not count rings as locked memory (5.12 to 6.13 do not)`);
    return;
  }
  assert.equal(refusal.obstacle, 'memory');
  assert.match(refusal.text, /ulimit -l: 16384 bytes/);
});

test('no descriptor for a ring is named', { skip: URING_SKIP }, () => {
  const full: UringKernel = { ...uringKernel, setup: () => -Errno.EMFILE };
  assert.equal(probeUring({ kernel: full })?.obstacle, 'descriptors');
});

// A kernel's age cannot be had for real.
test('a kernel that is too old is named, with what it lacks', { skip: URING_SKIP }, () => {
  const without: UringKernel = { ...uringKernel, setup: () => -Errno.ENOSYS };
  assert.match(probeUring({ kernel: without })!.text, /^kernel \S+ is too old: it has no io_uring/);
  const old: UringKernel = { ...uringKernel, setup: () => -Errno.EINVAL };
  assert.deepEqual(probeUring({ kernel: old }), {
    obstacle: 'kernel',
    text: `kernel ${release()} is too old: io_uring needs 6.11`,
  });
  const unmapped: UringKernel = {
    ...uringKernel,
    setup: (entries, params) => {
      const fd = uringKernel.setup(entries, params);
      new DataView(params.buffer).setUint32(Params.FEATURES, 0, true);
      return fd;
    },
  };
  assert.equal(probeUring({ kernel: unmapped })?.obstacle, 'kernel');
  const lts: UringKernel = {
    ...uringKernel,
    probe: (_fd, ops) => ops.map((op) => (op >= 54 ? 0 : 1)),
  };
  const refusal = probeUring({ kernel: lts });
  assert.equal(refusal?.obstacle, 'kernel');
  assert.match(refusal!.text, /lacks FIXED_FD_INSTALL \(6\.8\), BIND \(6\.11\)$/);
});

test('a connection that fails although the ring works is reported with its step', {
  skip: URING_SKIP,
}, () => {
  let calls = 0;
  const broken: UringKernel = {
    ...uringKernel,
    // The table of the ring that connects has no room: the socket cannot be placed.
    registerFiles: (fd, files) => uringKernel.registerFiles(fd, ++calls === 1 ? files : 1),
  };
  const refusal = probeUring({ kernel: broken });
  assert.equal(refusal, null, 'one place is enough for one connection');
  const none: UringKernel = { ...uringKernel, registerFiles: () => 0 };
  assert.match(
    probeUring({ kernel: none })!.text,
    /^a connection on loopback failed in socket with errno \d+$/,
  );
});
