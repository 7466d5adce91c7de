/**
 * Owns what cases are played on: hosts in network namespaces, peers on them, the program, a capture beside it, and looks
 * at the far side while it runs. Must never leave anything behind: peers are ended by pid, in order, before their hosts go.
 */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from '../../src/judge/report.ts';
import { createNetwork, type Host, type HostSpec, type Network } from '../support/network.ts';
import { type CliOptions, cliPath, type RunningCli } from '../support/run-cli.ts';
import { type Aftermath, lookAfter } from './aftermath.ts';
import type { FarSide, JudgedRun } from './expectation.ts';
import { FarSideWatch } from './far-side.ts';
import { readCapture } from './pcap.ts';
import { type WireEvidence, wireEvidence } from './wire-evidence.ts';

export const SERVER = '10.83.0.1';
export const CLIENT = '10.83.0.2';
/** beyond the router of `routed()` */
export const FAR_SERVER = '10.84.0.2';

const RUN_TIMEOUT_MS = 180_000;
const PEER_START_MS = 60_000;
const PEER_END_MS = 5_000;
/** Enough for all headers and the first 120 bytes that somebody says. */
const CAPTURE_BYTES = 300;

/** What one run of the program left behind. */
export interface PlayedRun extends JudgedRun {
  /** as it was typed, without paths of this machine */
  readonly command: string;
  /** null: nothing was captured */
  readonly wire: WireEvidence | null;
  readonly farSide: FarSide | null;
  /** counters of the kernels that changed, `ours` and `theirs` */
  readonly counters: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** null: nothing was to be looked at */
  readonly aftermath: Aftermath | null;
}

/** A server of somebody else that runs. */
export interface Peer {
  readonly pid: number;
  /** what it printed so far */
  log(): string;
  signal(name: NodeJS.Signals): void;
  /** ends it and waits */
  end(name?: NodeJS.Signals): Promise<void>;
}

export interface RunOptions {
  /** where the targets are, to look at their sockets and counters; default: the host of the run */
  readonly far?: Host;
  /** listening ports of the target; default: those of the endpoints */
  readonly farPorts?: readonly number[];
  /** during the run, from its start */
  readonly during?: (running: RunningCli) => Promise<void>;
  /** false: cases about other things than connections */
  readonly isCaptured?: boolean;
  readonly cli?: CliOptions;
}

