import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { environmentName, FLAGS } from '../../src/api/flags/flags.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { cliPath, inheritedEnvironment } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

const parse = (line: string, environment: Record<string, string> = {}) =>
  parseCommandLine(line.split(' ').filter(Boolean), environment, '1.2.3', 80);

async function command(line: string, environment: Record<string, string> = {}) {
  const parsed = await parse(line, environment);
  assert.equal(parsed.kind, 'command');
  assert(parsed.kind === 'command');
  return parsed;
}

async function refusal(line: string, environment: Record<string, string> = {}): Promise<BenchError> {
  try {
    await parse(line, environment);
  } catch (error) {
    assert(error instanceof BenchError, String(error));
    assert.equal(error.exitCode, ExitCode.usage);
    assert.doesNotMatch(error.message, /\n/);
    assert.doesNotMatch(error.hint, /\n/);
    return error;
  }
  assert.fail(`accepted: ${line}`);
}

describe('the command line', () => {
  it('runs by default, and takes every other command by its name', async () => {
    assert.equal((await command('--target a:1')).command, 'run');
    assert.equal((await command('')).command, 'run');
    for (const name of ['plan', 'serve', 'agent']) assert.equal((await command(name)).command, name);
    assert.equal((await command('completion zsh')).words.shell, 'zsh');
  });

  it('keeps every value as it was typed', async () => {
    const { values } = await command('-c -5 -r 1e3 --duration 007 --json - --source-ports 1-2');
    assert.equal(values.one('conns'), '-5');
    assert.equal(values.one('rate'), '1e3');
    assert.equal(values.one('duration'), '007');
    assert.equal(values.one('json'), '-');
  });

  it('takes - in place of a file for a stream, anywhere, and leaves it to a flag as its value', async () => {
    assert.deepEqual((await command('report -')).files, ['/dev/stdin']);
    assert.deepEqual((await command('report --text -')).files, ['/dev/stdin']);
    assert.deepEqual((await command('init -')).files, ['/dev/stdout']);
    const { files, values } = await command('report --html - -');
    assert.deepEqual([files, values.one('html')], [['/dev/stdin'], '-']);
    const compared = await command('compare a.json - --json - --markdown=-');
    assert.deepEqual(compared.files, ['a.json', '/dev/stdin']);
    assert.deepEqual([compared.values.one('json'), compared.values.one('markdown')], ['-', '-']);
    assert.deepEqual((await command('compare -q - b.json')).files, ['/dev/stdin', 'b.json']);
  });

  it('reads a run file from stdin', () => {
    const { status, stderr } = spawnSync(process.execPath, [cliPath, 'run', '-'], {
      encoding: 'utf8',
      input: 'target: 127.0.0.1:9\nconns: many\n',
      env: inheritedEnvironment(),
      timeout: 4 * HANG_MS,
    });
    assert.equal(status, ExitCode.usage, stderr);
    assert.match(stderr, /\/dev\/stdin:2:8/);
  });

  it('takes -c5, -c 5, --conns=5 and --conns 5 for the same', async () => {
    for (const line of ['-c5', '-c 5', '--conns=5', '--conns 5']) {
      assert.equal((await command(line)).values.one('conns'), '5');
    }
  });

  it('collects repeatable flags and refuses single flags that are given twice', async () => {
    const { values } = await command('-t a:1 --target b:2');
    assert.deepEqual(values.list('target'), ['a:1', 'b:2']);
    assert.match((await refusal('--conns 1 -c 2')).message, /--conns is given 2 times \(1, 2\)/);
  });

  it('has defaults for what was not given, and no value where there is no default', async () => {
    const { values } = await command('');
    assert.equal(values.one('duration'), '30s');
    assert.equal(values.one('close'), 'rst');
    assert.equal(values.one('rate'), null);
    assert.deepEqual(values.list('source-ip'), []);
    assert.equal(values.on('quiet'), false);
  });

  it('reads the environment for each flag, and lets the command line win', async () => {
    const environment = {
      C100K_CONNS: '7',
      C100K_TARGET: 'a:1, b:2',
      C100K_QUIET: '1',
      C100K_NO_PROGRESS: '0',
    };
    const { values } = await command('', environment);
    assert.equal(values.one('conns'), '7');
    assert.equal(values.origin('conns'), 'C100K_CONNS');
    assert.deepEqual(values.list('target'), ['a:1', 'b:2']);
    assert.equal(values.on('quiet'), true);
    assert.equal(values.on('no-progress'), false);
    const typed = (await command('--conns 9', environment)).values;
    assert.equal(typed.one('conns'), '9');
    assert.equal(typed.origin('conns'), '--conns');
  });

  it('refuses what the environment may not say', async () => {
    assert.match((await refusal('', { C100K_QUIET: 'perhaps' })).message, /C100K_QUIET/);
    assert.match((await refusal('', { C100K_CLOSE: 'slam' })).hint, /fin or rst/);
  });

  it('gives every flag an environment variable of its own', () => {
    const names = FLAGS.map(environmentName);
    assert.equal(new Set(names).size, names.length);
    for (const name of names) assert.match(name, /^C100K_[A-Z_]+$/);
  });

  it('refuses an unknown flag and guesses what was meant', async () => {
    const error = await refusal('--conn 5');
    assert.equal(error.message, 'unknown flag --conn');
    assert.equal(error.hint, 'did you mean --conns?');
    assert.match((await refusal('-x')).message, /unknown flag -x/);
    assert.match((await refusal('--target a:1 --frobnicate')).hint, /--help/);
  });

  it('refuses a flag of another command and says whose it is', async () => {
    const error = await refusal('plan --progress-every 1s');
    assert.match(error.message, /--progress-every does not belong to plan/);
    assert.match(error.hint, /the run itself/);
  });

  it('refuses an unknown word and guesses the command or the flag', async () => {
    assert.equal((await refusal('serv')).hint, 'did you mean c100k-bench serve?');
    assert.equal((await refusal('1.2.3.4:80')).hint, 'did you mean --target 1.2.3.4:80?');
    assert.match((await refusal('plan plan')).message, /plan/);
  });

  it('refuses a flag without its value, a switch with one, and a value that is no choice', async () => {
    assert.match((await refusal('--conns')).message, /--conns needs a value/);
    assert.match((await refusal('--conns --target a:1')).message, /--conns needs a value/);
    assert.match((await refusal('--quiet=perhaps')).message, /--quiet/);
    assert.match((await refusal('--close slam')).hint, /fin or rst/);
    assert.match((await refusal('completion tcsh')).hint, /bash, zsh or fish/);
    assert.match((await refusal('completion')).message, /argument/);
  });

  it('takes --help wherever it stands, but not behind --, and says the version', async () => {
    for (const line of ['--help', '-h', '--conns 5 --help', '--nonsense -h']) {
      const help = await parse(line);
      assert(help.kind === 'print', line);
      assert.match(help.text, /^Usage: c100k-bench --target/);
    }
    const serve = await parse('serve --port 1 -h');
    assert(serve.kind === 'print');
    assert.match(serve.text, /^Usage: c100k-bench serve /);
    assert.equal((await refusal('serv --help')).hint, 'did you mean c100k-bench serve?');
    assert.equal((await command('help')).words.topic, undefined);
    assert.equal((await command('help reasons')).words.topic, 'reasons');
    const version = await parse('--version');
    assert(version.kind === 'print');
    assert.equal(version.text, '1.2.3\n');
  });
});
