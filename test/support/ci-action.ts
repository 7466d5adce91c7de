/**
 * Owns running action.yml as a CI server does, as far as a shell can: its steps in order, with inputs put in place. Must never run a script in which
 * an input was written.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { inheritedEnvironment, repositoryRoot } from './run-cli.ts';
import { HANG_MS } from './waiting.ts';

interface Step {
  readonly id: string;
  readonly run: string;
  readonly shell: string;
  readonly env?: Readonly<Record<string, string>>;
}

interface Action {
  readonly inputs: Readonly<Record<string, { readonly default?: string; readonly required?: boolean }>>;
  readonly outputs: Readonly<Record<string, { readonly value: string }>>;
  readonly runs: { readonly using: string; readonly steps: readonly Step[] };
}

/** One job, or a template of jobs, of GitLab. */
export interface GitlabJob {
  readonly variables: Readonly<Record<string, string>>;
  readonly script: readonly string[];
  readonly artifacts: { readonly reports: { readonly junit: string } };
}

function read(...path: string[]): unknown {
  return parse(readFileSync(join(repositoryRoot, ...path), 'utf8'));
}

export const action = read('action.yml') as Action;

/** docs/ci/gitlab.yml, by name. */
export const gitlabTemplate = read('docs', 'ci', 'gitlab.yml') as Readonly<Record<string, GitlabJob>>;

interface Ran {
  readonly code: number | null;
  readonly text: string;
}

/** Runs a script as a CI server does: in a file of its own, ended by its first failure. */
export function ciShell(folder: string, script: string, env: Readonly<Record<string, string>>): Ran {
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
export function runAction(
  folder: string,
  inputs: Readonly<Record<string, string>>,
): Ran & { readonly outputs: string } {
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
    const result = ciShell(folder, run, {
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
