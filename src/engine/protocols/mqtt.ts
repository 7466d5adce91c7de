/**
 * Owns the MQTT proof (3.1.1 and 5): a CONNECT whose CONNACK says yes, a PINGREQ for each probe, and what the server's reasons
 * are called. Must never hold a packet (mqtt-packets.ts), or publish.
 *
 *   us -> target : CONNECT                  (slot is handshaking)
 *   target -> us : CONNACK                  open and verified, or
 *   us -> target : SUBSCRIBE                with --mqtt-subscribe
 *   target -> us : SUBACK                   open and verified
 *   us -> target : PINGREQ                  each probe; no later than three quarters of the keep alive
 *   target -> us : PINGRESP                 answered
 *   target -> us : PUBLISH                  passed over
 *   target -> us : DISCONNECT               lost as `fin`, with its reason (MQTT 5)
 *   target -> us : what MQTT forbids        lost as `protocol`
 */

import { DropReason, FailReason } from '../../base/outcome.ts';
import { keepAliveProbeMs, type MqttOptions } from '../../base/session-options.ts';
import { PacketReader, type PacketReason, type PacketSink, PacketWriter } from './mqtt-packets.ts';
import { type Protocol, type ProtocolHost, SendBuffer } from './protocol.ts';

/** in `#phase` */
const Phase = { none: 0, connecting: 1, subscribing: 2, open: 3 } as const;

/** From here on a reason code is a no, but for those of CONNACK in 3.1.1, which are 1 to 5. */
const FAILURE = 128;

/** What the codes mean: 3.1.1 section 3.2.2.3, MQTT 5 section 2.4. */
const CODE_WORDS: Readonly<Record<number, string>> = {
  0: 'normal disconnection',
  1: 'unacceptable protocol version',
  2: 'identifier rejected',
  3: 'server unavailable',
  4: 'bad user name or password',
  5: 'not authorized',
  128: 'unspecified error',
  129: 'malformed packet',
  130: 'protocol error',
  131: 'implementation specific error',
  132: 'unsupported protocol version',
  133: 'client identifier not valid',
  134: 'bad user name or password',
  135: 'not authorized',
  136: 'server unavailable',
  137: 'server busy',
  138: 'banned',
  139: 'server shutting down',
  140: 'bad authentication method',
  141: 'keep alive timeout',
  142: 'session taken over: another connection has the same client id',
  143: 'topic filter invalid',
  144: 'topic name invalid',
  147: 'receive maximum exceeded',
  149: 'packet too large',
  150: 'message rate too high',
  151: 'quota exceeded',
  152: 'administrative action',
  153: 'payload format invalid',
  155: 'QoS not supported',
  156: 'use another server',
  157: 'server moved',
  158: 'shared subscriptions not supported',
  159: 'connection rate exceeded',
  160: 'maximum connect time',
  161: 'subscription identifiers not supported',
  162: 'wildcard subscriptions not supported',
};

/** A code as reports name it. */
function codeText(packet: string, code: number): string {
  return `${packet} ${code}: ${CODE_WORDS[code] ?? 'a code that MQTT does not have'}`;
}

/** How connections are numbered, which templates and certificates go by. */
export interface ConnectionNumbers {
  /** the agent as the run calls it */
  readonly agent: string;
  /** the number of slot 0 among the agent's connections */
  readonly from: number;
}

/** MQTT connections. */
export class MqttProtocol implements Protocol, PacketSink {
  readonly hasHandshake = true;
  readonly canProbe = true;
  readonly probeEveryMsMax: number;
  readonly #host: ProtocolHost;
  readonly #from: number;
  readonly #reader: PacketReader;
  readonly #writer: PacketWriter;
  readonly #unsent: SendBuffer;
  readonly #phase: Uint8Array;
  /** 1: a PINGREQ is out */
  readonly #pinging: Uint8Array;

  constructor(host: ProtocolHost, options: MqttOptions, numbers: ConnectionNumbers) {
    this.#host = host;
    this.#from = numbers.from;
    this.#reader = new PacketReader(host.capacity, options.level, this);
    this.#writer = new PacketWriter(options, numbers.agent);
    this.#unsent = new SendBuffer(host);
    this.#phase = new Uint8Array(host.capacity);
    this.#pinging = new Uint8Array(host.capacity);
    const { keepAliveSec } = options;
    this.probeEveryMsMax = keepAliveSec === 0 ? Number.POSITIVE_INFINITY : keepAliveProbeMs(keepAliveSec);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + 1 + this.#reader.bytesPerSlot;
  }

