/**
 * Owns one process of the target: its listening socket, which several processes share, the IPC between its parent and its
 * loop, and its end. It must stay small: it never imports ws, yargs, valibot or the complete hdr-histogram-js, and it
 * never outlives its parent.
 */

import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { StandStill } from '../base/clock.ts';
import { CallError } from '../engine/drivers/call-error.ts';
import { portOf, SOCKADDR_BYTES_MAX, type SockAddr, sockAddr } from '../engine/drivers/sockaddr.ts';
import { uringKernel } from '../engine/drivers/uring-binding.ts';
import { RingError } from '../engine/drivers/uring-ring.ts';
import * as libc from '../engine/libc.ts';
import { AF_INET6 } from '../engine/libc.ts';
import { bindToParent } from '../engine/parent-bond.ts';
import { lowerPriority } from '../host/command.ts';
import { after, every, systemClock, type Timer } from '../time/timer.ts';
import { EpollTarget } from './epoll-target.ts';
import type { FromWorker, ToWorker } from './serve-counts.ts';
import { serverName, type Target } from './target.ts';
import { UringTarget } from './uring-target.ts';

/** The longest that a changed count stays untold. */
const TELL_EVERY_MS = 200;
/** If the loop has not run dry by then, something holds it: an orphan is worse than an unclean end. */
const END_DEADLINE_MS = 1_000;
/** How often it looks whether it stood still; it keeps no process alive and costs nothing. */
const LOOK_EVERY_MS = 1_000;

/**
 * Runs one worker in this process, which must have been forked with IPC (messages: serve-counts.ts). Returns at
 * once; the process ends by itself when the parent says `stop` or is gone.
 * @param parentPid the parent's pid as the parent gave it; null: unknown
 */
export function runServeWorker(parentPid: number | null = null): void {
  // The parent decides: Ctrl-C in a terminal and `kill -- -group` reach the workers too.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2'] as const) process.on(signal, () => {});
  lowerPriority();
  const worker = new Worker();
  process.on('message', (message: ToWorker) => worker.take(message));
  process.on('disconnect', () => worker.end());
  if (!bindToParent('kill', parentPid) || !process.connected) worker.end();
}

class Worker {
  #loop: Target | undefined;
  #lookTimer: Timer | undefined;
  #tellTimer: Timer | undefined;
  /** a message of totals that the pipe has not taken yet: a stopped parent must not make us grow */
  #isTelling = false;
  #isEnding = false;

  take(message: ToWorker): void {
    switch (message.type) {
      case 'listen':
        this.#listen(message);
        return;
      case 'count': {
        const { totals, sources } = this.#counts();
        this.#say({ type: 'counts', request: message.request, totals, sources });
        return;
      }
      case 'stop': {
        if (this.#loop === undefined) {
          this.end();
          return;
        }
        const { totals, sources } = this.#counts();
        this.#say({ type: 'stopped', totals, sources }, () => this.end());
        return;
      }
      default:
        assert.fail(`unknown message: ${JSON.stringify(message satisfies never)}`);
    }
  }

  #listen(message: ToWorker & { type: 'listen' }): void {
    assert(this.#loop === undefined, 'a worker listens once');
    const listener = openListener(message);
    if (listener.type === 'failed') {
      this.#say(listener, () => this.end());
      return;
    }
    const loop = this.#begin(listener, message);
    if ('type' in loop) {
      libc.close(listener.fd);
      this.#say(loop, () => this.end());
      return;
    }
    this.#loop = loop;
    loop.start();
    const still = new StandStill(LOOK_EVERY_MS, systemClock.monotonicMs());
    const look = (): void => {
      const forMs = still.look(systemClock.monotonicMs());
      if (forMs > 0) this.#say({ type: 'stood-still', forMs });
    };
    this.#lookTimer = every(LOOK_EVERY_MS, look, { isUnref: true });
    this.#say({ type: 'listening', port: listener.port });
  }

