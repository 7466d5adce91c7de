import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hostAlias } from '../../src/run/alias.ts';
import { AliasLease } from '../../src/sources/alias-lease.ts';
import { AliasRecords } from '../../src/sources/alias-records.ts';
import { FakeIp } from '../host/fake-ip.ts';
import { until } from '../support/waiting.ts';

const A = hostAlias('10.9.0.101', 'eth0');
const B = hostAlias('10.9.0.102', 'eth0');
const BY_HAND = { local: '10.9.0.102', prefixlen: 32, device: 'eth0', validSec: null };

function leaseOn(t: TestContext, ip: FakeIp, folder: string, pid = process.pid) {
  const lost: string[] = [];
  const lease = new AliasLease({
    run: ip.run,
    records: new AliasRecords({ folder, pid }),
    leaseMs: 5_000,
    onLost: (addresses) => lost.push(...addresses),
  });
  t.after(() => lease.release());
  return { lease, lost };
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-lease-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const addressesOf = (ip: FakeIp): string[] => ip.addresses.map(({ local }) => local);

test('only what was added is removed: an address that was there is used and stays', async (t) => {
  const ip = new FakeIp([BY_HAND]);
  const { lease } = leaseOn(t, ip, folderOf(t));
  assert.deepEqual(await lease.acquire([A, B]), { failed: [], notes: [] });
  assert.deepEqual(lease.held, [A]);
  assert.deepEqual(await lease.release(), []);
  assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
  assert.equal(ip.addresses[0]?.validSec, null, 'and was not given a lifetime');
});

test('two runs that share an alias: the first to end leaves it, the last one removes it', async (t) => {
  const ip = new FakeIp();
  const folder = folderOf(t);
  const first = leaseOn(t, ip, folder);
  // The parent of this process lives as long as we do.
  const second = leaseOn(t, ip, folder, process.ppid);
  await first.lease.acquire([A, B]);
  await second.lease.acquire([A]);
  assert.deepEqual(second.lease.held, [A]);
  await first.lease.release();
  assert.deepEqual(addressesOf(ip), ['10.9.0.101']);
  await second.lease.release();
  assert.deepEqual(addressesOf(ip), []);
});

test('an alias is renewed while it is there; one that is deleted is reported once and not added again', async (t) => {
  const ip = new FakeIp();
  const { lease, lost } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([A, B]);
  await lease.watch([A.address, B.address]);
  for (const address of ip.addresses) address.validSec = 1;
  await until('renewed', () => ip.addresses.every(({ validSec }) => validSec === 5));
  ip.addresses.splice(0, 1);
  await until('it is reported', () => lost.length > 0);
  await until('renewed again', () => ip.commands.filter((line) => line.startsWith('addr change')).length > 3);
  assert.deepEqual(lost, ['10.9.0.101']);
  assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
});

test('an alias that was deleted under one run is no share of it: another run that adds it anew removes it (simulated: seed 2008256)', async (t) => {
  const ip = new FakeIp();
  const folder = folderOf(t);
  const first = leaseOn(t, ip, folder);
  const second = leaseOn(t, ip, folder, process.ppid);
  await first.lease.acquire([A]);
  await first.lease.watch([A.address]);
  ip.addresses.length = 0;
  await until('the first one has seen it', () => first.lost.length > 0);
  await second.lease.acquire([A]);
  await first.lease.release();
  assert.deepEqual(addressesOf(ip), ['10.9.0.101']);
  await second.lease.release();
  assert.deepEqual(addressesOf(ip), []);
});

test('an alias that another program deletes and adds for ever is its own: not renewed, not removed (simulated: seed 2037)', async (t) => {
  const ip = new FakeIp();
  const { lease, lost } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([A, B]);
  await lease.watch([A.address, B.address]);
  ip.addresses[0] = { local: A.address, prefixlen: 32, device: 'eth0', validSec: null };
  await until('it is no longer held', () => lease.held.length === 1);
  await until('the other one is renewed', () => ip.commands.some((line) => line.startsWith('addr change')));
  assert.equal(ip.addresses[0]?.validSec, null);
  ip.addresses[1] = { local: B.address, prefixlen: 32, device: 'eth0', validSec: null };
  assert.deepEqual(await lease.release(), []);
  assert.deepEqual(addressesOf(ip), [A.address, B.address]);
  assert.deepEqual(lost, []);
});

for (const isGoneBefore of [true, false]) {
  const when = isGoneBefore ? 'before the last look' : 'after it';
  test(`an address that another program adds in the place of an alias that was deleted ${when} stays (simulated: seed 10631590)`, async (t) => {
    const ip = new FakeIp();
    const foreign = { ...BY_HAND, local: A.address };
    let isDeleted = false;
    const run: typeof ip.run = async (file, args, options) => {
      if (!isGoneBefore && options.input?.startsWith('addr del') === true) {
        ip.addresses.length = 0;
        ip.addresses.push(foreign);
      }
      const said = await ip.run(file, args, options);
      // The moment behind the look that says it is gone.
      if (isDeleted && args.includes('-j')) ip.addresses.push(foreign);
      return said;
    };
    const { lease } = leaseOn(t, { run } as FakeIp, folderOf(t));
    await lease.acquire([A]);
    if (isGoneBefore) {
      isDeleted = true;
      ip.addresses.length = 0;
    }
    assert.deepEqual(await lease.release(), []);
    assert.deepEqual(ip.addresses, [foreign]);
  });
}

test('when the alias of a network goes, all its sources are lost', async (t) => {
  const ip = new FakeIp();
  const { lease, lost } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([{ address: '10.1.0.1', family: 4, prefix: 24, device: 'lo' }]);
  await lease.watch(['10.1.0.1', '10.1.0.2', '10.1.0.254', '127.0.0.2']);
  ip.addresses.length = 0;
  await until('it is reported', () => lost.length > 0);
  assert.deepEqual(lost, ['10.1.0.1', '10.1.0.2', '10.1.0.254']);
});

for (const [how, since] of [
  ['from the begin of the run on', 'watch'],
  ['from a later moment on', 'hold'],
] as const)
  test(`where ip says nothing that can be read, ${how}, a source that the kernel has removed is lost all the same`, async (t) => {
    const ip = new FakeIp();
    let isNonsense = false;
    const lost: string[] = [];
    const records = new AliasRecords({ folder: folderOf(t) });
    const lease = new AliasLease({
      run: async (file, args, options) => {
        if (!isNonsense) return await ip.run(file, args, options);
        return { code: 0, stdout: 'nonsense', stderr: '', missing: false, truncated: false };
      },
      records,
      leaseMs: 5_000,
      // Node lists no address of a device that is not up: B was never seen there.
      addressesHere: () => new Set(addressesOf(ip).filter((address) => address !== B.address)),
      onLost: (addresses) => lost.push(...addresses),
    });
    t.after(() => lease.release());
    await lease.acquire([A, B]);
    isNonsense = since === 'watch';
    await lease.watch([A.address, B.address]);
    isNonsense = true;
    ip.addresses.length = 0;
    await until('it is reported', () => lost.length > 0);
    assert.deepEqual(lost, [A.address]);
    const recorded = records.read().flatMap(({ aliases }) => aliases.map(({ address }) => address));
    assert.deepEqual(recorded, [B.address], 'another run that adds it anew removes it');
  });

test('an alias is renewed blindly from its adding on, where no look has ever succeeded', async (t) => {
  const ip = new FakeIp();
  let nowMs = 0;
  let isBlind = false;
  const lease = new AliasLease({
    run: async (file, args, options) =>
      isBlind && args[0] === '-j'
        ? { code: null, stdout: '', stderr: '', missing: false, truncated: false }
        : await ip.run(file, args, options),
    records: new AliasRecords({ folder: folderOf(t) }),
    leaseMs: 5_000,
    clock: { monotonicMs: () => nowMs },
    onLost: () => {},
  });
  t.after(() => lease.release());
  await lease.acquire([A]);
  isBlind = true;
  for (const address of ip.addresses) address.validSec = 1;
  nowMs = 3_100;
  await until('renewed', () => ip.addresses.every(({ validSec }) => validSec === 5));
});

test('a source that failed its check is given back before the run', async (t) => {
  const ip = new FakeIp();
  const { lease } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([A, B]);
  await lease.give([A]);
  assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
  assert.deepEqual(lease.held, [B]);
});

test('who asks for the release again, as the end of a run does after a refusal, waits until all is removed', async (t) => {
  const ip = new FakeIp();
  let go = (): void => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  let removals = 0;
  const lease = new AliasLease({
    run: async (file, args, options) => {
      if (options.input?.includes(' del ')) {
        removals += 1;
        await gate;
      }
      return ip.run(file, args, options);
    },
    records: new AliasRecords({ folder: folderOf(t) }),
    leaseMs: 5_000,
    onLost: () => {},
  });
  await lease.acquire([A, B]);
  let over = 0;
  const both = Promise.all([1, 2].map(() => lease.release().then(() => over++)));
  await until('the removal has begun', () => removals === 1);
  assert.equal(over, 0, 'the addresses are still there');
  go();
  await both;
  assert.equal(removals, 1);
  assert.deepEqual(addressesOf(ip), []);
});

/** A lease whose looks wait at a gate, with the snapshot taken before it. */
function gatedLease(t: TestContext) {
  const ip = new FakeIp();
  const records = new AliasRecords({ folder: folderOf(t) });
  const lost: string[] = [];
  let gate: Promise<void> | null = null;
  let open = (): void => {};
  let waiting = 0;
  let looks = 0;
  const lease = new AliasLease({
    run: async (file, args, options) => {
      const result = await ip.run(file, args, options);
      if (args[0] !== '-j') return result;
      looks += 1;
      const closed = gate;
      gate = null;
      if (closed !== null) {
        waiting += 1;
        await closed;
      }
      return result;
    },
    records,
    leaseMs: 5_000,
    onLost: (addresses) => lost.push(...addresses),
  });
  t.after(async () => {
    open();
    await lease.release();
  });
  return {
    ip,
    lease,
    lost,
    records,
    looks: () => looks,
    /** the next look waits after it has seen what is there */
    async holdNextLook(): Promise<void> {
      const before = waiting;
      gate = new Promise((resolve) => {
        open = resolve;
      });
      await until('a look has begun', () => waiting > before);
    },
    letGo: () => open(),
  };
}

test('an alias that is added while a look is under way is not forgotten, and its source is not called lost', async (t) => {
  const { ip, lease, lost, records, looks, holdNextLook, letGo } = gatedLease(t);
  await lease.acquire([A]);
  await lease.watch([A.address]);
  await holdNextLook();
  await lease.acquire([B]);
  await lease.watch([A.address, B.address]);
  letGo();
  const before = looks();
  await until('two more looks', () => looks() >= before + 2);
  assert.deepEqual(lost, []);
  assert.deepEqual(lease.held, [A, B]);
  assert.deepEqual(
    records.read()[0]?.aliases,
    [A, B],
    'a crash from here on leaves no address without a record',
  );
  ip.addresses[1]!.validSec = 1;
  await until('the new one is renewed', () => ip.addresses[1]?.validSec === 5);
  await lease.release();
  assert.deepEqual(addressesOf(ip), [], 'and it is removed at the end');
});

test('an alias that is given back while a look is under way is not added again by its renewal', async (t) => {
  const { ip, lease, holdNextLook, letGo } = gatedLease(t);
  await lease.acquire([A, B]);
  for (let round = 0; round < 3; round += 1) {
    await holdNextLook();
    const given = lease.give([A]);
    letGo();
    await given;
    assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
    await lease.acquire([A]);
    assert.deepEqual(addressesOf(ip).sort(), ['10.9.0.101', '10.9.0.102']);
    assert.deepEqual(
      [...lease.held].sort((a, b) => (a.address < b.address ? -1 : 1)),
      [A, B],
    );
  }
  await holdNextLook();
  const released = lease.release();
  letGo();
  await released;
  assert.deepEqual(addressesOf(ip), []);
});

test('an alias that is being added when the run ends is not left behind', async (t) => {
  const { ip, lease, holdNextLook, letGo } = gatedLease(t);
  // The first look of acquiring is that of the leftovers.
  const [acquired] = await Promise.all([
    (async () => {
      const acquiring = lease.acquire([A]);
      await lease.release();
      letGo();
      return await acquiring;
    })(),
    holdNextLook(),
  ]);
  assert.equal(acquired.failed[0]?.why, 'the run has ended');
  assert.deepEqual(addressesOf(ip), []);
});

for (const [name, lookSec, failsEvery] of [
  ['looks of 2 s', 2, 0],
  ['looks of 7 s', 7, 0],
  ['looks of 13 s, of which two in three fail', 13, 3],
  ['quick looks', 0, 0],
] as const) {
  test(`aliases are renewed within their lifetime by the clock: ${name}`, async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const ip = new FakeIp();
    let nowSec = 0;
    const renewedSec: number[] = [0];
    let looks = 0;
    const due: { atSec: number; go: () => void }[] = [];
    const lease = new AliasLease({
      run: async (file, args, options) => {
        if (args[0] === '-j' && nowSec > 0) {
          looks += 1;
          const atSec = nowSec + lookSec;
          if (lookSec > 0) await new Promise<void>((go) => due.push({ atSec, go }));
          if (failsEvery > 0 && looks % failsEvery !== 0)
            return { code: null, stdout: '', stderr: '', missing: false, truncated: false };
        }
        if (options.input?.includes('addr change')) renewedSec.push(nowSec);
        return await ip.run(file, args, options);
      },
      records: new AliasRecords({ folder: folderOf(t) }),
      leaseMs: 60_000,
      clock: { monotonicMs: () => nowSec * 1_000 },
      onLost: () => {},
    });
    await lease.acquire([A]);
    const settle = async (): Promise<void> => {
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    };
    while (nowSec < 600) {
      nowSec += 1;
      for (const waiting of due.filter(({ atSec }) => atSec <= nowSec)) {
        due.splice(due.indexOf(waiting), 1);
        waiting.go();
      }
      t.mock.timers.tick(1_000);
      await settle();
    }
    const gaps = renewedSec.slice(1).map((atSec, index) => atSec - (renewedSec[index] ?? 0));
    assert.ok(
      Math.max(...gaps, 600 - (renewedSec.at(-1) ?? 0)) < 60,
      `renewed at ${renewedSec.join(', ')} s`,
    );
    assert.ok(renewedSec.length <= 40, 'and not at every look');
    nowSec = 0;
    for (const { go } of due) go();
    await lease.release();
  });
}
