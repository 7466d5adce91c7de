/**
 * Owns the agent's end of the control channel: connecting with the token, once, and what a failure of that means.
 * Must never retry (the agent decides) and never know what a run is.
 */
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Clock } from '../base/clock.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { after } from '../time/timer.ts';
import { type Channel, type ChannelEnd, type ChannelEvents, wrapSocket } from './channel.ts';
import { clampMessage } from './clamp-message.ts';
import {
  type AgentMessage,
  CONTROL_MESSAGE_BYTES_MAX,
  type CoordinatorMessage,
  decodeCoordinatorMessage,
} from './message.ts';
import { AGENT_PATH, CLIENT_TLS, isKeyed, NOT_KEYED, notKeyed, pskIdentityOf, type Token } from './token.ts';

/** What went wrong in words, by what TLS says about it. */
interface Refusal {
  readonly code: ErrorCode;
  readonly exitCode: ExitCode;
  readonly why: string;
  readonly hint: string;
}

const NOT_KNOWN: Refusal = {
  code: ErrorCode.controlChannel,
  exitCode: ExitCode.incomplete,
  why: 'it does not know this token',
  hint: 'use the token file of this coordinator, or a token made from it: c100k-bench token --token-file FILE --name NAME',
};

const EXPIRED: Refusal = {
  code: ErrorCode.tokenExpired,
  exitCode: ExitCode.usage,
  why: 'the token has expired by its clock',
  hint: 'make a new one: c100k-bench token --token-file FILE --name NAME --expires 24h',
};

const NO_COORDINATOR: Refusal = {
  code: ErrorCode.controlChannel,
  exitCode: ExitCode.incomplete,
  why: 'what answers there does not have the key of this token, so it is not the coordinator, and was sent nothing',
  hint: 'check the address, the port and the token; a proxy that ends TLS cannot stand in between',
};

function unreachable(error: Error): Refusal {
  return {
    code: ErrorCode.controlChannel,
    exitCode: ExitCode.incomplete,
    why: firstLine(error.message),
    hint: 'check the address and the port; the coordinator must be waiting for agents',
  };
}

function refusalOf(error: NodeJS.ErrnoException): Refusal {
  const code = error.code ?? '';
  if (code.endsWith('ALERT_CERTIFICATE_EXPIRED')) return EXPIRED;
  // An alert is the server's word about us; every other complaint of TLS is ours about the server.
  if (code.startsWith('ERR_SSL_') && code.includes('ALERT')) return NOT_KNOWN;
  const isCertificate = CERTIFICATE_ERRORS.test(code);
  if (code === NOT_KEYED || code.startsWith('ERR_SSL_') || code === 'EPROTO' || isCertificate)
    return NO_COORDINATOR;
  return unreachable(error);
}

/** What OpenSSL calls a certificate without a known authority (X509_V_ERR_*, as Node names them). */
const CERTIFICATE_ERRORS = /CERT|^UNABLE_TO_|SIGNATURE|_CA$|^HOSTNAME_MISMATCH$/;

function failure(host: string, port: number, error: NodeJS.ErrnoException): BenchError {
  const { code, exitCode, why, hint } = refusalOf(error);
  return new BenchError(
    code,
    exitCode,
    `cannot join the coordinator at ${host}:${port}: ${why}`,
    hint,
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
function clamping(channel: Channel<AgentMessage>): Channel<AgentMessage> {
  return {
    send: (message) => channel.send(clampMessage(message)),
    get bufferedBytes() {
      return channel.bufferedBytes;
    },
    close: (refusal) => channel.close(refusal),
  };
}

/**
 * Opens a control channel. Nothing is said before the server has proved the key of the token in the TLS handshake.
 * @param events called for everything that comes
 * @param timeoutMs for the TCP connect, the TLS handshake and the upgrade together
 * @param signal ends the attempt when it is aborted
 * @returns the channel, open
 * @throws BenchError (control-channel, exit 4) when the coordinator cannot be reached, does not know the token, or does
 *   not have its key; (token-expired, exit 2) when the coordinator says that
 */
export function connectChannel(
  host: string,
  port: number,
  token: Token,
  events: ChannelEvents<CoordinatorMessage>,
  timeoutMs: number,
  clock: Clock,
  signal?: AbortSignal,
): Promise<Channel<AgentMessage>> {
  return new Promise((resolve, reject) => {
    let wasAsked = false;
    const tls: TLSSocket = connect({
      ...CLIENT_TLS,
      host,
      port,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      pskCallback: () => {
        wasAsked = true;
        return { psk: token.key, identity: pskIdentityOf(token.identity) };
      },
    });
    const giveUp = (): void => void tls.destroy(new Error('given up'));
    signal?.addEventListener('abort', giveUp);
    if (signal?.aborted === true) giveUp();
    tls.once('close', () => signal?.removeEventListener('abort', giveUp));
    const timer = after(timeoutMs, () => tls.destroy(timeoutError(timeoutMs)));
    const fail = (error: Error): void => {
      timer.cancel();
      tls.destroy();
      reject(failure(host, port, error));
    };
    tls.once('error', fail);
    tls.once('secureConnect', () => {
      if (!isKeyed(tls, wasAsked)) {
        fail(notKeyed());
        return;
      }
      tls.off('error', fail);
      const socket = new WebSocket(`ws://coordinator${AGENT_PATH}`, {
        createConnection: () => tls,
        maxPayload: CONTROL_MESSAGE_BYTES_MAX,
        perMessageDeflate: false,
        autoPong: false,
      });
      socket.once('error', fail);
      socket.once('open', () => {
        timer.cancel();
        signal?.removeEventListener('abort', giveUp);
        socket.off('error', fail);
        resolve(
          clamping(
            wrapSocket<AgentMessage, CoordinatorMessage>(socket, decodeCoordinatorMessage, events, () =>
              clock.monotonicMs(),
            ),
          ),
        );
      });
    });
  });
}

/** What an agent ends with that the coordinator does not want. @param problem why, as it said */
export function refusalError(problem: string, end: ChannelEnd): BenchError {
  const isVersion = end === 'version';
  return new BenchError(
    isVersion ? ErrorCode.protocolVersion : ErrorCode.agentRefused,
    ExitCode.incomplete,
    `the coordinator does not take this agent: ${problem}`,
    isVersion
      ? 'install the same version of c100k-bench on both hosts: npx c100k-bench --version'
      : 'start it before the run begins, under the name that its token is for, and each name once',
  );
}

/** A reset is what a forwarded port without a coordinator, and one that is too busy for a handshake, answer with. */
const UNREACHABLE: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENOTFOUND',
]);

/** Whether an error of joining says that no coordinator is there yet, so that trying again makes sense. */
export function isUnreachable(error: unknown): boolean {
  const cause = error instanceof BenchError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  return UNREACHABLE.has(cause?.code ?? '');
}
