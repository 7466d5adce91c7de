/** The built-in target seen by real clients and by the kernel, never by what it says of itself alone. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import { afterEach, test as nodeTest } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchError } from '../../src/base/errors.ts';
import type { EngineName } from '../../src/run/run-spec.ts';
import { formatListening, type ServeHandle, serveTarget, startSelfTarget } from '../../src/serve/serve.ts';
import type { ServeCounts } from '../../src/serve/serve-counts.ts';
import { systemClock } from '../../src/time/timer.ts';
import { URING_SKIP } from '../engine/drivers/driver-harness.ts';
import { SERVE_ENTRY } from '../support/serve-entry.ts';
import { HANG_MS, settled, until } from '../support/waiting.ts';

const SOURCES = ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'];
const targets: ServeHandle[] = [];
const sockets: net.Socket[] = [];

/** The engine of the test that runs now: all that a target does it does with both. */
let engine: EngineName = 'epoll';

/** Every wait has a deadline: a target that never answers fails its test instead of hanging the suite. */
function test(name: string, run: () => Promise<void>): void {
  for (const one of ['uring', 'epoll'] as const) {
    nodeTest(`${one}: ${name}`, { timeout: 5 * HANG_MS, skip: one === 'uring' && URING_SKIP }, async () => {
      engine = one;
      await run();
    });
  }
}

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(targets.splice(0).map((target) => target.stop()));
});

type ServeOptions = Parameters<typeof serveTarget>[0];

async function serve(options: Partial<ServeOptions> = {}): Promise<ServeHandle> {
  const target = await serveTarget({
    workers: 2,
    engine,
    entryPath: SERVE_ENTRY,
    clock: systemClock,
    ...options,
  });
  assert.deepEqual(target.engine, { name: engine, why: 'as --engine says' });
  targets.push(target);
  return target;
}

async function connect(options: net.TcpNetConnectOpts): Promise<net.Socket> {
  const socket = net.connect(options);
  sockets.push(socket);
  await once(socket, 'connect');
  socket.on('error', () => {});
  return socket;
}

/** Connections from explicit ports: the kernel's own search for a free one takes a second per thousand. */
async function connectMany(port: number, count: number, sources: readonly string[]): Promise<net.Socket[]> {
  const opened: net.Socket[] = [];
  for (let from = 0; from < count; from += 250) {
    const batch = Array.from({ length: Math.min(250, count - from) }, (_, index) =>
      connect({
        host: '127.0.0.1',
        port,
        localAddress: sources[(from + index) % sources.length]!,
        localPort: 12_000 + Math.floor((from + index) / sources.length),
      }),
    );
    opened.push(...(await Promise.all(batch)));
  }
  return opened;
}

