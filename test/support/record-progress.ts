/**
 * Owns the recording of what real runs show of themselves while they go on, for the frames of the live view, and of two reports
 * for those of the final one. `node build/test/support/record-progress.js` writes test/cli/frames/*.json, each the snapshots of a
 * run, and the reports of a refused and an interrupted run to test/report/frames/. Must never write down what names its host.
 */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BenchOptions, type Progress, run } from '../../src/index.ts';
import { repositoryRoot, runCli, startCli } from './run-cli.ts';

const FRAMES = join(repositoryRoot, 'test', 'cli', 'frames');
const REPORT_FRAMES = join(repositoryRoot, 'test', 'report', 'frames');

function write(path: string, value: unknown): void {
  writeFileSync(path, `${JSON.stringify(value)}\n`);
}

/** A run's snapshots. */
async function recorded(
  options: BenchOptions,
  onNote: (line: string) => void = () => {},
): Promise<readonly Progress[]> {
  const seen: Progress[] = [];
  const report = await run(options, { onProgress: (progress) => seen.push(progress), onNote });
  process.stderr.write(`${report.verdict}: ${report.reason}\n`);
  return seen;
}

/** An echo server that ends some of its connections after a while: so many by RST, so many by FIN. */
async function losing(afterMs: number, resets: number, ends: number): Promise<Server> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
    if (sockets.length !== 1) return;
    setTimeout(() => {
      for (const each of sockets.slice(0, resets)) each.resetAndDestroy();
      for (const each of sockets.slice(resets, resets + ends)) each.end();
    }, afterMs);
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 });
  await once(server, 'listening');
  return server;
}

async function recordLosses(): Promise<void> {
  const server = await losing(6_000, 180, 60);
  const { port } = server.address() as AddressInfo;
  // Nothing listens at port 9: half of the connects are refused.
  const target = [`echo://127.0.0.1:${port}`, 'echo://127.0.0.1:9'];
  const seen = await recorded({ target, conns: 1_000, ratePerSec: 250, durationMs: 6_000 });
  server.close();
  write(join(FRAMES, 'losses.json'), seen);
}

async function recordAgents(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-record-'));
  const tokenFile = join(folder, 'run.token');
  const agents: ReturnType<typeof startCli>[] = [];
  let port: string | null = null;
  const onNote = (line: string): void => {
    port ??= /--join \S+:(\d+)/.exec(line)?.[1] ?? null;
    if (port === null || agents.length > 0) return;
    const place = ['agent', '--join', `127.0.0.1:${port}`, '--token-file', tokenFile];
    for (const name of ['left', 'right.example'])
      agents.push(
        startCli([...place, '--name', name, '--source-ip', name === 'left' ? '127.0.0.11' : '127.0.0.12']),
      );
    // One of them is killed while they hold.
    setTimeout(() => agents[1]?.child.kill('SIGKILL'), 9_000);
  };
  const seen = await recorded(
    {
      target: 'echo://self',
      conns: 6_000,
      ratePerSec: 1_500,
      durationMs: 35_000,
      expectAgents: 2,
      agents: 'remote',
      listen: '127.0.0.1:0',
      tokenFile,
    },
    onNote,
  );
  await Promise.all(agents.map(({ result }) => result));
  rmSync(folder, { recursive: true, force: true });
  write(join(FRAMES, 'agents.json'), seen);
}

/** What names the host, and where the run was started. */
function anonymous(report: object, folder: string): object {
  const text = JSON.stringify(report)
    .replaceAll(repositoryRoot, '/opt/c100k-bench')
    .replaceAll(`${folder}/`, '');
  return JSON.parse(text, (key, value: unknown) =>
    key === 'hostname' || key === 'host' ? 'host' : value,
  ) as object;
}

async function recordReports(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-record-'));
  const path = join(folder, 'r.json');
  const keep = (name: string): void =>
    write(
      join(REPORT_FRAMES, `${name}.json`),
      anonymous(JSON.parse(readFileSync(path, 'utf8')) as object, folder),
    );
  await runCli(['-t', '127.0.0.1:9', '-c', '130k', '--engine', 'epoll', '--holders', '2', '--json', path], {
    descriptorsMax: 1_024,
  });
  keep('refused');
  const running = startCli(['-t', 'echo://self', '-c', '20k', '-r', '5k/s', '-d', '60s', '--json', path]);
  await running.saw(/holding/);
  setTimeout(() => running.child.kill('SIGINT'), 3_000);
  await running.result;
  keep('interrupted');
  rmSync(folder, { recursive: true, force: true });
}

write(
  join(FRAMES, 'alone.json'),
  await recorded({ target: 'echo://self', conns: 20_000, ratePerSec: 4_000, durationMs: 4_000 }),
);
await recordLosses();
await recordAgents();
await recordReports();
