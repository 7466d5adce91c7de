/**
 * Owns `npm run bench:million`: very many connections with both ends on this machine, once against `serve` and once against the C
 * server, each beside a bare io_uring loop against the same target just before. Prints the figures and writes them to a file.
 *
 *   npm run bench:million -- [--conns 1000000] [--hold 20] [--target serve|c|both] [million-result.json]
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { probeUring } from '../../src/engine/drivers/uring-probe.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { type Figure, figure, formatFigure } from './figure.ts';
import { Yardstick } from './yardstick.ts';

const CLI = join(process.cwd(), 'bin', 'c100k-bench.js');
const SPIKE = fileURLToPath(new URL('./yardstick-uring.js', import.meta.url));
/** Kernel memory of both ends of a connection; measured: 7.2 to 9.2 KB. */
const BYTES_PER_CONNECTION = 9_200;
const BYTES_BESIDE = 1.5e9;
/** What a process of the C server can take, with room for an uneven spread. */
const PER_C_PROCESS = 18_600;
const RESIDENT_MB_MAX = 400;
const RAMP_RATIO_MAX = 1.2;
const LOOK_EVERY_MS = 500;

function numberIn(path: string, pattern = /(\d+)\s*$/): number | null {
  try {
    const text = pattern.exec(readFileSync(path, 'utf8'))?.[1];
    return text === undefined ? null : Number(text);
  } catch {
    return null;
  }
}

/** What this machine lacks for so many connections with both ends here; empty: nothing. */
function lacking(connections: number): string[] {
  const missing: string[] = [];
  const refusal = probeUring();
  if (refusal !== null) missing.push(`io_uring: ${refusal.text}`);
  const memory = (numberIn('/proc/meminfo', /MemAvailable:\s+(\d+)/) ?? 0) * 1_024;
  const needed = connections * BYTES_PER_CONNECTION + BYTES_BESIDE;
  if (memory < needed)
    missing.push(
      `memory: ${(needed / 1e9).toFixed(1)} GB are needed, ${(memory / 1e9).toFixed(1)} GB are free`,
    );
  const files = numberIn('/proc/sys/fs/file-max');
  if (files !== null && files < 2 * connections + 10_000)
    missing.push(`fs.file-max is ${files}: sysctl -w fs.file-max=${2 * connections + 100_000}`);
  // Both ends are one connection to the tracker; it counts only where a rule has begun it.
  const tracked = numberIn('/proc/sys/net/netfilter/nf_conntrack_count') ?? 0;
  const trackedMax = numberIn('/proc/sys/net/netfilter/nf_conntrack_max');
  if (tracked > 0 && trackedMax !== null && trackedMax < connections + 10_000)
    missing.push(`connections are tracked here: sysctl -w net.netfilter.nf_conntrack_max=${2 * connections}`);
  return missing;
}

/** A line of the child's standard output that matches. */
async function line(
  child: ChildProcess,
  stream: 'stdout' | 'stderr',
  pattern: RegExp,
): Promise<RegExpExecArray> {
  const input = child[stream];
  assert(input !== null);
  for await (const text of createInterface({ input })) {
    const found = pattern.exec(text);
    if (found !== null) return found;
  }
  throw new Error(`the process ended without ${pattern}`);
}

/** A process and all below it. */
function familyOf(pid: number): number[] {
  const text = ((): string => {
    try {
      return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    } catch {
      return '';
    }
  })();
  return [pid, ...text.split(' ').filter(Boolean).map(Number).flatMap(familyOf)];
}

function residentMb(pids: readonly number[]): number {
  const kilobytes = pids.map((pid) => numberIn(`/proc/${pid}/status`, /^VmRSS:\s+(\d+)/m) ?? 0);
  return kilobytes.reduce((sum, each) => sum + each, 0) / 1_000;
}

/** A target that says how many connections it holds itself. */
interface Target {
  readonly port: number;
  readonly runArguments: readonly string[];
  held(): Promise<number>;
  stop(): Promise<void>;
}

