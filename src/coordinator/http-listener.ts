/**
 * Owns a small HTTP server beside a run: bounded in connections, header sizes and time, and never a reason for the process to
 * stay alive. Must never wait for a reader, and on loopback never answer a page of another site (DNS rebinding).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { boundHost, isAddress, isLoopback } from '../base/address.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';

const CONNECTIONS_MAX = 32;
const REQUEST_TIMEOUT_MS = 5_000;

/** A server that listens. */
export interface HttpListener {
  readonly host: string;
  readonly port: number;
  readonly isLoopback: boolean;
  close(): void;
}

/** What is listened on, and who answers. */
interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free one */
  readonly port: number;
  /** for messages, such as `--live` */
  readonly flag: string;
  /** gets GET requests alone */
  readonly answer: (request: IncomingMessage, response: ServerResponse) => void;
}

function isLoopbackAddress(host: string): boolean {
  return isAddress(host) && isLoopback(host);
}

/** Whether a request came by an address, not by a name that another site lets point here. */
function isOwnName({ headers }: IncomingMessage): boolean {
  const name = (headers.host ?? '').replace(/:\d+$/, '');
  return name === 'localhost' || isLoopbackAddress(name.replace(/^\[(.*)\]$/, '$1'));
}

/**
 * Starts to listen.
 * @throws BenchError `serve-failed`, exit 3
 */
export async function startListener({ host, port, flag, answer }: ListenerOptions): Promise<HttpListener> {
  const onLoopback = isLoopbackAddress(host);
  const limits = {
    maxHeaderSize: 8_192,
    headersTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: 1_000,
  };
  const server = createServer(limits, (request, response) => {
    response.setHeader('cache-control', 'no-store');
    response.setHeader('x-content-type-options', 'nosniff');
    response.on('error', () => {});
    if (onLoopback && !isOwnName(request)) response.writeHead(403).end();
    else if (request.method !== 'GET') response.writeHead(405, { allow: 'GET' }).end();
    else answer(request, response);
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.on('connection', (socket) => socket.unref());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(host, port, flag, error)));
    server.listen(port, host, resolve);
  });
  server.on('error', () => {});
  server.unref();
  const bound = server.address() as AddressInfo;
  return {
    host: boundHost(host, bound.address),
    port: bound.port,
    isLoopback: onLoopback,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function cannotListen(host: string, port: number, flag: string, cause: Error): BenchError {
  return new BenchError(
    ErrorCode.serveFailed,
    ExitCode.refused,
    `${flag}: cannot listen on ${host}:${port}: ${cause.message}`,
    `give ${flag} an address of this host and a free port, such as 127.0.0.1:0`,
    cause,
  );
}
