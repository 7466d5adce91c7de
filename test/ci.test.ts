/** Tests the action for GitHub and the template for GitLab as far as a shell can: each runs its own script. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parse } from 'yaml';
import type { RunReport } from '../src/judge/report.ts';
import { cliPath, inheritedEnvironment, repositoryRoot } from './support/run-cli.ts';
import { HANG_MS } from './support/waiting.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-ci-'));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Step {
  readonly id: string;
  readonly run: string;
  readonly shell: string;
  readonly env?: Readonly<Record<string, string>>;
}

const action = parse(readFileSync(join(repositoryRoot, 'action.yml'), 'utf8')) as {
  inputs: Record<string, { default?: string }>;
  outputs: Record<string, { value: string }>;
  runs: { using: string; steps: Step[] };
};

/** Runs a script as a CI server does: in a file of its own, ended by its first failure. */
function shell(script: string, env: Readonly<Record<string, string>>): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['--noprofile', '--norc', '-eo', 'pipefail', '-c', script],
    {
      cwd: folder,
      encoding: 'utf8',
      timeout: 8 * HANG_MS,
      env: { ...inheritedEnvironment(), ...env },
    },
  );
  return { code: status, text: `${stdout}${stderr}` };
}

/** The steps of the action with these inputs. */
function runAction(inputs: Readonly<Record<string, string>>): {
  code: number | null;
  text: string;
  outputs: string;
} {
  const output = join(folder, 'output');
  rmSync(output, { force: true });
  const filledIn = (text: string): string =>
    text.replaceAll(
      /\$\{\{ inputs\.([\w-]+) \}\}/g,
      (_, name: string) => inputs[name] ?? action.inputs[name]?.default ?? '',
    );
  let text = '';
  for (const { run, env = {} } of action.runs.steps) {
    assert.doesNotMatch(run, /\$\{\{/, 'an input in a script would be run as one');
    const own = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, filledIn(value)]));
    const result = shell(run, {
      ...own,
      GITHUB_ACTION_PATH: repositoryRoot,
      GITHUB_OUTPUT: output,
      GITHUB_ACTIONS: 'true',
    });
    text += result.text;
    if (result.code !== 0)
      return { code: result.code, text, outputs: existsSync(output) ? readFileSync(output, 'utf8') : '' };
  }
  return { code: 0, text, outputs: readFileSync(output, 'utf8') };
}

