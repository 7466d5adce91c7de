import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
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
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { appendToFile, tryWholeFile, writeWholeFile } from '../../src/host/whole-file.ts';

const STRANGER = 65_534;
const forRoot = process.geteuid?.() === 0 ? {} : { skip: 'only root can give files to another user' };

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-whole-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('a file is replaced, not written over: who has the old one open keeps it', (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'file');
  writeFileSync(path, 'old');
  linkSync(path, join(folder, 'second name'));
  writeWholeFile({ folder, name: 'file' }, 'new');
  assert.equal(readFileSync(path, 'utf8'), 'new');
  assert.equal(readFileSync(join(folder, 'second name'), 'utf8'), 'old');
  assert.deepEqual(readdirSync(folder).sort(), ['file', 'second name']);
});

test('a link in the place of the file is replaced, and what it leads to is not touched', (t) => {
  const folder = folderOf(t);
  writeFileSync(join(folder, 'victim'), 'precious');
  symlinkSync('victim', join(folder, 'file'));
  writeWholeFile({ folder, name: 'file' }, 'new');
  assert.equal(readFileSync(join(folder, 'victim'), 'utf8'), 'precious');
  assert.equal(readFileSync(join(folder, 'file'), 'utf8'), 'new');
  symlinkSync('victim', join(folder, 'other'));
  assert.throws(() => tryWholeFile({ folder, name: 'other' }, true), { code: 'ELOOP' });
  assert.throws(() => appendToFile({ folder, name: 'other' }, 'more', null), { code: 'ELOOP' });
  assert.equal(readFileSync(join(folder, 'victim'), 'utf8'), 'precious');
});

test('a link in the place of the folder is not followed', (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, 'real'));
  symlinkSync('real', join(folder, 'link'));
  assert.throws(() => writeWholeFile({ folder: join(folder, 'link'), name: 'file' }, 'x'), {
    code: 'ENOTDIR',
  });
  mkdirSync(join(folder, 'real', 'deep'));
  assert.throws(
    () => writeWholeFile({ folder: join(folder, 'link', 'deep'), name: 'file' }, 'x'),
    /its folder was replaced just now/,
  );
  assert.deepEqual(readdirSync(join(folder, 'real', 'deep')), []);
});

test('nothing is left behind when the rename fails', (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, 'file', 'full'), { recursive: true });
  assert.throws(() => writeWholeFile({ folder, name: 'file' }, 'x'));
  assert.deepEqual(readdirSync(folder), ['file']);
});

test('owner and mode are kept', forRoot, (t) => {
  const folder = folderOf(t);
  writeWholeFile({ folder, name: 'file' }, 'x', { kept: { mode: 0o640, uid: STRANGER, gid: STRANGER } });
  const { mode, uid, gid } = statSync(join(folder, 'file'));
  assert.deepEqual([mode & 0o777, uid, gid], [0o640, STRANGER, STRANGER]);
});

test('lines are added to the file that is there, and to a new one when it was moved away', (t) => {
  const folder = folderOf(t);
  const place = { folder, name: 'file' };
  appendToFile(place, '1\n', { mode: 0o640, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  appendToFile(place, '2\n', null);
  assert.equal(readFileSync(join(folder, 'file'), 'utf8'), '1\n2\n');
  renameSync(join(folder, 'file'), join(folder, 'file.1'));
  appendToFile(place, '3\n', { mode: 0o600, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  assert.equal(readFileSync(join(folder, 'file'), 'utf8'), '3\n');
  assert.equal(statSync(join(folder, 'file')).mode & 0o777, 0o600);
});

test(
  'lines are not added to a pipe, to a second name of a file, or to a file of another user',
  forRoot,
  (t) => {
    const folder = folderOf(t);
    const place = { folder, name: 'file' };
    const isOther = /another file has been put in its place/;
    writeFileSync(join(folder, 'shadow'), 'precious');
    linkSync(join(folder, 'shadow'), join(folder, 'file'));
    assert.throws(() => appendToFile(place, 'x', null), isOther);
    assert.equal(readFileSync(join(folder, 'shadow'), 'utf8'), 'precious');
    rmSync(join(folder, 'file'));
    writeFileSync(join(folder, 'file'), '');
    chmodSync(join(folder, 'file'), 0o666);
    chownSync(join(folder, 'file'), STRANGER, STRANGER);
    assert.throws(() => appendToFile(place, 'x', null), isOther);
    rmSync(join(folder, 'file'));
    execFileSync('mkfifo', [join(folder, 'file')]);
    assert.throws(() => appendToFile(place, 'x', null), { code: 'ENXIO' });
    assert.throws(() => tryWholeFile(place, true) ?? appendToFile(place, 'x', null));
  },
);
