/**
 * Owns the coordinator's end of all control channels: listening, the TLS-PSK handshake behind the gate, the hello
 * deadline. A connection that is refused costs one count and no memory. Must never know what a run is.
 */
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type WebSocket, WebSocketServer } from 'ws';
import { boundHost } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { after, type Timer } from '../time/timer.ts';
import { type Channel, type ChannelEvents, type RefusalKind, wrapSocket } from './channel.ts';
import { GATE_LIMITS, Gate, type GateReason, shownAddress, type TurnedAway } from './gate.ts';
import { Intake, LargeMessages, lateAfter } from './intake.ts';
import {
  type AgentMessage,
  type AgentMessageOf,
  CONTROL_MESSAGE_BYTES_MAX,
  type CoordinatorMessage,
  decodeAgentMessage,
  PROTOCOL_VERSION,
} from './message.ts';
import { AGENT_PATH, type KnownKey, peerOf, SERVER_TLS } from './token.ts';

/** How long a channel may stay without its hello. */
const HELLO_TIMEOUT_MS = 5_000;
/** Node's own deadlines, by the clock: the gate's come first, and do not blame a client for a pause of this process. */
const LAST_TIMEOUT_MS = 30_000;
const CHECK_INTERVAL_MS = 5_000;
/** WebSocket close code of a server that goes away (RFC 6455, 7.4.1). */
const CLOSE_GOING_AWAY = 1001;
const CLOSE_TIMEOUT_MS = 500;
/** Sockets at the same time: some more than the gate's limits add up to, for the case that they did not hold. */
const SOCKETS_MAX = 2 * Math.max(GATE_LIMITS.unproven, GATE_LIMITS.proven);

/** Why a connection was not let in; each is counted. */
export type RefusalReason = GateReason | 'hello-late' | 'malformed' | 'version' | 'first-not-hello' | 'name';

interface ControlServerOptions {
  readonly clock: Clock;
  readonly host: string;
  /** 0: a free port */
  readonly port: number;
  /** the key of a PSK identity, expired or not; null: there is none */
  readonly keyFor: (pskIdentity: string) => KnownKey | null;
  /**
   * An agent that proved its key and said hello.
   * @param identity what it proved to be: the identity of its token
   * @param from the address that it came from
   * @returns what to tell about this channel from now on
   */
  readonly onAgent: (
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
    identity: string,
    from: string,
  ) => ChannelEvents<AgentMessage>;
  /** what the run asks of every agent that an earlier minor version would leave out, and the first one that does not */
  readonly needs?: { readonly minor: number; readonly words: string } | null;
  /** @param who null: it is no agent, as far as it showed */
  readonly onRefused: (reason: RefusalReason, who: TurnedAway | null) => void;
}