/** Cleans up like a test. */
export class Stage {
  readonly folder: string;
  readonly #cleanups: (() => unknown)[] = [];

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'c100k-case-'));
    // Peers that give up root read their files here.
    chmodSync(this.folder, 0o755);
    this.after(() => rmSync(this.folder, { recursive: true, force: true }));
  }

  /** The last cleanup that was asked for comes first. */
  after(cleanup: () => unknown): void {
    this.#cleanups.push(cleanup);
  }

  /** Removes everything that was made, whatever fails on the way. */
  async remove(): Promise<void> {
    const failures: unknown[] = [];
    for (const cleanup of this.#cleanups.splice(0).reverse()) {
      try {
        await cleanup();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, `not removed: ${failures.join('; ')}`);
  }

  #network(specs: Readonly<Record<string, HostSpec>>): Promise<Network> {
    return createNetwork({ after: ((cleanup: () => void) => this.after(cleanup)) as never }, specs);
  }

  /** One host with loopback alone. */
  async lone(spec: Partial<HostSpec> = {}): Promise<Host> {
    return (await this.#network({ lone: { on: {}, ...spec } })).host('lone');
  }

  /** Client and server on one segment. */
  async pair(
    specs: { readonly client?: Partial<HostSpec>; readonly server?: Partial<HostSpec> } = {},
    sources = 1,
  ): Promise<{ client: Host; server: Host }> {
    const addresses = Array.from({ length: sources }, (_, index) => `10.83.0.${2 + index}/24`);
    const network = await this.#network({
      client: { on: { lan: addresses }, ...specs.client },
      server: {
        on: { lan: [`${SERVER}/24`] },
        ...specs.server,
        sysctls: { 'net.core.somaxconn': 4_096, ...specs.server?.sysctls },
      },
    });
    return { client: network.host('client'), server: network.host('server') };
  }

  /** Client, router and server; the server is at FAR_SERVER. */
  async routed(routerNft?: string, sources = 1): Promise<{ client: Host; router: Host; server: Host }> {
    const addresses = Array.from({ length: sources }, (_, index) => `10.83.0.${2 + index}/24`);
    const network = await this.#network({
      client: { on: { lan: addresses }, routes: ['default via 10.83.0.254'] },
      router: {
        on: { lan: ['10.83.0.254/24'], wan: ['10.84.0.1/24'] },
        sysctls: { 'net.ipv4.ip_forward': 1 },
        ...(routerNft === undefined ? {} : { nft: routerNft }),
      },
      server: {
        on: { wan: [`${FAR_SERVER}/24`] },
        routes: ['default via 10.84.0.1'],
        sysctls: { 'net.core.somaxconn': 4_096 },
      },
    });
    return { client: network.host('client'), router: network.host('router'), server: network.host('server') };
  }

  /** Writes a file into the stage's folder; returns its path. */
  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  /**
   * Starts a server on a host.
   * @param listens ports that must listen before this resolves
   */
  async start(
    host: Host,
    command: readonly string[],
    listens: readonly number[],
    options: CliOptions = {},
  ): Promise<Peer> {
    const running = host.spawn(command, { timeoutMs: 10 * RUN_TIMEOUT_MS, ...options });
    let isOver = false;
    let printed = '';
    running.child.stdout?.on('data', (text: string) => {
      printed += text;
    });
    const over = running.result.then(() => {
      isOver = true;
    });
    const peer: Peer = {
      pid: running.child.pid ?? 0,
      log: () => printed + running.stderr(),
      signal: (name) => void (isOver || running.child.kill(name)),
      end: async (name = 'SIGTERM') => {
        if (isOver) return;
        running.child.kill('SIGCONT');
        running.child.kill(name);
        await Promise.race([over, sleep(PEER_END_MS, undefined, { ref: false })]);
        if (!isOver) running.child.kill('SIGKILL');
        await over;
      },
    };
    this.after(() => peer.end());
    const beganMs = performance.now();
    for (const port of listens) {
      while ((await host.run(['ss', '-Hltn', `sport = :${port}`])).stdout.trim() === '') {
        assert(!isOver, `${command.slice(0, 2).join(' ')} ended: ${peer.log()}`);
        assert(performance.now() - beganMs < PEER_START_MS, `nothing listens on ${port}: ${peer.log()}`);
        await sleep(50);
      }
    }
    return peer;
  }

  /** The built-in target. */
  serve(host: Host, port: number, args: readonly string[] = [], options: CliOptions = {}): Promise<Peer> {
    const command = [
      process.execPath,
      cliPath,
      'serve',
      '--host',
      '0.0.0.0',
      '--port',
      String(port),
      '--workers',
      '1',
      ...args,
    ];
    return this.start(host, command, [port], options);
  }

  /** A server in JavaScript that shares nothing with the program. */
  async script(
    host: Host,
    code: string,
    listens: readonly number[],
    options: CliOptions = {},
  ): Promise<Peer> {
    const path = this.file(`server-${listens.join('-')}.mjs`, code);
    return await this.start(host, [process.execPath, path], listens, options);
  }

  /** A server in Python, where Node would accept too well. */
  async python(host: Host, code: string, listens: readonly number[]): Promise<Peer> {
    return await this.start(host, ['/usr/bin/python3', '-u', '-c', code], listens);
  }

  /** Runs the program on a host to its end, with everything that looks on. */
  async run(host: Host, args: readonly string[], options: RunOptions = {}): Promise<PlayedRun> {
    const json = join(this.folder, 'report.json');
    rmSync(json, { force: true });
    const far = options.far ?? host;
    const ports = options.farPorts ?? portsOf(args);
    const capture = options.isCaptured === false ? null : await this.#capture(host, ports);
    const before = { ours: await countersOf(host), theirs: await countersOf(far) };
    const running = host.startBench([...args, '--json', json, '--no-progress'], {
      timeoutMs: RUN_TIMEOUT_MS,
      ...options.cli,
    });
    const watch = new FarSideWatch(far, ports, running);
    const acting = options.during?.(running);
    const result = await running.result;
    await acting;
    const farSide = await watch.end();
    assert.equal(result.timedOut, false, `the run hangs: ${result.stderr}`);
    const report = existsSync(json) ? (JSON.parse(readFileSync(json, 'utf8')) as RunReport) : null;
    const wire = await capture?.(report);
    const counters = {
      ours: changes(before.ours, await countersOf(host)),
      ...(far === host ? {} : { theirs: changes(before.theirs, await countersOf(far)) }),
    };
    const isLookedAt = options.isCaptured !== false && report !== null;
    return {
      command: this.#withoutPaths(`c100k-bench ${args.join(' ')}`),
      exitCode: result.code,
      report,
      text: this.#withoutPaths(result.stdout + errorsOf(result.stderr)).replace(/\s+/g, ' '),
      farSide: options.isCaptured === false ? null : farSide,
      truth: {},
      wire: wire ?? null,
      counters,
      aftermath: isLookedAt ? await lookAfter(host, report.asked.endpoints) : null,
    };
  }

  #withoutPaths(text: string): string {
    return text.replaceAll(this.folder, 'FOLDER').replaceAll(process.execPath, 'node');
  }

  async #capture(
    host: Host,
    ports: readonly number[],
  ): Promise<(report: RunReport | null) => Promise<WireEvidence | null>> {
    const path = join(this.folder, 'run.pcap');
    const hasLink = (await host.run(['ip', 'link', 'show', 'eth0'])).code === 0;
    const filter = [...ports.map((port) => `port ${port}`), 'icmp', 'icmp6'].join(' or ');
    const dump = host.spawn(
      [
        'tcpdump',
        '-i',
        hasLink ? 'eth0' : 'lo',
        '-Z',
        'root',
        '-B',
        '32768',
        '-s',
        String(CAPTURE_BYTES),
        '-U',
        '-w',
        path,
        filter,
      ],
      { timeoutMs: 2 * RUN_TIMEOUT_MS },
    );
    this.after(() => dump.child.kill('SIGKILL'));
    await dump.saw(/listening on/);
    return async (report) => {
      await sleep(300);
      dump.child.kill('SIGINT');
      await dump.result;
      const bytes = readFileSync(path);
      rmSync(path);
      if (report === null) return null;
      return wireEvidence(readCapture(bytes), report.asked.endpoints, report.connections.attempted);
    };
  }
}

