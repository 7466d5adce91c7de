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

/** What the owner of a channel is told. */
export interface ChannelEvents<In> {
  onMessage(message: In): void;
  /** once; `problem` is null for an orderly close */
  onClose(problem: string | null): void;
}

/** The three things that a conversation needs; a fake of it makes the shells testable. */
export interface Channel<Out> {
  send(message: Out): void;
  /** bytes that wait to be sent: a reader that does not read shows here */
  readonly bufferedBytes: number;
  close(): void;
}

/**
 * Wraps an open WebSocket.
 * @param decode the codec of the side that speaks to us; a malformed message closes the channel
 */
export function wrapSocket<Out extends AgentMessage | CoordinatorMessage, In extends { type: string }>(
  socket: WebSocket,
  decode: (text: string) => In | Malformed,
  events: ChannelEvents<In>,
): Channel<Out> {
  let problem: string | null = null;
  let ended = false;
  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (ended) return;
    const message = isBinary ? malformed('binary frame') : decode(data.toString());
    if (message.type !== 'malformed') {
      events.onMessage(message as In);
      return;
    }
    problem = (message as Malformed).problem;
    socket.close(CLOSE_POLICY, problem.slice(0, 100));
    socket.terminate();
  });
  socket.on('error', (error) => {
    problem ??= error.message;
  });
  socket.on('close', () => {
    if (ended) return;
    ended = true;
    events.onClose(problem);
  });
  return {
    send: (message) => {
      if (socket.readyState === socket.OPEN) socket.send(encodeMessage(message));
    },
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    close: () => socket.close(),
  };
}

function malformed(problem: string): Malformed {
  return { type: 'malformed', problem };
}
