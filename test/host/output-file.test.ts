/** Tests which paths are followed. The kernel's own protection may be off, as in many containers: these rules hold by themselves. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
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
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { type TestContext, test } from 'node:test';
import { appendToFile, followOutputPath, tryWholeFile, writeWholeFile } from '../../src/host/output-file.ts';

const OTHER_USER = 65_534;
const isRoot = process.geteuid?.() === 0;
const forRoot = isRoot ? {} : { skip: 'only root can give files to another user' };

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-path-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function isRefused(pattern: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof Error && error.constructor.name === 'OutputRefused' && pattern.test(error.message);
}

test('a file is found where it is, through links of our own, relative paths and dots', (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, 'a'));
  writeFileSync(join(folder, 'a', 'file'), '');
  symlinkSync('a', join(folder, 'folder-link'));
  symlinkSync(join(folder, 'folder-link', 'file'), join(folder, 'link'));
  symlinkSync('link', join(folder, 'link-to-link'));
  symlinkSync('a/none', join(folder, 'dangling'));
  const whole = { folder: join(folder, 'a'), name: 'file' };
  for (const path of [
    'a/file',
    'a/../a/./file',
    'folder-link/file',
    'folder-link/../a/file',
    'link',
    'link-to-link',
  ]) {
    for (const text of [
      `${join(folder, 'a', '..')}/${path}`,
      relative(process.cwd(), join(folder, 'x')).replace(/x$/, path),
    ]) {
      const { kind, ...place } = followOutputPath(text);
      assert.equal(kind, 'file', text);
      assert.deepEqual('name' in place ? { folder: place.folder, name: place.name } : null, whole, text);
    }
  }
  const dangling = followOutputPath(join(folder, 'dangling'));
  assert.deepEqual(dangling, {
    kind: 'file',
    folder: join(folder, 'a'),
    name: 'none',
    isPresent: false,
    kept: null,
  });
});

test('what is no file is refused by what it is: folders, sockets, loops, folders that are missing or no folders', async (t) => {
  const folder = folderOf(t);
  writeFileSync(join(folder, 'file'), '');
  symlinkSync('loop', join(folder, 'loop'));
  const server = createServer().listen(join(folder, 'socket'));
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  for (const path of [folder, '/', `${folder}/file/`, `${folder}/.`, `${folder}/..`]) {
    assert.throws(() => followOutputPath(path), isRefused(/it is a directory/), path);
  }
  assert.throws(() => followOutputPath(join(folder, 'socket')), isRefused(/not a file/));
  assert.throws(() => followOutputPath(join(folder, 'loop')), isRefused(/too many symbolic links/));
  assert.throws(() => followOutputPath(join(folder, 'file', 'x')), isRefused(/not a directory/));
  assert.throws(() => followOutputPath(join(folder, 'none', 'x')), { code: 'ENOENT' });
});

test('our own descriptors are taken as such, whatever stands behind them; devices and pipes are what they are', (t) => {
  const folder = folderOf(t);
  symlinkSync('/dev/stdout', join(folder, 'link'));
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  for (const path of [
    '/dev/stdout',
    '/proc/self/fd/1',
    `/proc/${process.pid}/fd/1`,
    '/dev/fd/1',
    join(folder, 'link'),
  ]) {
    assert.deepEqual(followOutputPath(path), { kind: 'descriptor', fd: 1 }, path);
  }
  assert.deepEqual(followOutputPath('/dev/fd/63'), { kind: 'descriptor', fd: 63 });
  assert.equal(followOutputPath('/dev/null').kind, 'device');
  assert.equal(followOutputPath('/dev/full').kind, 'device');
  assert.equal(followOutputPath(join(folder, 'pipe')).kind, 'pipe');
});

test('a link of another user is never followed, in the last part of a path or before', forRoot, (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, 'etc'));
  for (const [link, target] of [
    ['file-link', 'etc/passwd'],
    ['folder-link', 'etc'],
  ] as const) {
    symlinkSync(target, join(folder, link));
    lchownSync(join(folder, link), OTHER_USER, OTHER_USER);
  }
  for (const path of ['file-link', 'folder-link/passwd']) {
    assert.throws(
      () => followOutputPath(join(folder, path)),
      isRefused(/symbolic link of another user/),
      path,
    );
  }
  // Also by way of a link of our own.
  symlinkSync('folder-link', join(folder, 'ours'));
  assert.throws(
    () => followOutputPath(join(folder, 'ours', 'passwd')),
    isRefused(/folder-link is a symbolic link of another/),
  );
});

test('in a folder that all users may write to no link is followed, not even ours', (t) => {
  const folder = folderOf(t);
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  symlinkSync('../file', join(shared, 'link'));
  for (const mode of [0o1777, 0o777]) {
    chmodSync(shared, mode);
    assert.throws(() => followOutputPath(join(shared, 'link')), isRefused(/that all users may write to/));
  }
});

test(
  "another user's file keeps its owner and mode in that user's folder, and has no say in a shared one",
  forRoot,
  (t) => {
    const folder = folderOf(t);
    const file = join(folder, 'file');
    writeFileSync(file, '');
    chmodSync(file, 0o664);
    chownSync(file, OTHER_USER, OTHER_USER);
    const keptOf = () => {
      const place = followOutputPath(file);
      return place.kind === 'file' ? place.kept : undefined;
    };
    assert.deepEqual(keptOf(), { mode: 0o664, uid: OTHER_USER, gid: OTHER_USER });
    chmodSync(folder, 0o1777);
    assert.equal(keptOf(), null);
    rmSync(file);
    execFileSync('mkfifo', [file]);
    chownSync(file, OTHER_USER, OTHER_USER);
    assert.throws(() => followOutputPath(file), isRefused(/belongs to another user/));
  },
);

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
  writeWholeFile({ folder, name: 'file' }, 'x', { kept: { mode: 0o640, uid: OTHER_USER, gid: OTHER_USER } });
  const { mode, uid, gid } = statSync(join(folder, 'file'));
  assert.deepEqual([mode & 0o777, uid, gid], [0o640, OTHER_USER, OTHER_USER]);
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
    chownSync(join(folder, 'file'), OTHER_USER, OTHER_USER);
    assert.throws(() => appendToFile(place, 'x', null), isOther);
    rmSync(join(folder, 'file'));
    execFileSync('mkfifo', [join(folder, 'file')]);
    assert.throws(() => appendToFile(place, 'x', null), { code: 'ENXIO' });
    assert.throws(() => tryWholeFile(place, true) ?? appendToFile(place, 'x', null));
  },
);
