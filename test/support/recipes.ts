/**
 * Owns reading docs/RECIPES.md as what it is for: commands to type, files to copy, and output to expect. Must never have a command of its own: a
 * test puts its own numbers and addresses in place of the page's, and each of those must be on the page.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { cliPath, type RunningCli, repositoryRoot, startProcess } from './run-cli.ts';
import { joinedLines } from './shell-words.ts';

const RUN_TIMEOUT_MS = 240_000;

/** A command of the page, or the same with a test's own numbers. */
export interface RecipeCommand {
  readonly text: string;
  /** what it ends with; 0 unless the page says another */
  readonly exitCode: number;
}

/** One section with code. */
export interface Recipe {
  readonly title: string;
  readonly commands: readonly RecipeCommand[];
  /** by the name in their first line */
  readonly files: ReadonlyMap<string, string>;
  /** what the page says that a command prints */
  readonly outputs: readonly string[];
}

/** What is put in place of the page's own. */
export type Places = readonly (readonly [ofPage: string, ofTest: string | number])[];

const FILE_LANGUAGES: readonly string[] = ['yaml', 'haproxy'];

function recipeOf(title: string, text: string): Recipe {
  const commands: RecipeCommand[] = [];
  const files = new Map<string, string>();
  const outputs: string[] = [];
  for (const [, language = '', code = ''] of text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)) {
    const name = /^# (\S+)\n/.exec(code)?.[1];
    if (language === 'sh') {
      for (const line of joinedLines(code))
        commands.push({ text: line, exitCode: Number(/# exit code (\d+)$/.exec(line)?.[1] ?? 0) });
    } else if (FILE_LANGUAGES.includes(language)) {
      assert(name !== undefined, `${title}: a file says its name in its first line`);
      files.set(name, code);
    } else {
      assert.equal(language, '', `${title}: ${language} is run by no test`);
      outputs.push(code);
    }
  }
  return { title, commands, files, outputs };
}

/** The sections with code of a page. */
export function recipesIn(markdown: string): Recipe[] {
  return markdown
    .split(/^## /m)
    .map((text) => recipeOf(text.split('\n')[0] ?? '', text))
    .filter(({ commands, files, outputs }) => commands.length + files.size + outputs.length > 0);
}

/** A section of docs/RECIPES.md. @throws AssertionError when there is none, or it has another number of commands or other files */
export function recipe(title: string, commands: number, files: readonly string[] = []): Recipe {
  const found = recipesIn(readFileSync(join(repositoryRoot, 'docs', 'RECIPES.md'), 'utf8')).find(
    (one) => one.title === title,
  );
  assert(found !== undefined, `docs/RECIPES.md has a section "${title}"`);
  assert.equal(found.commands.length, commands, `${title}: each command is run by its test`);
  assert.deepEqual([...found.files.keys()], files, `${title}: each file is used by its test`);
  return found;
}

/** The same with a test's own numbers and addresses. @throws AssertionError for one that is not on the page */
export function placed(page: Recipe, places: Places): Recipe {
  const all = [...page.commands.map(({ text }) => text), ...page.files.values()].join('\n');
  for (const [ofPage] of places)
    assert(all.includes(ofPage), `${page.title} does not have "${ofPage}" any more`);
  const put = (text: string): string =>
    places.reduce((result, [ofPage, ofTest]) => result.replaceAll(ofPage, String(ofTest)), text);
  return {
    ...page,
    commands: page.commands.map((command) => ({ ...command, text: put(command.text) })),
    files: new Map([...page.files].map(([name, text]) => [name, put(text)])),
  };
}

/** Without what differs between two runs: numbers and their units, where lines are broken, and the small charts. */
const shapeOf = (text: string): string =>
  text
    .replaceAll(/\d[\d,.]*\s*(?:ms|s|m)?\b/g, 'N')
    .replaceAll(/[▁-█_]{2,}/g, '-')
    .replaceAll(/\s+/g, '');

/** What was printed has the page's output in it, whatever the numbers. */
export function assertPrints(printed: string, output: string | undefined): void {
  assert(output !== undefined, 'the page says what is printed');
  assert(shapeOf(printed).includes(shapeOf(output)), `${output}\nis not in\n${printed}`);
}

/** A folder in which commands are typed, where `c100k-bench` is a command. */
export class Desk {
  readonly folder = mkdtempSync(join(tmpdir(), 'c100k-recipe-'));
  readonly #t: TestContext;

  constructor(t: TestContext) {
    this.#t = t;
    this.program('c100k-bench', `exec '${process.execPath}' '${cliPath}' "$@"`);
    t.after(() => rmSync(this.folder, { recursive: true, force: true }));
  }

  /** A command that is a script of the test's. */
  program(name: string, script: string): void {
    this.write(`bin/${name}`, `#!/bin/bash\n${script}\n`);
    chmodSync(join(this.folder, 'bin', name), 0o755);
  }

  write(name: string, text: string): void {
    const path = join(this.folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  read(name: string): string {
    return readFileSync(join(this.folder, name), 'utf8');
  }

  /** What CI servers and shells find here. */
  get environment(): Readonly<Record<string, string>> {
    // The form with which people read the page, whatever the test's own output is.
    return {
      PATH: `${join(this.folder, 'bin')}:${process.env.PATH ?? ''}`,
      C100K_REPORT: 'short',
      NO_COLOR: '1',
    };
  }

  /** Types a line, or runs a script as a CI server does; whatever it starts is ended after the test. */
  start(script: string, env: Readonly<Record<string, string>> = {}): RunningCli {
    const running = startProcess(
      ['bash', '--noprofile', '--norc', '-eo', 'pipefail', '-c', `cd '${this.folder}'\n${script}`],
      { ownGroup: true, timeoutMs: RUN_TIMEOUT_MS, env: { ...this.environment, ...env } },
    );
    const { pid } = running.child;
    this.#t.after(() => {
      try {
        if (pid !== undefined) process.kill(-pid, 'SIGKILL');
      } catch {
        // All of it has ended.
      }
    });
    return running;
  }

  /** Types a command and waits for its end, which must be the one of the page. @returns what it printed */
  async type(
    command: RecipeCommand | undefined,
    env: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    assert(command !== undefined);
    const { code, stdout, stderr } = await this.start(command.text, env).result;
    assert.equal(code, command.exitCode, `${command.text}\n${stdout}${stderr}`);
    return stdout;
  }
}