  /** The connections with the engine that the parent chose, or why there can be none. */
  #begin(
    { fd, isIpv6, port }: { readonly fd: number; readonly isIpv6: boolean; readonly port: number },
    { engine, mode }: ToWorker & { type: 'listen' },
  ): Target | (FromWorker & { type: 'failed' }) {
    const changed = this.#changed;
    const name = serverName(hostname(), port);
    try {
      if (engine === 'epoll') return new EpollTarget(fd, mode, name, changed);
      return new UringTarget({ listenerFd: fd, isIpv6, mode, name, kernel: uringKernel, changed });
    } catch (error) {
      if (error instanceof CallError) return { type: 'failed', call: error.call, errno: error.errno };
      if (!(error instanceof RingError)) throw error;
      return { type: 'failed', call: `io_uring ${error.step}`, errno: error.errno };
    }
  }

  #counts() {
    assert(this.#loop !== undefined, 'a worker counts once it listens');
    return { totals: this.#loop.totals(), sources: this.#loop.sources() };
  }

  /** Arms one timer for any number of changes, so that a silent worker has none. */
  readonly #changed = (): void => {
    if (this.#tellTimer === undefined && !this.#isEnding) this.#tellTimer = after(TELL_EVERY_MS, this.#tell);
  };

  readonly #tell = (): void => {
    this.#tellTimer = undefined;
    if (this.#isTelling) {
      this.#changed();
      return;
    }
    this.#isTelling = true;
    this.#say({ type: 'totals', totals: this.#counts().totals }, () => {
      this.#isTelling = false;
    });
  };

  #say(message: FromWorker, sent?: () => void): void {
    if (process.connected) process.send?.(message, undefined, undefined, () => sent?.());
    else sent?.();
  }

  /** Lets go of everything that keeps Node's loop alive; main.ts alone may call process.exit. */
  end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#tellTimer?.cancel();
    this.#lookTimer?.cancel();
    this.#loop?.close();
    // Not disconnect(): inside a message's handler Node 20 trips over it (kPendingMessages of null).
    process.channel?.unref();
    after(END_DEADLINE_MS, () => process.kill(process.pid, 'SIGKILL'), { isUnref: true });
  }
}

/** A listener, or the call that failed with its positive errno. */
type ListenResult =
  | { readonly type: 'listening'; readonly fd: number; readonly port: number; readonly isIpv6: boolean }
  | { readonly type: 'failed'; readonly call: string; readonly errno: number };

interface ListenOptions {
  /** canonical IP literal of this host; a link-local one with its zone */
  readonly host: string;
  /** 0: the kernel chooses one that is free */
  readonly port: number;
  /** cut by the kernel to net.core.somaxconn */
  readonly backlog: number;
  /** fail with EADDRINUSE also when the other listener would share the port */
  readonly alone: boolean;
}

/**
 * Opens a non-blocking listener with SO_REUSEPORT: the kernel spreads connections over the listeners of a port by
 * a hash of the 4-tuple (socket(7)). Failures are returned, not thrown: they belong to the user's choice of port.
 */
function openListener(options: ListenOptions): ListenResult {
  const [literal = '', zone] = options.host.split('%');
  const address = sockAddr(literal, options.port, zone);
  // SO_REUSEPORT lets a second target of the same user share the port in silence and take half of the
  // connections; a socket without it meets EADDRINUSE, so one is tried first.
  if (options.alone && options.port !== 0) {
    const tried = attempt(address, false, options.backlog);
    if (tried.type === 'failed') return tried;
    libc.close(tried.fd);
  }
  return attempt(address, true, options.backlog);
}

function attempt(address: SockAddr, shared: boolean, backlog: number): ListenResult {
  const fd = libc.tcpSocket(address.family);
  if (fd < 0) return { type: 'failed', call: 'socket', errno: -fd };
  const failed = (call: string, code: number): ListenResult => {
    libc.close(fd);
    return { type: 'failed', call, errno: -code };
  };
  // With port 0, SO_REUSEADDR would let the kernel choose a port that another socket has bound: set it afterwards.
  const wantsFreePort = portOf(address.bytes) === 0;
  let code = wantsFreePort ? 0 : libc.setIntOption(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
  if (code < 0) return failed('setsockopt', code);
  code = shared ? libc.setIntOption(fd, libc.SOL_SOCKET, libc.SO_REUSEPORT, 1) : 0;
  if (code < 0) return failed('setsockopt', code);
  // Accepted sockets inherit it: one call here instead of one per connection.
  code = libc.setIntOption(fd, libc.IPPROTO_TCP, libc.TCP_NODELAY, 1);
  if (code < 0) return failed('setsockopt', code);
  if (address.family === AF_INET6) {
    // `::` also takes IPv4, whatever net.ipv6.bindv6only says.
    code = libc.setIntOption(fd, libc.IPPROTO_IPV6, libc.IPV6_V6ONLY, 0);
    if (code < 0) return failed('setsockopt', code);
  }
  code = libc.bind(fd, address.bytes, address.length);
  if (code < 0) return failed('bind', code);
  // Accepted sockets inherit it, so those in FIN_WAIT or TIME_WAIT do not keep the next target from this port.
  code = libc.setIntOption(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
  if (code < 0) return failed('setsockopt', code);
  code = libc.listen(fd, backlog);
  if (code < 0) return failed('listen', code);
  const bound = new Uint8Array(SOCKADDR_BYTES_MAX);
  code = libc.getsockname(fd, bound, new Int32Array([SOCKADDR_BYTES_MAX]));
  if (code < 0) return failed('getsockname', code);
  return { type: 'listening', fd, port: portOf(bound), isIpv6: address.family === AF_INET6 };
}
