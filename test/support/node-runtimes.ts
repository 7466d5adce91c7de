/**
 * Owns getting other versions of Node to run the compiled program with: npm's packages of the plain binary, in a cache
 * outside the repository. Must never change the repository, or fail a test because there is no network.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

const INSTALL_TIMEOUT_MS = 180_000;

/** The runtime of one major version. */
export type Runtime =
  | { readonly path: string; readonly version: string }
  /** why it is not there */
  | { readonly missing: string };

/** The Node that runs this test when it is of that major version, else one from npm. */
export function nodeRuntime(major: number): Runtime {
  const own = process.version;
  if (own.startsWith(`v${major}.`)) return { path: process.execPath, version: own };
  const name = `node-${process.platform}-${process.arch}`;
  const cache = join(tmpdir(), `c100k-bench-runtimes-${userInfo().uid}`);
  const home = join(cache, `${name}-${major}`);
  const path = join(home, 'node_modules', name, 'bin', 'node');
  try {
    if (!existsSync(path)) install(`${name}@${major}`, cache, home);
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim();
    return version.startsWith(`v${major}.`)
      ? { path, version }
      : { missing: `${name}@${major} brought ${version}` };
  } catch (error) {
    return { missing: `${name}@${major} could not be installed: ${firstLine(error)}` };
  }
}

/** Installs beside the place and moves it there, so that a half-made one is never taken for whole. */
function install(what: string, cache: string, home: string): void {
  mkdirSync(cache, { recursive: true });
  const fresh = mkdtempSync(join(cache, 'install-'));
  try {
    const args = ['install', '--prefix', fresh, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts'];
    execFileSync('npm', [...args, '--fetch-retries', '1', what], {
      cwd: fresh,
      timeout: INSTALL_TIMEOUT_MS,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    rmSync(home, { recursive: true, force: true });
    renameSync(fresh, home);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

function firstLine(error: unknown): string {
  const { stderr, message } = error as Error & { stderr?: Buffer };
  const lines = `${stderr ?? ''}\n${message}`.split('\n').map((line) => line.trim());
  return lines.find((line) => line !== '' && !line.startsWith('npm warn')) ?? 'no reason given';
}
