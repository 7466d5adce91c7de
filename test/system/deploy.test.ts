import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { parseAllDocuments } from 'yaml';
import type { RunReport } from '../../src/judge/report.ts';
import { until } from '../support/bench-run.ts';
import { listeningPort } from '../support/kernel-view.ts';
import { cliPath, repositoryRoot, runCli, startCli, startProcess } from '../support/run-cli.ts';
import { joinedLines, shellWords } from '../support/shell-words.ts';

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts something that the test ends by its pid, whatever happens. */
function startFor(t: TestContext, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const running = startCli(args, { env, timeoutMs: 60_000 });
  t.after(() => running.child.kill('SIGKILL'));
  return running;
}

async function freePortOf(pid: number): Promise<number> {
  let port: number | null = null;
  await until('it listens', 60_000, () => {
    port = listeningPort([pid]);
    return port !== null;
  });
  return port ?? 0;
}

interface Job {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template: { readonly spec: { readonly containers: readonly { args: string[] }[] } };
  };
}

describe('the manifests of k8s, without a cluster', () => {
  it('hold connections: the very arguments of the pods, as processes of this host', async (t) => {
    const folder = temporaryFolder(t);
    const served = startFor(t, ['serve', '--port', '0', '--workers', '1', '--quiet']);
    const target = await servedPort(served.child.pid ?? 0);
    const printed = await runCli([
      'k8s',
      ...`-t 127.0.0.1:${target} -c 601 -d 1s --expect-agents 2 --image x --max-conns 400`.split(' '),
      // Pods have addresses of their own; here both agents share one host.
      ...['--source-ip', '127.0.1.$(JOB_COMPLETION_INDEX)'],
    ]);
    assert.equal(printed.code, 0, printed.stderr);
    const objects = parseAllDocuments(printed.stdout, { version: '1.1' }).map((document) => document.toJS());
    const secret = objects[0] as { stringData: { token: string } };
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, secret.stringData.token, { mode: 0o400 });
    const argsOf = (name: string): string[] => {
      const job = (objects as Job[]).find((each) => each.kind === 'Job' && each.metadata.name === name);
      return job?.spec.template.spec.containers[0]?.args ?? [];
    };
    // What Kubernetes does: the index in the arguments, the Secret as a file, the Service as a name.
    const local = (args: readonly string[], port: number, index = 0): string[] =>
      args.map((arg) =>
        arg
          .replaceAll('$(JOB_COMPLETION_INDEX)', String(index))
          .replace('/run/secrets/c100k-bench/token', tokenFile)
          .replace('0.0.0.0:7100', '127.0.0.1:0')
          .replace('c100k-bench-coordinator:7100', `127.0.0.1:${port}`),
      );
    const reportPath = join(folder, 'report.json');
    const coordinator = startFor(t, [...local(argsOf('c100k-bench-coordinator'), 0), '--json', reportPath]);
    const port = await freePortOf(coordinator.child.pid ?? 0);
    const agents = [0, 1].map((index) =>
      startFor(t, local(argsOf('c100k-bench-agent'), port, index), { C100K_NAME: `agent-${index}` }),
    );
    const { code, stderr } = await coordinator.result;
    assert.equal(code, 0, stderr);
    for (const agent of agents) assert.equal((await agent.result).code, 0, agent.stderr());
    const report = JSON.parse(readFileSync(reportPath, 'utf8')) as RunReport;
    assert.equal(report.connections.held, 601);
    assert.deepEqual(report.agents.map(({ name }) => name).toSorted(), ['agent-0', 'agent-1']);
    assert.ok(report.agents.every(({ quota }) => quota <= 400));
    served.child.kill('SIGINT');
    assert.match((await served.result).stdout, /601/, 'the target itself counted as many');
  });
});

/** The port of a `serve` process, whose workers are the ones that listen. */
async function servedPort(pid: number): Promise<number> {
  let port: number | null = null;
  await until('the target listens', 60_000, () => {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
    port = listeningPort([pid, ...children]);
    return port !== null;
  });
  return port ?? 0;
}

describe('the unit of systemd, without systemd', () => {
  it('serves one run after the other, and ends in order with SIGTERM', async (t) => {
    const folder = temporaryFolder(t);
    const unit = readFileSync(join(repositoryRoot, 'docs', 'deploy', 'c100k-bench-agent.service'), 'utf8');
    const environment = { CREDENTIALS_DIRECTORY: folder, STATE_DIRECTORY: folder };
    const start = (/^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '').replaceAll(
      /\$\{(\w+)\}/g,
      (_, name: keyof typeof environment) => environment[name],
    );
    const [, ...args] = shellWords(start)[0] ?? [];
    const tokenFile = join(folder, 'token');
    const run = (port: number) =>
      startFor(t, [
        ...`-t self -c 100 -d 500ms --listen 127.0.0.1:${port} --expect-agents 1`.split(' '),
        ...['--token-file', tokenFile],
      ]);
    const first = run(0);
    const port = await freePortOf(first.child.pid ?? 0);
    const agent = startFor(t, args, { C100K_JOIN: `127.0.0.1:${port}`, C100K_NAME: 'staying' });
    assert.equal((await first.result).code, 0, first.stderr());
    const second = run(port);
    assert.equal((await second.result).code, 0, second.stderr());
    assert.equal(agent.child.exitCode, null, agent.stderr());
    agent.child.kill('SIGTERM');
    await agent.result;
    assert.notEqual(agent.child.exitCode, 70, agent.stderr());
  });
});

describe('the Dockerfile, without docker', () => {
  it('makes a program that runs with production packages alone', async (t) => {
    const root = temporaryFolder(t);
    const stages = new Map<string, string>();
    let stage = '';
    const text = readFileSync(join(repositoryRoot, 'docs', 'deploy', 'Dockerfile'), 'utf8');
    let entry: string[] = [];
    for (const line of joinedLines(text).filter((each) => !each.startsWith('#'))) {
      const [instruction, ...words] = line.split(/\s+/);
      if (instruction === 'FROM') {
        stage = join(root, `${stages.size}`);
        stages.set(words[2] ?? '', stage);
        mkdirSync(stage);
      } else if (instruction === 'COPY') {
        const from = /^--from=(.*)$/.exec(words[0] ?? '')?.[1];
        const sources = words.slice(from === undefined ? 0 : 1, -1);
        for (const source of sources) {
          const path =
            from === undefined
              ? join(repositoryRoot, source)
              : source.replace('/app', stages.get(from) ?? '/nowhere');
          cpSync(path, join(stage, source.split('/').at(-1) ?? ''), { recursive: true });
        }
      } else if (line === 'RUN npm ci --ignore-scripts') {
        // The packages that this very test was built with came from the same lock file.
        symlinkSync(join(repositoryRoot, 'node_modules'), join(stage, 'node_modules'));
      } else if (instruction === 'RUN' && !line.includes('apt-get')) {
        execFileSync('sh', ['-c', `${words.join(' ')} --no-audit --no-fund`], { cwd: stage, stdio: 'pipe' });
      } else if (instruction === 'ENTRYPOINT') {
        entry = JSON.parse(words.join(' ')) as string[];
      }
    }
    const command = [
      ...entry.map((word) => word.replace('/app', stage)),
      ...'-t self -c 100 -d 500ms'.split(' '),
    ];
    const { code, stdout, stderr } = await startProcess(command, { timeoutMs: 60_000 }).result;
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^PASS .*100/m);
    assert.ok(!command.join(' ').includes(cliPath));
  });
});
