/**
 * Owns targets that this project did not write: nginx, HAProxy and redis-server, each started with a configuration of
 * its own in a temporary folder, on free ports of loopback, and stopped by pid. Must never touch a system service, its
 * configuration or its files, and must never import the program under test.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

const ADDRESS = '127.0.0.1';
const READY_DEADLINE_MS = 15_000;
const END_DEADLINE_MS = 5_000;
const ANSWER_DEADLINE_MS = 10_000;
/** Longer than any test: silent connections must end by the client's doing only. */
const SILENCE_ALLOWED = '30m';
const BACKLOG = 65_535;
/** listeners, logs, event queues, pipes: what a process needs besides its connections */
const DESCRIPTORS_OF_ITS_OWN = 128;

export type TargetProgram = 'nginx' | 'haproxy' | 'redis-server';

/** A target that runs. */
export interface ForeignTarget {
  readonly program: TargetProgram;
  readonly address: string;
  readonly port: number;
  /** every process of it, the one that we started first */
  pids(): number[];
  /** client connections that it says it holds, the one that asks left out */
  countedByItself(): Promise<number>;
  /** ends it and removes its files; once or more often */
  stop(): Promise<void>;
}

/** The path of a program; null when it is not installed. */
export function findProgram(program: TargetProgram): string | null {
  // Debian keeps servers in sbin, which is not on every user's path.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/sbin'];
  for (const folder of folders.filter((name) => name !== '')) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not here
    }
  }
  return null;
}

/** For `test({ skip: whyNot('nginx') })`: false when it is installed, else the words that the skip shows. */
export function whyNot(program: TargetProgram): string | false {
  return findProgram(program) === null ? `${program} is not installed` : false;
}

