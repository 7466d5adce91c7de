/** Tests that what people type to install gives a program that starts: from git, from a packed file, without dev packages. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { repositoryRoot } from '../support/run-cli.ts';

const TIMEOUT_MS = 300_000;
const QUIET = ['--no-audit', '--no-fund', '--prefer-offline'];

interface Done {
  readonly status: number | null;
  readonly text: string;
}

function run(cwd: string, file: string, ...args: string[]): Done {
  const { status, stdout, stderr } = spawnSync(file, args, { cwd, encoding: 'utf8', timeout: TIMEOUT_MS });
  return { status, text: `${stdout}${stderr}` };
}

/** A repository with one commit: every file that this one has, and so what is not committed yet too. */
function repositoryOf(t: TestContext): { root: string; repository: string } {
  const root = mkdtempSync(join(tmpdir(), 'c100k-install-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const repository = join(root, 'repository');
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  for (const path of execFileSync('git', ['-C', repositoryRoot, ...list], { encoding: 'utf8' }).split('\0')) {
    if (path === '') continue;
    mkdirSync(dirname(join(repository, path)), { recursive: true });
    cpSync(join(repositoryRoot, path), join(repository, path));
  }
  const git = (...args: string[]): Done =>
    run(repository, 'git', '-c', 'user.name=test', '-c', 'user.email=test@test.invalid', ...args);
  for (const args of [
    ['init', '-q'],
    ['add', '-A'],
    ['commit', '-q', '-m', 'all'],
  ]) {
    const { status, text } = git(...args);
    assert.equal(status, 0, text);
  }
  return { root, repository };
}

/** An empty project beside the repository. */
function projectIn(root: string, name: string): string {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, version: '1.0.0', private: true }));
  return folder;
}

/** Whether npm could not reach its registry: then there is nothing to test. */
function isOffline({ status, text }: Done): boolean {
  return status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED/.test(text);
}

function assertStarts(folder: string, script: string): void {
  const { status, text } = run(folder, process.execPath, script, '--version');
  assert.equal(status, 0, text);
  assert.match(text, /^\d+\.\d+\.\d+\n$/);
}

const INSTALLED = 'node_modules/c100k-bench/bin/c100k-bench.js';

test('npm install from git builds, and brings no compiler along', (t) => {
  const { root, repository } = repositoryOf(t);
  const app = projectIn(root, 'app');
  const installed = run(app, 'npm', 'install', ...QUIET, `git+file://${repository}`);
  if (isOffline(installed)) return t.skip('npm cannot reach its registry');
  assert.equal(installed.status, 0, installed.text);
  assertStarts(app, INSTALLED);
  assert.ok(!readdirSync(join(app, 'node_modules', 'c100k-bench')).includes('src'));
});

test('npm ci builds; npm ci --omit=dev succeeds and says how to build; a packed file needs no build', (t) => {
  const { root, repository } = repositoryOf(t);
  const bare = run(repository, 'npm', 'ci', '--omit=dev', ...QUIET);
  if (isOffline(bare)) return t.skip('npm cannot reach its registry');
  assert.equal(bare.status, 0, bare.text);
  const refused = run(repository, process.execPath, 'bin/c100k-bench.js', '--version');
  assert.equal(refused.status, 3);
  assert.match(
    refused.text,
    /^c100k-bench: is not built yet.*\n {2}hint: cd \S+ && npm ci && npm run build\n$/,
  );
  const whole = run(repository, 'npm', 'ci', ...QUIET);
  assert.equal(whole.status, 0, whole.text);
  assertStarts(repository, 'bin/c100k-bench.js');
  const packed = run(repository, 'npm', 'pack', '--silent');
  assert.equal(packed.status, 0, packed.text);
  const file = readdirSync(repository).find((name) => name.endsWith('.tgz')) ?? '';
  const app = projectIn(root, 'app');
  const installed = run(app, 'npm', 'install', ...QUIET, join(repository, file));
  assert.equal(installed.status, 0, installed.text);
  assertStarts(app, INSTALLED);
  // Unpacked by hand, and its own packages installed there: `prepare` runs without sources.
  const unpacked = run(root, 'tar', 'xf', join(repository, file));
  assert.equal(unpacked.status, 0, unpacked.text);
  const byHand = run(join(root, 'package'), 'npm', 'install', '--omit=dev', ...QUIET);
  assert.equal(byHand.status, 0, byHand.text);
  assertStarts(join(root, 'package'), 'bin/c100k-bench.js');
});

/** The first block of the README: what is typed in a clone, with a tarball, and then. */
function firstBlock(): { clone: string; tarball: string; example: string } {
  const readme = readFileSync(join(repositoryRoot, 'README.md'), 'utf8');
  const block = /^```sh\n([\s\S]*?)^```/m.exec(readme)?.[1] ?? '';
  const [clone = '', tarball = '', example = ''] = block
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/\s+# .*$/, ''));
  return { clone, tarball, example };
}

test('the first lines of the README work as they are typed, and the example passes on a host with one address', (t) => {
  const { root, repository } = repositoryOf(t);
  const { clone, tarball, example } = firstBlock();
  /** Types a line where global packages are installed below a folder of the test's own. */
  const typed = (cwd: string, prefix: string, line: string): Done => {
    const set = `export npm_config_prefix=${prefix} npm_config_audit=false npm_config_fund=false npm_config_prefer_offline=true`;
    return run(cwd, 'sh', '-c', `${set} PATH=${prefix}/bin:$PATH; ${line}`);
  };
  const [linked, global] = [join(root, 'linked'), join(root, 'global')];
  const cloned = typed(repository, linked, clone);
  if (isOffline(cloned)) return t.skip('npm cannot reach its registry');
  assert.equal(cloned.status, 0, cloned.text);
  const packed = typed(repository, linked, 'npm pack --silent');
  assert.equal(packed.status, 0, packed.text);
  const installed = typed(repository, global, tarball);
  assert.equal(installed.status, 0, installed.text);
  for (const prefix of [linked, global])
    assert.match(typed(root, prefix, 'c100k-bench --version').text, /^\d+\.\d+\.\d+\n$/, prefix);
  if (process.getuid?.() !== 0)
    return t.diagnostic('not root: the example was not tried on a host with one address');
  const host =
    'ip link set lo up && ip link add one type veth peer name other && ip addr add 192.0.2.1/24 dev one && ip link set one up && ip link set other up';
  const alone = typed(root, global, `unshare -n sh -c '${host} && exec ${example}'`);
  assert.equal(alone.status, 0, alone.text);
  assert.match(alone.text, /^PASS held 130,000 of 130,000 for 30 s$/m);
});
