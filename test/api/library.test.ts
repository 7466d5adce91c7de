/** Tests the library as a program uses it: real runs, against a far side that counts, and in processes of their own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { BenchError, NeverRanError, type Progress, plan, run } from '../../src/index.ts';
import { CountingServer } from '../support/counting-server.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { inheritedEnvironment, repositoryRoot } from '../support/run-cli.ts';
import { HANG_MS, until } from '../support/waiting.ts';

/** The far side, none of ours. */
let far: CountingServer;
let target = '';

before(async () => {
  far = await CountingServer.listen();
  target = far.target;
});
after(() => far.close());

const CONNS = 100;

/** Processes of a run that this process has forked and that are there: agents, holders, workers. */
function childrenOfRuns(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]);
        const isDead = /^State:\s+Z/m.test(status);
        return parent === process.pid && !isDead && command.some((word) => word.endsWith('c100k-bench.js'))
          ? [command.join(' ')]
          : [];
      } catch {
        return [];
      }
    });
}

describe('run', () => {
  it('gives the report of the command line, twice one after the other', async () => {
    for (const _ of [1, 2]) {
      // The target is in this process: it must have had time to accept, on a busy machine too.
      const report = await run({ target, conns: CONNS, durationMs: 3_000 });
      assert.deepEqual(schemaErrors(JSON.parse(JSON.stringify(report))), []);
      assert.deepEqual([report.verdict, report.exitCode], ['pass', 0], report.reason);
      assert.equal(report.connections.held, CONNS);
      assert.deepEqual(childrenOfRuns(), []);
    }
  });

  it('shows no credential in the query of a target, neither in the command nor beside it', async () => {
    // Nothing listens: what is asked is said all the same.
    const report = await run({ target: 'ws://127.0.0.1:1/a?token=s3cret&room=1', conns: 1, durationMs: 100 });
    assert.deepEqual(report.asked.target, ['ws://127.0.0.1:1/a?token=...&room=1']);
    assert.doesNotMatch(JSON.stringify(report), /s3cret/);
  });

  it('runs twice at the same time in one process, each against its own target', async () => {
    const reports = await Promise.all([
      run({ target: 'self', conns: CONNS, durationMs: 100 }),
      run({ target: 'echo://self', conns: 2 * CONNS, durationMs: 100 }),
    ]);
    assert.deepEqual(
      reports.map(({ verdict, connections, asked }) => [verdict, connections.held, asked.protocol]),
      [
        ['pass', CONNS, 'tcp'],
        ['pass', 2 * CONNS, 'echo'],
      ],
    );
    assert.deepEqual(childrenOfRuns(), []);
  });

  it('ends in order when its signal is aborted, in every phase, and gives the report so far', async () => {
    for (const phase of ['gathering', 'preparing', 'ramping', 'holding', 'draining'] as const) {
      const abort = new AbortController();
      const seen = new Set<string>();
      const options = {
        target,
        conns: CONNS,
        ratePerSec: 2_000,
        durationMs: phase === 'draining' ? 1 : 60_000,
      };
      const onProgress = (progress: Progress): void => {
        seen.add(progress.phase);
        if (progress.phase === phase) abort.abort();
      };
      const report = await run(options, { signal: abort.signal, onProgress });
      assert.ok(seen.has(phase), `${phase} among ${[...seen].join()}`);
      assert.deepEqual(schemaErrors(JSON.parse(JSON.stringify(report))), []);
      // One that is over has its own verdict.
      if (phase !== 'draining')
        assert.deepEqual([report.verdict, report.exitCode], ['incomplete', 130], phase);
      assert.deepEqual(childrenOfRuns(), [], phase);
      await until('the far side has none left', () => far.open === 0);
    }
  });

  it('opens nothing when its signal is aborted already, and still refuses wrong options', async () => {
    const signal = AbortSignal.abort();
    const before = far.accepted;
    for (const each of [target, 'self', 'none.invalid:1']) {
      const report = await run({ target: each, conns: CONNS }, { signal });
      assert.deepEqual(
        [report.verdict, report.exitCode, report.connections.attempted],
        ['incomplete', 130, 0],
      );
      assert.deepEqual(schemaErrors(JSON.parse(JSON.stringify(report))), []);
    }
    assert.equal(far.accepted, before);
    await assert.rejects(run({ target, conns: 0 }, { signal }), BenchError);
  });

  it('ends in order when a hook throws, and rejects with what was thrown', async () => {
    const thrown = new TypeError('of the caller');
    let calls = 0;
    const onProgress = ({ phase }: Progress): void => {
      if (phase !== 'holding') return;
      calls += 1;
      throw thrown;
    };
    await assert.rejects(
      run({ target, conns: CONNS, durationMs: 60_000 }, { onProgress }),
      (error) => error === thrown,
    );
    assert.equal(calls, 1);
    assert.deepEqual(childrenOfRuns(), []);
    await until('the far side has none left', () => far.open === 0);
  });

  it('rejects with a BenchError for what cannot be, and with a report where agents do not come', async () => {
    await assert.rejects(run({ target: 'none.invalid:1', conns: 5 }), (error) => {
      assert.ok(error instanceof BenchError && error.code === 'name-not-resolved', String(error));
      return true;
    });
    const folder = `${repositoryRoot}/build/no-such-folder`;
    await assert.rejects(
      run({ target, conns: 5, expectAgents: 1, tokenFile: `${folder}/token` }),
      /cannot be written/,
    );
    for (const hooks of [null, 5, { signal: 5 }, { onProgress: 'x' }, { onDone: () => {} }]) {
      await assert.rejects(run({ target, conns: 5 }, hooks as object), BenchError);
    }
    assert.deepEqual(childrenOfRuns(), []);
    assert.ok(NeverRanError.prototype instanceof BenchError);
  });
});