/** Ports of everything that looks like an endpoint. */
function portsOf(args: readonly string[]): number[] {
  const ports = new Set<number>();
  for (const [index, arg] of args.entries()) {
    if (args[index - 1] !== '-t') continue;
    const match = /:(\d+)(?:-(\d+))?(?:[/?].*)?$/.exec(arg);
    assert(match !== null, `no port in ${arg}`);
    for (let port = Number(match[1]); port <= Number(match[2] ?? match[1]); port++) ports.add(port);
  }
  return [...ports];
}

/** What is said on stderr beside the command line and the phases. */
function errorsOf(stderr: string): string {
  return stderr
    .split('\n')
    .filter((line) => !/^(?:c100k-bench |\s*\d+ s |gathering|preparing)/.test(line))
    .join('\n');
}

/** Counters of a host's network namespace since it was made, those above 0. */
async function countersOf(host: Host): Promise<Record<string, number>> {
  const { stdout } = await host.run(['nstat', '-asj']);
  const parsed = JSON.parse(stdout) as { kernel?: Record<string, number> };
  return parsed.kernel ?? {};
}

const TELLING = /^(?:Ip(?:In|Out|Ext|Forw)|Tcp|Icmp6?(?:In|Out)DestUnreach)/;

function changes(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
      .filter(
        ([name, change]) =>
          change !== 0 && TELLING.test(name) && !/Octets|OFO|Rcv(?:Coal|Q)|HP|Pure/.test(name),
      ),
  );
}

/** Waits until a host has so many connections established towards a port. */
export async function whenOpen(host: Host, port: number, count: number): Promise<void> {
  for (let tries = 0; tries < 1_200; tries++) {
    const { stdout } = await host.run(['ss', '-Htn', 'state', 'established', `dport = :${port}`]);
    if (stdout.split('\n').filter(Boolean).length >= count) return;
    await sleep(100);
  }
  throw new Error(`never ${count} connections towards ${port}`);
}
