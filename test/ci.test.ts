/** Tests the action for GitHub and the template for GitLab as far as a shell can: each runs its own script. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { RunReport } from '../src/judge/report.ts';
import { action, ciShell, gitlabTemplate, runAction } from './support/ci-action.ts';
import { cliPath } from './support/run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-ci-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const shell = (script: string, env: Readonly<Record<string, string>>) => ciShell(folder, script, env);

describe('the action', () => {
  it('runs, writes report, page and JUnit under its name, and gives its outputs', () => {
    const { code, text, outputs } = runAction(folder, {
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
    const { code, outputs, text } = runAction(folder, {
      args: '-t 127.0.0.1:9 -c 5 -d 100ms',
      name: 'second',
    });
    assert.equal(code, 1, text);
    assert.match(outputs, /^exit-code=1\nverdict=fail\n/);
    assert.match(text, /^::error title=c100k-bench second%3A FAIL/m);
    assert.ok(existsSync(join(folder, 'c100k-bench', 'first.json')));
  });

  it('says a usage error as an annotation and in JUnit', () => {
    const { code, outputs, text } = runAction(folder, { args: '--target self --cons 5', name: 'typo' });
    assert.equal(code, 2, text);
    assert.match(outputs, /^exit-code=2\nverdict=\n/);
    assert.match(text, /^::error title=c100k-bench typo%3A usage::unknown flag --cons/m);
    const xml = readFileSync(join(folder, 'c100k-bench', 'typo.xml'), 'utf8');
    assert.match(xml, /<testsuite name="c100k-bench typo" tests="1" failures="0" errors="1"/);
  });

  it('says a refusal as an annotation and in JUnit', () => {
    const { code, outputs, text } = runAction(folder, {
      args: '--target 127.0.0.1:9 --conns 50m',
      name: 'refused',
    });
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
    const { code } = runAction(folder, {
      args: '--target self --conns $(touch made) `touch made`',
      name: 'x',
    });
    assert.equal(code, 2);
    assert.equal(existsSync(join(folder, 'made')), false);
    assert.equal(runAction(folder, { args: '--help', name: '../up' }).code, 2);
  });
});

describe('the template for GitLab', () => {
  const job = gitlabTemplate['.c100k-bench'];

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
