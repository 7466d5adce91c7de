/**
 * Owns a target that shares no line with the program under test: node:net in a process of its own, which can be killed,
 * and which can stop accepting. Must never import the program.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const ENTRY = fileURLToPath(import.meta.url);

export interface NetTargetOptions {
  /** stop the whole process (SIGSTOP) at this many accepted connections; default: never */
  readonly acceptMax?: number;
  /** of listen(2); default 4,096 */
  readonly backlog?: number;
}

export interface NetTargetCounts {
  readonly accepted: number;
  readonly open: number;
}

export interface NetTarget {
  readonly port: number;
  readonly pid: number;
  /** what its own process counts; never answers once it has stopped */
  counts(): Promise<NetTargetCounts>;
  /** resets connections (RST), the oldest first; absent: all */
  reset(count?: number): void;
  /** SIGKILL; resolves when it is gone */
  kill(): Promise<void>;
}

/** Starts a target on 127.0.0.1 and a free port; it is killed after the test. */
export async function startNetTarget(t: TestContext, options: NetTargetOptions = {}): Promise<NetTarget> {
  const child = fork(ENTRY, ['net-target', JSON.stringify(options)], { stdio: 'inherit', execArgv: [] });
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  t.after(kill);
  const port = (await said(child)) as number;
  return {
    port,
    pid: child.pid ?? 0,
    counts: () => {
      const answer = said(child);
      child.send('count');
      return answer as Promise<NetTargetCounts>;
    },
    reset: (count = Number.MAX_SAFE_INTEGER) => child.send({ reset: count }),
    kill,
  };
}

async function said(child: ChildProcess): Promise<unknown> {
  const [message] = await once(child, 'message');
  return message;
}

/** A port of 127.0.0.1 on which nobody listens now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

function runTarget({ acceptMax = 0, backlog = 4_096 }: NetTargetOptions): void {
  let accepted = 0;
  let open = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    accepted++;
    open++;
    sockets.add(socket);
    socket.on('close', () => {
      open--;
      sockets.delete(socket);
    });
    socket.on('error', () => {});
    socket.resume();
    // Stopped inside the callback: libuv accepts one connection for each, so exactly so many were accepted.
    if (accepted === acceptMax) process.kill(process.pid, 'SIGSTOP');
  });
  process.on('message', (message) => {
    if (message === 'count') process.send?.({ accepted, open });
    else
      for (const socket of [...sockets].slice(0, (message as { reset: number }).reset))
        socket.resetAndDestroy();
  });
  process.on('disconnect', () => process.exit());
  server.listen({ port: 0, host: '127.0.0.1', backlog }, () =>
    process.send?.((server.address() as AddressInfo).port),
  );
}

if (process.argv[1] === ENTRY && process.argv[2] === 'net-target') {
  runTarget(JSON.parse(process.argv[3] ?? '{}') as NetTargetOptions);
}
