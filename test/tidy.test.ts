/**
 * Owns the rules of the house that a compiler does not know: layers, homes of packages, what only one file may do.
 * Must never import the program: it reads the sources as text.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, posix, relative, sep } from 'node:path';
import { test } from 'node:test';
import { countedSleepsIn } from './support/counted-sleeps.ts';
import {
  codeOf,
  filesBelow,
  folderOf,
  importsOf,
  loadsAtOnceOf,
  loadsOf,
  packageOf,
  ROOT,
  readAll,
  resolveFrom,
  withoutComments,
} from './support/source-text.ts';
import { wallTimeIn } from './support/wall-time.ts';

/**
 * The floor plan, from the ground up: a folder imports only folders that stand before it in this list, type imports
 * counted. The files of src/ itself (main.ts, index.ts), above all, may import any.
 */
const LAYERS: readonly string[] = [
  'time',
  'base',
  'host',
  'stats',
  'run',
  'plan',
  'judge',
  'control',
  'engine',
  'path',
  'report',
  'sources',
  'place',
  'serve',
  'agent',
  'coordinator',
  'api',
  'cli',
];

/** What lies beside src: nothing else, and nothing that a crash or a trial has left. */
const TOP_LEVEL: readonly string[] = [
  ...['.ci', '.editorconfig', '.gitignore', 'CHANGELOG.md', 'CONTRIBUTING.md', 'LICENSE', 'README.md'],
  ...['README.zh-CN.md', 'SECURITY.md', 'action.yml', 'assets', 'bin', 'biome.json', 'docs', 'man'],
  ...['package-lock.json', 'package.json', 'src', 'test', 'tsconfig.json', 'tsconfig.test.json'],
];

/** Folders of pure functions: no clock, no timer, no file, no socket. */
const PURE_FOLDERS: readonly string[] = ['base', 'stats', 'run', 'plan', 'judge'];

/** The one home of each package: a file, or a folder with its slash. */
const HOME_OF_PACKAGE: Readonly<Record<string, string | readonly string[]>> = {
  // Bindings: calls that every kernel has, io_uring's, and of src/host, which may not ask a folder above it, netlink's.
  koffi: ['src/engine/libc.ts', 'src/engine/drivers/uring-binding.ts', 'src/host/netlink.ts'],
  ws: 'src/control/',
  valibot: 'src/control/',
  yargs: 'src/cli/',
  'cli-progress': 'src/cli/',
  'hdr-histogram-js': 'src/stats/',
  yaml: ['src/place/kubernetes.ts', 'src/api/run-file.ts', 'src/cli/commands/init-command.ts'],
};

/** What a holder or a worker of the target must not load, because there are many of them and each pays for it. */
const TOO_HEAVY_FOR_MANY = ['ws', 'valibot', 'yargs', 'cli-progress', 'p-limit', 'hdr-histogram-js'];

const SOURCES = readAll(filesBelow('src', '.ts'));
const TESTS = readAll(filesBelow('test', '.ts'));

