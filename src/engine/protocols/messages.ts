/**
 * Owns what connections say beyond a handshake and what the answers are worth: the first message, those that are sent again and again,
 * replies to what the target says by itself. Must never know how messages travel (talk.ts, ws.ts), or allocate for a text:
 * what is expected is rendered again when an answer comes. A regular expression costs a string for each answer.
 *
 *   begin       us -> target : the first message          `--expect`: open once the right answer has come
 *   say         us -> target : a message                  `--expect`, echo: answered, or answered wrongly
 *   hear        target -> us : what a rule knows          its reply; never an answer to ours
 */
import { DropReason, FailReason } from '../../base/outcome.ts';
import {
  HEARD_BYTES_MAX,
  type MessagePattern,
  type MessageTemplate,
  regexOf,
  type TrafficOptions,
} from '../../base/traffic-options.ts';
import { ANSWER_DIFFERS } from '../../stats/protocol-errors.ts';
import { boundBacktracking } from './backend.ts';
import { type MessageFacts, MessageRenderer } from './message-renderer.ts';
import type { Overdue, ProtocolHost } from './protocol.ts';

/** What an answer is worth so far. */
const Verdict = { more: 0, right: 1, wrong: 2 } as const;
type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** What a slot waits for. */
const Waiting = { nothing: 0, opening: 1, answer: 2 } as const;

const LF = 10;
const CR = 13;

/** Bits of `#heard`. */
const Heard = { nothing: 0, other: 1, wrongByte: 2 } as const;

/** Sends one message. The buffer is the caller's again afterwards. */
type Transmit = (slot: number, buffer: Uint8Array, length: number, isBinary: boolean) => void;

/** What messages are made from. */
export interface MessagesOf {
  readonly traffic: TrafficOptions;
  readonly facts: MessageFacts;
  /** 32 bits that differ between processes */
  readonly salt: number;
  /** the target sends back what it gets: that is what is expected */
  readonly isEcho: boolean;
}

/** The messages of one engine's connections. */
export class Messages {
  /** Whether a connection is open only once the target has said what it must. */
  readonly opensByAnswer: boolean;
  /** Whether messages that are sent again and again are answered. */
  readonly areAnswered: boolean;
  readonly #host: ProtocolHost;
  readonly #transmit: Transmit;
  readonly #isEcho: boolean;
  readonly #first: MessageRenderer | null;
  readonly #repeated: MessageRenderer | null;
  readonly #expected: MessageRenderer | null;
  readonly #expression: RegExp | null;
  /** whether the expression is one about the first line: it cannot match once that is over */
  readonly #isOfFirstLine: boolean;
  readonly #rules: readonly AnswerRule[];
  readonly #waiting: Uint8Array;
  readonly #heard: Uint8Array;
  /** bytes of the answer that were as expected */
  readonly #got: Uint16Array;
  /** answers that came in pieces, for an expression; nearly always empty */
  readonly #pieces = new Map<number, Uint8Array>();

  constructor(host: ProtocolHost, { traffic, facts, salt, isEcho }: MessagesOf, transmit: Transmit) {
    const { first, send, expect, answers } = traffic;
    const rendererOf = (template: MessageTemplate): MessageRenderer =>
      new MessageRenderer(template, facts, salt);
    this.#host = host;
    this.#transmit = transmit;
    this.#isEcho = isEcho;
    this.#first = first === null ? null : rendererOf(first);
    this.#repeated = send === null ? null : rendererOf(send.template);
    this.#expected = isEcho ? this.#repeated : expect?.type === 'text' ? rendererOf(expect.template) : null;
    if (expect?.type === 'regex' || answers.some(({ pattern }) => pattern.type === 'regex'))
      boundBacktracking();
    this.#expression = expect?.type === 'regex' ? regexOf(expect) : null;
    this.#isOfFirstLine = expect?.type === 'regex' && isOfFirstLine(expect);
    this.#rules = answers.map(({ pattern, reply }) => new AnswerRule(pattern, rendererOf(reply)));
    this.opensByAnswer = expect !== null && (first !== null || send === null);
    this.areAnswered = send !== null && (isEcho || expect !== null);
    this.#waiting = new Uint8Array(host.capacity);
    this.#heard = new Uint8Array(host.capacity);
    this.#got = new Uint16Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + 1 + 2;
  }

  /** Whether messages are sent again and again. */
  get isSending(): boolean {
    return this.#repeated !== null;
  }

