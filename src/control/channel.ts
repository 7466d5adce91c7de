/**
 * Owns one end of an open control channel: messages out, checked messages in, one close.
 * Must never decide what a message means.
 */
import type { RawData, WebSocket } from 'ws';
import { cleanText } from '../base/clean-text.ts';
import { after } from '../time/timer.ts';
import { Bucket, type Intake, MESSAGES_AT_ONCE_MAX, MESSAGES_PER_SEC_MAX } from './intake.ts';
import { type AgentMessage, type CoordinatorMessage, type Decoded, encodeMessage } from './message.ts';

/** WebSocket close codes (RFC 6455, 7.4.1): an orderly end, and a message that breaks the rules. */
const CLOSE_NORMAL = 1000;
const CLOSE_POLICY = 1008;
const CLOSE_TOO_LARGE = 1009;
/** Of ours (RFC 6455, 7.4.2): the two sides speak different major versions. */
const CLOSE_VERSION = 4001;
/** A close reason is at most 123 bytes (RFC 6455, 5.5). */
const REASON_BYTES_MAX = 123;
const CLOSE_TIMEOUT_MS = 1_000;

/**
 * How a channel ended: `orderly` the other side closed it with a normal close; `refused` it said what was wrong with us;
 * `version` it speaks another major version; `violated` it broke the rules itself; `cut` the connection is gone
 * without a close.
 */
export type ChannelEnd = 'orderly' | 'refused' | 'version' | 'violated' | 'cut';

/** Why we close a channel that the other side did not end. */
export type RefusalKind = 'unwanted' | 'version' | 'too-large';

const CLOSE_CODES: Readonly<Record<RefusalKind, number>> = {
  unwanted: CLOSE_POLICY,
  version: CLOSE_VERSION,
  'too-large': CLOSE_TOO_LARGE,
};

/** What the owner of a channel is called for. */
export interface ChannelEvents<In> {
  onMessage(message: In): void;
  /** the other side broke a rule, and the channel closes because of it: the last moment at which something can be sent */
  onViolation?(problem: string): void;
  /** once; `problem` is one line about what was wrong, null when there is nothing to say */
  onClose(problem: string | null, end: ChannelEnd): void;
}

/** The three things that a conversation needs; a fake of it makes the shells testable. */
export interface Channel<Out> {
  send(message: Out): void;
  /** bytes that wait to be sent: a reader that does not read shows here */
  readonly bufferedBytes: number;
  /**
   * Nothing that still comes is read.
   * @param refusal tells the other side what was wrong; absent for an orderly close
   */
  close(refusal?: string, kind?: RefusalKind): void;
}

/** A channel and what its server does to it besides. */
interface WrappedChannel<Out> extends Channel<Out> {
  /** ends it because the other side broke a rule of the intake: the message is known, its text is not */
  violate(problem: string, kind: RefusalKind): void;
}

/** What a binary frame is. */
const BINARY = { type: 'malformed', problem: 'binary frame' } as const;

/**
 * Wraps an open WebSocket.
 * @param monotonicMs a clock that never goes back, in milliseconds
 * @param decode the codec of the side that speaks to us; a malformed message closes the channel
 * @param intake called for each message, where bytes are counted too
 */
export function wrapSocket<Out extends AgentMessage | CoordinatorMessage, In>(
  socket: WebSocket,
  decode: (text: string) => Decoded<In>,
  events: ChannelEvents<In>,
  monotonicMs: () => number,
  intake: Intake | null = null,
): WrappedChannel<Out> {
  return new SocketChannel<Out, In>(socket, decode, events, monotonicMs, intake);
}

/** A channel over one WebSocket, which is open. */
class SocketChannel<Out extends AgentMessage | CoordinatorMessage, In> implements WrappedChannel<Out> {
  readonly #socket: WebSocket;
  readonly #events: ChannelEvents<In>;
  readonly #intake: Intake | null;
  readonly #isFlood: () => boolean;
  #problem: string | null = null;
  #isViolated = false;
  #isClosing = false;
  #isEnded = false;

