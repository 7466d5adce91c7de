import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { FLAGS, flagsOf } from '../../../src/api/flags/flags.ts';
import { COMMANDS } from '../../../src/cli/commands.ts';
import { cliPath } from '../../support/run-cli.ts';
import { HANG_MS } from '../../support/waiting.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-completion-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const bashFile = join(folder, 'completion.bash');
const zshFile = join(folder, '_c100k-bench');
/** As a user gets it. */
function completionScript(shell: 'bash' | 'zsh' | 'fish'): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, [cliPath, 'completion', shell], {
    encoding: 'utf8',
    timeout: HANG_MS,
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

writeFileSync(bashFile, completionScript('bash'));
writeFileSync(zshFile, completionScript('zsh'));
const fishFile = join(folder, 'c100k-bench.fish');
writeFileSync(fishFile, completionScript('fish'));

const hasZsh = spawnSync('zsh', ['-c', 'exit 0']).status === 0;

/** What bash offers for the last of these words. */
function offeredByBash(...words: string[]): string[] {
  const script =
    `source '${bashFile}' && COMP_WORDS=("$@") && COMP_CWORD=$(($# - 1)) && ` +
    `_c100k_bench && printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync(
    'bash',
    ['--norc', '-c', script, 'bash', 'c100k-bench', ...words],
    {
      encoding: 'utf8',
      cwd: folder,
      timeout: HANG_MS,
    },
  );
  assert.equal(status, 0, stderr);
  return stdout.split('\n').filter((line) => line !== '');
}

describe('the completion for bash', () => {
  it('is a script that bash can read', () => {
    const { status, stderr } = spawnSync('bash', ['-n', bashFile], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  });

  it('registers itself for the command', () => {
    const { stdout } = spawnSync(
      'bash',
      ['--norc', '-c', `source '${bashFile}' && complete -p c100k-bench`],
      {
        encoding: 'utf8',
      },
    );
    assert.equal(stdout.trim(), 'complete -F _c100k_bench c100k-bench');
  });

  it('offers commands and flags, each where it belongs', () => {
    const first = offeredByBash('');
    for (const word of ['plan', 'serve', 'agent', 'completion', '--target', '-c', '--help', '--version']) {
      assert.ok(first.includes(word), word);
    }
    assert.deepEqual(offeredByBash('--con'), ['--conns', '--connect-timeout']);
    assert.deepEqual(offeredByBash('pl'), ['plan']);
    const serve = offeredByBash('serve', '--');
    assert.deepEqual(
      serve.toSorted(),
      [...flagsOf('serve').map((flag) => `--${flag.name}`), '--help'].toSorted(),
    );
    assert.deepEqual(offeredByBash('completion', 'z'), ['zsh']);
  });

  it('offers choices, files, and nothing for a number', () => {
    assert.deepEqual(offeredByBash('--close', ''), ['fin', 'rst']);
    assert.deepEqual(offeredByBash('--conns', ''), []);
    assert.ok(offeredByBash('--live', '--con').includes('--conns'), 'its value may be left out');
    assert.deepEqual(offeredByBash('help', 'exit'), ['exit-codes']);
    assert.ok(offeredByBash('--json', 'comp').includes('completion.bash'));
    assert.ok(offeredByBash('run', 'comp').includes('completion.bash'));
    assert.ok(offeredByBash('run', '--con').includes('--conns'));
  });
});

describe('the completion for zsh', () => {
  it('is a script that zsh can read', { skip: hasZsh ? false : 'zsh is not installed' }, () => {
    const { status, stderr } = spawnSync('zsh', ['-n', zshFile], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  });

  it('offers commands, flags and choices', { skip: hasZsh ? false : 'zsh is not installed' }, () => {
    // zsh completes only in an interactive line editor: one is run on a pseudo terminal, and its listing is read.
    const offered = (line: string, words: readonly string[]): string => {
      const hasAll = words.map((word) => `$out == *${word}*`).join(' && ');
      const script = [
        'zmodload zsh/zpty',
        `zpty -b z zsh -f -i`,
        `zpty -w z $'PS1=; fpath=(${folder} $fpath); autoload -U compinit; compinit -u -D; setopt nobeep; zstyle ":completion:*" list-prompt ""; LISTMAX=0; echo re''ady'`,
        `repeat 1000; do sleep 0.05; zpty -rt z chunk && out+=$chunk; [[ $out == *ready* ]] && break; done`,
        `zpty -w -n z '${line}'$'\\t\\t'`,
        // Until all is there that is waited for: what is missing then will not come.
        `out=; repeat 1000; do sleep 0.05; zpty -rt z chunk && out+=$chunk; [[ ${hasAll} ]] && break; done`,
        'print -r -- "$out"',
        'zpty -d z',
      ].join('\n');
      return spawnSync('zsh', ['-f', '-c', script], { encoding: 'utf8', timeout: HANG_MS }).stdout;
    };
    const flags = offered('c100k-bench --con', ['--conns', '--connect-timeout']);
    assert.match(flags, /--conns/);
    assert.match(flags, /--connect-timeout/);
    assert.match(offered('c100k-bench completion ', ['bash', 'zsh']), /bash[\s\S]*zsh/);
    const behind = offered('c100k-bench --live --con', ['--conns', '--connect-timeout']);
    assert.match(behind, /--connect-timeout/, 'its value may be left out');
  });

  it('names exactly the flags of each command, with help, placeholder and choices', () => {
    const script = readFileSync(zshFile, 'utf8');
    for (const { command } of COMMANDS) {
      const pattern = command === 'run' ? '\\*' : command;
      const block = new RegExp(`^ {4}${pattern}\\)\\n([\\s\\S]*?)^ +;;`, 'm').exec(script)?.[1] ?? '';
      const named = [...block.matchAll(/--([a-z-]+)(?:,-\w\})?'?\[/g)].map((match) => match[1]);
      assert.deepEqual(
        named.toSorted(),
        [...flagsOf(command).map(({ name }) => name), 'help'].toSorted(),
        command,
      );
      for (const flag of flagsOf(command)) {
        const line = block.split('\n').find((one) => new RegExp(`--${flag.name}[,']`).test(one)) ?? '';
        const plain = line.replaceAll("'\\''", "'").replaceAll(/\\([[\]:])/g, '$1');
        assert.ok(plain.includes(`[${flag.describe}]`), line);
        if (flag.choices !== undefined) assert.ok(line.includes(`(${flag.choices.join(' ')})`), line);
        else assert.ok(plain.includes(flag.kind === 'switch' ? "]'" : `:${flag.placeholder}:`), line);
        assert.equal(plain.includes(`::${flag.placeholder}`), flag.bare !== null, line);
        assert.equal(line.includes('_files'), flag.file === true, line);
      }
    }
  });
});

