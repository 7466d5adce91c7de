/**
 * Owns the coordinator's end of all control channels: listening, the TLS-PSK handshake, the hello deadline.
 * A stranger costs one count and no memory. Must never know what a run is.
 */
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Clock } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { after, type Timer } from '../time/timer.ts';
import { type Channel, type ChannelEvents, wrapSocket } from './channel.ts';
import { decodeAgentMessage } from './codec.ts';
import {
  type AgentMessage,
  type AgentMessageOf,
  type CoordinatorMessage,
  MESSAGE_BYTES_MAX,
  PROTOCOL_VERSION,
} from './message.ts';
import { AGENT_PATH, TLS_CIPHERS, TLS_VERSION } from './tls.ts';
import { claimsOf } from './token.ts';

/** How long a socket may stay without a complete request, and a channel without its hello. */
const HEADERS_TIMEOUT_MS = 3_000;
const REQUEST_TIMEOUT_MS = 4_000;
const CHECK_INTERVAL_MS = 500;
const HELLO_TIMEOUT_MS = 5_000;
/** WebSocket close code of a server that goes away (RFC 6455, 7.4.1). */
const CLOSE_GOING_AWAY = 1001;
const CLOSE_TIMEOUT_MS = 500;
/** Sockets at once, strangers included. */
const SOCKETS_MAX = 10_000;

/** Why something that knocked was not let in; counted, never logged per stranger. */
export type StrangerReason =
  | 'tls'
  | 'http'
  | 'hello-late'
  | 'malformed'
  | 'version'
  | 'first-not-hello'
  | 'name';

export interface ControlServerOptions {
  readonly clock: Clock;
  readonly host: string;
  /** 0: a free port */
  readonly port: number;
  /** the key of a PSK identity, or null for a stranger */
  readonly keyFor: (identity: string) => Buffer | null;
  /**
   * An agent that proved its key and said hello.
   * @param identity what it proved to be: the identity of its token
   * @returns what to tell about this channel from now on
   */
  readonly onAgent: (
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
    identity: string,
  ) => ChannelEvents<AgentMessage>;
  readonly onStranger: (reason: StrangerReason) => void;
}

/** The listening side of the control channel. */
export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #https: Server;
  readonly #sockets: WebSocketServer;
  /** who each socket proved to be; forgotten with the socket */
  readonly #identities = new WeakMap<object, string>();

  constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#https = createServer({
      pskCallback: (socket: TLSSocket, identity: string) => {
        this.#identities.set(socket, identity);
        return options.keyFor(identity);
      },
      minVersion: TLS_VERSION,
      ciphers: TLS_CIPHERS,
      handshakeTimeout: HEADERS_TIMEOUT_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      maxHeaderSize: 8_192,
    } as Parameters<typeof createServer>[0]);
    this.#https.maxConnections = SOCKETS_MAX;
    this.#sockets = new WebSocketServer({
      server: this.#https,
      path: AGENT_PATH,
      maxPayload: MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      clientTracking: true,
    });
    // https.Server passes every failed handshake on as a clientError, so this is the one place that counts both.
    this.#https.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      if (this.#isOneOfUs(error, socket)) return;
      const isHttp = error.code?.startsWith('HPE_') === true || error.code?.startsWith('ERR_HTTP') === true;
      options.onStranger(isHttp ? 'http' : 'tls');
      socket.destroy();
    });
    this.#https.on('request', (_request, response) => {
      options.onStranger('http');
      response.writeHead(404, { connection: 'close' }).end();
    });
    this.#sockets.on('wsClientError', (_error, socket) => {
      options.onStranger('http');
      socket.destroy();
    });
    this.#sockets.on('connection', (socket, request) => {
      this.#greet(socket, this.#identities.get(request.socket) ?? '');
    });
  }

  /**
   * Starts listening.
   * @returns the address and port that it listens on
   * @throws BenchError (control-channel, exit 3) when it cannot
   */
  listen(): Promise<{ host: string; port: number }> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void =>
        reject(
          new BenchError(
            ErrorCode.controlChannel,
            ExitCode.refused,
            `cannot listen for agents on ${host}:${port}: ${error.message}`,
            'choose another address with --listen <address>:<port>',
            error,
          ),
        );
      this.#https.once('error', failed);
      this.#https.listen({ host, port, backlog: 4_096 }, () => {
        this.#https.off('error', failed);
        const bound = this.#https.address() as AddressInfo;
        resolve({ host: bound.address, port: bound.port });
      });
    });
  }

  /** An agent whose link broke while it was made, as happens in a cut, is no stranger: it named an identity of ours. */
  #isOneOfUs(error: NodeJS.ErrnoException, socket: object): boolean {
    const identity = this.#identities.get(socket);
    const isKnown = identity !== undefined && this.#options.keyFor(identity) !== null;
    return isKnown && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
  }

  /** The first message must be a hello of our major version, in time, under the name that the token carries. */
  #greet(socket: WebSocket, identity: string): void {
    const { onAgent, onStranger, clock } = this.#options;
    let inner: ChannelEvents<AgentMessage> | null = null;
    let isRefused = false;
    const refuse = (reason: StrangerReason, text: string): void => {
      isRefused = true;
      onStranger(reason);
      channel.close(text);
    };
    const deadline = after(HELLO_TIMEOUT_MS, () => refuse('hello-late', 'no hello in time'));
    const channel = wrapSocket<CoordinatorMessage, AgentMessage>(
      socket,
      decodeAgentMessage,
      {
        onMessage: (message) => {
          if (isRefused) return;
          if (inner !== null) {
            if (message.type === 'hello') refuse('malformed', 'a second hello');
            else inner.onMessage(message);
            return;
          }
          deadline.cancel();
          const refusal = refusalOf(message, identity);
          if (refusal !== null) refuse(refusal.reason, refusal.text);
          else inner = onAgent(channel, message as AgentMessageOf<'hello'>, identity);
        },
        onClose: (problem, end) => {
          deadline.cancel();
          if (end === 'violated' && !isRefused) onStranger('malformed');
          inner?.onClose(problem, end);
        },
      },
      () => clock.monotonicMs(),
    );
  }

  /** Stops listening, and closes every channel: with a close frame, so that what was said before it still arrives. */
  async close(): Promise<void> {
    this.#sockets.close();
    const stopped = new Promise<void>((resolve) => this.#https.close(() => resolve()));
    const open = [...this.#sockets.clients];
    const closed = Promise.all(open.map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    for (const socket of open) socket.close(CLOSE_GOING_AWAY);
    let timer: Timer | undefined;
    const late = new Promise<void>((resolve) => {
      timer = after(CLOSE_TIMEOUT_MS, resolve);
    });
    await Promise.race([closed, late]);
    timer?.cancel();
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#https.closeAllConnections();
    await stopped;
  }
}

/** Why a first message is not taken; null when it is a good hello. */
function refusalOf(
  message: AgentMessage,
  identity: string,
): { readonly reason: StrangerReason; readonly text: string } | null {
  if (message.type !== 'hello') return { reason: 'first-not-hello', text: 'the first message must be hello' };
  if (message.protocol.split('.')[0] !== PROTOCOL_VERSION.split('.')[0]) {
    return {
      reason: 'version',
      text: `this coordinator speaks protocol ${PROTOCOL_VERSION}, the agent ${message.protocol}`,
    };
  }
  const claims = claimsOf(identity);
  if (claims !== null && claims.name !== message.name) {
    return { reason: 'name', text: `the token is for an agent named ${claims.name}` };
  }
  return null;
}
