/**
 * Owns small networks for tests: hosts (network namespaces) joined by segments (a veth pair for two hosts, a bridge for
 * more). Nothing in them has a way out of the machine, and everything is removed again: at the end, after a failure,
 * after Ctrl-C, and what a killed test left is removed by the next one.
 *
 *     const network = await createNetwork(t, {
 *       client: { on: { lan: ['10.9.0.2/24'] } },
 *       server: { on: { lan: ['10.9.0.1/24'] }, sysctls: { 'net.core.somaxconn': 4096 } },
 *     });
 *     await network.host('client').run(['ip', 'addr']);
 *
 * A host that is on two segments and has `net.ipv4.ip_forward` set is a router.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type CliOptions, type CliResult, cliPath, type RunningCli, startProcess } from './run-cli.ts';

/** One host of a network. */
export interface HostSpec {
  /** its addresses (with prefix length) by segment; its devices are eth0, eth1, ... in this order */
  readonly on: Readonly<Record<string, readonly string[]>>;
  /** arguments of `ip route add`, such as `default via 10.9.0.1` or `-6 ...` handled by address */
  readonly routes?: readonly string[];
  /** such as `{ 'net.ipv4.ip_forward': 1 }` */
  readonly sysctls?: Readonly<Record<string, string | number>>;
  /** an nft ruleset */
  readonly nft?: string;
  /** files that processes of this host see in /etc, such as `hosts` */
  readonly etc?: Readonly<Record<string, string>>;
}

/** How names begin; the rest is the test's process id, a number and the host. */
const PREFIX = 'c100k';
const NETNS_FOLDER = '/run/netns';
const ETC_FOLDER = '/etc/netns';
const COMMAND_TIMEOUT_MS = 20_000;

/**
 * Why networks cannot be made here; null: they can. `t.skip` with it, so that the skip is seen.
 */
export function whyNoNetwork(): string | null {
  if (process.getuid?.() !== 0) return 'needs root for network namespaces';
  if (spawnSync('ip', ['-V']).status !== 0) return 'needs iproute2';
  return null;
}

/** One host: commands run inside its namespace, with its own /etc files. */
export class Host {
  readonly name: string;
  readonly namespace: string;

  constructor(name: string, namespace: string) {
    this.name = name;
    this.namespace = namespace;
  }

  /** Starts a program on this host. */
  spawn(command: readonly string[], options: CliOptions = {}): RunningCli {
    return startProcess(['ip', 'netns', 'exec', this.namespace, ...command], options);
  }

  /** Runs a program on this host to its end, however it ends. */
  run(command: readonly string[], options: CliOptions = {}): Promise<CliResult> {
    return this.spawn(command, { timeoutMs: COMMAND_TIMEOUT_MS, ...options }).result;
  }

  /** Runs a program on this host that must succeed; returns what it printed. */
  async must(...command: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command);
    assert.equal(code, 0, `${this.name}: ${command.join(' ')}: ${stderr}`);
    return stdout;
  }

  /** For `startBench` and `startCli`: `{ wrap: host.wrap }` runs the command line on this host. */
  get wrap(): string {
    return `exec ip netns exec ${this.namespace} "$@"`;
  }

  /** Starts c100k-bench on this host. */
  startBench(args: readonly string[], options: CliOptions = {}): RunningCli {
    return this.spawn([options.runtime ?? process.execPath, cliPath, ...args], options);
  }

  /** Runs c100k-bench on this host to its end. */
  bench(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
    return this.startBench(args, options).result;
  }

  /** Changes a kernel setting of this host. */
  async sysctl(name: string, value: string | number): Promise<void> {
    await this.must('sysctl', '-qw', `${name}=${value}`);
  }

  /** Loads an nft ruleset on this host. */
  async nft(rules: string): Promise<void> {
    await this.must('bash', '-c', 'nft -f - <<<"$0"', rules);
  }

  /** The pids of all processes in this host's namespace. */
  pids(): number[] {
    const { stdout } = spawnSync('ip', ['netns', 'pids', this.namespace], { encoding: 'utf8' });
    return stdout.split('\n').filter(Boolean).map(Number);
  }
}

/** Some hosts and what joins them. */
export class Network {
  readonly #hosts = new Map<string, Host>();
  readonly #prefix: string;
  #isRemoved = false;

  /** Use `createNetwork`. */
  constructor(prefix: string) {
    this.#prefix = prefix;
    networks.add(this);
  }

  host(name: string): Host {
    const host = this.#hosts.get(name);
    assert(host, `no host ${name}`);
    return host;
  }

  /** Makes the namespaces and devices. */
  async build(specs: Readonly<Record<string, HostSpec>>): Promise<void> {
    for (const [name, spec] of Object.entries(specs)) {
      const host = this.#addNamespace(name);
      for (const [file, text] of Object.entries(spec.etc ?? {})) writeEtc(host.namespace, file, text);
      await host.must('ip', 'link', 'set', 'lo', 'up');
      // Without duplicate address detection a link-local address is what it stays from the start.
      await host.sysctl('net.ipv6.conf.default.accept_dad', 0);
      for (const [key, value] of Object.entries(spec.sysctls ?? {})) await host.sysctl(key, value);
    }
    for (const segment of new Set(Object.values(specs).flatMap(({ on }) => Object.keys(on)))) {
      await this.#join(segment, specs);
    }
    for (const [name, spec] of Object.entries(specs)) await this.#configure(this.host(name), spec);
  }

