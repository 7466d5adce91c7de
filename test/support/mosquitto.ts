/**
 * Owns a mosquitto of a test's own: its configuration in a temporary folder, its log, and how many clients it counts. Must never
 * touch a system service or its files.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const PROGRAM = '/usr/sbin/mosquitto';

export const WHY_NO_MOSQUITTO = existsSync(PROGRAM) ? false : 'mosquitto is not installed';

export interface Broker {
  /** everything that it has logged */
  log(): string;
  /** connections that its kernel has on a port */
  sockets(port: number): number;
  /** the client ids that it has taken, in order */
  clientIds(): string[];
}

/**
 * Starts it; it ends with the test.
 * @param lines its configuration, a listener among them; `FOLDER` stands for its folder
 * @param port where it listens when it is up
 */
export async function startBroker(
  t: TestContext,
  port: number,
  lines: readonly string[],
  users: Readonly<Record<string, string>> = {},
): Promise<Broker> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-mosquitto-'));
  chmodSync(folder, 0o755);
  const passwords = join(folder, 'passwords');
  writeFileSync(
    passwords,
    Object.entries(users)
      .map(([name, password]) => `${name}:${password}\n`)
      .join(''),
  );
  if (Object.keys(users).length > 0) execFileSync('mosquitto_passwd', ['-U', passwords]);
  const config = join(folder, 'mosquitto.conf');
  const user = process.getuid?.() === 0 ? ['user root'] : [];
  const all = ['persistence false', 'log_type all', ...user, ...lines];
  writeFileSync(config, `${all.join('\n').replaceAll('FOLDER', folder)}\n`);
  const child = spawn(PROGRAM, ['-c', config], { stdio: ['ignore', 'pipe', 'pipe'] });
  let logged = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      logged += text;
    });
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  });
  for (let tries = 0; !(await takesConnections(port)); tries++) {
    assert(tries < 500 && child.exitCode === null, `mosquitto listens; it said: ${logged}`);
    await sleep(20);
  }
  return {
    log: () => logged,
    sockets: (at) => {
      const args = ['-Htn', 'state', 'established', 'sport', '=', `:${at}`];
      return execFileSync('ss', args, { encoding: 'utf8' })
        .split('\n')
        .filter((line) => line !== '').length;
    },
    clientIds: () =>
      [...logged.matchAll(/New client connected from \S+ as (\S+) \(/g)].map(([, id]) => id ?? ''),
  };
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