describe('plan', () => {
  it('gives the plan of the command line and opens nothing', async () => {
    const before = far.accepted;
    const made = await plan({ target, conns: CONNS, via: ['dnat', 'haproxy:1x1'] });
    assert.deepEqual([made.wouldStart, made.connections, made.path?.hops.length], [true, CONNS, 2]);
    assert.equal(far.accepted, before);
    await assert.rejects(plan({ target, conns: 0 }), /conns is a whole number/);
    // What is said of hops that are not there would be dropped without a word.
    for (const lone of [
      { viaPorts: '1000-2000' },
      { viaSource: '10.0.0.1/24' },
      { viaServer: '10.0.0.9:80' },
    ])
      await assert.rejects(plan({ target, conns: CONNS, ...lone }), /^\w*Error: via\w+ needs via$/);
    await assert.rejects(plan({ target, conns: CONNS, viaPorts: 'abc' }), /"abc" is not a port/);
  });
});

describe('the process of a program that imports the library', () => {
  const entry = pathToFileURL(join(repositoryRoot, 'dist', 'index.js')).href;

  /** Runs a module in a process without a terminal, whose environment has what the library must not read. */
  function runModule(
    code: string,
    env: Readonly<Record<string, string>> = {},
  ): { status: number | null; stdout: string; stderr: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      encoding: 'utf8',
      timeout: 4 * HANG_MS,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...inheritedEnvironment(), C100K_CONNS: 'many', C100K_TOKEN: 'none', C100K_FROB: '1', ...env },
    });
    return { status, stdout, stderr };
  }

  it('hears nothing of it: no line on stdout or stderr, no handler, no exit code; and it ends by itself', () => {
    const { status, stdout, stderr } = runModule(`
      import { writeSync } from 'node:fs';
      import { run } from '${entry}';
      const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2', 'uncaughtException', 'unhandledRejection'];
      const counts = () => signals.map((name) => process.listenerCount(name)).join();
      const before = counts();
      let during = '';
      const report = await run({ target: 'self', conns: 50, durationMs: 50 }, {
        onProgress: ({ phase }) => { if (phase === 'holding') during = counts(); },
      });
      writeSync(1, JSON.stringify({ verdict: report.verdict, before, during, after: counts(), code: process.exitCode ?? null }));
    `);
    assert.equal(stderr, '');
    const { before, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual(rest, { verdict: 'pass', during: before, after: before, code: null });
    assert.equal(status, 0);
  });

  it('gets what its processes write to stderr by onNote, and none of it on stderr', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'c100k-library-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const preload = join(folder, 'talk.cjs');
    writeFileSync(
      preload,
      `if (/c100k-bench.js$/.test(process.argv[1])) process.stderr.write('word of ' + process.argv[2] + '\\n');`,
    );
    const { stdout, stderr } = runModule(
      `
      import { run } from '${entry}';
      const notes = [];
      const onNote = (line) => notes.push(line);
      const { verdict } = await run({ target: 'self', conns: 50, durationMs: 50 }, { onNote });
      console.log(JSON.stringify({ verdict, notes }));
    `,
      { NODE_OPTIONS: `--require ${preload}` },
    );
    assert.equal(stderr, '');
    const { verdict, notes } = JSON.parse(stdout) as { verdict: string; notes: string[] };
    assert.equal(verdict, 'pass');
    for (const entry of ['agent', 'holder', 'serve-worker'])
      assert.ok(notes.includes(`word of ${entry}`), entry);
  });

  it('runs it in a worker thread too', () => {
    const { status, stdout, stderr } = runModule(`
      import { Worker } from 'node:worker_threads';
      const worker = new Worker(\`
        import('${entry}').then(async ({ run }) => {
          const report = await run({ target: 'self', conns: 50, durationMs: 50 });
          (await import('node:worker_threads')).parentPort.postMessage(report.verdict);
        });
      \`, { eval: true });
      worker.on('message', (verdict) => console.log(verdict));
    `);
    assert.deepEqual([status, stdout, stderr], [0, 'pass\n', '']);
  });
});
