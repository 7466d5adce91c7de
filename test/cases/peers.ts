/**
 * Owns the servers of others that cases use: where each is, and the smallest configuration that shows its fault. Must never
 * touch a system service, its files or its ports: all run in namespaces, with files in the stage's folder.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../support/network.ts';
import type { PeerPackage } from './case.ts';
import type { Peer, Stage } from './stage.ts';

const POSTGRES_ROOT = '/usr/lib/postgresql';

/** The program of each package. */
const PROGRAMS: Readonly<Record<PeerPackage, string>> = {
  'apache2-bin': '/usr/sbin/apache2',
  conntrack: '/usr/sbin/conntrack',
  'dnsmasq-base': '/usr/sbin/dnsmasq',
  faketime: '/usr/bin/faketime',
  haproxy: '/usr/sbin/haproxy',
  memcached: '/usr/bin/memcached',
  mosquitto: '/usr/sbin/mosquitto',
  'nghttp2-server': '/usr/sbin/nghttpd',
  'nginx-light': '/usr/sbin/nginx',
  'openssh-server': '/usr/sbin/sshd',
  openssl: '/usr/bin/openssl',
  pgbouncer: '/usr/sbin/pgbouncer',
  postgresql: POSTGRES_ROOT,
  'python3-websockets': '/usr/lib/python3/dist-packages/websockets',
  'redis-server': '/usr/bin/redis-server',
};
const TCPDUMP = '/usr/bin/tcpdump';

/** What is not installed here; every case needs the capture. */
export function missingPackages(needs: readonly PeerPackage[]): string[] {
  const missing: string[] = needs.filter((name) => !existsSync(PROGRAMS[name]));
  if (!existsSync(TCPDUMP)) missing.push('tcpdump');
  return missing;
}

/** HAProxy with one configuration. */
export function startHaproxy(
  stage: Stage,
  host: Host,
  config: string,
  listens: readonly number[],
): Promise<Peer> {
  return stage.start(host, [PROGRAMS.haproxy, '-f', stage.file('haproxy.cfg', config)], listens);
}

/**
 * nginx with one process, as root, its temporary files in the stage's folder.
 * @param http what stands inside `http { }`
 */
