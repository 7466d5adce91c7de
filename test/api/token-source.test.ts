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
import { closeToOthers, joinToken, masterToken } from '../../src/api/token-source.ts';
import { BenchError, ErrorCode, ExitCode } from '../../src/base/errors.ts';
import { formatToken, generateToken } from '../../src/control/token.ts';
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

/** The text of the token that an agent takes from a file. */
async function tokenIn(path: string): Promise<string> {
  return formatToken(await joinToken(path, false, 0));
}

/** A file for its owner alone, with a token. */
function fileWith(path: string, mode = 0o600): string {
  const text = formatToken(generateToken());
  writeFileSync(path, `${text}\n`, { mode });
  return text;
}

test('a file is made for its owner alone, whatever the umask, and never in the place of another', async (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'token');
  const umask = process.umask(0);
  t.after(() => process.umask(umask));
  const made = formatToken(await masterToken(path, ''));
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(readFileSync(path, 'utf8'), `${made}\n`);
  assert.equal(await tokenIn(path), made);
  assert.equal(formatToken(await masterToken(path, '')), made, 'what is there is taken');
  symlinkSync('nowhere', join(folder, 'link'));
  await assert.rejects(masterToken(join(folder, 'link'), ''), isBadToken(/./));
  assert.deepEqual(readdirSync(folder).sort(), ['link', 'token']);
  assert.equal(readFileSync(path, 'utf8'), `${made}\n`);
  await assert.rejects(joinToken(join(folder, 'none'), false, 0), isBadToken(/there is no such file/));
  await assert.rejects(masterToken(join(folder, 'none', 'token'), ''), isBadToken(/cannot be written/));
});

test('a file that others can read is refused, with what to type', async (t) => {
  const path = join(folderOf(t), 'token');
  await masterToken(path, '');
  for (const mode of [0o644, 0o640, 0o604, 0o666]) {
    chmodSync(path, mode);
    await assert.rejects(masterToken(path, ''), isBadToken(/can use it/));
    await assert.rejects(joinToken(path, false, 0), isBadToken(/can use it/));
    await assert.rejects(masterToken(path, ''), (error: BenchError) =>
      error.hint.startsWith(`chmod 600 ${path}`),
    );
  }
});

test('a Secret as Kubernetes mounts it is read: links of root to a file of mode 0400', forRoot, async (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, '..2026_01_01'));
  const text = fileWith(join(folder, '..2026_01_01', 'token'), 0o400);
  symlinkSync('..2026_01_01', join(folder, '..data'));
  symlinkSync('..data/token', join(folder, 'token'));
  assert.equal(await tokenIn(join(folder, 'token')), text);
  chownSync(join(folder, '..2026_01_01', 'token'), OTHER_USER, OTHER_USER);
  await assert.rejects(tokenIn(join(folder, 'token')), isBadToken(/another user/));
});

/** Bytes that this process has read so far, as the kernel counts them. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

test('a pipe is read when its writer comes; a device, a folder and a huge file hang nothing', async (t) => {
  const folder = folderOf(t);
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', ['-m', '600', pipe]);
  const text = formatToken(generateToken());
  const writer = spawn(
    'bash',
    ['-c', `sleep 0.3; exec 3> '${pipe}'; sleep 0.2; echo ${text} >&3; sleep 60`],
    {
      stdio: 'ignore',
    },
  );
  t.after(() => writer.kill('SIGKILL'));
  let turns = 0;
  const turning = setInterval(() => turns++, 5);
  assert.equal(await tokenIn(pipe), text);
  clearInterval(turning);
  assert(turns > 1, 'this process goes on while it waits');
  await assert.rejects(tokenIn('/dev/zero'), isBadToken(/it is a device/));
  await assert.rejects(tokenIn(folder), isBadToken(/./));
  writeFileSync(join(folder, 'huge'), 'x'.repeat(50_000_000), { mode: 0o600 });
  const before = bytesRead();
  await assert.rejects(tokenIn(join(folder, 'huge')), isBadToken(/./));
  assert(bytesRead() - before < 1_000_000, 'its begin was read alone');
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
