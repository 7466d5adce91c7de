import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hostAlias } from '../../src/run/alias.ts';
import { AliasRecords } from '../../src/sources/alias-records.ts';

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
  const text = JSON.stringify({ ...JSON.parse(readRecord(folder, name)), startTime: '1' });
  writeFileSync(join(folder, name), text);
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

test('a folder that cannot be written is told, not thrown', () => {
  assert.equal(new AliasRecords({ folder: '/proc/nowhere' }).write(ALIASES), false);
  assert.deepEqual(new AliasRecords({ folder: '/proc/nowhere' }).read(), []);
});

function readRecord(folder: string, name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}
