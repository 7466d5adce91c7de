/**
 * Owns one end of an open control channel: messages out, checked messages in, one close.
 * Must never decide what a message means.
 */
import type { RawData, WebSocket } from 'ws';
import { after } from '../time/timer.ts';
import type { Malformed } from './codec.ts';
import { encodeMessage } from './codec.ts';
import type { AgentMessage, CoordinatorMessage } from './message.ts';

/** WebSocket close codes (RFC 6455, 7.4.1): an orderly end, and a message that breaks the rules. */
const CLOSE_NORMAL = 1000;
const CLOSE_POLICY = 1008;
/** A close reason is at most 123 bytes (RFC 6455, 5.5). */
const REASON_BYTES_MAX = 123;
const CLOSE_TIMEOUT_MS = 1_000;

/** Messages that one side may send in a second, on average; a burst may be twice that. */
export const MESSAGES_PER_SEC_MAX = 50;

/**
 * How a channel ended: `orderly` the other side closed it as its last word; `refused` it said what was wrong with us;
 * `violated` it broke the rules itself; `cut` the connection is gone, and nobody said anything.
 */
export type ChannelEnd = 'orderly' | 'refused' | 'violated' | 'cut';

/** What the owner of a channel is told. */
export interface ChannelEvents<In> {
  onMessage(message: In): void;
  /** once; `problem` is one line about what was wrong, null when there is nothing to say */
  onClose(problem: string | null, end: ChannelEnd): void;
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
  let isViolated = false;
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
    isViolated = true;
    socket.close(CLOSE_POLICY, shortened(problem));
    // Nothing that still comes is read; a peer that does not answer the close is cut off.
    after(CLOSE_TIMEOUT_MS, () => socket.terminate(), { isUnref: true });
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    problem ??= error.message;
    // What `ws` itself finds wrong, such as a message that is too large; everything else is the network's doing.
    if (error.code?.startsWith('WS_ERR_') === true) isViolated = true;
  });
  socket.on('close', (code, reason) => {
    if (ended) return;
    ended = true;
    const isRefused = code === CLOSE_POLICY && !isViolated;
    if (isRefused) problem ??= reason.toString();
    const isOrderly = code === CLOSE_NORMAL && problem === null;
    events.onClose(problem, isViolated ? 'violated' : isRefused ? 'refused' : isOrderly ? 'orderly' : 'cut');
  });
  return {
    send: (message) => {
      if (socket.readyState === socket.OPEN) socket.send(encodeMessage(message));
    },
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    close: (refusal) => {
      if (refusal === undefined) socket.close(CLOSE_NORMAL);
      else socket.close(CLOSE_POLICY, shortened(refusal));
      after(CLOSE_TIMEOUT_MS, () => socket.terminate(), { isUnref: true });
    },
  };
}

/** A close reason that fits, cut between characters. */
function shortened(text: string): string {
  let short = text.slice(0, REASON_BYTES_MAX);
  while (Buffer.byteLength(short) > REASON_BYTES_MAX) short = short.slice(0, -1);
  return short;
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
