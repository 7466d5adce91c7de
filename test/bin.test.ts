/** Tests what a person meets whose machine cannot start the program yet: one line, a command, and no stack trace. */
import assert from 'node:assert/strict';
import { fork, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { nodeRuntime } from './support/node-runtimes.ts';
import { cliPath, repositoryRoot } from './support/run-cli.ts';

const TIMEOUT_MS = 60_000;

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k bin-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a script with properties of `process` replaced before anything of it is read. */
function runWith(t: TestContext, faked: Record<string, string>, args: readonly string[], script = cliPath) {
  const preload = join(folderOf(t), 'fake.cjs');
  const lines = Object.entries(faked).map(
    ([name, value]) => `Object.defineProperty(process, '${name}', { value: ${JSON.stringify(value)} });`,
  );
  writeFileSync(preload, lines.join('\n'));
  return run(process.execPath, ['-r', preload, script, ...args]);
}

function run(file: string, args: readonly string[], cwd?: string) {
  return spawnSync(file, args, {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    ...(cwd === undefined ? {} : { cwd }),
  });
}

/** One line that says what, one that can be typed, and nothing else. */
function assertTwoLines(
  result: { stderr: string; stdout: string; status: number | null },
  what: RegExp,
  hint: RegExp,
): void {
  const { stderr, stdout, status } = result;
  assert.match(stderr, /^c100k-bench: .+\n {2}hint: .+\n$/, stderr);
  const [line = '', second = ''] = stderr.split('\n');
  assert.match(line, what);
  assert.match(second, hint);
  assert.equal(stdout, '');
  assert.equal(status, 3);
}

test('with a Node that is too old it says which one is needed', (t) => {
  const least = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8')).engines.node.slice(2);
  for (const version of ['v14.21.3', 'v18.20.8', 'v20.18.3', 'v8.0.0']) {
    const result = runWith(t, { version }, ['--target', 'self', '--conns', '10']);
    assertTwoLines(
      result,
      new RegExp(`needs Node ${least} or later, and this is ${version}$`),
      /hint: npx node@22 \S+/,
    );
  }
  for (const version of [`v${least}`, 'v20.20.0', 'v22.0.0', 'v100.0.0', 'v21.0.0-nightly20231012']) {
    assert.equal(runWith(t, { version }, ['--version']).status, 0, version);
  }
});

for (const major of [14, 18]) {
  test(`the real Node ${major} reads the script and says that it is too old`, (t) => {
    const runtime = nodeRuntime(major);
    if ('missing' in runtime) {
      t.skip(runtime.missing);
      return;
    }
    assertTwoLines(
      run(runtime.path, [cliPath, '--version']),
      new RegExp(`this is v${major}\\.`),
      /npx node@22/,
    );
  });
}

test('on another system than Linux it says so, and still makes manifests', (t) => {
  for (const platform of ['darwin', 'win32']) {
    assertTwoLines(
      runWith(t, { platform }, ['-t', 'self', '-c', '10']),
      new RegExp(`needs Linux, and this is ${platform}`),
      /hint: docker run /,
    );
    const made = runWith(t, { platform }, [
      'k8s',
      '-t',
      '10.1.0.5:80',
      '-c',
      '10',
      '--expect-agents',
      '1',
      '--image',
      'x/y:1',
    ]);
    assert.equal(made.status, 0, made.stderr);
    assert.match(made.stdout, /kind: Job/);
  }
});

test('a clone that is not built yet says how to build it, also when its path has a blank', (t) => {
  const clone = folderOf(t);
  for (const name of ['bin', 'package.json'])
    cpSync(join(repositoryRoot, name), join(clone, name), { recursive: true });
  const result = runWith(t, {}, ['--version'], join(clone, 'bin', 'c100k-bench.js'));
  assertTwoLines(result, /is not built yet/, /hint: cd '.+ .+' && npm ci && npm run build$/);
});

test('a clone without its packages says which one is missing', (t) => {
  const clone = folderOf(t);
  for (const name of ['bin', 'dist', 'package.json'])
    cpSync(join(repositoryRoot, name), join(clone, name), { recursive: true });
  assertTwoLines(
    run(process.execPath, [join(clone, 'bin', 'c100k-bench.js'), '--version']),
    /the package \S+ is not installed$/,
    /npm ci/,
  );
});

test('prepare builds where sources and a compiler are, and does nothing where they are not', (t) => {
  const clone = folderOf(t);
  const prepare = () => run(process.execPath, [join(clone, 'bin', 'prepare.js')], clone);
  for (const name of ['bin', 'package.json', 'tsconfig.json'])
    cpSync(join(repositoryRoot, name), join(clone, name), { recursive: true });
  // A packed tarball: no sources. `npm ci --omit=dev`: no compiler.
  assert.deepEqual([prepare().status, prepare().stderr], [0, '']);
  mkdirSync(join(clone, 'src'));
  writeFileSync(join(clone, 'src', 'main.ts'), 'export const main = async (): Promise<number> => 0;\n');
  assert.deepEqual([prepare().status, prepare().stderr], [0, '']);
  assert.throws(() => readFileSync(join(clone, 'dist', 'main.js')), /ENOENT/);
  mkdirSync(join(clone, 'node_modules'));
  for (const name of ['typescript', '@typescript']) {
    cpSync(join(repositoryRoot, 'node_modules', name), join(clone, 'node_modules', name), {
      recursive: true,
    });
  }
  // `--omit=dev` keeps a compiler that some package asks for, without the types.
  assert.deepEqual([prepare().status, prepare().stderr], [0, '']);
  assert.throws(() => readFileSync(join(clone, 'dist', 'main.js')), /ENOENT/);
  for (const name of ['@types', 'undici-types']) {
    cpSync(join(repositoryRoot, 'node_modules', name), join(clone, 'node_modules', name), {
      recursive: true,
    });
  }
  const built = prepare();
  assert.equal(built.status, 0, built.stdout);
  assert.match(readFileSync(join(clone, 'dist', 'main.js'), 'utf8'), /export const main/);
  // A build that fails must fail the installation.
  writeFileSync(join(clone, 'src', 'main.ts'), 'export const main: number = "no";\n');
  assert.notEqual(prepare().status, 0);
});

test('a holder or worker whose parent ended while it was loading ends without a word', async () => {
  for (const entry of ['holder', 'serve-worker']) {
    const child = fork(cliPath, [entry, String(process.pid)], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    }
    child.disconnect();
    const code = await new Promise((resolve) => child.once('exit', resolve));
    assert.deepEqual([code, said], [0, ''], entry);
  }
});
