/**
 * Owns what is left of source addresses when something breaks or two runs meet: SIGKILL, `cleanup`, an alias that
 * somebody deletes. The addresses are read by `ip` in the client's namespace, never taken from the program's word.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { addressRange } from '../../src/base/address.ts';
import { type BenchRun, until } from '../support/bench-run.ts';
import { networkTest } from '../support/network-test.ts';
import { cliPath } from '../support/run-cli.ts';
import { PORT, SERVER, type SourceLab, serveOn, serverView, sourceLab } from '../support/source-lab.ts';
import { HANG_MS } from '../support/waiting.ts';

const RECORDS_URL = new URL('../../src/sources/alias-records.js', import.meta.url).href;
const TARGET = ['--target', `${SERVER}:${PORT}`, '--source-ports', '20000-20999'];

/** Ends every process of a run at once, as a power cut would. */
function killAll(run: BenchRun): void {
  for (const { pid } of run.processes()) process.kill(pid, 'SIGKILL');
}

async function cleanup(lab: SourceLab, ...flags: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.client.run([process.execPath, cliPath, 'cleanup', ...flags]);
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

networkTest(
  'SIGKILL of every process: `cleanup` removes what was added at once, and nothing else',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    // One by hand within the range that is asked for, and one that looks like ours and is nobody's.
    await lab.client.must('ip', 'addr', 'add', '10.9.0.102/24', 'dev', 'eth0');
    await lab.client.must(
      ...'ip addr add 10.9.0.200/32 dev eth0 label eth0:c100k valid_lft 900 preferred_lft 900'.split(' '),
    );
    // What a killed run has recorded in a namespace that is gone, whose number this one has: the address by hand is no alias for that.
    const record = `new AliasRecords().write([{ address: '10.9.0.102', family: 4, prefix: 32, device: 'eth0' }])`;
    const script = `import { AliasRecords } from ${JSON.stringify(RECORDS_URL)}; if (!${record}) process.exit(1);`;
    await lab.client.must(process.execPath, '--input-type=module', '-e', script);
    const before = await lab.addresses();
    const run = lab.bench([
      ...TARGET,
      '--conns',
      '3000',
      '--duration',
      '60s',
      '--source-ip',
      '10.9.0.101-10.9.0.105',
      '--alias-dev',
      'auto',
    ]);
    await run.saw(/ holding /);
    assert.deepEqual((await lab.aliases()).sort(), ['10.9.0.101', '10.9.0.103', '10.9.0.104', '10.9.0.200']);
    assert.match(
      await cleanup(lab, '--dry-run'),
      /^left 10\.9\.0\.200\/32 dev eth0: no record says whose it is; the kernel removes it within \d+ s unless it is in use$/,
    );
    killAll(run);
    await run.gone(HANG_MS);
    assert.equal((await lab.aliases()).length, 4, 'the kernel has not removed them yet');
    assert.match(await cleanup(lab, '--dry-run'), /^would remove 10\.9\.0\.101\/32 dev eth0$/m);
    assert.equal((await lab.aliases()).length, 4, 'a dry run removes nothing');
    const said = await cleanup(lab);
    for (const last of [101, 103, 104])
      assert.match(said, new RegExp(`^removed 10\\.9\\.0\\.${last}/32 dev eth0$`, 'm'));
    assert.equal(
      await lab.addresses(),
      before,
      'the address by hand and the one of another program are as they were',
    );
    assert.match(await cleanup(lab), /^left 10\.9\.0\.200/);
  },
);

