/**
 * Owns the tests of run files: what is read of them, where it lies, and the place and the words of every error, for every flag of
 * the table; and that the schema takes what the reader takes.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import type { Flag } from '../../src/api/flags/flag.ts';
import { environmentName, FLAGS, type FlagValues, flagsOf } from '../../src/api/flags/flags.ts';
import { readRunFile } from '../../src/api/run-file.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { runFileSchemaJson } from '../../src/cli/run-file-schema.ts';
import { runCli } from '../support/run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-run-file-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'soak.yaml');
const RUN_FLAGS = flagsOf('run');

function write(text: string): string {
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

function errorOf(text: string | Buffer): BenchError {
  writeFileSync(path, text);
  try {
    readRunFile(path);
  } catch (error) {
    assert(error instanceof BenchError, String(error));
    assert.equal(error.exitCode, ExitCode.usage);
    return error;
  }
  return assert.fail(`it was taken: ${text}`);
}

/** Place and message, and the hint. */
function said(text: string): string {
  const { message, hint } = errorOf(text);
  return `${message.replace(`${path}:`, '')} | ${hint}`;
}

async function valuesOf(
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<FlagValues> {
  const parsed = await parseCommandLine(args, environment, '0.0.0', 80);
  assert(parsed.kind === 'command');
  assert.equal(parsed.command, 'run');
  return parsed.values;
}

/** One line of the file that `init` writes for a flag: a name with a value that the flag takes, by name. */
async function examples(): Promise<ReadonlyMap<string, string>> {
  const { stdout, code } = await runCli(['init', '-']);
  assert.equal(code, 0);
  const found = new Map<string, string>();
  for (const [, name = '', rest = ''] of stdout.matchAll(
    /^#?([a-z][a-z0-9-]*):((?: .*)?(?:\n#? {2}- .*)*)$/gm,
  )) {
    found.set(name, `${name}:${rest.replaceAll(/^#/gm, '')}\n`);
  }
  return found;
}

describe('a run file', () => {
  it('gives each flag of the table its value, as if it were typed', async () => {
    const lines = await examples();
    assert.deepEqual([...lines.keys()].toSorted(), RUN_FLAGS.map(({ name }) => name).toSorted());
    for (const { name, kind } of RUN_FLAGS) {
      const text = lines.get(name) ?? '';
      const file = write(text);
      const values = await valuesOf(['run', file]);
      assert.ok(values.isGiven(name), text);
      assert.match(values.origin(name), new RegExp(`soak\\.yaml:\\d+:\\d+: ${name}$`));
      const given =
        kind === 'list' ? values.list(name) : kind === 'switch' ? values.on(name) : values.one(name);
      const [written] = Object.values(parse(text) as Record<string, unknown>);
      const isPath = String(given).includes(folder);
      if (!isPath) assert.deepEqual(JSON.stringify(given), JSON.stringify(asTexts(written)), text);
      // What follows is the same command line, with the same value.
      for (const other of RUN_FLAGS) if (other.name !== name) assert.ok(!values.isGiven(other.name));
    }
  });

  it('says file, line and column of a wrong value of each flag, with its name', async () => {
    let judged = 0;
    for (const flag of RUN_FLAGS) {
      const { name, kind } = flag;
      // In the third line, behind a comment and another name.
      const before = `# a run\n${name === 'quiet' ? 'verbose' : 'quiet'}: true\n`;
      const at = (column: number): string => `${path}:3:${column}: `;
      const wrongs = [
        `{a: 1}`,
        kind === 'list' ? '[]' : '[1, 2]',
        kind === 'switch' ? 'yes' : flag.bare === null ? 'true' : 'false',
        ...wrongTexts(flag),
      ];
      // A flag with a range or a few words has wrong values of its own.
      const own = flag.choices !== undefined ? 1 : flag.bounds !== undefined ? 3 : 0;
      assert.ok(wrongs.length >= 3 + own, name);
      for (const wrong of wrongs) {
        const { message, hint } = errorOf(`${before}${name}: ${wrong}\n`);
        assert.ok(message.startsWith(at(name.length + 3)), `${name}: ${wrong} -> ${message}`);
        assert.ok(message.startsWith(`${at(name.length + 3)}${name}`), `${name}: ${wrong} -> ${message}`);
        assert.ok(hint.length > 5, message);
        judged += 1;
      }
      assert.ok(errorOf(`${before}${name}:\n`).message.startsWith(`${at(1)}${name} has no value`));
      assert.match(errorOf(`${before}${name}: x\n${name}: x\n`).message, new RegExp(`^${path}:[34]:`));
      if (kind === 'list') {
        const { message } = errorOf(`${before}${name}:\n  - {}\n`);
        assert.ok(message.startsWith(`${path}:4:5: ${name} takes`), message);
      }
    }
    assert.ok(judged >= 300, `${judged} wrong values`);
  });

  it('names the nearest right name of one that is not known', () => {
    for (const [typed, meant] of [
      ['con', 'conns'],
      ['Conns', 'conns'],
      ['--conns', 'conns'],
      ['connect_timeout', 'connect-timeout'],
      ['connectTimeout', 'connect-timeout'],
      ['targets', 'target'],
      ['c', 'conns'],
      ['durration', 'duration'],
    ]) {
      assert.equal(
        said(`quiet: true\n${typed}: 5\n`),
        `2:1: ${typed} is not a name of a run | did you mean ${meant}?`,
      );
    }
    assert.match(said('frobnicate: 5\n'), /^1:1: frobnicate is not a name of a run \| c100k-bench help run /);
    for (const flag of FLAGS.filter(({ commands }) => !commands.includes('run'))) {
      const owners = flag.commands.join(', ');
      assert.equal(
        said(`${flag.name}: 1\n`),
        `1:1: ${flag.name} is not a name of a run | it is a flag of ${owners}`,
      );
    }
  });

  it('refuses what is no run file, at its place', () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ['conns: 5\n---\nconns: 6\n', /^2:1: a second document begins here/],
      ['target:\n\t- self\n', /^2:1: a tab: /],
      ['conns: 5\nrate: 5\nconns: 6\n', /^3:1: conns stands in line 1 already \| give conns once/],
      ['target: a:1\ntarget: b:1\n', /^2:1: target stands in line 1 already \| give target one list/],
      ['conns: 5\nhello\n', /^2:1: not YAML: /],
      ['hello\n', /^1:1: a run file has names with values, not a text/],
      ['- self\n', /^1:1: a run file has names with values, not a list/],
      ['conns: 5\n  rate: 5\n', /^2:3: not YAML: names begin in the first column/],
      ['header: Authorization: x\n', /^1:9: not YAML: .* a colon and a blank in it stands in quotes/],
      ['conns: 5\nbody: @x\n', /^2:7: not YAML: .* \| put the value in quotes/],
      ['name: "x\nconns: 5\n', /^1:7: not YAML: missing closing "quote/],
      ['quiet: true\ntarget: [a:1\nconns: 5\n', /^2:9: not YAML: flow sequence/],
      ['conns: &n 5\n', /^1:11: anchors and aliases are not taken/],
      ['conns: *n\n', /^1:8: anchors and aliases are not taken/],
      ['conns: !!str 5\n', /^1:14: tags are not taken/],
      ['conns: !x 5\n', /^1:8: tags are not taken|^1:11: tags are not taken/],
      ['<<: 5\n', /^1:1: merge keys are not taken/],
      ['[conns]: 5\n', /^1:1: a name is one word, not a list/],
      ['conns: 5 # \u00e9\u4e2d\nrate: q\n', /^2:7: rate needs a rate, not "q"/],
      ['conns: 5\r\nrate: q\r\n', /^2:7: rate needs a rate, not "q"/],
    ];
    for (const [text, expected] of cases) assert.match(said(text), expected, JSON.stringify(text));
    assert.match(errorOf(Buffer.from([0x63, 0xff, 0xfe])).message, /is not text in UTF-8/);
    assert.match(errorOf('#'.repeat(1_048_577)).message, /more than 1,048,576 bytes/);
    assert.match(errorOf(`target: ${'['.repeat(200_000)}`).message, /soak\.yaml(?::1:9)?.* not YAML/);
    assert.throws(() => readRunFile(join(folder, 'none.yaml')), /none\.yaml cannot be read \(ENOENT\)/);
    assert.throws(() => readRunFile(folder), /cannot be read \(EISDIR\)/);
    assert.throws(() => readRunFile('/dev/zero'), /more than 1,048,576 bytes/);
  });

  it('gives way to what is typed, then to the environment; a list does not grow', async () => {
    const file = write('conns: 5\nrate: 7\ntarget: [a:1, b:1]\ninsecure: true\nabort-early: true\n');
    const env = { C100K_RATE: '8', C100K_CONNS: '9', C100K_ABORT_EARLY: '0' };
    const values = await valuesOf(['run', file, '--conns', '6', '-t', 'c:1', '--insecure=false'], env);
    assert.deepEqual(
      [
        values.one('conns'),
        values.one('rate'),
        values.list('target'),
        values.on('insecure'),
        values.on('abort-early'),
      ],
      ['6', '8', ['c:1'], false, false],
    );
    assert.deepEqual(
      [values.origin('conns'), values.origin('rate'), values.origin('target')],
      ['--conns', environmentName(RUN_FLAGS.find(({ name }) => name === 'rate')!), '--target'],
    );
    const alone = await valuesOf(['run', write('# nothing\n'), '--conns', '6']);
    assert.equal(alone.one('conns'), '6');
  });

  it('has paths that begin in its own folder, also behind @', async () => {
    const inner = join(folder, 'inner');
    mkdirSync(inner);
    const file = join(inner, 'run.yaml');
    writeFileSync(
      file,
      "tls-ca: ca.pem\njson: '-'\nhtml: ../out.html\njunit: /abs.xml\nbody: '@b.json'\nheader: ['@h.txt', 'A: @x']\n",
    );
    const { values } = readRunFile(file);
    const texts = Object.fromEntries([...values].map(([name, { value }]) => [name, value]));
    assert.deepEqual(texts, {
      'tls-ca': join(inner, 'ca.pem'),
      json: '-',
      html: join(folder, 'out.html'),
      junit: '/abs.xml',
      body: `@${join(inner, 'b.json')}`,
      header: [`@${join(inner, 'h.txt')}`, 'A: @x'],
    });
  });

  it('every flag that says it takes @FILE has a path behind it', () => {
    for (const flag of RUN_FLAGS.filter(({ describe: words }) => /@FILE/i.test(words))) {
      assert.equal(flag.fileAt, true, flag.name);
    }
  });

  it('warns of a credential that others may read', () => {
    const text = "target: ws://a/\nheader: ['X-Room: 1', 'Authorization: Bearer x']\n";
    assert.deepEqual(readRunFile(write(text)).warnings, []);
    chmodSync(path, 0o644);
    assert.match(readRunFile(path).warnings.join(), /^\S+soak\.yaml:2:9: header is a credential in a file/);
    chmodSync(path, 0o600);
  });
});

