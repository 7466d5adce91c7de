/**
 * Owns the agent's end of the control channel: connecting with the token, once.
 * Must never retry (the agent decides) and never know what a run is.
 */
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Clock } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { after } from '../time/timer.ts';
import { type Channel, type ChannelEvents, wrapSocket } from './channel.ts';
import { fitted } from './clamp-message.ts';
import { decodeCoordinatorMessage } from './codec.ts';
import { type AgentMessage, type CoordinatorMessage, MESSAGE_BYTES_MAX } from './message.ts';
import { AGENT_PATH, TLS_CIPHERS, TLS_VERSION } from './tls.ts';
import type { Token } from './token.ts';

function failure(host: string, port: number, error: NodeJS.ErrnoException): BenchError {
  // The alert of a server that does not know the identity, or whose key differs.
  const isRefused = error.code?.startsWith('ERR_SSL_') === true && error.code.includes('ALERT');
  const why = isRefused ? 'it does not know this token, or the token has expired' : firstLine(error.message);
  return new BenchError(
    ErrorCode.controlChannel,
    ExitCode.incomplete,
    `cannot join the coordinator at ${host}:${port}: ${why}`,
    isRefused
      ? 'use the token file of this coordinator, or a token made from it: c100k-bench token --token-file FILE --name NAME'
      : 'check the address and the port; the coordinator must be waiting for agents',
    error,
  );
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? text;
}

function timeoutError(timeoutMs: number): NodeJS.ErrnoException {
  return Object.assign(new Error(`no answer in ${timeoutMs / 1000} s`), { code: 'ETIMEDOUT' });
}

/** A channel that never says more than its schema takes: the other side would close it as a violation. */
function fitting(channel: Channel<AgentMessage>): Channel<AgentMessage> {
  return {
    send: (message) => channel.send(fitted(message)),
    get bufferedBytes() {
      return channel.bufferedBytes;
    },
    close: (refusal) => channel.close(refusal),
  };
}

/**
 * Opens a control channel.
 * @param events told about everything that comes
 * @param timeoutMs for the TCP connect, the TLS handshake and the upgrade together
 * @returns the channel, open
 * @throws BenchError (control-channel, exit 4) when the coordinator cannot be reached or the key is wrong
 */
export function connectChannel(
  host: string,
  port: number,
  token: Token,
  events: ChannelEvents<CoordinatorMessage>,
  timeoutMs: number,
  clock: Clock,
): Promise<Channel<AgentMessage>> {
  return new Promise((resolve, reject) => {
    const tls: TLSSocket = connect({
      host,
      port,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      pskCallback: () => ({ psk: token.key, identity: token.identity }),
      minVersion: TLS_VERSION,
      ciphers: TLS_CIPHERS,
      // The key proves the coordinator: there is no certificate whose name could be compared.
      checkServerIdentity: () => undefined,
    });
    const timer = after(timeoutMs, () => tls.destroy(timeoutError(timeoutMs)));
    const fail = (error: Error): void => {
      timer.cancel();
      tls.destroy();
      reject(failure(host, port, error));
    };
    tls.once('error', fail);
    tls.once('secureConnect', () => {
      tls.off('error', fail);
      const socket = new WebSocket(`ws://coordinator${AGENT_PATH}`, {
        createConnection: () => tls,
        maxPayload: MESSAGE_BYTES_MAX,
        perMessageDeflate: false,
      });
      socket.once('error', fail);
      socket.once('open', () => {
        timer.cancel();
        socket.off('error', fail);
        resolve(
          fitting(
            wrapSocket<AgentMessage, CoordinatorMessage>(socket, decodeCoordinatorMessage, events, () =>
              clock.monotonicMs(),
            ),
          ),
        );
      });
    });
  });
}
