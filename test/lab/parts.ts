/**
 * Owns the programs of a lab network: our serve, nginx, HAProxy, a DNS server, each on its host, each awaited until it
 * takes connections. They end with their host. Must never run outside a namespace or use a system service's files.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { haproxyProcesses, haproxyServerLines } from '../../src/path/haproxy.ts';
import { until } from '../support/bench-run.ts';
import type { Host, Network } from '../support/network.ts';
import { cliPath } from '../support/run-cli.ts';
import { descriptorsPerProcess, findProgram, nginxConfig } from '../support/targets.ts';
import type { LabCase, Part } from './description.ts';

/** Longer than any network stands. */
const LIFETIME_MS = 900_000;
const READY_WITHIN_MS = 20_000;
/** HAProxy closes what is silent for longer; nothing here is. */
const SILENCE_ALLOWED = '30m';
/** Descriptors of a HAProxy process that are no connections, and room for an uneven share of them. */
const DESCRIPTORS_SPARE = 300;
/** One towards the client, one towards the server. */
const DESCRIPTORS_PER_PROXIED = 2;
const NGINX_WORKERS = 8;

/** Starts everything that a case needs; returns when all of it listens. */
export async function startParts(network: Network, lab: LabCase, folder: string): Promise<void> {
  await Promise.all(
    lab.parts.map(async (part, index) => {
      const host = network.host(part.host);
      const own = join(folder, `part${index}`);
      mkdirSync(own, { recursive: true });
      await startPart(part, host, own, lab.asked);
    }),
  );
}

async function startPart(part: Part, host: Host, folder: string, connections: number): Promise<void> {
  switch (part.kind) {
    case 'serve': {
      const workers = connections < 10_000 ? ['--workers', '2'] : [];
      const args = [
        'serve',
        '--host',
        '0.0.0.0',
        '--port',
        String(part.port),
        '--mode',
        part.mode,
        ...workers,
      ];
      start(host, [process.execPath, cliPath, ...args]);
      await listening(host, 'tcp', part.port, 1);
      return;
    }
    case 'nginx': {
      const config = nginxConfig({
        folder,
        listens: part.ports.map((port) => `0.0.0.0:${port}`),
        workers: connections < 10_000 ? 2 : NGINX_WORKERS,
        statusPath: join(folder, 'status.sock'),
      });
      const file = join(folder, 'nginx.conf');
      writeFileSync(file, config);
      start(host, [programPath('nginx'), '-c', file, '-p', folder, '-e', 'stderr']);
      for (const port of part.ports) await listening(host, 'tcp', port, 1);
      return;
    }
    case 'haproxy':
      await startHaproxies(part, host, folder, connections);
      return;
    case 'dns':
      await startDns(part, host, folder);
  }
}

function programPath(name: 'nginx' | 'haproxy'): string {
  const path = findProgram(name);
  assert(path !== null, `${name} is not installed: apt-get install -y ${name}`);
  return path;
}

function start(host: Host, command: readonly string[]): void {
  const { child, result } = host.spawn(command, { timeoutMs: LIFETIME_MS });
  void result.then(({ code, signal, stderr }) => {
    // The end of the network kills it; any other end is a failure that whoever waits for the port will see.
    if (signal === null && code !== 0)
      console.error(`${host.name}: ${command[0]} ended with ${code}: ${stderr}`);
  });
  assert(child.pid !== undefined, `${command[0]} must start`);
}

async function listening(host: Host, kind: 'tcp' | 'udp', port: number, atLeast: number): Promise<void> {
  await until(`${host.name} listens on port ${port}`, READY_WITHIN_MS, async () => {
    const text = await host.must('ss', '-Hln', kind === 'tcp' ? '-t' : '-u', `sport = :${port}`);
    return text.split('\n').filter(Boolean).length >= atLeast;
  });
}

/**
 * As many processes as the descriptors ask for, sharing the port by SO_REUSEPORT, each with its slice of the source
 * ports. Without retries a client that gets no port hears of it at once.
 */
async function startHaproxies(
  part: Part & { kind: 'haproxy' },
  host: Host,
  folder: string,
  connections: number,
): Promise<void> {
  const descriptors = descriptorsPerProcess();
  const processes = connections < 10_000 ? 2 : haproxyProcesses(connections, descriptors);
  const maxconn = Math.floor((descriptors - DESCRIPTORS_SPARE) / DESCRIPTORS_PER_PROXIED);
  for (let process = 0; process < processes; process += 1) {
    const lines = haproxyServerLines(
      { addresses: part.addresses, ports: part.ports, server: part.server, processes },
      process,
    );
    const file = join(folder, `haproxy${process}.cfg`);
    writeFileSync(
      file,
      `
global
  maxconn ${maxconn}
  nbthread 1
defaults
  mode tcp
  retries 0
  timeout connect 10s
  timeout client ${SILENCE_ALLOWED}
  timeout server ${SILENCE_ALLOWED}
frontend public
  bind :${part.port} backlog 65535
  maxconn ${maxconn}
  default_backend servers
backend servers
  balance roundrobin
  ${lines.join('\n  ')}
`,
    );
    start(host, [programPath('haproxy'), '-db', '-f', file]);
  }
  await listening(host, 'tcp', part.port, processes);
}

/** dnsmasq as the authority for one name with several addresses, which it hands out in turn. */
async function startDns(part: Part & { kind: 'dns' }, host: Host, folder: string): Promise<void> {
  const hosts = join(folder, 'hosts');
  writeFileSync(hosts, part.addresses.map((address) => `${address} ${part.name}\n`).join(''));
  start(host, [
    'dnsmasq',
    '--keep-in-foreground',
    '--conf-file=/dev/null',
    '--no-resolv',
    '--no-hosts',
    `--addn-hosts=${hosts}`,
    '--local=/example/',
    '--user=root',
    '--pid-file=',
  ]);
  await listening(host, 'udp', 53, 1);
}