/** Sources that a file names: its imports, and string literals that are the path of a source to fork. */
function edgesOf(path: string, text: string): string[] {
  const literals = [...withoutComments(text).matchAll(/(['"`])([\w./-]+\.[jt]s)\1/g)].map(
    (match) => match[2] ?? '',
  );
  return [...importsOf(text), ...literals]
    .flatMap((name) => [resolveFrom(path, name), posix.join('src', name).replace(/\.js$/, '.ts')])
    .filter((name) => SOURCES.has(name));
}

/** All sources that a file loads, itself included. */
function closureOf(start: string, next: (path: string, text: string) => string[]): Set<string> {
  const reached = new Set<string>();
  const waiting = [start];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const text = SOURCES.get(path);
    if (text === undefined || reached.has(path)) continue;
    reached.add(path);
    waiting.push(...next(path, text));
  }
  return reached;
}

/** Fails with one line per offence, so that all are seen at once. */
function assertNone(offences: readonly string[]): void {
  assert.deepEqual(offences, [], `\n  ${offences.join('\n  ')}`);
}

/** Places in code (not in comments or strings) that match, outside the files that may do so. */
function offencesInCode(pattern: RegExp, isAllowed: (path: string) => boolean): string[] {
  return [...SOURCES]
    .filter(([path]) => !isAllowed(path))
    .flatMap(([path, text]) =>
      [...codeOf(text).matchAll(pattern)].map((match) => `${path}: ${match[0].trim()}`),
    );
}

test('the scanner that the other rules rest on tells code from comments, strings and regular expressions', () => {
  const text =
    "const a = 'console.log(1)'; // console.log(2)\n/* console.log(3) */ const b = /[/'\"]console.log/g; run(4 / 2, `x`);";
  assert.equal(codeOf(text), "const a = ''; \n  const b = ''g; run(4 / 2, '');");
  assert.deepEqual(
    importsOf("import a from './a.ts';\n// import './no.ts'\nawait import('b');\nimport './c.ts';"),
    ['./a.ts', 'b', './c.ts'],
  );
});

test('there are sources to judge', () => {
  assert(SOURCES.has('src/main.ts'), 'src/main.ts is missing');
  assert(SOURCES.size > 30, `only ${SOURCES.size} sources were found`);
});

test('a folder imports only folders below it, and every folder has a layer', () => {
  const offences: string[] = [];
  for (const [path, text] of SOURCES) {
    const folder = folderOf(path);
    if (folder === '') continue;
    const layer = LAYERS.indexOf(folder);
    if (layer < 0) offences.push(`${path}: src/${folder} has no layer`);
    for (const specifier of importsOf(text)) {
      if (!specifier.startsWith('.')) continue;
      const target = resolveFrom(path, specifier);
      const targetFolder = folderOf(target);
      if (!SOURCES.has(target)) offences.push(`${path}: imports ${specifier}, which is not there`);
      else if (targetFolder !== folder && (targetFolder === '' || LAYERS.indexOf(targetFolder) >= layer)) {
        offences.push(`${path}: imports ${target}, which is not below it`);
      }
    }
  }
  assertNone(offences);
});

test('every layer has its folder', () => {
  const folders = new Set([...SOURCES.keys()].map(folderOf));
  assertNone(LAYERS.filter((folder) => !folders.has(folder)));
});

/** All sources that come into a process with `start`; a forked file is another process. */
function loadedWith(start: string, loads: (text: string) => string[]): Set<string> {
  return closureOf(start, (path, text) =>
    loads(text)
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => resolveFrom(path, specifier)),
  );
}

test('no two sources import each other in a circle, type imports counted', () => {
  const reached = new Map([...SOURCES.keys()].map((path) => [path, loadedWith(path, importsOf)]));
  const offences = [...SOURCES].flatMap(([path, text]) =>
    importsOf(text)
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => resolveFrom(path, specifier))
      .filter((target) => reached.get(target)?.has(path))
      .map((target) => `${path} and ${target}`),
  );
  assertNone(offences);
});

test('each package has one home, and is a declared dependency', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const offences: string[] = [];
  for (const [path, text] of SOURCES) {
    for (const specifier of importsOf(text)) {
      if (specifier.startsWith('.') || specifier.startsWith('node:')) continue;
      const name = packageOf(specifier);
      const homes = [HOME_OF_PACKAGE[name] ?? []].flat();
      if (manifest.dependencies[name] === undefined) offences.push(`${path}: ${name} is not in dependencies`);
      const isHome = (home: string): boolean =>
        path === home || (home.endsWith('/') && path.startsWith(home));
      if (homes.length > 0 && !homes.some(isHome)) offences.push(`${path}: ${name} lives in ${homes}`);
    }
  }
  assertNone(offences);
});

test('holders and workers of the target load no heavy package', () => {
  const processes = [...SOURCES.keys()].filter((path) =>
    /^src\/(?:agent\/holder|serve\/worker)\.ts$/.test(path),
  );
  assert.equal(
    processes.length,
    2,
    'src/agent/holder.ts and src/serve/worker.ts are the processes that come in numbers',
  );
  // They may be started by way of main.ts, so what main.ts loads at once they load too.
  const loaded = new Set(processes.flatMap((path) => [...loadedWith(path, loadsOf)]));
  for (const path of loadedWith('src/main.ts', loadsAtOnceOf)) loaded.add(path);
  const offences = [...loaded].flatMap((path) =>
    loadsAtOnceOf(SOURCES.get(path) ?? '')
      .filter((specifier) => TOO_HEAVY_FOR_MANY.includes(specifier))
      .map((specifier) => `${path}: ${specifier}`),
  );
  assertNone(offences);
});

