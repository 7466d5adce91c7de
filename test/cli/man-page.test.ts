/** Tests the manual page: the committed one is what the tables give, a formatter takes it, and it names every flag. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FLAGS } from '../../src/api/flags/flags.ts';
import { ExitCode } from '../../src/base/errors.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { manPage } from '../../src/cli/man-page.ts';
import { ownPackage } from '../../src/host/own-package.ts';
import { repositoryRoot } from '../support/run-cli.ts';

const path = join(repositoryRoot, 'man', 'c100k-bench.1');
const { version, manualPath } = ownPackage();
const page = manPage(version, readFileSync(manualPath, 'utf8'));
const noMandoc = spawnSync('mandoc', ['-V']).error === undefined ? false : 'mandoc is not installed';

test('the page of the package is the one that the tables give', () => {
  if (process.env.UPDATE_FRAMES === '1') writeFileSync(path, page);
  assert.equal(readFileSync(path, 'utf8'), page, 'UPDATE_FRAMES=1 writes it anew');
  const manifest = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8')) as {
    man: string[];
    files: string[];
  };
  assert.deepEqual(manifest.man, ['man/c100k-bench.1']);
  assert(manifest.files.includes('man'));
});

test('a formatter has nothing to say of it', { skip: noMandoc }, () => {
  const { stdout, status } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', path], { encoding: 'utf8' });
  assert.equal(stdout, '');
  assert.equal(status, 0);
});

test('it reads as text: every flag with its meaning, every command, every exit code', {
  skip: noMandoc,
}, () => {
  const { stdout } = spawnSync('mandoc', ['-T', 'ascii', '-O', 'width=500', path], { encoding: 'utf8' });
  // Bold is a letter over itself, with a backspace between.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that backspace
  const text = stdout.replaceAll(/.\u0008/g, '').replaceAll(/[ \n]+/g, ' ');
  for (const { name, describe } of FLAGS) {
    assert(text.includes(`--${name}`), name);
    assert(text.includes(describe.replaceAll(/ +/g, ' ')), `--${name}: ${describe}`);
  }
  for (const { command } of COMMANDS)
    if (command !== 'run') assert(text.includes(`c100k-bench ${command}`), command);
  for (const code of Object.values(ExitCode)) assert.match(text, new RegExp(` ${code} [a-z]`), String(code));
});