describe('the command', () => {
  it('runs a file, and its errors are usage errors with the place', async () => {
    const out = join(folder, 'out.json');
    const file = write(
      'target: echo://self\nconns: 20\nduration: 1s\njson: out.json\nrequire:\n  - held>=100%\n',
    );
    const run = await runCli(['run', file, '--conns', '10']);
    assert.equal(run.code, 0, run.stderr);
    const report = JSON.parse(readFileSync(out, 'utf8')) as { asked: { connections: number } };
    assert.equal(report.asked.connections, 10);
    assert.match(run.stderr, /^c100k-bench --target echo:\/\/self --conns 10 --duration 1s --require/m);

    for (const [args, expected] of [
      [
        ['run', write('conns: 5q\n')],
        /soak\.yaml:1:8: conns needs a whole number[\s\S]*type a whole number, such as conns: 130k/,
      ],
      [['run', file, join(folder, 'other.yaml')], /run takes one file, not 2/],
      [[file], /unexpected word .*soak\.yaml\n {2}hint: did you mean c100k-bench run /],
      [['run', join(folder, 'none.yaml')], /hint: c100k-bench init .*none\.yaml writes one/],
    ] as const) {
      const { code, stderr } = await runCli([...args]);
      assert.equal(code, ExitCode.usage, stderr);
      assert.match(stderr, expected);
    }
    // Found by the checks of the run, behind the reader.
    const late = await runCli(['run', write('target: tcp://127.0.0.1:9\nconns: 5\nprobe-every: 3s\n')]);
    assert.equal(late.code, ExitCode.usage);
    assert.match(late.stderr, /soak\.yaml:3:14: probe-every needs a target that answers/);
  });

  it('gives a CI server the place, and JUnit where the file asks for it', async () => {
    const env = { GITHUB_ACTIONS: 'true' };
    const wrong = await runCli(['run', write('conns: 5q\n')], { env });
    assert.match(wrong.stderr, /^::error title=[^:]*bad-number,file=.*soak\.yaml,line=1,col=8::/m);
    write('target: tcp://127.0.0.1:9\nconns: 5\nprobe-every: 3s\njunit: late.xml\nname: nightly\n');
    const late = await runCli(['run', path], { env });
    assert.match(late.stderr, /^::error title=c100k-bench nightly/m);
    assert.match(
      readFileSync(join(folder, 'late.xml'), 'utf8'),
      /<testsuite name="c100k-bench nightly" tests="1"/,
    );
  });
});

