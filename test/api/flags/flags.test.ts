/**
 * Owns the comparison of everything that is made from the table of flags with the table: all flags, both directions; and the
 * proof that the echoed command line, pasted into a shell, asks for the same again.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import type { CommandName, Flag } from '../../../src/api/flags/flag.ts';
import {
  assumedFlags,
  echoedCommand,
  environmentName,
  FLAGS,
  type FlagValues,
  flagsOf,
  shownUrl,
} from '../../../src/api/flags/flags.ts';
import { readRunRequest } from '../../../src/api/run-request.ts';
import { parseCommandLine } from '../../../src/cli/command-line.ts';
import { COMMANDS } from '../../../src/cli/commands.ts';
import { commandHelp } from '../../../src/cli/help.ts';

async function parse(
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ command: CommandName; values: FlagValues }> {
  const parsed = await parseCommandLine(args, environment, '0.0.0', 80);
  assert.equal(parsed.kind, 'command');
  return parsed as { kind: 'command'; command: CommandName; values: FlagValues };
}

const folder = mkdtempSync(join(tmpdir(), 'c100k-echo-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The words of each line as a real shell sees them; one shell reads them all, because starting one is what takes long. */
function wordsOf(lines: readonly string[]): string[][] {
  // No text that is typed has a byte of 1: it marks the end of a line's words.
  const script = lines.map((line) => `set -f -- ${line}; printf '%s\\0' "$@"; printf '\\001'`).join('\n');
  const output = execFileSync('/bin/sh', ['-c', script], {
    encoding: 'utf8',
    // Should the quoting be wrong, parts of the text are commands: they find no program, and write no file elsewhere.
    cwd: folder,
    env: { HOME: '/nowhere', IFS: ' \t\n', PATH: '/nowhere' },
  });
  return output
    .split('\u0001')
    .slice(0, -1)
    .map((words) => words.split('\0').slice(0, -1));
}

/** All values by flag, so that two command lines can be compared. */
function valuesOf(command: CommandName, values: FlagValues): unknown {
  return flagsOf(command).map(({ name, kind }) => [
    name,
    kind === 'list' ? values.list(name) : kind === 'switch' ? values.on(name) : values.one(name),
    values.isGiven(name),
  ]);
}

async function assertRepeat(typed: readonly (readonly string[])[]): Promise<void> {
  const firsts = await Promise.all(typed.map((args) => parse(args)));
  const lines = firsts.map(({ command, values }) => echoedCommand(command, values));
  const read = wordsOf(lines);
  assert.equal(read.length, lines.length);
  for (const [index, [program, ...again]] of read.entries()) {
    const [first, line] = [firsts[index]!, lines[index]];
    assert.equal(program, 'c100k-bench');
    const second = await parse(again);
    assert.equal(second.command, first.command, line);
    assert.deepEqual(valuesOf(second.command, second.values), valuesOf(first.command, first.values), line);
  }
}

it('a credential in a header is not in what a report shows, other fields are', async () => {
  const echoed = async (field: string): Promise<string> => {
    const { values } = await parse(['-t', 'ws://127.0.0.1:1', '-c', '1', '--header', field]);
    return echoedCommand('run', values);
  };
  for (const name of [
    'Authorization',
    'authorization',
    'Proxy-Authorization',
    'Cookie',
    'X-Auth-Token',
    'X-Api-Key',
  ])
    assert.match(await echoed(`${name}: s3cret`), new RegExp(`--header '${name}: \\.\\.\\.'$`));
  assert.match(await echoed('X-Room: blue'), /--header 'X-Room: blue'$/);
  assert.match(await echoed('@token.txt'), /--header=?.?@token\.txt/);
});

