/**
 * Owns the opening of a listening socket that several processes share. Must never accept.
 */

import * as libc from '../engine/libc.ts';
import { AF_INET6 } from '../engine/libc.ts';
import { portOf, SOCKADDR_BYTES_MAX, type SockAddr, sockAddr } from '../engine/sockaddr.ts';

/** A listener, or the call that failed with its positive errno. */
export type ListenResult =
  | { readonly type: 'listening'; readonly fd: number; readonly port: number }
  | { readonly type: 'failed'; readonly call: string; readonly errno: number };

export interface ListenOptions {
  /** canonical IP literal of this host */
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
export function openListener(options: ListenOptions): ListenResult {
  const address = sockAddr(options.host, options.port);
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
  return { type: 'listening', fd, port: portOf(bound) };
}
