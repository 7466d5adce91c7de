/**
 * Owns the proof that PROXY headers are read by those that they are for: HAProxy and nginx log the addresses that they say, with
 * both versions, both drivers, both families, under every kind of protocol; and what a report says where none is expected.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { startAgent, startCoordinator } from '../support/agents.ts';
import { makeCertificates } from '../support/certificates.ts';
import { freePort } from '../support/net-target.ts';
import { runCli } from '../support/run-cli.ts';
import { findProgram, whyNot } from '../support/targets.ts';
import { settled, until } from '../support/waiting.ts';
import { startWsServer } from '../support/ws-servers.ts';

interface Peer {
  /** lines of its log so far */
  readonly lines: () => readonly string[];
}

/** Starts a program with its configuration; it ends with the test. */
async function startPeer(
  t: TestContext,
  program: 'haproxy' | 'nginx',
  configOf: (folder: string) => string,
  port: number,
): Promise<Peer> {
  const folder = mkdtempSync(join(tmpdir(), `c100k-${program}-`));
  const file = join(folder, 'config');
  writeFileSync(file, configOf(folder));
  const args = program === 'haproxy' ? ['-f', file, '-db'] : ['-c', file, '-p', folder];
  const child = spawn(findProgram(program) ?? '', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  }
  t.after(async () => {
    if (child.exitCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await settled(`${program} ends`, ended);
    }
    rmSync(folder, { recursive: true, force: true });
  });
  await until(`${program} listens: ${text}`, () => {
    assert.equal(child.exitCode, null, text);
    return isOpen(port);
  });
  const logged = (): string =>
    program === 'haproxy' ? text : readFileSync(join(folder, 'access.log'), 'utf8');
  return {
    lines: () =>
      logged()
        .split('\n')
        .filter((line) => line !== ''),
  };
}

async function isOpen(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  // An error before it rejects.
  const isOpened = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return isOpened;
}

async function run(folder: string, ...args: string[]): Promise<RunReport> {
  const path = join(folder, 'report.json');
  const { code, stderr } = await runCli([...args, '-d', '1s', '--json', path, '-q']);
  assert.ok(code === 0 || code === 1, stderr);
  return JSON.parse(readFileSync(path, 'utf8')) as RunReport;
}

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-proxy-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const WAYS = ['v1', 'v2'].flatMap((version) =>
  ['uring', 'epoll'].map((engine) => [version, engine] as const),
);

/** A frontend of HAProxy that answers by itself. */
function answering(name: string, bind: string): string {
  return `frontend ${name}
  bind ${bind}
  http-request return status 200 content-type text/plain string ok
`;
}

const HAPROXY_HEAD = `global
  log stdout format raw local0
defaults
  mode http
  timeout connect 10s
  timeout client 10m
  timeout server 10m
  log global
  log-format "%ci %cp %fi %fp"
`;