it('what goes to the target is not in what a report shows: who says a password, says it there', async () => {
  const echoed = async (...args: string[]): Promise<string> => {
    const { values } = await parse(['-t', 'ws://127.0.0.1:1', '-c', '1', ...args]);
    return echoedCommand('run', values);
  };
  for (const [args, shown] of [
    [['--first-message', 'AUTH s3cret\\r\\n'], '--first-message ...'],
    [['--first-message', '@login.txt'], '--first-message @login.txt'],
    [['--send', '{"pw":"s3cret","n":{seq},"r":"{rand:16}"}'], "--send '...{seq}...{rand:16}...'"],
    [['--ws-message', '@s3cret'], '--ws-message ...'],
    [['--answer', '2=s3cret'], '--answer 2=...'],
    [['--answer', '/a=(.)/=s3cret=x'], "--answer '/a=(.)/=...'"],
    [['--answer', 's3cret'], '--answer ...'],
    [['--body', '{"password":"s3cret"}'], '--body ...'],
    [['--body', '@body.json'], '--body @body.json'],
    [['--mqtt-password', 's3cret'], '--mqtt-password ...'],
    [['--ws-protocol', 'graphql-transport-ws'], '--ws-protocol graphql-transport-ws'],
    [['--ws-protocol', 'v12.stomp'], '--ws-protocol v12.stomp'],
    [
      ['--ws-protocol', 'base64url.bearer.authorization.k8s.io.s3cret'],
      '--ws-protocol base64url.bearer.authorization....',
    ],
    [['--ws-protocol', 'access.jwt,s3cret0123456789abcdef'], '--ws-protocol access.jwt,...'],
    [
      ['--otlp', 'http://127.0.0.1:4318/v1/metrics?api-key=s3cret'],
      "--otlp 'http://127.0.0.1:4318/v1/metrics?api-key=...'",
    ],
  ] as const) {
    const line = await echoed(...args);
    assert.ok(line.endsWith(` ${shown}`), `${line} has not ${shown}`);
    assert.doesNotMatch(line, /s3cret/);
  }
});

it('a query keeps its names and what is no credential', () => {
  for (const [text, shown] of [
    ['ws://h:1/a?b=c&d=$x', 'ws://h:1/a?b=c&d=$x'],
    ['wss://h/ws?token=s3cret&room=7', 'wss://h/ws?token=...&room=7'],
    [
      'wss://h/ws?X-Amz-Signature=s&sig=t&access_key=u&monkey=',
      'wss://h/ws?X-Amz-Signature=...&sig=...&access_key=...&monkey=',
    ],
    ['wss://h/ws?u=0123456789abcdefg', 'wss://h/ws?u=...'],
    ['wss://h/ws?0123456789abcdefg', 'wss://h/ws?...'],
    ['wss://h/ws?EIO=4&transport=websocket', 'wss://h/ws?EIO=4&transport=websocket'],
    ['tcp://h:1', 'tcp://h:1'],
  ] as const)
    assert.equal(shownUrl(text), shown);
});

/** So many command lines a shell; one that fails is told as it is, because to shrink this many takes minutes. */
function several<T>(each: fc.Arbitrary<T>): fc.Arbitrary<T[]> {
  return fc.array(each, { minLength: 20, maxLength: 20 });
}

/** What a report does not show. */
const HIDDEN = new Set(['mqtt-password', 'first-message', 'send', 'body', 'answer']);

/** Text that a shell, or our parser, could misread. */
const hostileText = fc.oneof(
  fc.string({
    unit: fc.constantFrom(...'ab \'"$`\\!*?[]{}()<>|&;#~=-%,\n\t:/é漢'),
    minLength: 1,
    maxLength: 12,
  }),
  fc.constantFrom('-', '--', '--conns', '-c 5', '~', '=', "'", "it's", '$HOME', '`id`', '*', '# x', 'true'),
);

/** Arguments for any flags of a command, each value any text that its flag takes. */
function anyArguments(command: CommandName): fc.Arbitrary<string[]> {
  const shown = flagsOf(command).filter(({ name }) => name !== 'ws-message');
  const flags = shown.map((flag): fc.Arbitrary<string[]> => {
    // A password is not repeated; a file that holds it is.
    const text = HIDDEN.has(flag.name) ? fc.constant('@password.txt') : hostileText;
    const value = flag.choices === undefined ? text : fc.constantFrom(...flag.choices);
    if (flag.kind === 'switch') return fc.constant<string[]>([`--${flag.name}`]);
    const one = value.map((text) => `--${flag.name}=${text}`);
    return flag.kind === 'list' ? fc.array(one, { minLength: 1, maxLength: 3 }) : one.map((arg) => [arg]);
  });
  const chosen = flags.map((arguments_) => fc.option(arguments_, { nil: [], freq: 2 }));
  return fc.tuple(...chosen).map((parts) => [...(command === 'run' ? [] : [command]), ...parts.flat()]);
}

