/**
 * Owns real servers that a test restarts, as a deploy does, on the ports that they had: nginx, which writes down when each connection made its
 * first request, and HAProxy in front of several of them. Must never touch a system service, its configuration or its files.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './net-target.ts';
import { descriptorsPerProcess, findProgram, type TargetProgram } from './targets.ts';

const ADDRESS = '127.0.0.1';
const ENDS_WITHIN_MS = 5_000;

export interface Deployed {
  readonly port: number;
  /** ends it, and what it held with it */
  stop(): Promise<void>;
  /** starts it again; resolves when its port takes connections */
  start(): Promise<void>;
}

export interface DeployedNginx extends Deployed {
  /** when each connection made its first request, milliseconds since the epoch, ascending */
  firstRequestsMs(): number[];
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: ADDRESS, port });
    socket.on('connect', () => {
      socket.resetAndDestroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** A program that can be started again and again; whatever the test does, none is left. */
async function deploy(
  t: TestContext,
  program: TargetProgram,
  port: number,
  args: readonly string[],
): Promise<Deployed> {
  const path = findProgram(program);
  assert(path !== null, `${program} is installed`);
  let child: ChildProcess | null = null;
  const stop = async (): Promise<void> => {
    const ending = child;
    child = null;
    if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = once(ending, 'exit');
    ending.kill('SIGTERM');
    const late = sleep(ENDS_WITHIN_MS, 'late', { ref: false });
    if ((await Promise.race([ended, late])) === 'late') ending.kill('SIGKILL');
    await ended;
  };
  const start = async (): Promise<void> => {
    const started = spawn(path, args, { stdio: 'ignore' });
    child = started;
    for (let look = 0; look < 600 && !(await answers(port)); look++) {
      assert(started.exitCode === null, `${program} runs`);
      await sleep(25);
    }
  };
  t.after(stop);
  await start();
  return { port, stop, start };
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-deployed-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Part of a process's descriptors that is planned with: the kernel deals connections out over listeners by hash, not evenly. */
const SHARE_PLANNED = 0.75;

function processesFor(descriptors: number): number {
  return Math.max(1, Math.ceil(descriptors / (descriptorsPerProcess() * SHARE_PLANNED)));
}

/**
 * nginx that answers any request with the name that it was given, in its body and as the header `X-Served-By`.
 * @param connections that it is to hold: as many workers as their descriptors ask for
 */
export async function deployNginx(t: TestContext, name: string, connections = 1): Promise<DeployedNginx> {
  const folder = folderOf(t);
  const workers = processesFor(connections);
  const port = await freePort();
  const temporaryPaths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${join(folder, kind)};`)
    .join('\n');
  const log = join(folder, 'access.log');
  const config = join(folder, 'nginx.conf');
  writeFileSync(
    config,
    `daemon off;
pid ${join(folder, 'nginx.pid')};
error_log stderr crit;
worker_processes ${workers};
worker_rlimit_nofile ${descriptorsPerProcess()};
events { worker_connections ${descriptorsPerProcess() - 128}; multi_accept on; }
http {
  log_format first '$msec $connection_requests';
  access_log ${log} first;
  keepalive_timeout 30m;
  keepalive_requests 1000000;
${temporaryPaths}
  server {
    listen ${ADDRESS}:${port} backlog=65535${workers > 1 ? ' reuseport' : ''};
    location / { add_header X-Served-By ${name}; return 200 "${name}\\n"; }
  }
}
`,
  );
  const deployed = await deploy(t, 'nginx', port, ['-c', config, '-p', folder, '-e', 'stderr']);
  return {
    ...deployed,
    firstRequestsMs: () =>
      readFileSync(log, 'utf8')
        .split('\n')
        .flatMap((line) => {
          const [at = '', requests] = line.split(' ');
          return requests === '1' ? [Number(at) * 1_000] : [];
        })
        .toSorted((a, b) => a - b),
  };
}

/** HAProxy with a configuration of the caller's. @param port where it listens when it is up */
export function deployHaproxyWith(t: TestContext, port: number, config: string): Promise<Deployed> {
  const path = join(folderOf(t), 'haproxy.cfg');
  writeFileSync(path, config);
  return deploy(t, 'haproxy', port, ['-db', '-f', path]);
}

/**
 * HAProxy in front of servers, by connection.
 * @param balance such as `roundrobin`
 * @param connections that it is to hold, of two descriptors each: as many processes on one port as they ask for
 */
export async function deployHaproxy(
  t: TestContext,
  servers: readonly { readonly port: number }[],
  balance: string,
  connections = 1,
): Promise<Deployed> {
  const port = await freePort();
  const processes: Deployed[] = [];
  for (let number = 1; number <= processesFor(2 * connections); number++) {
    // Each its own source address: 28,000 ports are few for what all of them hold.
    processes.push(
      await deployHaproxyWith(t, port, haproxyConfig(port, servers, balance, `127.0.7.${number}`)),
    );
  }
  return {
    port,
    stop: async () => void (await Promise.all(processes.map((each) => each.stop()))),
    start: async () => void (await Promise.all(processes.map((each) => each.start()))),
  };
}

function haproxyConfig(
  port: number,
  servers: readonly { readonly port: number }[],
  balance: string,
  source: string,
): string {
  const maxconn = Math.floor(descriptorsPerProcess() / 2) - 200;
  return `global
  maxconn ${maxconn}
defaults
  mode tcp
  option redispatch
  timeout connect 10s
  timeout client 30m
  timeout server 30m
frontend front
  bind ${ADDRESS}:${port} backlog 65535
  default_backend servers
backend servers
  balance ${balance}
  source ${source}
${servers.map((server, at) => `  server s${at + 1} ${ADDRESS}:${server.port} check inter 500ms fall 1 rise 1`).join('\n')}
`;
}