  constructor(
    socket: WebSocket,
    decode: (text: string) => Decoded<In>,
    events: ChannelEvents<In>,
    monotonicMs: () => number,
    intake: Intake | null,
  ) {
    this.#socket = socket;
    this.#events = events;
    this.#intake = intake;
    this.#isFlood = floodGate(monotonicMs);
    socket.on('message', (data: RawData, isBinary: boolean) => {
      if (!this.#isTaken()) return;
      const decoded: Decoded<In> = isBinary ? BINARY : decode(data.toString());
      if (decoded.type === 'malformed') this.violate(decoded.problem, 'unwanted');
      // A later version may have types that this one does not know; they cost it what any message costs.
      else if (decoded.type === 'message') events.onMessage(decoded.message);
    });
    // Neither side pings, and an answer to each would pile up for a peer that does not read.
    for (const frame of ['ping', 'pong'] as const) socket.on(frame, () => void this.#isTaken());
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#problem ??= error.message;
      // What `ws` itself finds wrong, such as a message that is too large; everything else is the network's doing.
      if (error.code?.startsWith('WS_ERR_') === true) this.#isViolated = true;
    });
    socket.on('close', (code, reason) => this.#closed(code, reason.toString()));
  }

  send(message: Out): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(encodeMessage(message));
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  close(refusal?: string, kind: RefusalKind = 'unwanted'): void {
    if (refusal === undefined) this.#end(CLOSE_NORMAL, '');
    else this.#end(CLOSE_CODES[kind], shortened(refusal));
  }

  violate(what: string, kind: RefusalKind): void {
    if (this.#isEnded || this.#isClosing) return;
    this.#problem = what;
    this.#isViolated = true;
    // Nothing that still comes is read; what the owner says now goes out before the close.
    this.#isClosing = true;
    this.#events.onViolation?.(cleanText(what));
    this.#end(CLOSE_CODES[kind], shortened(what));
  }

  #end(code: number, reason: string): void {
    this.#isClosing = true;
    this.#intake?.end();
    this.#socket.close(code, reason);
    // A peer that does not answer the close is cut off. A socket that waits to be read would not see the answer.
    this.#socket.resume();
    after(CLOSE_TIMEOUT_MS, () => this.#socket.terminate(), { isUnref: true });
  }

  /** Counts what has come, and says whether it is read. */
  #isTaken(): boolean {
    if (this.#isEnded || this.#isClosing) return false;
    this.#intake?.message();
    if (!this.#isFlood()) return true;
    this.violate(`more than ${MESSAGES_PER_SEC_MAX} messages a second`, 'unwanted');
    return false;
  }

  #closed(code: number, reason: string): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#intake?.end();
    if (REFUSALS.has(code) && !this.#isViolated) this.#problem ??= reason;
    // It is shown to people, and the other side may have written it.
    const shown = this.#problem === null ? null : cleanText(this.#problem);
    this.#events.onClose(shown, endOf(code, this.#problem, this.#isViolated));
  }
}

/** Close codes by which the other side refuses us. */
const REFUSALS: ReadonlySet<number> = new Set([CLOSE_POLICY, CLOSE_VERSION]);

function endOf(code: number, problem: string | null, isViolated: boolean): ChannelEnd {
  if (isViolated) return 'violated';
  if (code === CLOSE_VERSION) return 'version';
  if (code === CLOSE_POLICY) return 'refused';
  return code === CLOSE_NORMAL && problem === null ? 'orderly' : 'cut';
}

/** A close reason that fits, cut between characters. */
function shortened(text: string): string {
  let short = text.slice(0, REASON_BYTES_MAX);
  while (Buffer.byteLength(short) > REASON_BYTES_MAX) short = short.slice(0, -1);
  return short;
}

/** Says true for a message that comes too fast. */
function floodGate(monotonicMs: () => number): () => boolean {
  const bucket = new Bucket(MESSAGES_PER_SEC_MAX, MESSAGES_AT_ONCE_MAX, monotonicMs());
  return () => bucket.take(1, monotonicMs()) > 0;
}