describe('the schema of run files', () => {
  it('takes what the reader takes, and refuses wrong names, types, units and numbers out of range', async () => {
    const validate = new Ajv({ allErrors: true, strict: false }).compile(JSON.parse(runFileSchemaJson()));
    for (const text of (await examples()).values()) {
      assert.ok(validate(parse(text)), `${text}: ${JSON.stringify(validate.errors)}`);
    }
    const isTaken = (text: string): boolean => validate(parse(text)) as boolean;
    assert.ok(isTaken('live: true\nname: 5\nconns: 130_000\nduration: 0.5\nrate: 0.1\n'));
    assert.ok(isTaken('duration: forever'));
    const wrong = [
      'frob: 1',
      'conns: 5q',
      'conns: 0',
      'conns: 1.5',
      'duration: 5k/s',
      'duration: -1',
      'rate: 5q',
      'close: rts',
      'quiet: 1',
      'name: [a]',
      'target: []',
    ];
    for (const text of wrong) {
      assert.ok(!isTaken(text), text);
      errorOf(`${text}\n`);
    }
  });
});

/** Values of YAML as the texts that they are. */
function asTexts(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === 'boolean' ? value : String(value);
}

/** Texts that the flag does not take: a wrong unit, out of range, an unknown word. */
function wrongTexts({ bounds, choices }: Flag): readonly string[] {
  if (choices !== undefined) return ['frobnicate'];
  switch (bounds?.kind) {
    case 'count':
      return ['5q', '10s', '1.5', `${bounds.max + 1}`, ...(bounds.min > 0 ? [`${bounds.min - 1}`] : [])];
    case 'duration':
      return ['5k/s', '5 apples', `${Math.ceil(bounds.maxMs / 1_000) + 1}s`, '0.4ms'];
    case 'rate':
      return ['5q', '5k/fortnight', '0'];
    default:
      return [];
  }
}