  onConnected(slot: number): void {
    this.#phase[slot] = Phase.connecting;
    this.#send(slot, this.#writer.connect(this.#from + slot));
  }

  #send(slot: number, length: number): void {
    this.#unsent.send(slot, this.#writer.buffer, length);
  }

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    this.#reader.take(slot, buffer, length);
  }

  onWritable(slot: number): void {
    this.#unsent.flush(slot);
  }

  onProbeDue(slot: number, _sequence: number): void {
    this.#pinging[slot] = 1;
    this.#send(slot, this.#writer.pingreq());
  }

  onConnack(slot: number, reason: PacketReason): boolean {
    if (this.#phase[slot] !== Phase.connecting) return this.#lose(slot, 'a second CONNACK');
    if (reason.code !== 0) return this.#refused(slot, 'CONNACK', reason);
    // The server's word stands (MQTT 5 section 3.2.2.3.14).
    const { serverKeepAliveSec } = reason;
    if (serverKeepAliveSec > 0) this.#host.probeAtLeastEvery(keepAliveProbeMs(serverKeepAliveSec));
    const length = this.#writer.subscribe(this.#from + slot);
    if (length === 0) return this.#open(slot);
    this.#phase[slot] = Phase.subscribing;
    this.#send(slot, length);
    return true;
  }

  onPublish(slot: number): boolean {
    const isEarly = this.#phase[slot] === Phase.connecting;
    return isEarly ? this.#lose(slot, 'a PUBLISH in place of CONNACK') : true;
  }

  onSuback(slot: number, reason: PacketReason): boolean {
    if (this.#phase[slot] !== Phase.subscribing) return this.#lose(slot, 'a SUBACK without a SUBSCRIBE');
    return reason.code >= FAILURE ? this.#refused(slot, 'SUBACK', reason) : this.#open(slot);
  }

  #open(slot: number): true {
    this.#phase[slot] = Phase.open;
    this.#host.opened(slot);
    this.#host.verified(slot);
    return true;
  }

  onPingresp(slot: number): boolean {
    if (this.#pinging[slot] === 0) return this.#lose(slot, 'a PINGRESP without a PINGREQ');
    this.#pinging[slot] = 0;
    this.#host.answered(slot);
    return true;
  }

  onDisconnect(slot: number, reason: PacketReason): void {
    this.#quote(slot, 'DISCONNECT', reason);
    const what = codeText('DISCONNECT', reason.code);
    this.#host.lost(slot, FailReason.handshake, DropReason.fin, `mqtt ${what}`);
  }

  onBroken(slot: number, what: string, bytes: Uint8Array, from: number, to: number): void {
    this.#host.said(slot, bytes, from, to);
    const other = this.#phase[slot] === Phase.connecting ? otherThanMqtt(bytes, from, to) : null;
    this.#lose(slot, other ?? what);
  }

  /** A no in order. @returns false: the slot is gone */
  #refused(slot: number, packet: string, reason: PacketReason): false {
    this.#quote(slot, packet, reason);
    return this.#lose(slot, codeText(packet, reason.code));
  }

  /** What the server said goes to the evidence, its own words too. */
  #quote(slot: number, packet: string, { code, words }: PacketReason): void {
    const text = Buffer.from(codeText(packet, code));
    const whole = words === null ? text : Buffer.concat([text, Buffer.from(': '), words]);
    this.#host.said(slot, whole, 0, whole.length);
  }

  #lose(slot: number, what: string): false {
    this.#host.lost(slot, FailReason.handshake, DropReason.protocol, `mqtt ${what}`);
    return false;
  }

  onClosing(slot: number): void {
    if (this.#phase[slot] === Phase.open) this.#send(slot, this.#writer.disconnect());
  }

  onForgotten(slot: number): void {
    this.#phase[slot] = Phase.none;
    this.#pinging[slot] = 0;
    this.#reader.forget(slot);
    this.#unsent.forget(slot);
  }
}

/** What answered in place of a server of MQTT, where its first bytes show it; null: they do not. */
function otherThanMqtt(bytes: Uint8Array, from: number, to: number): string | null {
  const begin = Buffer.from(bytes.subarray(from, Math.min(to, from + 5))).toString('latin1');
  if (begin.startsWith('HTTP/')) return 'HTTP on this port: use http:// or ws://';
  // An alert (21) or a handshake (22) of TLS 1.x (RFC 8446 section 5.1).
  if ((bytes[from] === 21 || bytes[from] === 22) && bytes[from + 1] === 3)
    return 'TLS on this port: use mqtts://';
  return null;
}