  #addNamespace(name: string): Host {
    const host = new Host(name, `${this.#prefix}-${name}`);
    this.#hosts.set(name, host);
    const made = spawnSync('ip', ['netns', 'add', host.namespace], { encoding: 'utf8' });
    assert.equal(made.status, 0, made.stderr);
    return host;
  }

  /** A veth pair between two hosts; with more, one from each to a bridge in a namespace of its own. */
  async #join(segment: string, specs: Readonly<Record<string, HostSpec>>): Promise<void> {
    const ends = Object.entries(specs).flatMap(([name, { on }]) => {
      const at = Object.keys(on).indexOf(segment);
      return at < 0 ? [] : [{ namespace: this.host(name).namespace, device: `eth${at}` }];
    });
    const [first, second] = ends;
    if (ends.length === 2 && first !== undefined && second !== undefined) {
      await this.#pair(first, second);
      return;
    }
    const bridge = this.#addNamespace(`bridge-${segment}`);
    await bridge.must('ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0');
    await bridge.must('ip', 'link', 'set', 'br0', 'up');
    for (const [index, end] of ends.entries()) {
      await this.#pair(end, { namespace: bridge.namespace, device: `port${index}` });
      await bridge.must('ip', 'link', 'set', `port${index}`, 'master', 'br0', 'up');
    }
  }

  /** Both ends are made inside their namespaces: the machine's own devices are never touched. */
  async #pair(
    a: { namespace: string; device: string },
    b: { namespace: string; device: string },
  ): Promise<void> {
    const made = spawnSync(
      'ip',
      [
        'link',
        'add',
        'name',
        a.device,
        'netns',
        a.namespace,
        'type',
        'veth',
        'peer',
        'name',
        b.device,
        'netns',
        b.namespace,
      ],
      { encoding: 'utf8' },
    );
    assert.equal(made.status, 0, made.stderr);
  }

  async #configure(host: Host, spec: HostSpec): Promise<void> {
    for (const [index, addresses] of Object.values(spec.on).entries()) {
      const device = `eth${index}`;
      for (const address of addresses) {
        // Without duplicate address detection an IPv6 address can be used at once.
        await host.must(
          'ip',
          'addr',
          'add',
          address,
          'dev',
          device,
          ...(address.includes(':') ? ['nodad'] : []),
        );
      }
      await host.must('ip', 'link', 'set', device, 'up');
    }
    for (const route of spec.routes ?? []) await host.must('ip', 'route', 'add', ...route.split(' '));
    if (spec.nft !== undefined) await host.nft(spec.nft);
  }

  /** Ends every process in the namespaces, and removes them with all their devices. Once. */
  remove(): void {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    networks.delete(this);
    for (const host of this.#hosts.values()) removeNamespace(host.namespace);
  }
}

const networks = new Set<Network>();
let networkCount = 0;
let isWatching = false;

/**
 * Builds a network and removes it after the test, however that ends.
 * @param t the test
 * @param specs hosts by name; names are short, lower-case words
 */
export async function createNetwork(
  t: Pick<TestContext, 'after'>,
  specs: Readonly<Record<string, HostSpec>>,
): Promise<Network> {
  removeLeftovers();
  watchExit();
  networkCount += 1;
  const network = new Network(`${PREFIX}-${process.pid}-${networkCount}`);
  t.after(() => network.remove());
  await network.build(specs);
  return network;
}

/** On Ctrl-C and on any other end of this process the networks go too. */
function watchExit(): void {
  if (isWatching) return;
  isWatching = true;
  process.on('exit', removeAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      removeAll();
      process.kill(process.pid, signal);
    });
  }
}

function removeAll(): void {
  for (const network of networks) network.remove();
}

/** What a test that was killed could not remove: the process whose id is in the name is gone. */
function removeLeftovers(): void {
  const names = existsSync(NETNS_FOLDER) ? readdirSync(NETNS_FOLDER) : [];
  for (const name of names) {
    const owner = new RegExp(`^${PREFIX}-(\\d+)-\\d+-`).exec(name)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) removeNamespace(name);
  }
}

function removeNamespace(name: string): void {
  const { stdout } = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
  for (const pid of (stdout ?? '').split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  spawnSync('ip', ['netns', 'del', name]);
  rmSync(join(ETC_FOLDER, name), { recursive: true, force: true });
}

/** `ip netns exec` lays these files over /etc (ip-netns(8)). */
function writeEtc(namespace: string, file: string, text: string): void {
  mkdirSync(join(ETC_FOLDER, namespace), { recursive: true });
  writeFileSync(join(ETC_FOLDER, namespace, file), text);
}
