/**
 * Owns WebSocket servers that this project did not write, each in a process of its own that counts its clients: the
 * `ws` package, and Python's `websockets`. Must never import the program under test.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const ENTRY = fileURLToPath(import.meta.url);
/** Debian's own, whose packages apt installs; another `python3` may come first on the path. */
const PYTHON = '/usr/bin/python3';

export interface ForeignWsServer {
  readonly port: number;
  readonly pid: number;
  /** clients that it says it holds, and pings that it has answered where it knows */
  counts(): Promise<{ readonly clients: number }>;
}

/** Says its port, then a count for each line that it reads; ends with its standard input. */
const PYTHON_SERVER = `
import asyncio, sys, websockets
held = set()
async def hold(socket, path=None):
    held.add(socket)
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    finally:
        held.discard(socket)
async def main():
    async with websockets.serve(hold, '127.0.0.1', 0, subprotocols=['graphql-transport-ws', 'mqtt'], compression=None, ping_interval=None, backlog=4096,
                                max_queue=1, read_limit=1024, write_limit=1024) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            print(len(held), flush=True)
        import os
        os._exit(0)
asyncio.run(main())
`;

/** false when Python's websockets is installed, else the words for a skip. */
export function whyNoPython(): string | false {
  try {
    execFileSync(PYTHON, ['-c', 'import websockets'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'python3-websockets is not installed';
  }
}

/** Starts a server; it ends with the test. */
export async function startWsServer(t: TestContext, kind: 'ws' | 'python'): Promise<ForeignWsServer> {
  const child =
    kind === 'ws'
      ? spawn(process.execPath, [ENTRY, 'ws-server'], { stdio: ['pipe', 'pipe', 'inherit'] })
      : spawn(PYTHON, ['-c', PYTHON_SERVER], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  const next = lineReader(child);
  const port = Number(await next());
  assert(port > 0, 'the server says its port');
  return {
    port,
    pid: child.pid ?? 0,
    counts: async () => {
      child.stdin?.write('\n');
      return { clients: Number(await next()) };
    },
  };
}

function lineReader(child: ChildProcess): () => Promise<string> {
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  let rest = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const pieces = (rest + text).split('\n');
    rest = pieces.pop() ?? '';
    for (const line of pieces) {
      const take = waiting.shift();
      if (take === undefined) lines.push(line);
      else take(line);
    }
  });
  return () => {
    const line = lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    return new Promise((resolve) => waiting.push(resolve));
  };
}

function runServer(): void {
  const server = new WebSocketServer({
    host: '127.0.0.1',
    port: 0,
    backlog: 4_096,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has('mqtt') ? 'mqtt' : false),
  });
  server.on('listening', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
  server.on('connection', (socket) => socket.on('error', () => {}));
  process.stdin.on('data', () => process.stdout.write(`${server.clients.size}\n`));
  process.stdin.on('end', () => process.exit());
}

if (process.argv[1] === ENTRY && process.argv[2] === 'ws-server') runServer();