  get rules(): readonly AnswerRule[] {
    return this.#rules;
  }

  /** The connection can be talked on. */
  begin(slot: number): void {
    if (this.opensByAnswer) this.#wait(slot, Waiting.opening);
    if (this.#first !== null) this.#send(slot, this.#first, null);
  }

  /** The slot's next message is due. */
  say(slot: number): void {
    if (this.areAnswered) this.#wait(slot, Waiting.answer);
    if (this.#repeated !== null) this.#send(slot, this.#repeated, null);
  }

  #send(slot: number, message: MessageRenderer, groups: readonly (string | undefined)[] | null): void {
    const length = message.render(slot, groups);
    this.#transmit(slot, message.buffer, length, message.isBinary);
  }

  /** Sends what a rule answers. */
  reply(slot: number, { reply, groups }: AnswerRule): void {
    this.#send(slot, reply, groups);
  }

  /** The target has said one whole message. @returns whether the slot is still there */
  hearMessage(slot: number, bytes: Uint8Array, from: number, to: number): boolean {
    for (const rule of this.#rules) {
      if (!rule.matches(bytes, from, to)) continue;
      this.reply(slot, rule);
      return true;
    }
    const waiting = this.#waiting[slot];
    this.#got[slot] = 0;
    const isRight = waiting !== Waiting.nothing && this.#judge(slot, bytes, from, to) === Verdict.right;
    this.#pieces.delete(slot);
    if (isRight) return this.#right(slot);
    this.#host.said(slot, bytes, from, to);
    if (waiting === Waiting.answer) return this.#wrong(slot);
    // What a server says by itself before it answers is passed over: whether its answer was among it is known when time is up.
    this.#heard[slot]! |= Heard.other;
    return true;
  }

  /** The target has said some bytes that no rule takes. @returns whether the slot is still there */
  hearBytes(slot: number, bytes: Uint8Array, from: number, to: number): boolean {
    if (this.#waiting[slot] === Waiting.nothing) {
      this.#host.said(slot, bytes, from, to);
      // After the last byte of an echo there is nothing left to come back.
      return this.#isEcho ? this.#lose(slot) : true;
    }
    const verdict = this.#judge(slot, bytes, from, to);
    if (verdict === Verdict.wrong || (verdict === Verdict.more && !this.#isEcho)) {
      this.#host.said(slot, bytes, from, to);
      this.#heard[slot]! |= Heard.other;
    }
    if (verdict === Verdict.more) return true;
    return verdict === Verdict.right ? this.#right(slot) : this.#wrong(slot);
  }

  #judge(slot: number, bytes: Uint8Array, from: number, to: number): Verdict {
    if (this.#expression !== null) return this.#judgeByExpression(this.#expression, slot, bytes, from, to);
    const expected = this.#expected;
    if (expected === null) return Verdict.right;
    if (this.#isEcho) return this.#judgeEcho(expected, slot, bytes, from, to);
    const length = expected.render(slot, null);
    let got = this.#got[slot]!;
    for (let at = from; at < to && got < length; at++, got++)
      if (bytes[at] !== expected.buffer[got]) return Verdict.wrong;
    this.#got[slot] = got;
    return got < length ? Verdict.more : Verdict.right;
  }

  /** All of it must come back before it is judged, so that the next message begins where this one has ended. */
  #judgeEcho(expected: MessageRenderer, slot: number, bytes: Uint8Array, from: number, to: number): Verdict {
    const length = expected.render(slot, null);
    let got = this.#got[slot]!;
    if (to - from > length - got) return Verdict.wrong;
    for (let at = from; at < to; at++, got++)
      if (bytes[at] !== expected.buffer[got]) this.#heard[slot]! |= Heard.wrongByte;
    this.#got[slot] = got;
    if (got < length) return Verdict.more;
    return (this.#heard[slot]! & Heard.wrongByte) === 0 ? Verdict.right : Verdict.wrong;
  }

  #judgeByExpression(expression: RegExp, slot: number, bytes: Uint8Array, from: number, to: number): Verdict {
    const before = this.#pieces.get(slot);
    const piece = bytes.subarray(from, Math.min(to, from + HEARD_BYTES_MAX - (before?.length ?? 0)));
    const heard = before === undefined ? piece : Buffer.concat([before, piece]);
    const text = latin1Of(heard, 0, heard.length);
    // `$` is the end of the line, too.
    if (expression.test(text) || expression.test(text.replace(/\r?\n$/, ''))) return Verdict.right;
    if (heard.length >= HEARD_BYTES_MAX || (this.#isOfFirstLine && heard.includes(LF))) return Verdict.wrong;
    this.#pieces.set(slot, before === undefined ? piece.slice() : heard);
    return Verdict.more;
  }

  #right(slot: number): boolean {
    const isOpening = this.#waiting[slot] === Waiting.opening;
    this.#wait(slot, Waiting.nothing);
    if (isOpening) {
      this.#host.opened(slot);
      this.#host.verified(slot);
    } else this.#host.answered(slot);
    return true;
  }

  #wrong(slot: number): boolean {
    const isOpening = this.#waiting[slot] === Waiting.opening;
    // More came than was sent: where the next answer begins is not known any more.
    const isCut = this.#isEcho && (this.#heard[slot]! & Heard.wrongByte) === 0;
    this.#wait(slot, Waiting.nothing);
    if (isOpening) {
      this.#host.lost(slot, FailReason.handshake, DropReason.protocol, ANSWER_DIFFERS);
      return false;
    }
    return this.#host.answeredWrongly(slot, isCut);
  }

  #lose(slot: number): false {
    this.#host.lost(slot, FailReason.handshake, DropReason.probeMismatch);
    return false;
  }

  #wait(slot: number, what: number): void {
    this.#waiting[slot] = what;
    this.#heard[slot] = Heard.nothing;
    this.#got[slot] = 0;
    this.#pieces.delete(slot);
  }

