import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { FlagValues } from '../src/api/flags/flags.ts';
import { readKubernetesRun } from '../src/api/kubernetes-request.ts';
import { readRunRequest } from '../src/api/run-request.ts';
import { parseCommandLine } from '../src/cli/command-line.ts';
import { cliPath, repositoryRoot } from './support/run-cli.ts';
import { joinedLines, shellWords } from './support/shell-words.ts';

function read(...path: string[]): string {
  return readFileSync(join(repositoryRoot, ...path), 'utf8');
}

/** Every line of a fenced block, with `\` at its end joined to the next. */
function codeLines(markdown: string): string[] {
  return [...markdown.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap((match) => joinedLines(match[1] ?? ''));
}

/** The arguments of each `c100k-bench` in a line, between pipes and redirections. */
function commandsIn(line: string): string[][] {
  return shellWords(line)
    .filter((words) => words[0] === 'c100k-bench')
    .map((words) => words.slice(1));
}

/** Parses as the program would, and checks the values that it would check before it does anything. */
async function check(args: readonly string[]): Promise<FlagValues> {
  const parsed = await parseCommandLine(args, {}, '0.0.0', 80);
  assert(parsed.kind === 'command', args.join(' '));
  const { command, values } = parsed;
  // A token file that is not there would be made.
  const withoutFile = { ...values, one: (name: string) => (name === 'token-file' ? null : values.one(name)) };
  if (command === 'run' || command === 'plan') readRunRequest(values);
  if (command === 'k8s') await readKubernetesRun(withoutFile);
  return values;
}

describe('docs/DISTRIBUTED.md', () => {
  const markdown = read('docs', 'DISTRIBUTED.md');

  it('shows only command lines that the program takes', async () => {
    const lines = codeLines(markdown).flatMap(commandsIn);
    assert.ok(lines.length >= 12, `only ${lines.length} commands`);
    for (const args of lines) {
      await assert.doesNotReject(check(args), `c100k-bench ${args.join(' ')}`);
    }
    const inText = [...markdown.matchAll(/`c100k-bench ([^`]+)`/g)].map((match) => match[1] ?? '');
    for (const text of inText) await assert.doesNotReject(check(shellWords(text)[0] ?? []), text);
  });

  it('would not pass with a flag that does not exist', async () => {
    await assert.rejects(check(['-t', 'a:1', '-c', '1', '--expect-agent', '5']), /unknown flag/);
  });

  it('names only files and headings that are there', () => {
    for (const [, target = ''] of markdown.matchAll(/\]\(([^)]+)\)/g)) {
      const [path = '', heading] = target.split('#');
      const text = path === '' ? markdown : read('docs', path);
      if (heading === undefined) continue;
      const headings = [...text.matchAll(/^#+ (.*)$/gm)].map((match) =>
        (match[1] ?? '')
          .toLowerCase()
          .replaceAll(/[^\w -]/g, '')
          .replaceAll(' ', '-'),
      );
      assert.ok(headings.includes(heading), target);
    }
    for (const [path = ''] of markdown.matchAll(/docs\/deploy\/[\w.-]+/g)) {
      assert.ok(existsSync(join(repositoryRoot, path)), path);
    }
  });
});

describe('docs/deploy/Dockerfile', () => {
  const instructions = joinedLines(read('docs', 'deploy', 'Dockerfile')).filter(
    (line) => !line.startsWith('#'),
  );

  it('copies only what is in the repository and let into the build', () => {
    const let_in = read('docs', 'deploy', 'Dockerfile.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copies = instructions.filter((line) => /^COPY (?!--from)/.test(line));
    assert.ok(copies.length >= 4);
    for (const source of copies.flatMap((line) => line.split(/\s+/).slice(1, -1))) {
      assert.ok(existsSync(join(repositoryRoot, source)), source);
      assert.ok(let_in.includes(source.replace(/\/$/, '')), `${source} is kept out of the build`);
    }
  });

  it('runs only scripts that package.json has', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const used = instructions.flatMap((line) =>
      [...line.matchAll(/npm run ([\w:-]+)/g)].map((match) => match[1]),
    );
    assert.ok(used.length > 0);
    for (const script of used) assert.ok(script !== undefined && script in scripts, script);
  });

  it('has an entry that works outside of it', () => {
    const words = (name: string): string[] => {
      const line = instructions.findLast((each) => each.startsWith(`${name} `)) ?? '';
      return JSON.parse(line.slice(name.length + 1)) as string[];
    };
    const [program = '', ...args] = words('ENTRYPOINT').map((word) => word.replace(/^\/app/, repositoryRoot));
    const help = execFileSync(program, [...args, ...words('CMD')], { encoding: 'utf8' });
    assert.match(help, /Commands:[\s\S]*c100k-bench agent/);
  });
});

describe('docs/deploy/c100k-bench-agent.service', () => {
  const unit = read('docs', 'deploy', 'c100k-bench-agent.service');
  const startLine = /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '';

  it('gives descriptors and NET_ADMIN, and takes privileges away', () => {
    assert.match(unit, /^LimitNOFILE=1048576$/m);
    assert.match(unit, /^AmbientCapabilities=.*\bCAP_NET_ADMIN\b/m);
    assert.match(unit, /^DynamicUser=yes$/m);
    assert.match(unit, /^NoNewPrivileges=yes$/m);
    assert.match(unit, /^LoadCredential=token:/m);
  });

  it('starts a command line that the program takes, with the token from a file', async () => {
    const [, ...args] = shellWords(startLine)[0] ?? [];
    const parsed = await parseCommandLine([...args, '--join', 'a:1'], {}, '0.0.0', 80);
    assert(parsed.kind === 'command');
    assert.equal(parsed.command, 'agent');
    assert.equal(parsed.values.on('stay'), true);
    assert.equal(parsed.values.one('token-file'), `\${CREDENTIALS_DIRECTORY}/token`);
  });

  it('is a unit that systemd understands', (t) => {
    if (spawnSync('systemd-analyze', ['--version']).error !== undefined) {
      t.skip('systemd-analyze is not installed');
      return;
    }
    const folder = mkdtempSync(join(tmpdir(), 'c100k-test-'));
    const verify = (text: string): string => {
      const path = join(folder, 'c100k-bench-agent.service');
      writeFileSync(path, text.replace('/usr/local/bin/c100k-bench', cliPath));
      const { stderr, status } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
      return `${status === 0 ? '' : `exit ${status}\n`}${stderr}`;
    };
    try {
      assert.equal(verify(unit), '');
      assert.match(verify(unit.replace('LimitNOFILE', 'LimitNOFLE')), /Unknown key.*LimitNOFLE/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
