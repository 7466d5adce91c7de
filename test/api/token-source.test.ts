import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { closeToOthers, makeTokenFile, readTokenFile, whyUnsafe } from '../../src/api/token-source.ts';
import { BenchError, ErrorCode, ExitCode } from '../../src/base/errors.ts';
import { runCli } from '../support/run-cli.ts';

const OTHER_USER = 65_534;
const forRoot = process.geteuid?.() === 0 ? {} : { skip: 'only root can give files to another user' };

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-token-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function isBadToken(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BenchError, String(error));
    assert.deepEqual([error.code, error.exitCode], [ErrorCode.badToken, ExitCode.usage]);
    assert.match(error.message, pattern);
    return true;
  };
}

test('a file is made for its owner alone, whatever the umask, and never in the place of another', (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'token');
  const umask = process.umask(0);
  t.after(() => process.umask(umask));
  assert.equal(makeTokenFile(path, 'secret'), true);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(readTokenFile(path), 'secret');
  assert.equal(makeTokenFile(path, 'other'), false);
  symlinkSync('nowhere', join(folder, 'link'));
  assert.equal(makeTokenFile(join(folder, 'link'), 'other'), false);
  assert.deepEqual(readdirSync(folder).sort(), ['link', 'token']);
  assert.equal(readFileSync(path, 'utf8'), 'secret\n');
  assert.equal(readTokenFile(join(folder, 'none')), null);
  assert.throws(() => makeTokenFile(join(folder, 'none', 'token'), 'x'), isBadToken(/cannot be written/));
});

test('a file that others can read is refused, with what to type', (t) => {
  const path = join(folderOf(t), 'token');
  makeTokenFile(path, 'secret');
  for (const mode of [0o644, 0o640, 0o604, 0o666]) {
    chmodSync(path, mode);
    assert.throws(() => readTokenFile(path), isBadToken(/can use it/));
    assert.throws(
      () => readTokenFile(path),
      (error: BenchError) => error.hint.startsWith(`chmod 600 ${path}`),
    );
  }
});

test('a Secret as Kubernetes mounts it is read: links of root to a file of mode 0400', forRoot, (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, '..2026_01_01'));
  writeFileSync(join(folder, '..2026_01_01', 'token'), 'secret\n', { mode: 0o400 });
  symlinkSync('..2026_01_01', join(folder, '..data'));
  symlinkSync('..data/token', join(folder, 'token'));
  assert.equal(readTokenFile(join(folder, 'token')), 'secret');
  chownSync(join(folder, '..2026_01_01', 'token'), OTHER_USER, OTHER_USER);
  assert.throws(() => readTokenFile(join(folder, 'token')), isBadToken(/another user/));
});

test('a pipe is read when its writer comes; a device, a folder and a huge file hang nothing', async (t) => {
  const folder = folderOf(t);
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', ['-m', '600', pipe]);
  const writer = spawn('bash', ['-c', `sleep 0.3; exec 3> '${pipe}'; sleep 0.2; echo secret >&3; sleep 60`], {
    stdio: 'ignore',
  });
  t.after(() => writer.kill('SIGKILL'));
  assert.equal(readTokenFile(pipe), 'secret');
  assert.throws(() => readTokenFile('/dev/zero'), isBadToken(/it is a device/));
  assert.throws(() => readTokenFile(folder), isBadToken(/./));
  writeFileSync(join(folder, 'huge'), 'x'.repeat(50_000_000), { mode: 0o600 });
  assert.ok((readTokenFile(join(folder, 'huge')) ?? '').length < 20_000);
});

test('a file that a token is printed to is closed to others', (t) => {
  const path = join(folderOf(t), 'host7.token');
  writeFileSync(path, '', { mode: 0o644 });
  chmodSync(path, 0o644);
  const fd = openSync(path, 'w');
  closeToOthers(fd);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('token and k8s close the file that the shell made for them, and what they made serves as --token-file', async (t) => {
  const folder = folderOf(t);
  const master = join(folder, 'run.token');
  const commands = {
    'host7.token': ['token', '--token-file', master, '--name', 'host7'],
    'run.yaml': ['k8s', '-t', '10.1.0.5:80', '-c', '10', '--expect-agents', '1', '--image', 'x/y:1'],
  };
  for (const [name, args] of Object.entries(commands)) {
    const file = join(folder, name);
    const { code, stderr } = await runCli(args, { wrap: `umask 022; exec "$@" > '${file}'` });
    assert.equal(code, 0, stderr);
    assert.equal(statSync(file).mode & 0o777, 0o600, name);
  }
  assert.equal(statSync(master).mode & 0o777, 0o600);
  chmodSync(master, 0o644);
  const refused = await runCli(commands['host7.token']);
  assert.equal(refused.code, 2);
  assert.match(
    refused.stderr,
    /run\.token is not used: every user of this host can use it \(mode 0644\)\n {2}hint: chmod 600/,
  );
});

const US = 1_000;

test('who may read a token file decides whether it is used', () => {
  const cases: readonly [owner: number, mode: number, why: RegExp | null][] = [
    [US, 0o600, null],
    [US, 0o400, null],
    [US, 0o700, null],
    [US, 0o640, /group can use it \(mode 0640\)/],
    [US, 0o620, /group/],
    [US, 0o604, /every user .*\(mode 0604\)/],
    [US, 0o602, /every user/],
    [US, 0o644, /every user/],
    [0, 0o400, null],
    // A Secret of Kubernetes with fsGroup; a credential of systemd with an access list.
    [0, 0o440, null],
    [0, 0o444, /every user/],
    [0, 0o644, /every user/],
    [OTHER_USER, 0o600, /belongs to another user/],
    [OTHER_USER, 0o644, /belongs to another user/],
  ];
  for (const [uid, permissions, why] of cases) {
    const said = whyUnsafe({ uid, mode: 0o100_000 | permissions }, US);
    if (why === null) assert.equal(said, null, `${uid} ${permissions.toString(8)}`);
    else assert.match(said ?? '', why, `${uid} ${permissions.toString(8)}`);
  }
  assert.match(whyUnsafe({ uid: 0, mode: 0o100_640 }, 0) ?? '', /group/, 'for root, root is the owner');
});