describe('the action', () => {
  it('runs, writes report, page and JUnit under its name, and gives its outputs', () => {
    const { code, text, outputs } = runAction({
      args: "--target self --conns 40 -d 200ms --require 'held>=40'",
      name: 'first',
    });
    assert.equal(code, 0, text);
    assert.equal(outputs, 'exit-code=0\nverdict=pass\nreport=c100k-bench/first.json\n');
    const report = JSON.parse(readFileSync(join(folder, 'c100k-bench', 'first.json'), 'utf8')) as RunReport;
    assert.deepEqual([report.about?.name, report.requirements[0]?.requirement], ['first', 'held>=40']);
    for (const ending of ['html', 'xml'])
      assert.ok(existsSync(join(folder, 'c100k-bench', `first.${ending}`)), ending);
    for (const { value } of Object.values(action.outputs))
      assert.match(value, /steps\.run\.outputs\.(?:exit-code|verdict|report)/);
  });

  it('ends as its run does, and one name does not touch the files of another', () => {
    const { code, outputs, text } = runAction({ args: '-t 127.0.0.1:9 -c 5 -d 100ms', name: 'second' });
    assert.equal(code, 1, text);
    assert.match(outputs, /^exit-code=1\nverdict=fail\n/);
    assert.match(text, /^::error title=c100k-bench second%3A FAIL/m);
    assert.ok(existsSync(join(folder, 'c100k-bench', 'first.json')));
  });

  it('says a usage error as an annotation and in JUnit', () => {
    const { code, outputs, text } = runAction({ args: '--target self --cons 5', name: 'typo' });
    assert.equal(code, 2, text);
    assert.match(outputs, /^exit-code=2\nverdict=\n/);
    assert.match(text, /^::error title=c100k-bench typo%3A usage::unknown flag --cons/m);
    const xml = readFileSync(join(folder, 'c100k-bench', 'typo.xml'), 'utf8');
    assert.match(xml, /<testsuite name="c100k-bench typo" tests="1" failures="0" errors="1"/);
  });

  it('says a refusal as an annotation and in JUnit', () => {
    const { code, outputs, text } = runAction({ args: '--target 127.0.0.1:9 --conns 50m', name: 'refused' });
    assert.equal(code, 3, text);
    assert.match(outputs, /^exit-code=3\nverdict=refused\n/);
    assert.match(text, /^::error title=c100k-bench refused%3A REFUSED/m);
    const xml = readFileSync(join(folder, 'c100k-bench', 'refused.xml'), 'utf8');
    assert.match(xml, /<testsuite name="c100k-bench refused" [^>]*errors="1"/);
  });

  it('has runs of one job apart: by name, or else by target, in summary, annotations and JUnit', () => {
    const summary = join(folder, 'summary.md');
    const env = { GITHUB_ACTIONS: 'true', GITHUB_STEP_SUMMARY: summary };
    const run = (at: number, ...args: string[]) =>
      shell(`${process.execPath} ${cliPath} -c 5 -d 100ms --junit job-${at}.xml ${args.join(' ')}`, env);
    const runs = [
      run(0, '-t 127.0.0.1:9'),
      run(1, '-t 127.0.0.1:19'),
      run(2, '-t 127.0.0.1:9', '--name third'),
    ];
    const names = ['127.0.0.1:9', '127.0.0.1:19', 'third'];
    const lines = readFileSync(summary, 'utf8').replaceAll('\\', '').split('\n');
    const titles = lines.filter((_, at) => lines[at - 2]?.startsWith('### '));
    assert.equal(titles.length, 3);
    for (const [at, name] of names.entries()) {
      assert.equal(runs[at]?.code, 1, runs[at]?.text);
      const title = name.replaceAll(':', '%3A');
      assert.ok(runs[at]?.text.includes(`::error title=c100k-bench ${title}%3A FAIL`), runs[at]?.text);
      const xml = readFileSync(join(folder, `job-${at}.xml`), 'utf8');
      assert.ok(xml.includes(`<testsuite name="c100k-bench ${name}"`), xml);
      assert.ok(titles[at]?.startsWith(`run ${name} (tcp, `), titles[at]);
    }
  });

  it('expands nothing and takes no name that leads elsewhere', () => {
    const { code } = runAction({ args: '--target self --conns $(touch made) `touch made`', name: 'x' });
    assert.equal(code, 2);
    assert.equal(existsSync(join(folder, 'made')), false);
    assert.equal(runAction({ args: '--help', name: '../up' }).code, 2);
  });
});

describe('the template for GitLab', () => {
  const template = parse(readFileSync(join(repositoryRoot, 'docs', 'ci', 'gitlab.yml'), 'utf8')) as Record<
    string,
    { variables: Record<string, string>; script: string[]; artifacts: { reports: { junit: string } } }
  >;
  const job = template['.c100k-bench'];

  it('runs with its variables, ends as its run does, and its JUnit is found', () => {
    assert.ok(job !== undefined);
    const env = { ...job.variables, BENCH_COMMAND: `${process.execPath} ${cliPath}`, BENCH_FOLDER: 'gitlab' };
    const run = (args: string, name: string) =>
      shell(job.script.join('\n'), { ...env, BENCH_ARGS: args, BENCH_NAME: name });
    const passed = run("--target self --conns 40 -d 200ms --require 'held>=40'", 'hold');
    assert.equal(passed.code, 0, passed.text);
    assert.match(readFileSync(join(folder, 'gitlab', 'hold.xml'), 'utf8'), /name="held&gt;=40"/);
    assert.equal(run('-t 127.0.0.1:9 -c 5 -d 100ms', 'lost').code, 1);
    assert.equal(run('--target self --cons 5', 'typo').code, 2);
    const typo = readFileSync(join(folder, 'gitlab', 'typo.xml'), 'utf8');
    assert.match(typo, /<testsuite name="c100k-bench typo" tests="1" failures="0" errors="1"/);
    assert.equal(run('--target 127.0.0.1:9 --conns 50m', 'refused').code, 3);
    assert.match(readFileSync(join(folder, 'gitlab', 'refused.xml'), 'utf8'), / errors="1"/);
    assert.equal(job.artifacts.reports.junit, '$BENCH_FOLDER/*.xml');
  });
});