async function startServe(): Promise<Target> {
  const args = [CLI, 'serve', '--port', '0', '--mode', 'hold', '--stats-listen', '127.0.0.1:0'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [, port] = await line(child, 'stdout', /^listening on 127\.0\.0\.1:(\d+)/);
  const [, url = ''] = await line(child, 'stderr', /counts at (http:\/\/\S+)/);
  child.stdout?.resume();
  child.stderr?.resume();
  return {
    port: Number(port),
    runArguments: ['--target-stats', url],
    held: async () => {
      const asked = request(url, { agent: false }).end();
      const [answer] = await once(asked, 'response');
      let text = '';
      for await (const part of answer) text += part;
      return JSON.parse(text).openNow;
    },
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function startC(yardstick: Yardstick, connections: number): Promise<Target> {
  const server = await yardstick.serve(Math.ceil(connections / PER_C_PROCESS));
  // Each has its standard streams, its poller, its listener; that of the first is not inherited by the others.
  const own = (): number =>
    familyOf(server.pid)
      .slice(1)
      .reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
  const idle = own();
  return {
    port: server.port,
    runArguments: [],
    held: async () => own() - idle,
    stop: () => server.stop(),
  };
}

/** Seconds that the bare loop takes; its connections are gone afterwards. */
async function spike(target: Target, connections: number): Promise<number> {
  const child = spawn(process.execPath, [SPIKE, String(target.port), String(connections)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [text] = await line(child, 'stdout', /^\{.*/);
  const { open, seconds } = JSON.parse(text);
  assert.equal(open, connections);
  const ended = once(child, 'exit');
  child.stdin?.end();
  await ended;
  while ((await target.held()) > 0) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  return seconds;
}

interface Held {
  readonly report: RunReport;
  readonly residentMb: number;
  /** the most that the target said it held, of its own count */
  readonly targetHeld: number;
}

async function hold(target: Target, connections: number, seconds: number): Promise<Held> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-million-'));
  const path = join(folder, 'report.json');
  const args = [
    '--target',
    `127.0.0.1:${target.port}`,
    '--conns',
    `${connections}`,
    '--duration',
    `${seconds}s`,
  ];
  const child = spawn(process.execPath, [CLI, ...args, ...target.runArguments, '--json', path], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let isHolding = false;
  let resident = 0;
  let targetHeld = 0;
  child.stderr?.on('data', (text: Buffer) => {
    process.stderr.write(text);
    isHolding ||= text.includes('holding');
  });
  const ended = once(child, 'exit');
  const look = setInterval(async () => {
    if (child.exitCode !== null) return;
    resident = Math.max(resident, residentMb(familyOf(child.pid ?? 0)));
    if (isHolding) targetHeld = Math.max(targetHeld, await target.held().catch(() => 0));
  }, LOOK_EVERY_MS);
  try {
    await ended;
    const report: RunReport = JSON.parse(readFileSync(path, 'utf8'));
    return { report, residentMb: resident, targetHeld };
  } finally {
    clearInterval(look);
    rmSync(folder, { recursive: true, force: true });
  }
}

function figuresOf(
  name: string,
  held: Held,
  spikeSeconds: number,
  connections: number,
  seconds: number,
): Figure[] {
  const { report, residentMb: mb, targetHeld } = held;
  const least = (what: string, meaning: string, value: number, bound: number, unit = ''): Figure =>
    figure({ name: `${name}-${what}`, meaning, value, unit, bound, boundIs: 'at-least', samples: [value] });
  const most = (
    what: string,
    meaning: string,
    value: number,
    bound: number,
    unit = '',
    samples = [value],
  ): Figure => figure({ name: `${name}-${what}`, meaning, value, unit, bound, boundIs: 'at-most', samples });
  return [
    least('held', 'lowest number open while holding', report.connections.held, connections),
    least('hold-seconds', 'how long', report.hold.seconds, seconds, 's'),
    least(
      'kernel',
      "established, the kernel's count at the end of the hold",
      report.kernel.established ?? 0,
      connections,
    ),
    least('target', "held, the target's own count", targetHeld, connections),
    most('agents-lost', 'agents lost', report.agents.filter(({ lost }) => lost).length, 0),
    most('resident', 'all processes of the generator', mb, RESIDENT_MB_MAX, 'MB'),
    most(
      'ramp-ratio',
      'seconds of the ramp over those of the bare loop',
      report.ramp.seconds / spikeSeconds,
      RAMP_RATIO_MAX,
      '',
      [report.ramp.seconds, spikeSeconds],
    ),
  ];
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      conns: { type: 'string', default: '1000000' },
      hold: { type: 'string', default: '20' },
      target: { type: 'string', default: 'both' },
    },
    allowPositionals: true,
  });
  const [connections, seconds] = [Number(values.conns), Number(values.hold)];
  const missing = lacking(connections);
  if (missing.length > 0) {
    for (const what of missing) console.error(`missing: ${what}`);
    process.exitCode = 2;
    return;
  }
  const figures: Figure[] = [];
  const loads = [loadavg()[0]];
  const against = async (name: string, target: Target): Promise<void> => {
    try {
      const spikeSeconds = await spike(target, connections);
      console.log(`${name}: the bare loop took ${spikeSeconds.toFixed(1)} s`);
      const measured = figuresOf(
        name,
        await hold(target, connections, seconds),
        spikeSeconds,
        connections,
        seconds,
      );
      figures.push(...measured);
      for (const one of measured) console.log(formatFigure(one));
    } finally {
      await target.stop();
      loads.push(loadavg()[0]);
    }
  };
  if (values.target !== 'c') await against('serve', await startServe());
  if (values.target !== 'serve') {
    const yardstick = new Yardstick(join(process.cwd(), 'test', 'bench'));
    try {
      await against('c-server', await startC(yardstick, connections));
    } finally {
      yardstick.remove();
    }
  }
  const machine = {
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    loads,
  };
  const ok = figures.every((one) => one.ok);
  const path = positionals[0] ?? 'million-result.json';
  writeFileSync(path, `${JSON.stringify({ ok, connections, machine, figures }, null, 2)}\n`);
  console.log(`written to ${path}`);
  process.exitCode = ok ? 0 : 1;
}

await main();
