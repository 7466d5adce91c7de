/**
 * Tests the package as a program gets it: packed, put into an empty folder, compiled against without our own packages for
 * development, and run; and the examples of docs/API.md.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { inheritedEnvironment, repositoryRoot } from './support/run-cli.ts';
import { HANG_MS } from './support/waiting.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-package-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const installed = join(folder, 'node_modules', 'c100k-bench');

function run(
  cwd: string,
  file: string,
  ...args: string[]
): { status: number | null; text: string; stdout: string } {
  const { status, stdout, stderr } = spawnSync(file, args, {
    cwd,
    encoding: 'utf8',
    timeout: 8 * HANG_MS,
    env: inheritedEnvironment(),
  });
  return { status, text: `${stdout}${stderr}`, stdout };
}

/** Our own compiler on a file of the folder: as strict as it gets, and no declaration is skipped. */
function compile(name: string): void {
  const options = {
    strict: true,
    exactOptionalPropertyTypes: true,
    module: 'nodenext',
    target: 'es2022',
    skipLibCheck: false,
    types: ['node'],
    outDir: 'out',
  };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, include: [name, 'vitest.d.ts'] }),
  );
  const compiler = join(repositoryRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status, text } = run(folder, process.execPath, compiler, '-p', 'tsconfig.json');
  assert.equal(status, 0, text);
}

before(() => {
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: 'user', private: true, type: 'module' }),
  );
  // Without scripts: dist/ is there, and building it again would pull it from under other tests.
  const packed = run(
    repositoryRoot,
    'npm',
    'pack',
    '--ignore-scripts',
    '--silent',
    '--pack-destination',
    folder,
  );
  assert.equal(packed.status, 0, packed.text);
  const [tarball = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  const unpacked = run(folder, 'tar', '-xzf', tarball);
  assert.equal(unpacked.status, 0, unpacked.text);
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
  cpSync(join(folder, 'package'), installed, { recursive: true });
  // As an install does without the network: what the package depends on, and what every program for Node has.
  const { dependencies } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const own = join(installed, 'node_modules');
  const modules = join(repositoryRoot, 'node_modules');
  mkdirSync(own);
  for (const name of Object.keys(dependencies)) symlinkSync(join(modules, name), join(own, name));
  for (const name of ['@types/node', 'undici-types']) {
    cpSync(join(modules, name), join(folder, 'node_modules', name), { recursive: true });
  }
});

/** The code of the fence of docs/API.md with this word. */
function exampleOf(word: string): string {
  const text = readFileSync(join(repositoryRoot, 'docs', 'API.md'), 'utf8');
  const code = new RegExp(`^\`\`\`ts ${word}\\n([\\s\\S]*?)^\`\`\``, 'm').exec(text)?.[1];
  assert.ok(code !== undefined, `docs/API.md has no example with ${word}`);
  return code;
}

describe('the packed package', () => {
  it('has the library, its types, the program and the documents, and no map, test or source', () => {
    const files = readdirSync(installed, { recursive: true, encoding: 'utf8' }).filter(
      (name) => !name.startsWith('node_modules'),
    );
    for (const name of ['dist/index.js', 'dist/index.d.ts', 'bin/c100k-bench.js', 'docs/API.md', 'LICENSE']) {
      assert.ok(files.includes(name), name);
    }
    assert.deepEqual(
      files.filter((name) => /\.map$|^src\/|^test\//.test(name)),
      [],
    );
    for (const name of files.filter((one) => one.endsWith('.js'))) {
      assert.doesNotMatch(readFileSync(join(installed, name), 'utf8'), /^\/\/# sourceMappingURL/m, name);
    }
  });

  it('says what it is: system, versions, entries that are there, and nothing but them can be imported', () => {
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    assert.deepEqual(manifest.os, ['linux']);
    for (const key of ['name', 'version', 'description', 'keywords', 'license', 'author', 'engines', 'bin']) {
      assert.ok(manifest[key], key);
    }
    for (const entry of Object.values(manifest.exports)) {
      const paths = typeof entry === 'string' ? [entry] : Object.values(entry as Record<string, string>);
      for (const path of paths) assert.ok(existsSync(join(installed, path)), path);
    }
    const code = "import('c100k-bench/dist/main.js').catch((error) => console.log(error.code))";
    assert.equal(run(folder, process.execPath, '-e', code).stdout, 'ERR_PACKAGE_PATH_NOT_EXPORTED\n');
  });

  it('compiles in a strict program without our packages for development, and runs', () => {
    writeFileSync(
      join(folder, 'program.ts'),
      `import {
  BenchError, type BenchHooks, type BenchOptions, ErrorCode, ExitCode, NeverRanError, type Plan, type PlanOptions, plan,
  type Progress, type RunReport, run,
} from 'c100k-bench';

const options: BenchOptions = { target: 'self', conns: 50, durationMs: 50 };
const phases = new Set<Progress['phase']>();
const hooks: BenchHooks = { onProgress: ({ phase }) => void phases.add(phase), signal: new AbortController().signal };
const report: RunReport = await run(options, hooks);
const planned: PlanOptions = { target: 'self', conns: 50 };
const made: Plan = await plan(planned);
// @ts-expect-error a text is no number
const wrong: Promise<RunReport> = run({ target: 'self', conns: '50' });
const code = await wrong.then(() => null, (error: unknown) => (error instanceof BenchError ? error.code : null));
// @ts-expect-error there is no such option
void (await run({ target: 'self', conns: 50, rate: 5 }).catch((error: unknown) => error instanceof NeverRanError));
const words: string[] = [report.verdict, String(made.wouldStart), String(phases.has('holding')), String(code)];
console.log(words.join(), code === ErrorCode.badNumber, report.exitCode === ExitCode.held);
`,
    );
    compile('program.ts');
    const { status, text } = run(folder, process.execPath, 'out/program.js');
    assert.deepEqual([status, text], [0, 'pass,true,true,bad-number true true\n']);
  });
});

describe('the examples of docs/API.md', () => {
  it('with node:test compiles and passes, and fails against a target that is not there', () => {
    writeFileSync(join(folder, 'example.test.ts'), exampleOf('node:test'));
    compile('example.test.ts');
    const passed = run(folder, process.execPath, '--test', 'out/example.test.js');
    assert.equal(passed.status, 0, passed.text);
    assert.match(passed.text, /pass 1\b/);
    const failed = run(
      folder,
      'env',
      'TARGET=127.0.0.1:9',
      process.execPath,
      '--test',
      'out/example.test.js',
    );
    assert.equal(failed.status, 1, failed.text);
    assert.match(failed.text, /fail 1\b/);
  });

  it('with Vitest compiles against what it uses of Vitest', () => {
    // Vitest is no package of ours: what the example calls is declared as Vitest's own types have it.
    writeFileSync(
      join(folder, 'vitest.d.ts'),
      `declare module 'vitest' {
  export function test(name: string, body: (context: { readonly signal: AbortSignal }) => Promise<void>, timeoutMs?: number): void;
  export function expect<Value>(value: Value, message?: string): { toBe(wanted: Value): void };
}
`,
    );
    writeFileSync(join(folder, 'example.spec.ts'), exampleOf('vitest'));
    compile('example.spec.ts');
  });
});
