/** Tests which paths are followed. The kernel's own protection may be off, as in many containers: these rules hold by themselves. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { type TestContext, test } from 'node:test';
import { followOutputPath, OutputRefused } from '../../src/host/output-path.ts';

const STRANGER = 65_534;
const isRoot = process.geteuid?.() === 0;
const forRoot = isRoot ? {} : { skip: 'only root can give files to another user' };

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-path-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function isRefused(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof OutputRefused && pattern.test(error.message);
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

test('what is no file is told: folders, sockets, loops, folders that are missing or no folders', async (t) => {
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
    lchownSync(join(folder, link), STRANGER, STRANGER);
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

test('in a folder that everybody may write to no link is followed, not even ours', (t) => {
  const folder = folderOf(t);
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  symlinkSync('../file', join(shared, 'link'));
  for (const mode of [0o1777, 0o777]) {
    chmodSync(shared, mode);
    assert.throws(() => followOutputPath(join(shared, 'link')), isRefused(/that everybody may write to/));
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
    chownSync(file, STRANGER, STRANGER);
    const keptOf = () => {
      const place = followOutputPath(file);
      return place.kind === 'file' ? place.kept : undefined;
    };
    assert.deepEqual(keptOf(), { mode: 0o664, uid: STRANGER, gid: STRANGER });
    chmodSync(folder, 0o1777);
    assert.equal(keptOf(), null);
    rmSync(file);
    execFileSync('mkfifo', [file]);
    chownSync(file, STRANGER, STRANGER);
    assert.throws(() => followOutputPath(file), isRefused(/belongs to another user/));
  },
);
