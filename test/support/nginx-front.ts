/**
 * Owns an nginx in front of everything that protocols need: plain HTTP, HTTPS, and WebSocket upgrades that it passes on
 * to another server, with as many certificates as asked for. Must never touch a system service or its files.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyPair } from './certificates.ts';
import { freePort } from './net-target.ts';
import { descriptorsPerProcess, findProgram } from './targets.ts';

export interface NginxFront {
  /** answers 200 to `/ok` and upgrades `/ws`; no TLS */
  readonly plainPort: number;
  /** the same over TLS, one port for each certificate that was given */
  readonly tlsPorts: readonly number[];
}

/**
 * Starts nginx; it ends with the test.
 * @param upstreamPort the WebSocket server behind `/ws`
 * @param inTlsServer further lines of each server with TLS
 */
export async function startNginxFront(
  t: TestContext,
  pairs: readonly KeyPair[],
  upstreamPort: number,
  inTlsServer = '',
): Promise<NginxFront> {
  const program = findProgram('nginx');
  assert(program !== null, 'nginx is installed');
  const folder = mkdtempSync(join(tmpdir(), 'c100k-nginx-'));
  const plainPort = await freePort();
  const tlsPorts: number[] = [];
  for (const _ of pairs) tlsPorts.push(await freePort());
  const temporaryPaths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${join(folder, name)};`)
    .join('\n');
  const locations = `
    location = /ok { return 200 "fine\\n"; }
    location = /token {
      if ($http_authorization = "Bearer right") { return 200 "$request_method\n"; }
      return 401;
    }
    location = /teapot { return 418; }
    location = /ws {
      proxy_pass http://127.0.0.1:${upstreamPort};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 30m;
      proxy_buffer_size 4k;
    }`;
  const tlsServers = pairs.map(
    ({ certPath, keyPath }, index) => `
  server {
    listen 127.0.0.1:${tlsPorts[index]} ssl reuseport backlog=4096;
    ssl_certificate ${certPath};
    ssl_certificate_key ${keyPath}; ${inTlsServer}${locations}
  }`,
  );
  const config = `
daemon off;
pid ${join(folder, 'nginx.pid')};
error_log stderr crit;
worker_processes 2;
worker_rlimit_nofile ${descriptorsPerProcess()};
events { worker_connections ${descriptorsPerProcess() - 128}; }
http {
  access_log off;
  keepalive_timeout 30m;
  keepalive_requests 1000000;
${temporaryPaths}
  server { listen 127.0.0.1:${plainPort} reuseport backlog=4096;${locations}
  }${tlsServers.join('')}
}
`;
  writeFileSync(join(folder, 'nginx.conf'), config);
  const child = spawn(program, ['-c', join(folder, 'nginx.conf'), '-p', folder, '-e', 'stderr'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await Promise.race([ended, sleep(5_000, undefined, { ref: false })]);
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
    rmSync(folder, { recursive: true, force: true });
  });
  for (let tries = 0; !(await takesConnections(plainPort)); tries++) {
    assert(tries < 500 && child.exitCode === null, 'nginx listens');
    await sleep(20);
  }
  return { plainPort, tlsPorts };
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
