import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { CliSeries } from '../support/cli-series.ts';
import { type CliOptions, type CliResult, runCli, startCli } from '../support/run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-cli-'));
const series = new CliSeries();
after(async () => {
  await series.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Most command lines run in one process after the other; the first of each kind, and those with limits, in their own. */
const kindsSeen = new Set<string>();
function ask(kind: string, args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const isFirst = !kindsSeen.has(kind);
  kindsSeen.add(kind);
  return isFirst || options.descriptorsMax !== undefined ? runCli(args, options) : series.run(args, options);
}

interface BadInput {
  readonly what: string;
  readonly args: readonly string[];
  readonly code: number;
  /** what the line, or its hint, says */
  readonly says: RegExp;
  readonly options?: CliOptions;
}

/** Port 9 needs no listener: every one of these is refused before anything is opened. */
const TARGET = ['--target', '127.0.0.1:9'];

const USAGE: readonly BadInput[] = [
  { what: 'an unknown flag', args: [...TARGET, '--conn', '5'], code: 2, says: /did you mean --conns\?/ },
  { what: 'no connections', args: [...TARGET, '--conns', '0'], code: 2, says: /at least 1/ },
  { what: 'fewer than none', args: [...TARGET, '--conns', '-5'], code: 2, says: /--conns .*"-5"/ },
  { what: 'a half connection', args: [...TARGET, '--conns', '1.5'], code: 2, says: /whole number/ },
  { what: 'a count with a tail', args: [...TARGET, '--conns', '130K!'], code: 2, says: /130K/ },
  { what: 'no count', args: TARGET, code: 2, says: /--conns is missing/ },
  { what: 'no target', args: ['--conns', '5'], code: 2, says: /--target is missing/ },
  { what: 'a host without port', args: ['-t', '127.0.0.1', '-c', '5'], code: 2, says: /port is missing/ },
  { what: 'port 0', args: ['-t', '127.0.0.1:0', '-c', '5'], code: 2, says: /port 0/ },
  { what: 'port 70000', args: ['-t', '127.0.0.1:70000', '-c', '5'], code: 2, says: /port 70000/ },
  {
    what: 'a name that does not resolve',
    args: ['-t', 'no-such-host.invalid:80', '-c', '5'],
    code: 2,
    says: /no-such-host\.invalid does not resolve/,
  },
  {
    what: 'more holders than one host takes',
    args: [...TARGET, '-c', '5', '--holders', '1024'],
    code: 2,
    says: /--holders must be at most 256.*--holders 256/,
  },
  {
    what: 'a number in powers of ten',
    args: [...TARGET, '--conns', '1e5'],
    code: 2,
    says: /type --conns 100000$/,
  },
  {
    what: 'a list of targets',
    args: ['-t', '10.0.0.1:80,10.0.0.2:80', '-c', '5'],
    code: 2,
    says: /type --target 10\.0\.0\.1:80 --target 10\.0\.0\.2:80$/,
  },
  {
    what: 'a mistyped variable',
    args: [...TARGET, '-c', '5'],
    code: 2,
    says: /variable C100K_CONNECT_TIMOUT is not known.*did you mean C100K_CONNECT_TIMEOUT\?/,
    options: { env: { C100K_CONNECT_TIMOUT: '3s' } },
  },
  {
    what: 'a wrong rate from the environment',
    args: [...TARGET, '-c', '5'],
    code: 2,
    says: /type C100K_RATE=5k\/s or C100K_RATE=300\/m/,
    options: { env: { C100K_RATE: 'fast' } },
  },
  {
    what: 'a wrong count from the environment',
    args: TARGET,
    code: 2,
    says: /C100K_CONNS/,
    options: { env: { C100K_CONNS: 'many' } },
  },
];

const REFUSED: readonly BadInput[] = [
  {
    what: 'a source address that is not ours',
    args: [...TARGET, '-c', '5', '--source-ip', '192.0.2.77'],
    code: 3,
    says: /192\.0\.2\.77/,
  },
  {
    what: 'more connections than tuples',
    args: [...TARGET, '-c', '5000', '--source-ip', '127.0.0.2', '--source-ports', '20000-20099'],
    code: 3,
    says: /5,000 tuples, has 100/,
  },
  {
    what: 'more connections than descriptors allow',
    args: [...TARGET, '-c', '130000', '--holders', '2'],
    code: 3,
    says: /descriptors/,
    options: { descriptorsMax: 256 },
  },
];

const UNWRITABLE: readonly BadInput[] = [
  {
    what: 'a report in a missing directory',
    args: ['--json', join(folder, 'no', 'r.json')],
    code: 5,
    says: /does not exist/,
  },
  { what: 'a report that is a directory', args: ['--json', folder], code: 5, says: /is a directory/ },
  { what: 'a report on a full device', args: ['--json', '/dev/full'], code: 5, says: /no space left/ },
];

for (const command of ['run', 'plan'] as const) {
  describe(`wrong input to ${command}`, () => {
    for (const { what, args, code, says, options } of USAGE) {
      it(`${what}: exit ${code}, one line and a hint`, async () => {
        const result = await ask('usage', command === 'run' ? args : [command, ...args], options);
        assert.equal(result.stdout, '');
        const lines = result.stderr
          .trimEnd()
          .split('\n')
          .filter((line) => !/^c100k-bench (?:plan )?--/.test(line));
        assert.equal(lines.length, 2, result.stderr);
        assert.match(lines[0] ?? '', /^c100k-bench: /);
        assert.match(lines[1] ?? '', /^ {2}hint: /);
        assert.match(lines.join(' '), says);
        assert.equal(result.code, code, result.stderr);
      });
    }

    for (const { what, args, code, says, options } of REFUSED) {
      it(`${what}: refused with the arithmetic, exit ${code}`, async () => {
        const result = await ask('refused', command === 'run' ? args : [command, ...args], options);
        assert.match(result.stdout, /^REFUSED /m, result.stderr);
        assert.match(result.stdout, says);
        assert.equal(result.code, code, result.stderr);
      });
    }

    for (const { what, args, code, says } of UNWRITABLE) {
      it(`${what}: found before the start, exit ${code}`, async () => {
        const full = [...TARGET, '-c', '5', ...args];
        const result = await ask('unwritable', command === 'run' ? full : [command, ...full]);
        assert.equal(result.stdout, '', 'nothing was run or planned');
        assert.match(result.stderr, says);
        assert.match(result.stderr, /hint: /);
        assert.equal(result.code, code);
        assert.deepEqual(readdirSync(folder), []);
      });
    }
  });
}

describe('wrong input to the other commands', () => {
  const cases: readonly BadInput[] = [
    { what: 'a port that is none', args: ['serve', '--port', '70000'], code: 2, says: /70000/ },
    { what: 'an address that is none', args: ['serve', '--host', 'nowhere'], code: 2, says: /nowhere/ },
    { what: 'no workers', args: ['serve', '--workers', '0'], code: 2, says: /--workers/ },
    { what: 'a holder by hand', args: ['holder'], code: 2, says: /not a command/ },
    { what: 'a serve worker by hand', args: ['serve-worker'], code: 2, says: /not a command/ },
    { what: 'an unknown shell', args: ['completion', 'tcsh'], code: 2, says: /bash, zsh or fish/ },
  ];
  for (const { what, args, code, says, options } of cases) {
    it(`${what}: exit ${code}, one line and a hint`, async () => {
      const result = await ask('other', args, options);
      assert.match(result.stderr, says);
      assert.match(result.stderr, /^c100k-bench: .*\n {2}hint: .*\n$/);
      assert.equal(result.code, code);
    });
  }
});

describe('variables that mean nothing', () => {
  const plan = ['plan', ...TARGET, '-c', '5'];

  it('are named on stderr, without their values', async () => {
    const env = { C100K_ZZZZZZZZ: 'secret', C100K_BENCH_SERVICE_HOST: '10.0.0.1' };
    const { stderr, code } = await runCli(plan, { env });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^warning: C100K_ZZZZZZZZ is not known and has no effect/m);
    assert.doesNotMatch(stderr, /secret|SERVICE_HOST/);
    assert.equal((await runCli([...plan, '--quiet'], { env })).stderr, '');
  });

  it('are the other commands flags without a word', async () => {
    const { stderr, code } = await runCli(plan, { env: { C100K_WORKERS: '3', C100K_NAME: 'a' } });
    assert.equal(code, 0);
    assert.doesNotMatch(stderr, /warning/);
  });
});

describe('the built-in target beyond what this host has', () => {
  /** The processes that a command line has forked, at most, while it ran. */
  async function childrenOf(
    args: readonly string[],
    options: CliOptions,
  ): Promise<readonly [CliResult, number]> {
    const running = startCli(args, options);
    let most = 0;
    const path = `/proc/${running.child.pid}/task/${running.child.pid}/children`;
    const timer = setInterval(() => {
      try {
        most = Math.max(most, readFileSync(path, 'utf8').trim().split(' ').filter(Boolean).length);
      } catch {
        // It has ended.
      }
    }, 20);
    const result = await running.result;
    clearInterval(timer);
    return [result, most];
  }

  // `ip` is asked for addresses and routes: three at once at most.
  const ASKING_MAX = 3;

  const REFUSALS = [
    ['epoll', /the built-in target needs [\d,]+ workers/],
    ['auto', /needs [\d,]+ open files on this host/],
  ] as const;

  for (const conns of ['20m', '100m'])
    for (const [engine, says] of REFUSALS) {
      it(`is refused for ${conns} connections before a worker is forked (--engine ${engine})`, async () => {
        const asked = ['-t', 'self', '-c', conns, '--engine', engine];
        const [{ stdout, code }, children] = await childrenOf(asked, {});
        assert.equal(code, 3);
        assert.match(stdout, /^REFUSED nothing was opened/m);
        assert.match(stdout, says);
        assert.ok(children <= ASKING_MAX, `${children} child processes at once`);
        assert.equal((await runCli(['plan', ...asked])).code, 3, 'plan says the same');
      });
    }

  it('is refused by serve with few descriptors, with a command that helps', async () => {
    const options = { descriptorsMax: 256 };
    // With io_uring connections take no descriptors: one worker per core, whatever ulimit -n is.
    const args = ['serve', '--port', '0', '--engine', 'epoll'];
    const [{ stderr, code }, children] = await childrenOf(args, options);
    assert.equal(code, 3);
    assert.match(stderr, /needs 903 workers .*\n {2}hint: ulimit -n \d+, or hold at most/);
    assert.equal(children, 0);
  });
});

describe('a process with few descriptors or tasks', () => {
  for (const descriptorsMax of [20, 30, 40, 64, 95]) {
    it(`of ulimit -n ${descriptorsMax} says what it needs, and what to type`, async () => {
      const { stdout, stderr, code } = await runCli(['-t', 'self', '-c', '5'], { descriptorsMax });
      assert.equal(code, 3, stderr);
      assert.equal(stdout, '');
      assert.match(
        stderr,
        /^c100k-bench: needs 96 descriptors for itself, before any connection, has \d+ \(ulimit -n\)\n {2}hint: ulimit -n 1024/,
      );
    });
  }

  it('of ulimit -n 96 runs', async () => {
    const result = await runCli(['-t', 'self', '-c', '2', '-d', '300ms'], {
      descriptorsMax: 96,
      timeoutMs: 120_000,
    });
    assert.equal(result.code, 0, result.stderr);
  });

  // RLIMIT_NPROC does not bind root: as a user of its own, whose tasks are this test's alone.
  it('of ulimit -u 30 is refused with the arithmetic', { skip: process.getuid?.() !== 0 }, async (t) => {
    const wrap =
      'exec setpriv --reuid=64998 --regid=64998 --clear-groups bash -c \'ulimit -u 30; cd /; exec "$@"\' - "$@"';
    const readable = await runCli(['--version'], { wrap });
    if (readable.code !== 0) {
      t.skip('the repository is in a folder that another user cannot read');
      return;
    }
    const { stdout, code } = await runCli(['-t', 'self', '-c', '5', '-d', '300ms'], { wrap });
    assert.equal(code, 3);
    assert.match(
      stdout.replaceAll(/\s+/g, ' '),
      /needs 27 tasks \(1 holder x 11 threads.*has \d+ \(ulimit -u 30/,
    );
    assert.match(stdout, /sudo prlimit --pid \$\$ --nproc=\d+:\d+/);
  });
});
