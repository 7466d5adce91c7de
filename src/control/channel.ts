/**
 * Owns one end of an open control channel: messages out, checked messages in, one close.
 * Must never decide what a message means.
 */
import type { RawData, WebSocket } from 'ws';
import type { Malformed } from './codec.ts';
import { encodeMessage } from './codec.ts';
import type { AgentMessage, CoordinatorMessage } from './message.ts';

/** WebSocket close code for a message that breaks the schema (RFC 6455, 7.4.1: policy violation). */
const CLOSE_POLICY = 1008;
const CLOSE_TIMEOUT_MS = 1_000;

/** Messages that one side may send in a second, on average; a burst may be twice that. */
export const MESSAGES_PER_SEC_MAX = 50;

/** What the owner of a channel is told. */
export interface ChannelEvents<In> {
  onMessage(message: In): void;
  /** once; `problem` is null for an orderly close, otherwise what was wrong, or what the other side said was */
  onClose(problem: string | null): void;
}

/** The three things that a conversation needs; a fake of it makes the shells testable. */
export interface Channel<Out> {
  send(message: Out): void;
  /** bytes that wait to be sent: a reader that does not read shows here */
  readonly bufferedBytes: number;
  /** @param refusal tells the other side what was wrong; absent for an orderly close */
  close(refusal?: string): void;
}

/**
 * Wraps an open WebSocket.
 * @param monotonicMs a clock that never goes back, in milliseconds
 * @param decode the codec of the side that speaks to us; a malformed message closes the channel
 */
export function wrapSocket<Out extends AgentMessage | CoordinatorMessage, In extends { type: string }>(
  socket: WebSocket,
  decode: (text: string) => In | Malformed,
  events: ChannelEvents<In>,
  monotonicMs: () => number,
): Channel<Out> {
  let problem: string | null = null;
  let ended = false;
  const isFlood = floodGate(monotonicMs);
  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (ended || problem !== null) return;
    const message = isFlood()
      ? malformed(`more than ${MESSAGES_PER_SEC_MAX} messages a second`)
      : isBinary
        ? malformed('binary frame')
        : decode(data.toString());
    if (message.type !== 'malformed') {
      events.onMessage(message as In);
      return;
    }
    problem = (message as Malformed).problem;
    socket.close(CLOSE_POLICY, problem.slice(0, 100));
    // Nothing that still comes is read; a peer that does not answer the close is cut off.
    setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS).unref();
  });
  socket.on('error', (error) => {
    problem ??= error.message;
  });
  socket.on('close', (code, reason) => {
    if (ended) return;
    ended = true;
    if (code === CLOSE_POLICY) problem ??= reason.toString();
    events.onClose(problem);
  });
  return {
    send: (message) => {
      if (socket.readyState === socket.OPEN) socket.send(encodeMessage(message));
    },
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    close: (refusal) => {
      if (refusal === undefined) socket.close();
      else socket.close(CLOSE_POLICY, refusal.slice(0, 100));
      setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS).unref();
    },
  };
}

/** A token bucket: says true for a message that comes too fast. */
function floodGate(monotonicMs: () => number): () => boolean {
  let tokens = 2 * MESSAGES_PER_SEC_MAX;
  let lastMs = monotonicMs();
  return () => {
    const nowMs = monotonicMs();
    tokens = Math.min(2 * MESSAGES_PER_SEC_MAX, tokens + ((nowMs - lastMs) * MESSAGES_PER_SEC_MAX) / 1_000);
    lastMs = nowMs;
    tokens -= 1;
    return tokens < 0;
  };
}

function malformed(problem: string): Malformed {
  return { type: 'malformed', problem };
}