networkTest(
  'SIGKILL of every process: without any help the kernel removes the aliases at the end of their lifetime',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    const before = await lab.addresses();
    const run = lab.bench([
      ...[...TARGET, '--conns', '1500', '--duration', '60s'],
      ...[
        '--source-ip',
        '10.9.0.101-10.9.0.105',
        '--source-prefix',
        '10.1.0.0/24',
        '--alias-dev',
        'auto',
        '--alias-lease',
        '5s',
      ],
    ]);
    await run.saw(/ holding /);
    const added = (await lab.aliases()).length;
    assert(added >= 1, 'something was added');
    // Two lifetimes later they are still there, because they are renewed.
    await new Promise((resolve) => setTimeout(resolve, 10_500));
    assert.equal((await lab.aliases()).length, added);
    killAll(run);
    const ms = await until(
      'the kernel has removed them',
      HANG_MS,
      async () => (await lab.aliases()).length === 0,
    );
    t.diagnostic(`gone after ${Math.round(ms)} ms`);
    assert.equal(await lab.addresses(), before);
    const routes = await lab.client.must('ip', 'route', 'show', 'table', 'local');
    assert.doesNotMatch(routes, /10\.1\.0/, 'the network is no longer local');
  },
);

networkTest('the next run removes what a crash left, names it, and works', async (t) => {
  const lab = await sourceLab(t);
  await serveOn(lab, { workers: 1 });
  const before = await lab.addresses();
  const range = ['--source-ip', '10.9.0.101-10.9.0.103', '--alias-dev', 'auto'];
  const first = lab.bench([...TARGET, '--conns', '2500', '--duration', '60s', ...range]);
  await first.saw(/ holding /);
  killAll(first);
  await first.gone(HANG_MS);
  const second = lab.bench([...TARGET, '--conns', '2500', '--duration', '1s', ...range]);
  const { code, stdout, stderr } = await second.result;
  assert.equal(code, 0, `${stdout}${stderr}`);
  assert.match(stdout.replaceAll(/\s+/g, ' '), /removed 3 aliases that a crashed run had left/);
  assert.equal(await lab.addresses(), before);
});

networkTest('two runs at once share an alias: the one that ends first leaves it to the other', async (t) => {
  const lab = await sourceLab(t);
  await serveOn(lab, { workers: 1 });
  const before = await lab.addresses();
  const shared = ['--source-ip', '10.9.0.101', '--alias-dev', 'auto', '--conns', '500'];
  const first = lab.bench([
    '--target',
    `${SERVER}:${PORT}`,
    '--source-ports',
    '20000-20999',
    '--duration',
    '5s',
    ...shared,
  ]);
  await first.saw(/ holding /);
  const second = lab.bench([
    '--target',
    `${SERVER}:${PORT}`,
    '--source-ports',
    '30000-30999',
    '--duration',
    '9s',
    ...shared,
  ]);
  await second.saw(/ holding /);
  assert.equal((await first.result).code, 0);
  assert.deepEqual(await lab.aliases(), ['10.9.0.101'], 'the second run still needs it');
  assert.deepEqual((await serverView(lab.server)).bySource, { '10.9.0.101': 500 });
  const { code, stdout, stderr } = await second.result;
  assert.equal(code, 0, `${stdout}${stderr}`);
  assert.equal(await lab.addresses(), before);
});

networkTest(
  'an alias that is deleted during the run is noticed within seconds, named, and not added again',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    const run = lab.bench([
      ...[
        ...TARGET,
        '--conns',
        '2000',
        '--duration',
        '30s',
        '--source-ip',
        '10.9.0.101-10.9.0.102',
        '--alias-dev',
        'auto',
      ],
      // The first renewal is ten seconds away: one that has looked before the deletion would add the address again.
      ...['--alias-lease', '30s', '--progress-every', '200ms'],
    ]);
    await run.saw(/ holding /);
    await lab.client.must('ip', 'addr', 'del', '10.9.0.101/32', 'dev', 'eth0');
    // Within the hold: afterwards no line of progress would say it.
    await run.saw(/ holding .*1,000 dropped/);
    const { code, stdout } = await run.result;
    assert.equal(code, 4, stdout);
    const report = run.report();
    assert.deepEqual(report.connections.dropped, { 'alias-lost': 1_000 });
    assert.deepEqual(report.bySource, { '10.9.0.102': 1_000 });
    assert.equal(report.whoRanOut, 'generator');
    assert.match(report.notes.join('\n'), /10\.9\.0\.101 disappeared from this host during the run/);
    assert.deepEqual(await lab.aliases(), []);
  },
);