test('the complete hdr-histogram-js is imported by one file, which only judge imports', () => {
  const encoding = 'src/stats/histogram-encoding.ts';
  const offences: string[] = [];
  for (const [path, text] of SOURCES) {
    const specifiers = importsOf(text);
    if (specifiers.includes('hdr-histogram-js') && path !== encoding)
      offences.push(`${path}: hdr-histogram-js`);
    const names = specifiers.map((specifier) => resolveFrom(path, specifier));
    if (names.includes(encoding) && folderOf(path) !== 'judge') offences.push(`${path}: ${encoding}`);
  }
  assertNone(offences);
});

test('every source is reached from src/main.ts or src/index.ts, by an import or as a forked file', () => {
  const reached = new Set(['src/main.ts', 'src/index.ts'].flatMap((entry) => [...closureOf(entry, edgesOf)]));
  assertNone(
    [...SOURCES.keys()].filter((path) => !reached.has(path)).map((path) => `${path}: nobody loads it`),
  );
});

test('no file is named after what it is not', () => {
  const vague = /(?:^|\/)(?:utils?|helpers?|common|misc|shared)\.[jt]s$/;
  assertNone([...SOURCES.keys(), ...TESTS.keys()].filter((path) => vague.test(path)));
});

test('only main.ts and cli/ write to the console, end the process or read its arguments', () => {
  const isAllowed = (path: string): boolean => path === 'src/main.ts' || path.startsWith('src/cli/');
  assertNone(offencesInCode(/\bconsole\.\w+|\bprocess\s*\.\s*(?:exit|argv)\b/g, isAllowed));
  const imported = /\bimport\s*\{[^}]*\b(?:argv|exit)\b[^}]*\}\s*from\s*['"](?:node:)?process['"]/;
  assertNone(
    [...SOURCES].filter(([path, text]) => !isAllowed(path) && imported.test(text)).map(([path]) => path),
  );
});

test('only time/timer.ts reads a clock', () => {
  const clock =
    /\bDate\.now\b|\bperformance\s*\.\s*now\b|\bprocess\s*\.\s*hrtime\b|\bnew Date\(\s*\)|\bDate\(\s*\)/g;
  assertNone(offencesInCode(clock, (path) => path === 'src/time/timer.ts'));
});

test('pure folders are pure: of Node they import nothing but node:assert, and they start no timer', () => {
  const offences = [...SOURCES]
    .filter(([path]) => PURE_FOLDERS.includes(folderOf(path)))
    .flatMap(([path, text]) =>
      importsOf(text)
        .filter((specifier) => specifier.startsWith('node:') && !/^node:assert(?:\/strict)?$/.test(specifier))
        .map((specifier) => `${path}: ${specifier}`),
    );
  const timed = [...SOURCES]
    .filter(([path]) => PURE_FOLDERS.includes(folderOf(path)))
    .flatMap(([path, text]) =>
      importsOf(text)
        .filter((name) => name.includes('/time/'))
        .map((name) => `${path}: ${name}`),
    );
  const impure = /\bset(?:Timeout|Interval|Immediate)\b|\bMath\.random\b|\bprocess\b\s*\./g;
  assertNone([
    ...offences,
    ...timed,
    ...offencesInCode(impure, (path) => !PURE_FOLDERS.includes(folderOf(path))),
  ]);
});

test('only time/timer.ts makes timers: those of Node run a delay of more than 24.8 days at once', () => {
  const home = (path: string): boolean => path === 'src/time/timer.ts';
  assertNone(offencesInCode(/\b(?:set|clear)(?:Timeout|Interval)\b|\bAbortSignal\s*\.\s*timeout\b/g, home));
  assertNone(
    [...SOURCES].flatMap(([path, text]) =>
      importsOf(text)
        .filter((specifier) => /^(?:node:)?timers(?:\/promises)?$/.test(specifier))
        .map((specifier) => `${path}: ${specifier}`),
    ),
  );
});

test('no wait counts its sleeps: it ends with a deadline (time/timer.ts)', () => {
  assertNone(
    [...SOURCES].flatMap(([path, text]) => countedSleepsIn(codeOf(text)).map((what) => `${path}: ${what}`)),
  );
});