test('HAProxy logs the addresses that the headers say', { skip: whyNot('haproxy') }, async (t) => {
  const folder = scratch(t);
  const certificates = makeCertificates();
  t.after(() => certificates.remove());
  const [plain, six, tls, ws] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const webSocket = await startWsServer(t, 'ws');
  const pem = join(folder, 'both.pem');
  writeFileSync(pem, certificates.good.cert + certificates.good.key);
  const peer = await startPeer(
    t,
    'haproxy',
    () =>
      HAPROXY_HEAD +
      answering('plain', `127.0.0.1:${plain} accept-proxy`) +
      answering('six', `[::1]:${six} accept-proxy`) +
      answering('tls', `127.0.0.1:${tls} accept-proxy ssl crt ${pem}`) +
      `listen ws\n  bind 127.0.0.1:${ws} accept-proxy\n  server one 127.0.0.1:${webSocket.port}\n`,
    plain,
  );
  const logged = (port: number): string[] =>
    [...new Set(peer.lines().filter((line) => line.endsWith(` ${port}`)))].toSorted();
  const seen = new Map<number, readonly string[]>();
  /** What is new in the log of a port since it was last looked at. */
  const assertNew = async (port: number, expected: readonly string[], way: string): Promise<void> => {
    const fresh = (): string[] => logged(port).filter((line) => !(seen.get(port) ?? []).includes(line));
    // It logs by itself, after the answer or after the end.
    await until(`${way}: ${expected.length} lines`, () => fresh().length >= expected.length);
    assert.deepEqual(fresh(), [...expected].toSorted(), way);
    seen.set(port, logged(port));
  };
  for (const [index, [version, engine]] of WAYS.entries()) {
    const way = ['--proxy-protocol', version, '--engine', engine];
    // Ports of its own for each run, so that its lines are new.
    const ports = `${21_000 + 100 * index}-${21_011 + 100 * index}`;
    const own = ['--source-ip', '127.0.0.9', '--source-ports', ports, '-c', '12'];
    assert.equal((await run(folder, '-t', `http://127.0.0.1:${plain}/`, ...way, ...own)).verdict, 'pass');
    const asBound = Array.from(
      { length: 12 },
      (_, at) => `127.0.0.9 ${21_000 + 100 * index + at} 127.0.0.1 ${plain}`,
    );
    await assertNew(plain, asBound, `${version} ${engine}`);

    const network = `203.0.${index}.0/29`;
    const made = ['-c', '8', '--holders', '2', '--proxy-source', network];
    assert.equal((await run(folder, '-t', `http://127.0.0.1:${plain}/`, ...way, ...made)).verdict, 'pass');
    const clients = Array.from(
      { length: 8 },
      (_, at) => `203.0.${index}.${1 + (at % 6)} ${at < 6 ? 1_024 : 1_025} 127.0.0.1 ${plain}`,
    );
    await assertNew(plain, clients, `${version} ${engine}`);

    const v6 = ['-c', '4', '--proxy-source', `2001:db8:0:${index + 1}::/64`];
    assert.equal((await run(folder, '-t', `http://[::1]:${six}/`, ...way, ...v6)).verdict, 'pass');
    const v6Clients = Array.from(
      { length: 4 },
      (_, at) => `2001:db8:0:${index + 1}::${at + 1} 1024 ::1 ${six}`,
    );
    await assertNew(six, v6Clients, `${version} ${engine}`);
  }
  for (const [index, version] of ['v1', 'v2'].entries()) {
    const secured = [
      '-c',
      '6',
      '--tls-ca',
      certificates.ca.certPath,
      '--proxy-source',
      `198.51.${index}.0/24`,
    ];
    const report = await run(
      folder,
      '-t',
      `https://127.0.0.1:${tls}/`,
      '--proxy-protocol',
      version,
      ...secured,
    );
    assert.equal(report.verdict, 'pass');
    const upgraded = ['-c', '6', '--proxy-source', `198.18.${index}.0/24`, '--proxy-protocol', version];
    const held = await run(folder, '-t', `ws://127.0.0.1:${ws}/`, ...upgraded);
    assert.deepEqual([held.verdict, held.connections.held], ['pass', 6]);
    const inFront = Array.from({ length: 6 }, (_, at) => `198.18.${index}.${at + 1} 1024 127.0.0.1 ${ws}`);
    await assertNew(ws, inFront, version);
    const clients = Array.from({ length: 6 }, (_, at) => `198.51.${index}.${at + 1} 1024 127.0.0.1 ${tls}`);
    await assertNew(tls, clients, version);
  }
});

/** `address port` of each client of a network that HAProxy has logged, each as often as it was. */
const clientsOf = (lines: readonly string[], network: string): string[] =>
  lines
    .filter((line) => line.startsWith(network))
    .map((line) => line.split(' ').slice(0, 2).join(' '))
    .toSorted();

