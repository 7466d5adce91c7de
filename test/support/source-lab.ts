/**
 * Owns the network that the tests of source addresses share: a client with one address and a server on one segment, the
 * built-in target on the server, and what the server's own kernel counts of the client's connections.
 * Must never believe the client: every count is taken in the server's namespace.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type BenchRun, startBench, until } from './bench-run.ts';
import { createNetwork, type Host, type HostSpec, type Network } from './network.ts';
import { type CliOptions, cliPath } from './run-cli.ts';

/** Where the target listens. */
export const SERVER = '10.9.0.1';
export const SERVER6 = 'fd09::1';
/** The one address that the client has of its own. */
export const CLIENT = '10.9.0.2';
export const PORT = 8_000;

export interface SourceLab {
  readonly network: Network;
  readonly client: Host;
  readonly server: Host;
  /** runs c100k-bench on the client */
  bench(args: readonly string[], options?: CliOptions): BenchRun;
  /** the client's addresses, as `ip -j addr` prints them, without the seconds that lifetimes have left */
  addresses(): Promise<string>;
  /** addresses of the client that carry a lifetime: those that the tool has added */
  aliases(): Promise<string[]>;
}

/**
 * Builds the network.
 * @param extra more for the client or the server than addresses
 */
export async function sourceLab(
  t: TestContext,
  extra: { readonly client?: Partial<HostSpec>; readonly server?: Partial<HostSpec> } = {},
): Promise<SourceLab> {
  const network = await createNetwork(t, {
    client: { on: { lan: [`${CLIENT}/24`, 'fd09::2/64'] }, ...extra.client },
    server: {
      on: { lan: [`${SERVER}/24`, `${SERVER6}/64`] },
      ...extra.server,
      sysctls: { 'net.core.somaxconn': 4_096, ...extra.server?.sysctls },
    },
  });
  const [client, server] = [network.host('client'), network.host('server')];
  return {
    network,
    client,
    server,
    bench: (args, options = {}) => startBench(t, args, { timeoutMs: 120_000, ...options, wrap: client.wrap }),
    addresses: async () => {
      const devices = JSON.parse(await client.must('ip', '-j', 'addr')) as Record<string, unknown>[];
      return JSON.stringify(devices, (key, value) =>
        /_life_time$/.test(key) && value < 2 ** 32 - 1 ? 0 : value,
      );
    },
    aliases: async () => {
      const devices = JSON.parse(await client.must('ip', '-j', 'addr')) as {
        addr_info: { local: string; dynamic?: boolean }[];
      }[];
      return devices.flatMap(({ addr_info }) =>
        addr_info.filter((address) => address.dynamic === true).map((address) => address.local),
      );
    },
  };
}

/** Starts the built-in target on the server and waits until it listens. */
export async function serveOn(
  lab: Pick<SourceLab, 'server'>,
  options: { readonly host?: string; readonly port?: number; readonly workers?: number } = {},
): Promise<void> {
  const { host = SERVER, port = PORT, workers } = options;
  const serve = lab.server.spawn(
    [
      process.execPath,
      cliPath,
      'serve',
      ...['--host', host, '--port', String(port)],
      ...(workers === undefined ? [] : ['--workers', String(workers)]),
    ],
    { timeoutMs: 300_000 },
  );
  // The network ends it with its namespace; only an early end matters here.
  let early: string | null = null;
  void serve.result.then(({ stderr }) => {
    early = stderr;
  });
  // ss filters by the address alone.
  const literal = host.includes(':') ? `[${host.replace(/%.*/, '')}]` : host;
  await until(`the target listens on ${literal}:${port}`, 60_000, async () => {
    assert.equal(early, null, `the target ended: ${early}`);
    return (await lab.server.must('ss', '-Hltn', `src ${literal}:${port}`)).trim() !== '';
  });
}

/** Connections that a kernel has ESTABLISHED at its own ports, by remote address. */
export interface ServerView {
  readonly total: number;
  readonly bySource: Readonly<Record<string, number>>;
  readonly byPort: Readonly<Record<string, number>>;
}

/** What the server's kernel counts at these ports. */
export async function serverView(host: Host, fromPort = PORT, toPort = fromPort): Promise<ServerView> {
  const text = await host.must(
    ...['ss', '-Htn', 'state', 'established', `( sport >= :${fromPort} and sport <= :${toPort} )`],
  );
  const bySource: Record<string, number> = {};
  const byPort: Record<string, number> = {};
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  for (const line of lines) {
    const [, , local = '', remote = ''] = line.trim().split(/\s+/);
    const source = remote.slice(0, remote.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
    const port = local.slice(local.lastIndexOf(':') + 1);
    bySource[source] = (bySource[source] ?? 0) + 1;
    byPort[port] = (byPort[port] ?? 0) + 1;
  }
  return { total: lines.length, bySource, byPort };
}

/** Fails unless the counts differ from their mean by at most this share. */
export function assertEven(counts: readonly number[], share: number): void {
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  for (const count of counts) {
    assert(Math.abs(count - mean) <= Math.max(1, share * mean), `${count} is not within ${share} of ${mean}`);
  }
}