describe('the completion for bash', () => {
  it('offers exactly the flags of each command', () => {
    for (const { command } of COMMANDS) {
      const offered = offeredByBash(...(command === 'run' ? ['--', '-'] : [command, '-']));
      const wanted = flagsOf(command).flatMap(({ name, letter }) => [
        `--${name}`,
        ...(letter === null ? [] : [`-${letter}`]),
      ]);
      const more = command === 'run' ? ['--help', '--version'] : ['--help'];
      assert.deepEqual(offered.toSorted(), [...wanted, ...more].toSorted(), command);
    }
    assert.ok(FLAGS.length > 50);
  });
});

const noFish = spawnSync('fish', ['-c', 'exit 0']).status === 0 ? false : 'fish is not installed';

/** What fish offers for a line, without the descriptions. */
function offeredByFish(line: string): string[] {
  const script = `source '${fishFile}'; complete -C '${line}'`;
  const { stdout, stderr, status } = spawnSync('fish', ['--no-config', '-c', script], {
    encoding: 'utf8',
    cwd: folder,
    timeout: HANG_MS,
    env: { ...process.env, HOME: folder },
  });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  return stdout.split('\n').flatMap((each) => each.split('\t')[0] || []);
}

describe('the completion for fish', { skip: noFish }, () => {
  it('offers exactly the flags of each command', () => {
    for (const { command } of COMMANDS) {
      const offered = offeredByFish(command === 'run' ? 'c100k-bench --' : `c100k-bench ${command} --`);
      const wanted = [...flagsOf(command).map(({ name }) => `--${name}`), '--help'];
      const more = command === 'run' ? ['--version'] : [];
      assert.deepEqual([...new Set(offered)].toSorted(), [...wanted, ...more].toSorted(), command);
    }
  });

  it('offers commands, words, choices, files, and nothing for a number', () => {
    const commands = COMMANDS.map(({ command }) => command);
    assert.deepEqual(offeredByFish('c100k-bench ').toSorted(), commands.toSorted());
    assert.deepEqual(offeredByFish('c100k-bench completion ').toSorted(), ['bash', 'fish', 'zsh']);
    assert.deepEqual(offeredByFish('c100k-bench help exit'), ['exit-codes']);
    assert.deepEqual(offeredByFish('c100k-bench --close ').toSorted(), ['fin', 'rst']);
    assert.deepEqual(offeredByFish('c100k-bench --conns '), []);
    assert.ok(offeredByFish('c100k-bench --json comp').includes('completion.bash'));
    assert.ok(offeredByFish('c100k-bench report comp').includes('completion.bash'));
    assert.ok(offeredByFish('c100k-bench run comp').includes('completion.bash'));
    assert.ok(offeredByFish('c100k-bench run --con').includes('--conns'));
    assert.deepEqual(offeredByFish('c100k-bench --live --connect-t'), ['--connect-timeout']);
  });
});
