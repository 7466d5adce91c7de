/**
 * Owns a flood in a process of its own: so many TCP connections to a port of this host that say the same, and for each one
 * that ends another, until it is told to stop or its parent is gone. Forked by a test or the bench.
 * Must never connect to another host, and never wait between two connections.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';
import type { Token } from '../../src/control/token.ts';

/** The compiled path of this program, to fork. */
const FLOOD_ENTRY = fileURLToPath(import.meta.url);
/** Connections that are begun in one turn, so that those that are open are heard too. */
const BEGUN_AT_ONCE = 200;

/** What its parent says to end it, and how it answers: connections that were open. */
interface Ended {
  readonly opened: number;
}

/** A flood that goes on. */
export interface Flood {
  /** resolves when so many were open */
  opened(count: number): Promise<void>;
  /** ends it; resolves to the number of connections that were open */
  stop(): Promise<number>;
}

/** The part of a test's context that is needed here. */
interface Cleanup {
  after(callback: () => void): void;
}

/**
 * Starts one; it ends after the test at the latest.
 * @param atOnce connections
 * @param says the first bytes of each
 */
export function startFlood(t: Cleanup, port: number, atOnce: number, says: Buffer): Flood {
  const args = [String(port), String(atOnce), says.toString('base64')];
  const child: ChildProcess = fork(FLOOD_ENTRY, args, {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  t.after(() => child.kill('SIGKILL'));
  let opened = 0;
  const waiting = new Set<() => void>();
  child.on('message', (message: Ended) => {
    opened = message.opened;
    for (const look of waiting) look();
  });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    opened: (count) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (opened < count) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
        void gone.then(() => reject(new Error('the flood ended')));
      }),
    stop: async () => {
      child.disconnect();
      await gone;
      return opened;
    },
  };
}

/** What a client says first: with a key that is not the server's, or none. */
export async function firstBytes(t: Cleanup, token: Token | null): Promise<Buffer> {
  const listener = createServer();
  t.after(() => listener.close());
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const psk = token === null ? {} : { pskCallback: () => ({ psk: token.key, identity: token.identity }) };
  const client = connectTls({ host: '127.0.0.1', port, minVersion: 'TLSv1.3', ...psk });
  client.on('error', () => {});
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  client.destroy();
  return bytes;
}

function flood(port: number, atOnce: number, says: Buffer): void {
  let opened = 0;
  let missing = atOnce;
  let isRunning = true;
  const open = new Set<Socket>();
  const begin = (): void => {
    const socket = connect(port, '127.0.0.1');
    open.add(socket);
    socket.on('error', () => {});
    socket.on('connect', () => {
      opened += 1;
    });
    socket.on('close', () => {
      open.delete(socket);
      missing += 1;
    });
    socket.resume();
    if (says.length > 0) socket.write(says);
  };
  const turn = (): void => {
    for (let begun = 0; begun < BEGUN_AT_ONCE && missing > 0; begun += 1) {
      missing -= 1;
      begin();
    }
    if (isRunning) setImmediate(turn);
  };
  const tell = setInterval(() => process.send?.({ opened } satisfies Ended, () => {}), 20);
  process.on('disconnect', () => {
    isRunning = false;
    clearInterval(tell);
    for (const socket of open) socket.destroy();
  });
  turn();
}

if (process.argv[1] === FLOOD_ENTRY) {
  flood(Number(process.argv[2]), Number(process.argv[3]), Buffer.from(process.argv[4] ?? '', 'base64'));
}