export function startNginx(
  stage: Stage,
  host: Host,
  http: string,
  listens: readonly number[],
  workerConnections = 8_192,
): Promise<Peer> {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${join(stage.folder, name)};`)
    .join(' ');
  const config = `daemon off; worker_processes 1; user root; pid ${join(stage.folder, 'nginx.pid')}; error_log stderr crit;
events { worker_connections ${workerConnections}; }
http { access_log off; ${temporary}
${http}
}
`;
  const command = [
    PROGRAMS['nginx-light'],
    '-c',
    stage.file('nginx.conf', config),
    '-p',
    stage.folder,
    '-e',
    'stderr',
  ];
  return stage.start(host, command, listens);
}

/** redis-server; `args` as on its command line. */
export function startRedis(stage: Stage, host: Host, port: number, args: readonly string[]): Promise<Peer> {
  const always = ['--port', String(port), '--save', '', '--dir', stage.folder];
  return stage.start(host, [PROGRAMS['redis-server'], ...always, ...args], [port]);
}

/** sshd with a key of its own and the options of its configuration file given. */
export async function startSshd(
  stage: Stage,
  host: Host,
  port: number,
  options: readonly string[],
): Promise<Peer> {
  const key = join(stage.folder, 'host-key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  mkdirSync('/run/sshd', { recursive: true });
  const given = ['PidFile=none', 'LogLevel=VERBOSE', ...options].flatMap((option) => ['-o', option]);
  return await stage.start(
    host,
    [PROGRAMS['openssh-server'], '-D', '-e', '-p', String(port), '-h', key, '-f', '/dev/null', ...given],
    [port],
  );
}

/** `setpriv` arguments for the user that postgres and pgbouncer insist on. */
const AS_POSTGRES = ['setpriv', '--reuid', 'postgres', '--regid', 'postgres', '--clear-groups'];

/** A fresh PostgreSQL cluster that trusts everybody; `options` as after `-c`. */
export async function startPostgres(
  stage: Stage,
  host: Host,
  port: number,
  options: readonly string[],
): Promise<Peer> {
  const version = readdirSync(POSTGRES_ROOT).sort().at(-1) ?? '';
  const bin = join(POSTGRES_ROOT, version, 'bin');
  const data = join(stage.folder, 'pg');
  mkdirSync(data);
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  chownSync(data, id('-u'), id('-g'));
  chmodSync(data, 0o700);
  execFileSync(
    AS_POSTGRES[0]!,
    [...AS_POSTGRES.slice(1), join(bin, 'initdb'), '-D', data, '-A', 'trust', '-N'],
    { stdio: 'ignore', cwd: stage.folder },
  );
  const given = ['unix_socket_directories=', ...options].flatMap((option) => ['-c', option]);
  return await stage.start(
    host,
    [...AS_POSTGRES, join(bin, 'postgres'), '-D', data, '-p', String(port), ...given],
    [port],
  );
}

/** pgbouncer; `options` as lines of its `[pgbouncer]` section. */
export function startPgbouncer(
  stage: Stage,
  host: Host,
  port: number,
  options: readonly string[],
): Promise<Peer> {
  const config = `[databases]
x = host=127.0.0.1 port=5432 dbname=postgres
[pgbouncer]
listen_addr=0.0.0.0
listen_port=${port}
auth_type=any
unix_socket_dir=
${options.join('\n')}
`;
  const path = stage.file('pgbouncer.ini', config);
  chmodSync(path, 0o644);
  return stage.start(host, [...AS_POSTGRES, PROGRAMS.pgbouncer, path], [port]);
}

/** memcached; `args` as on its command line. */
export function startMemcached(
  stage: Stage,
  host: Host,
  port: number,
  args: readonly string[],
): Promise<Peer> {
  return stage.start(
    host,
    [PROGRAMS.memcached, '-u', 'root', '-p', String(port), '-U', '0', ...args],
    [port],
  );
}

/** mosquitto; `options` as lines of its configuration. */
export function startMosquitto(
  stage: Stage,
  host: Host,
  port: number,
  options: readonly string[],
): Promise<Peer> {
  const config = `listener ${port} 0.0.0.0\nallow_anonymous true\nuser root\npersistence false\n${options.join('\n')}\n`;
  return stage.start(host, [PROGRAMS.mosquitto, '-c', stage.file('mosquitto.conf', config)], [port]);
}

/** dnsmasq that answers DNS over TCP and forwards nowhere. */
export function startDnsmasq(stage: Stage, host: Host, port: number): Promise<Peer> {
  const args = [
    '-k',
    '-C',
    '/dev/null',
    '--no-resolv',
    '--no-hosts',
    '--user=root',
    '--pid-file=',
    '--log-facility=-',
  ];
  return stage.start(host, [PROGRAMS['dnsmasq-base'], ...args, '-p', String(port)], [port]);
}

/** Apache with the event MPM, as it is configured by default; `more` are further lines of its configuration. */
export function startApache(stage: Stage, host: Host, port: number, more = ''): Promise<Peer> {
  const modules = '/usr/lib/apache2/modules';
  chmodSync(stage.folder, 0o777);
  mkdirSync(join(stage.folder, 'www'));
  stage.file('www/index.html', 'hi\n');
  const config = `ServerRoot ${stage.folder}
PidFile ${stage.folder}/apache.pid
Listen ${port}
LoadModule mpm_event_module ${modules}/mod_mpm_event.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule dir_module ${modules}/mod_dir.so
User www-data
Group www-data
ErrorLog ${stage.folder}/apache.log
DocumentRoot ${stage.folder}/www
DirectoryIndex index.html
ServerName x
${more}
<Directory ${stage.folder}/www>
 Require all granted
</Directory>
`;
  return stage.start(
    host,
    [PROGRAMS['apache2-bin'], '-f', stage.file('apache.conf', config), '-DFOREGROUND'],
    [port],
  );
}

/** nghttpd, which speaks HTTP/2 without TLS and nothing else. */
export function startHttp2Only(stage: Stage, host: Host, port: number): Promise<Peer> {
  return stage.start(host, [PROGRAMS['nghttp2-server'], '--no-tls', String(port)], [port]);
}

/** A certificate for 127.0.0.1 and localhost that signs itself. */
export function selfSigned(stage: Stage): { readonly key: string; readonly cert: string } {
  const key = join(stage.folder, 'key.pem');
  const cert = join(stage.folder, 'cert.pem');
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, '-days', '2'];
  execFileSync(
    PROGRAMS.openssl,
    [...args, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    { stdio: 'ignore' },
  );
  return { key, cert };
}

/** `openssl s_server` with its arguments. */
export function startOpenssl(stage: Stage, host: Host, port: number, args: readonly string[]): Promise<Peer> {
  return stage.start(
    host,
    [PROGRAMS.openssl, 's_server', '-accept', `127.0.0.1:${port}`, '-quiet', ...args],
    [port],
  );
}