/** Established connections that the kernel has on the target's port. */
function kernelCount(port: number): number {
  const lines = execFileSync('ss', ['-Htn', 'state', 'established', `sport = :${port}`], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return lines.split('\n').filter((line) => line !== '').length;
}

/** Counts, once they are as expected or it hangs: a FIN takes a moment to be read. */
async function countsWhen(target: ServeHandle, isIt: (counts: ServeCounts) => boolean): Promise<ServeCounts> {
  const deadlineMs = systemClock.monotonicMs() + HANG_MS;
  for (;;) {
    const counts = await target.counts();
    if (isIt(counts) || systemClock.monotonicMs() > deadlineMs) return counts;
    await sleep(20);
  }
}

function isRunning(pid: number): boolean {
  try {
    // A zombie has ended; only its parent has not looked yet.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** The parent as a program of its own (serve-entry.ts), so that it can be killed or limited. */
function startParent(options: object, limitShell = ''): { child: ChildProcess; next: () => Promise<never> } {
  const command = `${limitShell} exec "$0" "$1" "$2"`;
  const child = spawn(
    'sh',
    ['-c', command, process.execPath, SERVE_ENTRY, JSON.stringify({ engine, ...options })],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async (): Promise<never> => {
    const line = await settled('the parent says something', lines.next());
    return JSON.parse(line.value) as never;
  };
  return { child, next };
}

test('5,000 connections from four addresses are held, and the counts agree with the kernel', async () => {
  const target = await serve({ workers: 3 });
  assert.equal(formatListening(target), `listening on 127.0.0.1:${target.port} (hold, 3 workers)`);
  const opened = await connectMany(target.port, 5_000, SOURCES);
  const held = await countsWhen(target, (counts) => counts.openNow === 5_000);
  assert.equal(held.openNow, 5_000);
  assert.equal(kernelCount(target.port), 5_000);
  assert.equal(held.sourceAddresses, 4);
  assert.deepEqual(held.bySource, Object.fromEntries(SOURCES.map((address) => [address, 1_250])));

  for (const socket of opened.splice(0, 1_000)) socket.end();
  for (const socket of opened.splice(0, 500)) socket.resetAndDestroy();
  const fewer = await countsWhen(target, (counts) => counts.openNow === 3_500);
  assert.equal(fewer.openNow, 3_500);
  assert.equal(fewer.openMax, 5_000);
  assert.equal(fewer.closedByPeer, 1_000);
  assert.equal(fewer.reset, 500);
  assert.equal(kernelCount(target.port), 3_500);

  const final = await target.stop();
  assert.equal(final.openNow, 3_500);
  assert.equal(final.acceptedTotal, 5_000);
  assert.equal(kernelCount(target.port), 0);
});

test('hold reads and drops what comes, stays silent, and answers a FIN with a FIN', async () => {
  const target = await serve();
  const socket = await connect({ host: '127.0.0.1', port: target.port });
  const received: Buffer[] = [];
  socket.on('data', (chunk) => received.push(chunk));
  socket.write(randomBytes(300_000));
  const counts = await countsWhen(target, (now) => now.bytesIn === 300_000);
  assert.equal(counts.bytesIn, 300_000);
  assert.equal(counts.bytesOut, 0);
  const ended = once(socket, 'end');
  socket.end();
  await ended;
  assert.equal(received.length, 0);
  assert.equal((await countsWhen(target, (now) => now.openNow === 0)).openNow, 0);
});

test('echo gives large payloads back unchanged to readers that pause, and to many at once', async () => {
  const target = await serve({ mode: 'echo' });
  const payload = randomBytes(6 * 1024 * 1024);
  async function roundTrip(pauseMs: number): Promise<void> {
    const socket = await connect({ host: '127.0.0.1', port: target.port });
    socket.pause();
    socket.end(payload);
    // Long enough for both socket buffers to fill, so that the target's send is partial.
    await sleep(pauseMs);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      if (chunks.length % 20 === 0 && pauseMs > 0) {
        socket.pause();
        setTimeout(() => socket.resume(), 2);
      }
    });
    socket.resume();
    await once(socket, 'end');
    assert(Buffer.concat(chunks).equals(payload), 'every byte must come back in order');
  }
  await Promise.all([roundTrip(300), roundTrip(400), roundTrip(0), roundTrip(0)]);
  const counts = await countsWhen(target, (now) => now.openNow === 0);
  assert.equal(counts.bytesIn, 4 * payload.length);
  assert.equal(counts.bytesOut, 4 * payload.length);
  assert.equal(counts.closedByPeer, 4);
});

test('whoami says each client its own address and port in one line and its own name in another, IPv4 and IPv6, and is silent afterwards', async () => {
  const target = await serve({ mode: 'whoami', host: '::' });
  for (const host of ['127.0.0.1', '::1']) {
    const socket = await connect({ host, port: target.port });
    const received: Buffer[] = [];
    socket.on('data', (bytes: Buffer) => received.push(bytes));
    await once(socket, 'data');
    socket.write('who are you?');
    await sleep(200);
    const shown = host.includes(':') ? `[${socket.localAddress}]` : socket.localAddress;
    assert.equal(
      Buffer.concat(received).toString(),
      `${shown}:${socket.localPort}\nat ${hostname()}:${target.port}\n`,
    );
    assert.equal(socket.readyState, 'open');
  }
  assert.equal((await target.counts()).openNow, 2);
});

test('a slow echo reader that vanishes frees its connection', async () => {
  const target = await serve({ mode: 'echo', workers: 1 });
  const socket = await connect({ host: '127.0.0.1', port: target.port });
  socket.pause();
  socket.write(randomBytes(16 * 1024 * 1024));
  await sleep(200);
  socket.resetAndDestroy();
  const counts = await countsWhen(target, (now) => now.openNow === 0);
  assert.equal(counts.openNow, 0);
  assert.equal(counts.reset, 1);
});

/** CPU of processes, user and system (proc_pid_stat(5)). */
function ticksOf(pids: readonly number[]): number {
  return pids
    .map((pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' '))
    .reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0);
}

test('an idle target costs next to no CPU while it holds', async () => {
  const target = await serve({ workers: 2 });
  await connectMany(target.port, 1_000, SOURCES);
  await countsWhen(target, (counts) => counts.openNow === 1_000);
  await sleep(300);
  // Where the host of a machine is busy, a Node that only has a timer takes some too: what it takes is not the target's.
  const bare = spawn(process.execPath, ['-e', 'setInterval(() => {}, 200)'], { stdio: 'ignore' });
  try {
    await sleep(1_000);
    const workers = target.pids();
    // USER_HZ is 100: 6 ticks are 60 ms of CPU in 2 s of two workers, 1.5 % of a core each. On a busy machine a pause is longer,
    // and work of the ramp may still be due: one quiet look in five is what a target that polls never has.
    const looks: string[] = [];
    for (let look = 0; look < 5; look++) {
      const [before, bareBefore, beganMs] = [ticksOf(workers), ticksOf([bare.pid!]), performance.now()];
      await sleep(2_000);
      const took = ticksOf(workers) - before;
      const machine = (ticksOf([bare.pid!]) - bareBefore) * workers.length;
      const allowed = (6 * (performance.now() - beganMs)) / 2_000;
      looks.push(`${took} ticks of ${allowed.toFixed(1)} and ${machine}`);
      if (took <= allowed + machine) return;
    }
    assert.fail(looks.join(', '));
  } finally {
    bare.kill('SIGKILL');
  }
});

test('with no descriptor left it stops accepting, says so once, and goes on when one is free', async () => {
  // With io_uring each descriptor that Node leaves is a ring with as many places.
  const descriptors = engine === 'uring' ? 48 : 80;
  const asked = engine === 'uring' ? descriptors ** 2 : 100;
  const { child, next } = startParent({ workers: 1, mode: 'echo' }, `ulimit -n ${descriptors};`);
  const { port } = (await next()) as { port: number };
  const opened = await connectMany(port, asked, SOURCES);
  const { notice } = (await next()) as { notice: string };
  assert.match(notice, /^worker 1 \(pid \d+\) has no descriptor or memory left with [\d,]+ connections open/);
  child.stdin?.write('counts\n');
  const { counts } = (await next()) as { counts: ServeCounts };
  if (engine === 'epoll')
    assert(counts.openNow > 30 && counts.openNow < descriptors, `holds ${counts.openNow}`);
  else {
    assert(counts.openNow >= 4 * descriptors && counts.openNow < asked, `holds ${counts.openNow}`);
    assert.equal(counts.openNow % descriptors, 0, 'each place of each ring is used');
  }
  assert.equal(kernelCount(port), asked, 'those that wait are not closed');
  assert.equal(counts.descriptorsFull, 1);

  // Established is not accepted: those in the queue get no echo until others leave.
  const last = opened.at(-1)!;
  const echoed = once(last, 'data');
  last.write('hello');
  assert.equal(await Promise.race([echoed, sleep(300).then(() => 'silence')]), 'silence');
  for (const socket of opened.slice(0, asked - counts.openNow + 10)) socket.end();
  const [bytes] = (await echoed) as [Buffer];
  assert.equal(bytes.toString(), 'hello');
  child.stdin?.write('stop\n');
  const { stopped } = (await next()) as { stopped: ServeCounts };
  // This line is the answer, not a second notice: it spoke of the shortage once.
  assert.equal(stopped.acceptedTotal, asked, 'none that waited was lost');
  await once(child, 'exit');
});

test('a parent that is killed leaves no worker behind, whether they are idle or busy', async () => {
  for (const isBusy of [false, true]) {
    const { child, next } = startParent({ workers: 3, mode: 'echo' });
    const { port, pids } = (await next()) as { port: number; pids: number[] };
    assert.equal(pids.length, 3);
    assert(pids.every(isRunning));
    const opened = await connectMany(port, 200, SOURCES);
    const timer = setInterval(() => {
      if (isBusy) for (const socket of opened) if (socket.writable) socket.write('x');
    }, 5);
    await sleep(isBusy ? 100 : 500);
    child.kill('SIGKILL');
    // Descriptors are closed by the last thread of a process, so the kernel is asked too.
    await until(
      `workers end with their parent (busy: ${isBusy})`,
      () => !pids.some(isRunning) && kernelCount(port) === 0,
    ).finally(() => clearInterval(timer));
    for (const socket of sockets.splice(0)) socket.destroy();
  }
});

test('signals of the terminal do not end a worker: its parent decides', async () => {
  const target = await serve({ workers: 1 });
  const [pid] = target.pids();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2'] as const) process.kill(pid!, signal);
  await sleep(200);
  assert.deepEqual(target.pids(), [pid]);
  await connect({ host: '127.0.0.1', port: target.port });
  assert.equal((await countsWhen(target, (counts) => counts.openNow === 1)).openNow, 1);
});

test('a worker that dies is named, its connections leave the count, and the others go on', async () => {
  const notices: string[] = [];
  const target = await serve({ workers: 3, onNotice: (line) => notices.push(line) });
  await connectMany(target.port, 900, SOURCES);
  await countsWhen(target, (counts) => counts.openNow === 900);
  const victim = target.pids()[1]!;
  process.kill(victim, 'SIGKILL');
  const counts = await countsWhen(target, (now) => now.workers === 2);
  assert.equal(counts.workersLost, 1);
  assert.equal(counts.acceptedTotal, 900);
  assert.equal(counts.openMax, 900);
  // The kernel may close the descriptors of a killed process a moment after its end.
  await until(`the kernel has ${counts.openNow} too`, () => kernelCount(target.port) === counts.openNow);
  // How many each worker accepts depends on which of them had a core.
  assert(counts.openNow > 0 && counts.openNow < 900, `holds ${counts.openNow}`);
  assert.deepEqual(notices, [
    `worker 2 (pid ${victim}) was ended by SIGKILL: its connections are gone; 2 of 3 workers go on`,
  ]);
  for (const socket of sockets.splice(0)) socket.destroy();
  await connectMany(target.port, 100, ['127.0.0.9']);
  assert.equal((await countsWhen(target, (now) => now.openNow === 100)).openNow, 100);
});

test('it listens on IPv6 too', async () => {
  const target = await serve({ host: '::1' });
  assert.equal(formatListening(target), `listening on [::1]:${target.port} (hold, 2 workers)`);
  await connect({ host: '::1', port: target.port });
  const counts = await countsWhen(target, (now) => now.openNow === 1);
  assert.deepEqual(counts.bySource, { '::1': 1 });
});

async function failureOf(options: Partial<ServeOptions>): Promise<BenchError> {
  const error = await serve(options).then(
    () => assert.fail('it must not listen'),
    (reason: unknown) => reason,
  );
  assert(error instanceof BenchError, String(error));
  return error;
}

test('a port that is taken is refused with a hint, also when another target would share it', async () => {
  const stranger = net.createServer().listen(0, '127.0.0.1');
  await once(stranger, 'listening');
  const taken = (stranger.address() as net.AddressInfo).port;
  const error = await failureOf({ port: taken });
  assert.equal(error.code, 'serve-failed');
  assert.equal(error.exitCode, 3);
  assert.equal(error.message, `cannot listen on 127.0.0.1:${taken}: the port is in use`);
  assert.match(error.hint, /--port 0 .* ss -Hltnp sport = :\d+$/);
  stranger.close();

  const first = await serve();
  assert.match((await failureOf({ port: first.port })).message, /the port is in use/);
});

test('a stopped target frees its port at once, also with connections open', async () => {
  const first = await serve();
  await connectMany(first.port, 50, SOURCES);
  await countsWhen(first, (counts) => counts.openNow === 50);
  await first.stop();
  const second = await serve({ port: first.port });
  assert.equal(second.port, first.port);
});

test('an address that is not ours, a name and numbers out of range are refused with a hint', async () => {
  const elsewhere = await failureOf({ host: '192.0.2.1' });
  assert.match(elsewhere.message, /192\.0\.2\.1 is not an address of this host/);
  assert.equal(elsewhere.exitCode, 3);
  for (const [options, code] of [
    [{ host: 'localhost' }, 'bad-address'],
    [{ port: 70_000 }, 'bad-ports'],
    [{ workers: 0 }, 'bad-number'],
    [{ workers: 1.5 }, 'bad-number'],
  ] as const) {
    const error = await failureOf(options);
    assert.equal(error.code, code);
    assert.equal(error.exitCode, 2);
    assert.notEqual(error.hint, '');
  }
});

test('the self target listens on 127.0.0.1 exactly, counts, and ends when asked to', async () => {
  const target = await startSelfTarget({
    connections: 3_000,
    mode: 'echo',
    engine,
    entryPath: SERVE_ENTRY,
    clock: systemClock,
  });
  targets.push(target);
  assert.equal(target.address, '127.0.0.1');
  const listeners = execFileSync('ss', ['-Hltn', `sport = :${target.port}`], { encoding: 'utf8' });
  assert.match(listeners, new RegExp(`127\\.0\\.0\\.1:${target.port}`));
  const pids = target.pids();
  const socket = await connect({ host: '127.0.0.1', port: target.port });
  socket.write('proof');
  assert.equal(String((await once(socket, 'data'))[0]), 'proof');
  const final = await target.stop();
  assert.equal(final.openNow, 1);
  await target.ended;
  await until('no worker is left', () => !pids.some(isRunning));
});