  /** Time is up for the slot's answer. */
  overdue(slot: number): Overdue {
    if (this.#waiting[slot] === Waiting.nothing) return null;
    return this.#heard[slot] === Heard.nothing ? 'nothing-said' : 'other-said';
  }

  forget(slot: number): void {
    this.#wait(slot, Waiting.nothing);
  }
}

/** One `--answer`. */
class AnswerRule {
  readonly reply: MessageRenderer;
  /** whether it is one about bytes, which need no line to stand in */
  readonly isBinary: boolean;
  readonly #text: Uint8Array | null;
  readonly #expression: RegExp | null;
  /** what the last match of an expression was */
  groups: readonly (string | undefined)[] | null = null;

  constructor(pattern: MessagePattern, reply: MessageRenderer) {
    this.reply = reply;
    this.isBinary = pattern.type === 'text' && pattern.template.isBinary;
    this.#text = pattern.type === 'text' ? plainBytes(pattern.template) : null;
    this.#expression = pattern.type === 'regex' ? regexOf(pattern) : null;
  }

  /** Bytes of its text; 0: it is an expression. */
  get length(): number {
    return this.#text?.length ?? 0;
  }

  /** Whether what was said begins with its text, or matches its expression. Line ends are not seen by an expression. */
  matches(bytes: Uint8Array, from: number, to: number): boolean {
    if (this.#expression === null) return to - from >= this.length && this.mayMatch(bytes, from, to);
    let end = Math.min(to, from + HEARD_BYTES_MAX);
    if (end > from && bytes[end - 1] === LF) end--;
    if (end > from && bytes[end - 1] === CR) end--;
    this.groups = this.#expression.exec(latin1Of(bytes, from, end));
    return this.groups !== null;
  }

  /** Whether it may match once more has come: no byte so far is another one. */
  mayMatch(bytes: Uint8Array, from: number, to: number): boolean {
    const text = this.#text;
    if (text === null) return true;
    const length = Math.min(text.length, to - from);
    for (let at = 0; at < length; at++) if (bytes[from + at] !== text[at]) return false;
    return true;
  }
}

function plainBytes({ parts }: MessageTemplate): Uint8Array {
  return Buffer.concat(parts.map((part) => Buffer.from(part.type === 'bytes' ? part.base64 : '', 'base64')));
}

function latin1Of(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1');
}

/** `^` without the flag that makes it the begin of any line, in front of every alternative, and no line end in it. */
function isOfFirstLine({ source, flags }: { readonly source: string; readonly flags: string }): boolean {
  if (!source.startsWith('^') || /[ms]/.test(flags) || /\\[nsSWDr]|\[\^/.test(source)) return false;
  let outer = source.replace(/\\./g, '').replace(/\[[^\]]*\]/g, '');
  for (let inner = ''; inner !== outer; ) {
    inner = outer;
    outer = inner.replace(/\([^()]*\)/g, '');
  }
  return !outer.includes('|');
}