networkTest(
  '500 aliases: added and removed each in less than 100 starts of a program take, checked in less than five times that',
  async (t) => {
    // A segment of its own kernel tables: 500 neighbours of one host are half of gc_thresh3.
    const lab = await sourceLab(t, {
      client: { on: { lan: ['10.9.0.2/22'] } },
      server: { on: { lan: [`${SERVER}/22`] } },
    });
    await serveOn(lab, { workers: 1 });
    const before = await lab.addresses();
    const run = lab.bench([
      ...[
        '--target',
        `${SERVER}:${PORT}`,
        '--conns',
        '1000',
        '--duration',
        '2s',
        '--source-ports',
        '20000-20000',
      ],
      ...['--source-ip', '10.9.1.1-10.9.2.244', '--alias-dev', 'auto'],
    ]);
    const refused = await run.result;
    assert.equal(refused.code, 3, 'one port and 500 addresses are 500 tuples');
    const wanted = addressRange('10.9.1.1', 500);
    const held = lab.bench([
      ...[
        '--target',
        `${SERVER}:${PORT}`,
        '--conns',
        '1000',
        '--duration',
        '2s',
        '--source-ports',
        '20000-20001',
      ],
      ...['--source-ip', `${wanted[0]}-${wanted[499]}`, '--alias-dev', 'auto'],
    ]);
    const times = { beganMs: 0, addedMs: 0, checkedMs: 0 };
    await until('the first alias is there', HANG_MS, async () => (await lab.aliases()).length > 0);
    times.beganMs = performance.now();
    await until('all aliases are there', HANG_MS, async () => (await lab.aliases()).length === 500);
    times.addedMs = performance.now();
    await held.saw(/ ramping /);
    times.checkedMs = performance.now();
    await held.saw(/ holding /);
    assert.equal((await serverView(lab.server)).total, 1_000);
    await held.saw(/ draining /);
    await until('the first alias is gone', HANG_MS, async () => (await lab.aliases()).length < 500);
    const removingMs = performance.now();
    await until('all aliases are gone', HANG_MS, async () => (await lab.aliases()).length === 0);
    const removedMs = performance.now() - removingMs;
    const { code, stdout } = await held.result;
    assert.equal(code, 0, stdout);
    t.diagnostic(
      `added in ${Math.round(times.addedMs - times.beganMs)} ms, checked and holders ready in ` +
        `${Math.round(times.checkedMs - times.addedMs)} ms, removed in ${Math.round(removedMs)} ms`,
    );
    // On the same machine, and as busy: one program for each alias would need five times that.
    const beganMs = performance.now();
    for (let starts = 0; starts < 100; starts++) await lab.client.must('ip', '-br', 'addr', 'show', 'lo');
    const yardstickMs = performance.now() - beganMs;
    t.diagnostic(`100 starts of a program take ${Math.round(yardstickMs)} ms`);
    assert(times.addedMs - times.beganMs < yardstickMs);
    assert(times.checkedMs - times.addedMs < 5 * yardstickMs);
    assert(removedMs < yardstickMs);
    assert.equal(await lab.addresses(), before);
  },
);

networkTest(
  'an agent that is stopped when the command line is killed gives its aliases back all the same',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    const before = await lab.addresses();
    const run = lab.bench([
      ...[...TARGET, '--conns', '2000', '--duration', '60s'],
      ...['--source-ip', '10.9.0.101-10.9.0.103', '--alias-dev', 'auto', '--alias-lease', '1h'],
    ]);
    await run.saw(/ holding /);
    assert.equal((await lab.aliases()).length, 3);
    process.kill(run.pids('agent')[0]!, 'SIGSTOP');
    process.kill(run.pid, 'SIGKILL');
    // Their lifetime is an hour: what is gone before was given back.
    await run.gone(2 * HANG_MS);
    assert.equal(await lab.addresses(), before);
  },
);
