import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hostAlias } from '../../src/run/alias.ts';
import { AliasRecords, withAddressLock } from '../../src/sources/alias-records.ts';
import { realWaiting, systemClock, type Waiting } from '../../src/time/timer.ts';
import { FakeTime } from '../support/fake-time.ts';

const ALIASES = [hostAlias('10.9.0.101', 'eth0'), hostAlias('fd09::a1', 'eth0')];

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-records-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('a record is read back as its own and alive, and an empty one is erased', (t) => {
  const folder = folderOf(t);
  const records = new AliasRecords({ folder });
  assert.equal(records.write(ALIASES), true);
  const [record] = records.read();
  assert.deepEqual(record?.aliases, ALIASES);
  assert.equal(record?.isAlive, true);
  assert.equal(record?.isMine, true);
  assert.equal(records.write([]), true);
  assert.deepEqual(readdirSync(folder), []);
});

test('the record of a process that was killed is dead, also while its parent has not collected it', async (t) => {
  const folder = folderOf(t);
  const child = spawn('sleep', ['60']);
  const records = new AliasRecords({ folder, pid: child.pid ?? 0 });
  records.write(ALIASES);
  const reader = new AliasRecords({ folder });
  assert.deepEqual(
    reader.read().map(({ isAlive, isMine }) => [isAlive, isMine]),
    [[true, false]],
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.deepEqual(
    reader.read().map(({ isAlive }) => isAlive),
    [false],
  );
});

test('another process with the same id is not the owner: its start time differs', (t) => {
  const folder = folderOf(t);
  new AliasRecords({ folder }).write(ALIASES);
  const [name = ''] = readdirSync(folder);
  const { pid, ...record } = JSON.parse(readRecord(folder, name));
  rmSync(join(folder, name));
  const text = JSON.stringify({ ...record, pid, startTime: '1' });
  writeFileSync(join(folder, `${pid}-1.json`), text, { mode: 0o600 });
  assert.deepEqual(
    new AliasRecords({ folder }).read().map(({ isAlive }) => isAlive),
    [false],
  );
});

test('a record of another network namespace or of an earlier boot says nothing here', (t) => {
  const folder = folderOf(t);
  for (const other of [{ netns: 'net:[1]' }, { bootId: 'yesterday' }]) {
    new AliasRecords({ folder }).write(ALIASES);
    const [name = ''] = readdirSync(folder);
    writeFileSync(join(folder, name), JSON.stringify({ ...JSON.parse(readRecord(folder, name)), ...other }));
    assert.deepEqual(new AliasRecords({ folder }).read(), []);
  }
});

test('a process in another process namespace cannot be known to be dead', (t) => {
  const folder = folderOf(t);
  new AliasRecords({ folder, pid: 999_999_999 }).write(ALIASES);
  const [name = ''] = readdirSync(folder);
  assert.equal(new AliasRecords({ folder }).read()[0]?.isAlive, false);
  writeFileSync(
    join(folder, name),
    JSON.stringify({ ...JSON.parse(readRecord(folder, name)), pidns: 'pid:[1]' }),
  );
  assert.equal(new AliasRecords({ folder }).read()[0]?.isAlive, true);
});

test('what could become another command is no alias, and a torn file is no record', (t) => {
  const folder = folderOf(t);
  const records = new AliasRecords({ folder });
  records.write(ALIASES);
  const [name = ''] = readdirSync(folder);
  const evil = [
    { address: '10.9.0.1', prefix: 32, device: 'eth0\naddr flush dev eth0' },
    { address: '10.9.0.1; reboot', prefix: 32, device: 'eth0' },
    { address: '10.9.0.1', prefix: 0, device: 'eth0' },
    { address: '10.9.0.1', prefix: '32 dev lo', device: 'eth0' },
    null,
  ];
  writeFileSync(
    join(folder, name),
    JSON.stringify({ ...JSON.parse(readRecord(folder, name)), aliases: evil }),
  );
  assert.deepEqual(records.read()[0]?.aliases, []);
  writeFileSync(join(folder, name), '{"version":1,"pid":');
  assert.deepEqual(records.read(), []);
});

test('a folder that cannot be written is reported, not thrown', () => {
  assert.equal(new AliasRecords({ folder: '/proc/nowhere' }).write(ALIASES), false);
  assert.deepEqual(new AliasRecords({ folder: '/proc/nowhere' }).read(), []);
});

function readRecord(folder: string, name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}

/** A folder with one honest record, of a dead process, and its name. */
function honest(t: TestContext): { folder: string; name: string; text: string } {
  const folder = folderOf(t);
  new AliasRecords({ folder, pid: 999_999_999 }).write(ALIASES);
  const [name = ''] = readdirSync(folder);
  return { folder, name, text: readRecord(folder, name) };
}

const STRANGER = 65_534;
const forRoot = process.geteuid?.() === 0 ? {} : { skip: 'only root can give files to another user' };

test('the folder and the records are for their owner alone; an open folder of ours is closed', (t) => {
  const folder = join(folderOf(t), 'records');
  const records = new AliasRecords({ folder });
  assert.equal(records.write(ALIASES), true);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.equal(statSync(join(folder, readdirSync(folder)[0] ?? '')).mode & 0o777, 0o600);
  for (const mode of [0o755, 0o777]) {
    chmodSync(folder, mode);
    assert.equal(records.read().length, 1);
    assert.equal(statSync(folder).mode & 0o777, 0o700);
  }
  assert.equal(records.foreignFolder, null);
});

test('a folder of another user, a link and a file in its place are not used', forRoot, (t) => {
  const { folder } = honest(t);
  chownSync(folder, STRANGER, STRANGER);
  const foreign = new AliasRecords({ folder });
  assert.deepEqual(foreign.read(), []);
  assert.equal(foreign.write(ALIASES), false);
  assert.equal(foreign.foreignFolder, folder);
  assert.equal(readdirSync(folder).length, 1, 'and nothing was written there');
  const parent = folderOf(t);
  symlinkSync(honest(t).folder, join(parent, 'link'));
  writeFileSync(join(parent, 'file'), '');
  for (const name of ['link', 'file']) {
    const records = new AliasRecords({ folder: join(parent, name) });
    assert.deepEqual(records.read(), [], name);
    assert.equal(records.write(ALIASES), false, name);
    assert.equal(records.foreignFolder, join(parent, name));
  }
});

test(
  'a record of another owner, with a second name, or that others can write is not believed',
  forRoot,
  (t) => {
    const { folder, name } = honest(t);
    const path = join(folder, name);
    const read = (): number => new AliasRecords({ folder }).read().length;
    assert.equal(read(), 1);
    chownSync(path, STRANGER, STRANGER);
    assert.equal(read(), 0);
    chownSync(path, 0, 0);
    chmodSync(path, 0o622);
    assert.equal(read(), 0);
    chmodSync(path, 0o600);
    linkSync(path, join(folder, 'second'));
    assert.equal(read(), 0);
    rmSync(join(folder, 'second'));
    renameSync(path, join(folder, '1-1.json'));
    assert.equal(read(), 0, 'nor one whose name is not that of its process');
  },
);

test('a pipe, a link, a folder, a huge file, garbage and deep JSON among the records hold up no run', (t) => {
  const { folder, text } = honest(t);
  const at = (pid: number): string => join(folder, `${pid}-1.json`);
  execFileSync('mkfifo', [at(1)]);
  symlinkSync('/dev/zero', at(2));
  mkdirSync(at(3));
  writeFileSync(at(4), '', { mode: 0o600 });
  truncateSync(at(4), 2 ** 40);
  const deep = '['.repeat(5_000_000);
  const own = JSON.parse(text);
  const garbage: readonly string[] = [
    '',
    '\0\0\0',
    'null',
    '7',
    '[]',
    deep,
    `{"version":1,"aliases":${deep}`,
    `${text.slice(0, -1)},"startTime":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    JSON.stringify({ ...own, pid: -1 }),
    JSON.stringify({ ...own, pid: 1e300 }),
    JSON.stringify({ ...own, startTime: { toString: null } }),
    JSON.stringify({ ...own, aliases: { length: 1e9 } }),
    JSON.stringify({ ...own, netns: 'x'.repeat(1_000_000) }),
  ];
  for (const [index, one] of garbage.entries()) writeFileSync(at(10 + index), one, { mode: 0o600 });
  const records = new AliasRecords({ folder });
  assert.deepEqual(
    records.read().map(({ pid }) => pid),
    [999_999_999],
  );
  assert.equal(records.write(ALIASES), true);
  assert.equal(records.read().length, 2);
});

/** A run on this host may hold the lock of all runs at any time. */
const NAME = `\0c100k-bench-test-${process.pid}`;
const REAL = realWaiting(systemClock.monotonicMs);

/** Takes the lock and holds it; resolves once it is held. */
async function hold(): Promise<{ release: (error?: Error) => void; held: Promise<void> }> {
  let release: (error?: Error) => void = () => {};
  const gate = new Promise<void>((resolve, reject) => {
    release = (error) => (error === undefined ? resolve() : reject(error));
  });
  let held = Promise.resolve();
  const isLocked = await new Promise<boolean>((resolve) => {
    const work = async (isMine: boolean): Promise<void> => {
      resolve(isMine);
      await gate;
    };
    held = withAddressLock(work, REAL, NAME);
  });
  assert.equal(isLocked, true);
  return { held, release };
}

test('one at a time: who comes later waits until the first has ended, also after a throw', async () => {
  const first = await hold();
  const order: string[] = [];
  let tries = 0;
  const counting: Waiting = {
    nowMs: REAL.nowMs,
    pause: async (ms) => {
      tries += 1;
      await sleep(ms);
    },
  };
  const second = withAddressLock(
    async (isLocked) => order.push(`second begins, ${isLocked}`),
    counting,
    NAME,
  );
  while (tries < 2) await sleep(1);
  order.push('first ends');
  first.release(new Error('and fails'));
  await assert.rejects(first.held, /and fails/);
  await second;
  assert.deepEqual(order, ['first ends', 'second begins, true']);
});

test('who waits for ten seconds goes on without the lock: seconds of the clock, however long a try takes', async () => {
  const first = await hold();
  try {
    const waiting = new FakeTime(980);
    const beganMs = waiting.now;
    assert.equal(await withAddressLock(async (isLocked) => isLocked, waiting, NAME), false);
    assert(waiting.now - beganMs <= 11_000, `${waiting.now - beganMs} ms`);
    assert.equal(waiting.pauses.length, 10);
  } finally {
    first.release();
    await first.held;
  }
});