/** Command lines that a run takes, as pools of what each flag may be. */
const RUN_ARGUMENTS: fc.Arbitrary<string[]> = fc
  .tuple(
    fc.constantFrom(
      ['--target', 'echo://127.0.0.1:7', '--target=echo://[::1]:8000-8002'],
      ['-t', 'ws://h.example:1/a?b=c&d=$x', '--host-header', 'a.example:8'],
      ['-t', 'wss://h.example:1/x', '--insecure', '--tls-servername', 'a.example', '--probe-every', '3s'],
      ['-t', 'tcp://10.0.0.1:1', '--expect-banner', '# SSH-2.0 *'],
      ['-t', 'https://h.example/', '--http-status', '204', '--method', 'PUT'],
      ['-t', 'wss://h.example/', '--header', "X-It's: $5", '--header=A:b', '--ws-protocol', 'mqtt'],
      ['-t', 'self', '--probe', 'whoami'],
    ),
    fc.constantFrom(['-c', '130k'], ['--conns=1_000'], ['--conns', '1m']),
    ...[
      ['--rate', '5k/s'],
      ['-d', '1h30m'],
      ['--connect-timeout', '1500ms'],
      ['--max-pending', '77'],
      ['--close', 'fin'],
      ['--source-ip', '127.0.0.2-127.0.0.5', '--source-ip=10.0.0.0/30'],
      ['--source-ports', '1024-2047,3000'],
      ['--source-prefix', '10.9.0.0/24'],
      ['--holders', '3'],
      ['--on-drop', 'reopen', '--reopen-after', 'backoff:500ms..1m30s', '--reopen-jitter', '12.5'],
      ['--probe-timeout', '900ms'],
      ['--require', 'held>=99.9%'],
    ].map((words) => fc.option(fc.constant(words), { nil: [] })),
  )
  .map((parts) => parts.flat());

describe('the echoed command line', () => {
  for (const command of ['run', 'plan'] as const) {
    it(`gives ${command} the same values when a shell reads it, whatever was typed`, async () => {
      await fc.assert(fc.asyncProperty(several(anyArguments(command)), assertRepeat), {
        // The parser lays out its help for each line of a command that is not the default: ten times the work.
        numRuns: command === 'run' ? 3 : 1,
        endOnFailure: true,
      });
    });
  }

  it('gives the same request', async () => {
    await fc.assert(
      fc.asyncProperty(several(RUN_ARGUMENTS), async (typed) => {
        const firsts = await Promise.all(typed.map((args) => parse(args)));
        const read = wordsOf(firsts.map(({ values }) => echoedCommand('run', values)));
        assert.equal(read.length, firsts.length);
        for (const [index, words] of read.entries()) {
          const again = await parse(words.slice(1));
          assert.deepEqual(readRunRequest(again.values), readRunRequest(firsts[index]!.values));
        }
      }),
      { numRuns: 3, endOnFailure: true },
    );
  });

  it('shows what the environment gave, and nothing that was not given', async () => {
    const { values } = await parse(['-t', 'self'], { C100K_CONNS: '130k', C100K_TOKEN: 'secret' });
    assert.equal(echoedCommand('run', values), 'c100k-bench --target self --conns 130k');
    const assumed = assumedFlags('run', values);
    assert.match(assumed, /--duration 30s .*--close rst/);
    assert.doesNotMatch(assumed, /--conns|--target|secret/);
  });

  it('of a plan is a plan', async () => {
    const { command, values } = await parse(['plan', '-t', 'self', '-c', '5']);
    assert.equal(echoedCommand(command, values), 'c100k-bench plan --target self --conns 5');
  });

  it('quotes only what needs it', async () => {
    const typed = ['-t', '127.0.0.1:8000-8080', '--expect-banner', "it's", '--require', 'held>=1'];
    const { values } = await parse(typed);
    assert.equal(
      echoedCommand('run', values),
      "c100k-bench --target 127.0.0.1:8000-8080 --require 'held>=1' --expect-banner 'it'\\''s'",
    );
  });
});

/** A text that a flag takes as far as the parser of the command line looks. */
function textFor(flag: Flag): string {
  return flag.choices?.[0] ?? 'x';
}

