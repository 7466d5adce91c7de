/** Owns the tests of `init`: the file that it writes runs, tells an editor its schema, and never takes the place of another. */
import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { flagsOf } from '../../../src/api/flags/flags.ts';
import { runFileSchemaJson } from '../../../src/cli/run-file-schema.ts';
import { repositoryRoot, runCli, startProcess } from '../../support/run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-init-'));
after(() => rmSync(folder, { recursive: true, force: true }));

it('writes a file that runs as it is, once', async () => {
  const path = join(folder, 'soak.yaml');
  const made = await runCli(['init', path]);
  assert.equal(made.code, 0, made.stderr);
  const text = readFileSync(path, 'utf8');
  for (const { name, describe } of flagsOf('run')) {
    assert.match(text, new RegExp(`^#?${name}:`, 'm'));
    const [first = ''] = describe.split(' ');
    assert.ok(text.includes(`# ${first}`), name);
  }
  const run = await runCli(['run', path, '--conns', '50', '--duration', '1s']);
  assert.equal(run.code, 0, run.stderr);

  writeFileSync(path, 'conns: 7\n');
  const again = await runCli(['init', path]);
  assert.equal(again.code, 2);
  assert.match(again.stderr, /soak\.yaml is there already\n {2}hint: .*--force/);
  assert.equal(readFileSync(path, 'utf8'), 'conns: 7\n');
  // A link that leads nowhere is something that is there too.
  symlinkSync(join(folder, 'elsewhere'), join(folder, 'link.yaml'));
  assert.equal((await runCli(['init', join(folder, 'link.yaml')])).code, 2);
  assert.ok(!existsSync(join(folder, 'elsewhere')));
  assert.equal((await runCli(['init', path, '--force'])).code, 0);
  assert.equal(readFileSync(path, 'utf8'), text);
  assert.equal((await runCli(['init', join(folder, 'none', 'a.yaml')])).code, 5);
  assert.match((await runCli(['init', 'a.yaml', 'b.yaml'])).stderr, /init writes one file, not 2/);
});

it('tells an editor where the schema is: a URL, and within a project a path', async () => {
  const schemaOf = (text: string): string =>
    /^# yaml-language-server: \$schema=(\S+)\n/.exec(text)?.[1] ?? '';
  const { stdout } = await runCli(['init', '-']);
  const url = schemaOf(stdout);
  assert.match(url, /^file:\/\/\//);
  assert.equal(readFileSync(fileURLToPath(url), 'utf8'), runFileSchemaJson());
  assert.equal((await runCli(['init', '--schema'])).stdout, runFileSchemaJson());

  const installed = join(folder, 'node_modules', 'c100k-bench');
  mkdirSync(installed, { recursive: true });
  for (const part of ['bin', 'dist', 'package.json', 'docs']) {
    cpSync(join(repositoryRoot, part), join(installed, part), { recursive: true });
  }
  symlinkSync(join(repositoryRoot, 'node_modules'), join(installed, 'node_modules'));
  mkdirSync(join(folder, 'load'));
  const path = join(folder, 'load', 'soak.yaml');
  const own = await startProcess(
    [process.execPath, join(installed, 'bin', 'c100k-bench.js'), 'init', path],
    {},
  ).result;
  assert.equal(own.code, 0, own.stderr);
  const beside = schemaOf(readFileSync(path, 'utf8'));
  assert.equal(beside, '../node_modules/c100k-bench/docs/run-file.schema.json');
  assert.ok(existsSync(join(folder, 'load', beside)));
});