/** RLIMIT_NOFILE of what we start: it inherits ours, which Node has raised to the hard limit. */
export function descriptorsPerProcess(): number {
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  assert(soft !== undefined, '/proc/self/limits must name a number of open files');
  return Number(soft);
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const probe = net.createServer();
  await new Promise<void>((resolve) => {
    probe.listen(0, ADDRESS, resolve);
  });
  const { port } = probe.address() as net.AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** One program with its folder: started, awaited, ended, cleaned up. */
class Owned {
  readonly folder = mkdtempSync(join(tmpdir(), 'c100k-target-'));
  #child: ChildProcess | undefined;
  #told = '';
  #ended: Promise<void> = Promise.resolve();
  /** the last resort, when the test's process ends without stop() */
  readonly #atExit = (): void => {
    for (const pid of this.pids()) killQuietly(pid, 'SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  };

  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** Runs the program in the foreground until its port takes connections. */
  async start(program: TargetProgram, args: readonly string[], port: number): Promise<void> {
    const path = findProgram(program);
    assert(path !== null, `${program} is not installed`);
    const child = spawn(path, args, { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    process.once('exit', this.#atExit);
    const listen = (text: string): void => {
      this.#told = (this.#told + text).slice(-4_000);
    };
    child.stdout.setEncoding('utf8').on('data', listen);
    child.stderr.setEncoding('utf8').on('data', listen);
    this.#ended = new Promise((resolve) => {
      child.on('exit', () => resolve());
      child.on('error', (error) => {
        listen(error.message);
        resolve();
      });
    });
    const deadlineMs = performance.now() + READY_DEADLINE_MS;
    while (!(await takesConnections(port))) {
      if (child.exitCode === null && child.pid !== undefined && performance.now() < deadlineMs) {
        await sleep(20);
        continue;
      }
      await this.stop();
      assert.fail(`${program} does not listen on ${ADDRESS}:${port}; it said: ${this.#told}`);
    }
  }

  pids(): number[] {
    const pid = this.#child?.pid;
    if (pid === undefined || this.#child?.exitCode !== null || this.#child.signalCode !== null) return [];
    return [pid, ...childrenOf(pid)];
  }

  async stop(): Promise<void> {
    const pids = this.pids();
    if (pids[0] !== undefined) {
      killQuietly(pids[0], 'SIGTERM');
      await Promise.race([this.#ended, sleep(END_DEADLINE_MS, undefined, { ref: false })]);
    }
    // Workers of a master that was killed are nobody's children any more.
    for (const pid of this.pids()) killQuietly(pid, 'SIGKILL');
    await this.#ended;
    process.removeListener('exit', this.#atExit);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended already.
  }
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: ADDRESS, port });
    socket.on('connect', () => {
      socket.resetAndDestroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** One question and its answer, until the far side closes or `isWhole` says so. */
function ask(
  where: net.NetConnectOpts,
  question: string,
  isWhole: (answer: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(where, () => socket.write(question));
    let answer = '';
    const finish = (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket
      .setEncoding('utf8')
      .setTimeout(ANSWER_DEADLINE_MS, () => socket.destroy(new Error(`no answer: ${answer}`)));
    socket.on('data', (text: string) => {
      answer += text;
      if (isWhole(answer)) finish();
    });
    socket.on('end', finish);
    socket.on('error', reject);
  });
}

function numberIn(text: string, pattern: RegExp): number {
  const found = pattern.exec(text)?.[1];
  assert(found !== undefined, `${pattern} must be in: ${text.slice(0, 500)}`);
  return Number(found);
}

function targetOf(
  program: TargetProgram,
  port: number,
  owned: Owned,
  countedByItself: () => Promise<number>,
): ForeignTarget {
  return {
    program,
    address: ADDRESS,
    port,
    pids: () => owned.pids(),
    countedByItself,
    stop: () => owned.stop(),
  };
}

/** What one nginx is told. */
export interface NginxOptions {
  readonly folder: string;
  /** `address:port` each */
  readonly listens: readonly string[];
  readonly workers: number;
  /** Unix socket of its own counters */
  readonly statusPath: string;
}

/** nginx as an HTTP server that waits half an hour for a request, each worker with listeners of its own. */
export function nginxConfig({ folder, listens, workers, statusPath }: NginxOptions): string {
  const descriptors = descriptorsPerProcess();
  const temporaryPaths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${join(folder, name)};`)
    .join('\n');
  return `
daemon off;
pid ${join(folder, 'nginx.pid')};
error_log stderr crit;
worker_processes ${workers};
worker_rlimit_nofile ${descriptors};
events {
  worker_connections ${descriptors - DESCRIPTORS_OF_ITS_OWN};
  multi_accept on;
}
http {
  access_log off;
  client_header_timeout ${SILENCE_ALLOWED};
  keepalive_timeout ${SILENCE_ALLOWED};
${temporaryPaths}
  server {
${listens.map((listen) => `    listen ${listen} reuseport backlog=${BACKLOG};`).join('\n')}
    location / { return 204; }
  }
  server {
    listen unix:${statusPath};
    location / { stub_status; }
  }
}
`;
}

/**
 * nginx as an HTTP server that waits half an hour for a request, so that silent connections are held. Each worker has
 * its own listener (`reuseport`) and as many connections as a process has descriptors. It counts with stub_status
 * over a Unix socket, over all workers.
 */
export async function startNginx({ workers }: { readonly workers: number }): Promise<ForeignTarget> {
  const port = await freePort();
  const owned = new Owned();
  const statusPath = join(owned.folder, 'status.sock');
  const config = nginxConfig({ folder: owned.folder, listens: [`${ADDRESS}:${port}`], workers, statusPath });
  await owned.start(
    'nginx',
    ['-c', owned.file('nginx.conf', config), '-p', owned.folder, '-e', 'stderr'],
    port,
  );
  return targetOf('nginx', port, owned, async () => {
    const text = await new Promise<string>((resolve, reject) => {
      const asked = request({ socketPath: statusPath, path: '/', agent: false }, (answer) => {
        let body = '';
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          body += chunk;
        });
        answer.on('end', () => resolve(body));
      });
      asked.setTimeout(ANSWER_DEADLINE_MS, () => asked.destroy(new Error('nginx does not answer')));
      asked.on('error', reject);
      asked.end();
    });
    // "Active connections" includes the one that asks.
    return numberIn(text, /^Active connections: (\d+)/m) - 1;
  });
}

/**
 * HAProxy in TCP mode in one process, in front of an nginx of its own: two descriptors per connection.
 * @param maxconn connections that it takes; at most about half of a process's descriptors
 */
export async function startHaproxy({ maxconn }: { readonly maxconn: number }): Promise<ForeignTarget> {
  const backend = await startNginx({ workers: 2 });
  const port = await freePort();
  const owned = new Owned();
  const statsPath = join(owned.folder, 'stats.sock');
  const config = `
global
  maxconn ${maxconn}
  stats socket ${statsPath} level user
defaults
  mode tcp
  timeout connect 10s
  timeout client ${SILENCE_ALLOWED}
  timeout server ${SILENCE_ALLOWED}
frontend held
  bind ${ADDRESS}:${port} backlog ${BACKLOG}
  maxconn ${maxconn}
  default_backend target
backend target
  server nginx ${backend.address}:${backend.port}
`;
  try {
    await owned.start('haproxy', ['-db', '-f', owned.file('haproxy.cfg', config)], port);
  } catch (error) {
    await backend.stop();
    throw error;
  }
  return {
    ...targetOf('haproxy', port, owned, async () => {
      const text = await ask({ path: statsPath }, 'show stat\n');
      const [names = '', ...rows] = text.split('\n');
      const column = names.replace(/^# /, '').split(',').indexOf('scur');
      const row = rows.find((line) => line.startsWith('held,FRONTEND,'));
      assert(row !== undefined && column > 0, `no row of the frontend in: ${text.slice(0, 500)}`);
      return Number(row.split(',')[column]);
    }),
    stop: async () => {
      await owned.stop();
      await backend.stop();
    },
  };
}

/** redis-server without files, which never closes an idle client (`timeout 0`). */
export async function startRedis({ maxclients }: { readonly maxclients: number }): Promise<ForeignTarget> {
  const port = await freePort();
  const owned = new Owned();
  const config = `
bind ${ADDRESS}
# Bound to loopback; protected mode would take 127.0.0.2 and the others for strangers.
protected-mode no
port ${port}
maxclients ${maxclients}
timeout 0
tcp-backlog ${BACKLOG}
tcp-keepalive 300
save ""
appendonly no
dir ${owned.folder}
daemonize no
loglevel warning
`;
  await owned.start('redis-server', [owned.file('redis.conf', config)], port);
  return targetOf('redis-server', port, owned, async () => {
    const text = await ask({ host: ADDRESS, port }, 'INFO clients\r\n', (answer) =>
      /^connected_clients:\d+\r\n[\s\S]*\r\n\r\n$/m.test(answer),
    );
    // It counts the client that asks.
    return numberIn(text, /^connected_clients:(\d+)/m) - 1;
  });
}