describe('the table of flags and', () => {
  it('the command line: a command takes exactly its flags, each by its name and its letter', async () => {
    const commands = COMMANDS.map(({ command }) => command).filter((command) => command !== 'completion');
    const before = (command: CommandName): string[] => (command === 'run' ? [] : [command]);
    let refused = 0;
    const wordsFor = (flag: Flag): string[] => (flag.kind === 'switch' ? [] : [textFor(flag)]);
    for (const command of commands) {
      const own = FLAGS.filter((flag) => flag.commands.includes(command));
      const lettered = own.filter((flag) => flag.letter !== null);
      const byName = await parse([
        ...before(command),
        ...own.flatMap((flag) => [`--${flag.name}`, ...wordsFor(flag)]),
      ]);
      const byLetter = await parse([
        ...before(command),
        ...lettered.flatMap((flag) => [`-${flag.letter}`, ...wordsFor(flag)]),
      ]);
      for (const flag of own) assert.ok(byName.values.isGiven(flag.name), `${command} --${flag.name}`);
      for (const flag of FLAGS)
        assert.equal(
          byLetter.values.isGiven(flag.name),
          lettered.includes(flag),
          `${command} -${flag.letter}`,
        );
    }
    for (const [index, flag] of FLAGS.entries()) {
      // To try each of the others takes a minute; the help shows the whole of what a command takes.
      const others = commands.filter((one) => !flag.commands.includes(one));
      const other = others[index % Math.max(1, others.length)];
      if (other === undefined) continue;
      const words = [...before(other), `--${flag.name}`, ...wordsFor(flag)];
      await assert.rejects(parse(words), /does not belong to/, words.join(' '));
      refused += 1;
    }
    assert.ok(refused > FLAGS.length / 2, `${refused} of ${FLAGS.length}`);
  });

  it('the help: a command shows exactly its flags, with letter, group, default and choices', () => {
    for (const { command } of COMMANDS) {
      const text = commandHelp(command, 400);
      // A term, and what it means beside it or on the next line.
      const entries = [...text.matchAll(/^ {2}((?:-\w, )?--[a-z-]+\S*(?: \S+)?)\s+(\S.*)$/gm)];
      const shown = entries.map(([, term = '']) => /--([a-z-]+)/.exec(term)?.[1]);
      const wanted = flagsOf(command).map((flag) => flag.name);
      assert.deepEqual(shown.toSorted(), wanted.toSorted(), command);
      for (const flag of flagsOf(command)) {
        const [, term = '', meaning = ''] = entries[shown.indexOf(flag.name)] ?? [];
        assert.ok(meaning.startsWith(flag.describe), `${command} --${flag.name}: ${meaning}`);
        assert.equal(/^-\w(?=, --)/.exec(term)?.[0] ?? null, flag.letter === null ? null : `-${flag.letter}`);
        const fallback = flag.defaultNote ?? flag.default;
        assert.equal(/\[default: (.*)\]/.exec(meaning)?.[1] ?? null, fallback, flag.name);
        const value = flag.bare === null ? ` ${flag.placeholder}` : `[=${flag.placeholder}]`;
        assert.ok(term.endsWith(`--${flag.name}${flag.kind === 'switch' ? '' : value}`), term);
        if (flag.choices !== undefined) assert.equal(flag.choices.join('|'), flag.placeholder, flag.name);
        assert.equal(meaning.includes('(required)'), flag.required, flag.name);
      }
      for (const group of new Set(flagsOf(command).map((flag) => flag.group))) {
        assert.ok(text.includes(`\n${group}\n`), `${command} ${group}`);
      }
    }
  });

  it('the environment: each flag has one variable, which counts, and no other does', async () => {
    assert.equal(new Set(FLAGS.map(environmentName)).size, FLAGS.length);
    for (const flag of FLAGS) {
      const [command = 'run'] = flag.commands;
      const text = flag.kind === 'switch' ? '1' : textFor(flag);
      const args = command === 'run' ? [] : [command];
      const { values } = await parse(args, { [environmentName(flag)]: text });
      assert.ok(values.isGiven(flag.name), environmentName(flag));
      assert.equal(values.origin(flag.name), environmentName(flag));
      for (const other of flagsOf(command)) assert.equal(values.isGiven(other.name), other === flag);
    }
    const parsed = await parseCommandLine([], { C100K_FROBNICATOR_LEVEL: '1' }, '0.0.0', 80);
    assert(parsed.kind === 'command');
    assert.match(parsed.warnings.join(), /C100K_FROBNICATOR_LEVEL is not known/);
  });
});