test('made-up clients differ over agents and holders as far as the network allows', {
  skip: whyNot('haproxy'),
}, async (t) => {
  const port = await freePort();
  const bind = `127.0.0.1:${port} accept-proxy`;
  const peer = await startPeer(t, 'haproxy', () => HAPROXY_HEAD + answering('plain', bind), port);
  for (const [index, { network, addresses }] of [
    { network: '203.0.113.0/24', addresses: 254 },
    // Six addresses: the ports go on, over all agents.
    { network: '198.51.100.0/29', addresses: 6 },
  ].entries()) {
    const run = startCoordinator(t, [
      ...['-t', `http://127.0.0.1:${port}/`, '-c', '30', '-d', '1s', '--expect-agents', '2'],
      ...['--proxy-protocol', index === 0 ? 'v1' : 'v2', '--proxy-source', network],
    ]);
    const join = `127.0.0.1:${await run.port()}`;
    for (const [at, name] of ['ada', 'bob'].entries()) {
      // Each with addresses of its own, as hosts have them.
      const own = ['--source-ip', `127.0.0.${11 + at}`, '--holders', '2'];
      startAgent(t, join, name, run.tokenText, own);
    }
    const { code, stderr } = await run.result;
    assert.equal(code, 0, stderr);
    const report = run.report();
    assert.deepEqual(
      report.agents.map(({ quota }) => quota),
      [15, 15],
    );
    const expected = Array.from(
      { length: 30 },
      (_, at) =>
        `${network.replace(/0\/\d+$/, String(1 + (at % addresses)))} ${1_024 + Math.floor(at / addresses)}`,
    );
    const logged = (): string[] => clientsOf(peer.lines(), network.replace(/0\/\d+$/, ''));
    await until('HAProxy logs each request', () => logged().length >= 30);
    assert.deepEqual([...new Set(logged())], expected.toSorted());
  }
});

test('nginx logs them too', { skip: whyNot('nginx') }, async (t) => {
  const folder = scratch(t);
  const port = await freePort();
  const temporary = (at: string): string =>
    ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((name) => `${name}_temp_path ${join(at, name)};`)
      .join(' ');
  const peer = await startPeer(
    t,
    'nginx',
    (at) => `daemon off; pid ${join(at, 'pid')}; error_log stderr crit; events {}
http { ${temporary(at)} log_format addresses "$proxy_protocol_addr $proxy_protocol_port";
  access_log ${join(at, 'access.log')} addresses; keepalive_timeout 10m; keepalive_requests 100000;
  server { listen 127.0.0.1:${port} proxy_protocol; location / { return 200 "fine"; } } }`,
    port,
  );
  for (const [index, [version, engine]] of WAYS.entries()) {
    const way = ['--proxy-protocol', version, '--engine', engine, '--proxy-source', `192.0.${index}.0/24`];
    assert.equal((await run(folder, '-t', `http://127.0.0.1:${port}/`, '-c', '7', ...way)).verdict, 'pass');
    const expected = Array.from({ length: 7 }, (_, at) => `192.0.${index}.${at + 1} 1024`);
    const seen = [...new Set(peer.lines())].filter((line) => line.startsWith(`192.0.${index}.`));
    assert.deepEqual(seen.toSorted(), expected, `${version} ${engine}`);
  }
});

test('where none is expected the report says that a header was sent', {
  skip: whyNot('haproxy'),
}, async (t) => {
  const folder = scratch(t);
  const port = await freePort();
  await startPeer(t, 'haproxy', () => HAPROXY_HEAD + answering('plain', `127.0.0.1:${port}`), port);
  const target = ['-t', `http://127.0.0.1:${port}/`, '-c', '5'];
  for (const version of ['v1', 'v2']) {
    const { verdict, notes } = await run(folder, ...target, '--proxy-protocol', version);
    assert.equal(verdict, 'fail');
    assert.match(notes.join('\n'), new RegExp(`each connection began with a PROXY header \\(${version}\\)`));
  }
  const { verdict, notes } = await run(folder, ...target);
  assert.equal(verdict, 'pass');
  assert.doesNotMatch(notes.join('\n'), /PROXY/);
});