/** The listening side of the control channel. */
export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #https: Server;
  readonly #sockets: WebSocketServer;
  readonly #gate: Gate;
  readonly #large = new LargeMessages();
  /** the key that each TLS socket asked for in its own handshake; forgotten with the socket */
  readonly #identities = new WeakMap<object, string>();

  constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#https = createServer({
      ...SERVER_TLS,
      pskCallback: (socket: TLSSocket, identity: string) => this.#keyFor(socket, identity),
      handshakeTimeout: LAST_TIMEOUT_MS,
      headersTimeout: LAST_TIMEOUT_MS,
      requestTimeout: LAST_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      maxHeaderSize: 8_192,
    } as Parameters<typeof createServer>[0]);
    this.#https.maxConnections = SOCKETS_MAX;
    this.#gate = this.#putGateBeforeTls();
    this.#sockets = new WebSocketServer({
      noServer: true,
      path: AGENT_PATH,
      maxPayload: CONTROL_MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      autoPong: false,
      clientTracking: true,
    });
    // https.Server passes every failed handshake on as a clientError, so this is the one place that counts both.
    this.#https.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      // One that the gate has turned away is counted there.
      if (this.#isOneOfUs(error, socket)) return;
      const isHttp = error.code?.startsWith('HPE_') === true || error.code?.startsWith('ERR_HTTP') === true;
      options.onRefused(isHttp ? 'http' : 'tls', null);
      socket.destroy();
    });
    this.#https.on('request', (_request, response) => {
      options.onRefused('http', null);
      response.writeHead(404, { connection: 'close' }).end();
    });
    this.#sockets.on('wsClientError', (_error, socket) => {
      options.onRefused('http', null);
      socket.destroy();
    });
    this.#https.on('secureConnection', (socket: TLSSocket) => this.#gate.secured(socket));
    this.#https.on('upgrade', (request: IncomingMessage, socket: TLSSocket, head: Buffer) =>
      this.#upgrade(request, socket, head),
    );
  }

  /** TLS begins for a socket only once the gate has let it through. */
  #putGateBeforeTls(): Gate {
    const begins = this.#https.listeners('connection') as ((socket: Socket) => void)[];
    this.#https.removeAllListeners('connection');
    const { clock, keyFor, onRefused } = this.#options;
    const gate = new Gate({
      clock,
      knownKeyFor: keyFor,
      onRefused,
      onProven: (socket) => {
        for (const begin of begins) begin.call(this.#https, socket);
      },
    });
    this.#https.on('connection', (socket: Socket) => gate.take(socket));
    return gate;
  }

  /** The last key that was asked for and given is the one that OpenSSL goes on with; without one there is no identity. */
  #keyFor(socket: TLSSocket, identity: string): Buffer | null {
    this.#identities.delete(socket);
    const known = this.#options.keyFor(identity);
    if (known === null || known.isExpired) return null;
    this.#identities.set(socket, identity);
    return known.key;
  }

  /** Who a socket has proved to be, in its own handshake and still: null also where that was long ago in another session. */
  #identityOf(socket: object): string | null {
    const identity = this.#identities.get(socket);
    if (identity === undefined || peerOf(identity) === null) return null;
    const known = this.#options.keyFor(identity);
    return known === null || known.isExpired ? null : identity;
  }

  #upgrade(request: IncomingMessage, socket: TLSSocket, head: Buffer): void {
    const identity = this.#identityOf(socket);
    if (identity === null) {
      const from = shownAddress(socket.remoteAddress);
      this.#options.onRefused('tls', { from, name: null, why: 'its token is not good any more' });
      socket.destroy();
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#gate.upgraded(socket);
      this.#greet(webSocket, socket, identity);
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
        resolve({ host: boundHost(host, bound.address), port: bound.port });
      });
    });
  }

  /** An agent whose link broke while it was made, as happens in a cut, is not refused: it named an identity of ours. */
  #isOneOfUs(error: NodeJS.ErrnoException, socket: object): boolean {
    return this.#identityOf(socket) !== null && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
  }

  /** The first message must be a hello of our major version, in time, under the name that the token carries. */
  #greet(socket: WebSocket, tls: TLSSocket, identity: string): void {
    const { onAgent, onRefused, clock } = this.#options;
    let inner: ChannelEvents<AgentMessage> | null = null;
    let isRefused = false;
    const from = shownAddress(tls.remoteAddress);
    const { name } = peerOf(identity) ?? { name: '' };
    const refuse = (reason: RefusalReason, text: string, kind?: RefusalKind): void => {
      isRefused = true;
      onRefused(reason, { from, name, why: text });
      channel.close(text, kind);
    };
    const monotonicMs = (): number => clock.monotonicMs();
    const intake = new Intake(
      this.#large,
      name === null ? null : identity,
      {
        pause: () => socket.pause(),
        resume: () => socket.resume(),
        violated: (problem) => channel.violate(problem, 'too-large'),
      },
      monotonicMs,
    );
    const giveUp = lateAfter(HELLO_TIMEOUT_MS, () => refuse('hello-late', 'no hello in time'), monotonicMs);
    const channel = wrapSocket<CoordinatorMessage, AgentMessage>(
      socket,
      decodeAgentMessage,
      {
        onMessage: (message) => {
          if (isRefused) return;
          if (inner !== null) {
            if (message.type === 'hello') channel.violate('a second hello', 'unwanted');
            else inner.onMessage(message);
            return;
          }
          giveUp();
          const hello = helloOf(message, name, this.#options.needs ?? null);
          if ('reason' in hello) {
            refuse(hello.reason, hello.text, hello.reason === 'version' ? 'version' : 'unwanted');
            return;
          }
          intake.greeted();
          this.#gate.greeted(tls);
          inner = onAgent(channel, hello, identity, from);
        },
        onClose: (problem, end) => {
          giveUp();
          if (end === 'violated' && !isRefused) onRefused('malformed', { from, name, why: `${problem}` });
          inner?.onClose(problem, end);
        },
      },
      monotonicMs,
      intake,
    );
    // Before `ws` reads it: a whole message in it starts the count again.
    tls.prependListener('data', (chunk: Buffer) => intake.bytes(chunk.length));
  }

  /** Stops listening, and closes every channel: with a close frame, so that what was said before it still arrives. */
  async close(): Promise<void> {
    this.#sockets.close();
    this.#gate.close();
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

/** A first message as a good hello, or why it is not taken. */
function helloOf(
  message: AgentMessage,
  name: string | null,
  needs: ControlServerOptions['needs'] | null,
): AgentMessageOf<'hello'> | { readonly reason: RefusalReason; readonly text: string } {
  if (message.type !== 'hello') return { reason: 'first-not-hello', text: 'the first message must be hello' };
  if (message.protocol.split('.')[0] !== PROTOCOL_VERSION.split('.')[0]) {
    return {
      reason: 'version',
      text: `this coordinator speaks protocol ${PROTOCOL_VERSION}, the agent ${message.protocol}`,
    };
  }
  if (needs && Number(message.protocol.split('.')[1]) < needs.minor) {
    return {
      reason: 'version',
      text: `the run has ${needs.words}, which agents below protocol 1.${needs.minor} leave out, and this one speaks ${message.protocol}`,
    };
  }
  if (name !== null && name !== message.name) {
    return { reason: 'name', text: `the token is for an agent named ${name}, not ${message.name}` };
  }
  return message;
}