test('the rule about sleeps finds what it is made for, and leaves the rest alone', () => {
  const offences = [
    'for (let tries = 0; tries < 40; tries++) { if (await isClosed()) return; await pause(50); }',
    'for (let tries = 1; ; tries += 1) { await ask(); if (isSo || tries === MAX) return; await pause(300); }',
    'let left = 5; while (left > 0) { left--; await waiting.pause(100); }',
    'do { await sleep(10); } while (++tries < 3);',
    'for (const _ of Array.from({ length: 20 })) { await pause(100); }',
    'for (const index of Array(9).keys()) await delay(100);',
    'let looks = 6; function look() { looks--; if (looks <= 0) late(); else timer = after(500, look); }',
    'const look = () => { this.#looks += 1; if (this.#looks < MAX) after(500, look); };',
    'const look = () => { if (++looks < MAX) after(500, () => look()); };',
    'for (let waitedMs = 0; waitedMs < timeoutMs; waitedMs += LOOK_MS) { await new Promise((resolve) => setTimeout(resolve, LOOK_MS)); }',
    'class A { begin() { every(1_000, () => void this.#tick()); }\n  async #tick(): Promise<void> { this.#ticks += 1; if (this.#ticks % 20 === 0) renew(); } }',
    'every(1_000, () => { ticks++; if (ticks % 20 === 0) renew(); });',
    'setInterval(() => { if (--left === 0) end(); }, 100);',
  ];
  for (const code of offences) assert.equal(countedSleepsIn(code).length, 1, code);
  const harmless = [
    'for (;;) { if (await ask()) return true; if (nowMs() >= deadlineMs) return false; await pause(50); }',
    'for (let index = 0; index < all.length; index++) { ends.push(all[index]); }',
    'while (nowMs() < untilMs) { asked++; await pause(100); }',
    'const look = () => { still.look(nowMs()); if (still.attendedMs >= ms) late(); else timer = after(500, look); };',
    'every(1_000, () => { unanswered++; tell(); });',
    'class A { begin() { every(1_000, () => this.#tick()); }\n  #tick(): void { if (this.#ticks > 20) renew(); }\n  #other(): void { this.#ticks += 1; } }',
    'for (const one of holders) { after(500, () => one.kill()); }',
    'for (let index = 0; index < 5; index++) socket.pause();',
    'for (let port = from; port <= to; port++) take(port); await pause(5);',
  ];
  for (const code of harmless) assert.deepEqual(countedSleepsIn(code), [], code);
});

