/**
 * Owns the small HTTP server on which the built-in target tells its counts (`--stats-listen`). Must never take an order:
 * it answers GET and nothing else.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { ServeCounts } from './serve-counts.ts';

/** One asks each second; the rest is room for a person. */
const CONNECTIONS_MAX = 16;
const REQUEST_TIMEOUT_MS = 2_000;

export interface StatsServer {
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Starts to answer.
 * @param port 0 takes a free one
 * @throws BenchError `serve-failed`, exit 3
 */
export async function serveStats(
  host: string,
  port: number,
  counts: () => Promise<ServeCounts>,
): Promise<StatsServer> {
  const server = createServer(
    {
      maxHeaderSize: 4_096,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: 500,
      keepAlive: false,
    },
    (request, response) => void answer(request, response, counts),
  );
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(host, port, error)));
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: bound.address,
    port: bound.port,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  counts: () => Promise<ServeCounts>,
): Promise<void> {
  response.setHeader('connection', 'close');
  response.setHeader('cache-control', 'no-store');
  if (request.method !== 'GET') {
    response.writeHead(405, { allow: 'GET' }).end();
    return;
  }
  const body = JSON.stringify(await counts());
  response.writeHead(200, { 'content-type': 'application/json' }).end(`${body}\n`);
}

function cannotListen(host: string, port: number, cause: Error): BenchError {
  return new BenchError(
    ErrorCode.serveFailed,
    ExitCode.refused,
    `cannot tell counts on ${host}:${port}: ${cause.message}`,
    'give --stats-listen an address of this host and a free port, such as 127.0.0.1:8001',
    cause,
  );
}
