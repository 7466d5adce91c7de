/**
 * Owns the other sides of a control channel for tests: servers that are not the coordinator, a real one in its own
 * process, and agents that try to join. Must never leave a process or a socket behind.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { formatToken, type Token } from '../../src/control/token.ts';
import { CONTROL_JOIN_ENTRY, type JoinNews } from './control-join-entry.ts';
import { CONTROL_SERVER_ENTRY, type ControlServerNews } from './control-server-entry.ts';

const DEADLINE_MS = 60_000;

/** The part of a test's context that is needed here. */
interface Cleanup {
  after(callback: () => void): void;
}

/** A server that is not the coordinator, and what it got out of those who came. */
export interface Impostor {
  readonly port: number;
  /** handshakes that were finished */
  readonly secured: number;
  /** what was said to it after the handshake, in bytes */
  readonly heardBytes: number;
}

/** A TLS server with these options: a certificate, other versions, a key that is not ours. */
export async function startImpostor(t: Cleanup, options: TlsOptions): Promise<Impostor> {
  const seen = { port: 0, secured: 0, heardBytes: 0 };
  const server = createTlsServer(options, (socket) => {
    seen.secured++;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      seen.heardBytes += chunk.length;
    });
  });
  server.on('tlsClientError', () => {});
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  seen.port = (server.address() as AddressInfo).port;
  return seen;
}

/** A TCP server that says this to everybody, and closes. */
export async function startTalker(t: Cleanup, says: Buffer | string): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.resume();
    socket.end(says);
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

export interface PeerPlace {
  /** the Node that it runs on; default: that of the test */
  readonly runtime?: string;
  readonly env?: NodeJS.ProcessEnv;
}

function start(
  t: Cleanup,
  script: string,
  args: readonly string[],
  token: Token,
  place: PeerPlace,
): ChildProcess {
  const child = fork(script, [...args], {
    execPath: place.runtime ?? process.execPath,
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, ...place.env, C100K_TOKEN: formatToken(token), NODE_NO_WARNINGS: '1' },
  });
  t.after(() => {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
  });
  return child;
}

/** An agent's try to join, in its own process. */
export async function tryToJoin(
  t: Cleanup,
  port: number,
  token: Token,
  place: PeerPlace = {},
  name = 'probe',
): Promise<JoinNews> {
  const child = start(t, CONTROL_JOIN_ENTRY, [String(port), name], token, place);
  return await new Promise((resolve, reject) => {
    child.once('message', (news) => resolve(news as JoinNews));
    child.once('exit', (code, signal) => reject(new Error(`the agent ended with ${code ?? signal}`)));
  });
}

/** A control server in its own process, and what it has told so far. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly news: ControlServerNews[] = [];
  readonly refusedBy = new Map<string, number>();

  constructor(t: Cleanup, token: Token, place: PeerPlace = {}) {
    this.#child = start(t, CONTROL_SERVER_ENTRY, [], token, place);
    this.#child.on('message', (message) => {
      if (message === 'set') return;
      const news = message as ControlServerNews;
      if (news.type === 'refused') {
        this.refusedBy.set(news.reason, (this.refusedBy.get(news.reason) ?? 0) + 1);
      } else this.news.push(news);
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get refused(): number {
    return [...this.refusedBy.values()].reduce((sum, each) => sum + each, 0);
  }

  /** Waits for news; rejects when none of that kind comes in a minute. */
  async saw<Type extends ControlServerNews['type']>(
    type: Type,
    pick: (news: Extract<ControlServerNews, { type: Type }>) => boolean = () => true,
  ): Promise<Extract<ControlServerNews, { type: Type }>> {
    const isIt = (news: ControlServerNews): news is Extract<ControlServerNews, { type: Type }> =>
      news.type === type && pick(news as Extract<ControlServerNews, { type: Type }>);
    const endMs = performance.now() + DEADLINE_MS;
    for (;;) {
      const found = this.news.find(isIt);
      if (found !== undefined) return found;
      if (performance.now() > endMs || this.#child.exitCode !== null) {
        throw new Error(`no ${type}: ${JSON.stringify(this.news.slice(-20))}`);
      }
      await sleep(20);
    }
  }

  /** Puts its wall clock so far ahead. */
  async advance(aheadMs: number): Promise<void> {
    const set = new Promise<void>((resolve) => {
      const hear = (message: unknown): void => {
        if (message !== 'set') return;
        this.#child.off('message', hear);
        resolve();
      };
      this.#child.on('message', hear);
    });
    this.#child.send({ aheadMs });
    await set;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}