test('each source starts by saying what it owns and what it must never do', () => {
  const offences = [...SOURCES].flatMap(([path, text]) => {
    const comment = /^(?:#!.*\n)?\/\*\*[\s\S]*?\*\//.exec(text)?.[0] ?? '';
    return /\bOwns\b/.test(comment) && /\bnever\b/.test(comment) ? [] : [path];
  });
  assertNone(offences);
});

test('every exported function says what it does', () => {
  const exported = /^export (?:async )?function\*? ?(\w+)/;
  const offences: string[] = [];
  for (const [path, text] of SOURCES) {
    const lines = text.split('\n');
    for (const [index, line] of lines.entries()) {
      const name = exported.exec(line)?.[1];
      const isOverload = name !== undefined && exported.exec(lines[index - 1] ?? '')?.[1] === name;
      if (name !== undefined && !isOverload && !(lines[index - 1] ?? '').trimEnd().endsWith('*/')) {
        offences.push(`${path}:${index + 1}: ${name} has no TSDoc`);
      }
    }
  }
  assertNone(offences);
});

test('no test runs alone or is put off', () => {
  const pattern = /\b(?:test|it|describe)\s*\.\s*(?:only|todo)\b|\b(?:only|todo)\s*:\s*true\b/g;
  assertNone(
    [...TESTS].flatMap(([path, text]) =>
      [...codeOf(text).matchAll(pattern)].map((match) => `${path}: ${match[0]}`),
    ),
  );
});

const UNIT_TESTS = [...TESTS].filter(
  ([path]) =>
    !['system', 'lab', 'bench', 'support', 'cases'].includes(folderOf(path)) ||
    /^test\/(?:support|cases)\/.*\.test\.ts$/.test(path),
);

test('no unit test holds passed time against a number, or gives up a wait within a minute', () => {
  assertNone(
    UNIT_TESTS.flatMap(([path, text]) => wallTimeIn(codeOf(text)).map((what) => `${path}: ${what}`)),
  );
});

test('the rule about time finds what it is made for, and leaves the rest alone', () => {
  const offences = [
    'const tookMs = performance.now() - beganMs; assert(tookMs < 1_000, x);',
    'assert(performance.now() - began < 200);',
    'assert.ok(Date.now() - startedMs <= 8_000);',
    'const all = clock.monotonicMs() - from; run(); assert(all > 5 && all < LIMIT_MS);',
    'assert(1_000 > elapsedMs);',
    'assert(hold.seconds >= 0.3 && hold.seconds < 0.6);',
    'await until(() => isSo(a, 1), 5_000, x);',
    'await within(holder.exited, 500, x);',
    'await settled(x, holder.exited, 500);',
    'await holder.until(x, () => holder.settled, 2_000);',
    'await fetch(url, { signal: AbortSignal.timeout(5_000) });',
    'test(x, { timeout: 30_000 }, async () => { run(); });',
    'spawnSync(zsh, [a, b], { encoding: x, timeout: 10_000 });',
  ];
  for (const code of offences) assert.equal(wallTimeIn(code).length, 1, code);
  const harmless = [
    'const passedMs = performance.now() - began; assert(passedMs >= 50);',
    'assert(passedMs <= outerMs + 1);',
    'await until(x, () => run.stats().open === 2_000);',
    'assert(took < 3);',
    'assert.deepEqual(stats.failed, { timeout: 3 });',
    'for (let elapsedMs = 0; elapsedMs < 5_000; elapsedMs += 10) { assert(isSo(elapsedMs)); }',
    'await settled(x, work, 10 * HANG_MS);',
    'settled(machine, 500);',
    'test(x, async () => { await runCommand(a, b, { timeoutMs: 300 }); });',
  ];
  for (const code of harmless) assert.deepEqual(wallTimeIn(code), [], code);
});

/** Files that are or would be in the repository. */
function trackedFiles(): string[] {
  if (existsSync(join(ROOT, '.git'))) {
    const args = ['-C', ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'];
    return execFileSync('git', args, { encoding: 'utf8' })
      .split('\0')
      .filter((path) => path !== '');
  }
  const beside = /^(?:node_modules|dist|build|coverage)(?:\/|$)/;
  return readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
    .map((path) => relative('', path).split(sep).join('/'))
    .filter((path) => !beside.test(path));
}

test('the top level has what it is known for, and nothing that a program left there', () => {
  const ignored = readFileSync(join(ROOT, '.gitignore'), 'utf8').split('\n').filter(Boolean);
  const isIgnored = (name: string): boolean =>
    ignored.some((line) =>
      line.startsWith('*') ? name.endsWith(line.slice(1)) : name === line.replace(/\/$/, ''),
    );
  const names = readdirSync(ROOT).filter((name) => name !== '.git' && !isIgnored(name));
  assert.deepEqual(
    names.filter((name) => !TOP_LEVEL.includes(name)),
    [],
  );
});

test('no file names a path of the machine that it was written on, or a package registry', () => {
  // Put together from parts, so that this file does not match itself.
  const machine = ['work', 'home', 'root', 'Users']
    .map((folder) => `(?<![\\w.~$}/-])/${folder}/[\\w.-]+`)
    .join('|');
  const registry = ['registry', 'artifactory', 'verdaccio']
    .map((host) => `https?://[\\w.-]*${host}[\\w-]*\\.`)
    .join('|');
  const pattern = new RegExp(`${machine}|${registry}`, 'g');
  const offences: string[] = [];
  for (const path of trackedFiles()) {
    const whole = join(ROOT, path);
    if (!existsSync(whole) || !statSync(whole).isFile() || statSync(whole).size > 2_000_000) continue;
    for (const match of readFileSync(whole, 'utf8').matchAll(pattern)) offences.push(`${path}: ${match[0]}`);
  }
  assertNone(offences);
});

test('no signal is sent to a pid that may be 0, which is every process of the group', () => {
  const mayBeNone = /process\.kill\([^)]*(?:\?\? 0\b|\bNumber\(\w+\.stdout)/;
  const offences = trackedFiles()
    .filter((path) => /^(?:src|test)\/.*\.ts$/.test(path) && existsSync(join(ROOT, path)))
    .filter((path) => path !== 'test/tidy.test.ts' && mayBeNone.test(readFileSync(join(ROOT, path), 'utf8')));
  assertNone(offences);
  assert(mayBeNone.test("process.kill(child.pid ?? 0, 'SIGKILL')"));
});
