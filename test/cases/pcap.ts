/**
 * Owns reading a capture as `tcpdump -w` writes it (pcap, Ethernet frames): TCP segments and ICMP errors. Must never judge
 * what they mean, and must never trust a length in a packet.
 */

/** One TCP segment. */
export interface Segment {
  /** microseconds since 1970 */
  readonly atUs: number;
  /** `address:port`, IPv6 in brackets */
  readonly from: string;
  readonly to: string;
  readonly isSyn: boolean;
  readonly isAck: boolean;
  readonly isFin: boolean;
  readonly isRst: boolean;
  /** bytes of payload on the wire; the capture may have fewer */
  readonly length: number;
  readonly payload: Uint8Array;
}

/** An ICMP error about one of our segments. */
export interface Rejection {
  readonly atUs: number;
  /** who says so */
  readonly by: string;
  readonly type: number;
  readonly code: number;
  /** the segment that it is about */
  readonly from: string;
  readonly to: string;
}

export interface Capture {
  readonly segments: readonly Segment[];
  readonly rejections: readonly Rejection[];
}

const PCAP_MAGIC = 0xa1b2c3d4;
const GLOBAL_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const IP_TCP = 6;
const IP_ICMP = 1;
const IP_ICMPV6 = 58;
const IPV6_HEADER_BYTES = 40;
/** destination unreachable: 3 in ICMP, 1 in ICMPv6 */
const ICMP_UNREACHABLE = 3;
const ICMPV6_UNREACHABLE = 1;
const ICMP_HEADER_BYTES = 8;

interface Packet {
  readonly view: DataView;
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  /** where the header after IP begins */
  readonly at: number;
  /** where the packet ends on the wire, by its own length */
  readonly end: number;
}

function ipv4(view: DataView, at: number): string {
  return [0, 1, 2, 3].map((index) => view.getUint8(at + index)).join('.');
}

/** Written without compression: only equality matters. */
function ipv6(view: DataView, at: number): string {
  const groups = [0, 2, 4, 6, 8, 10, 12, 14].map((index) => view.getUint16(at + index).toString(16));
  const text = groups.join(':');
  return `[${text.replace(/(?:^|:)0(?::0)+(?::|$)/, '::')}]`;
}

function readPacket(view: DataView, at: number, ethertype: number): Packet | null {
  if (ethertype === ETHERTYPE_IPV4 && view.byteLength >= at + 20) {
    const headerBytes = (view.getUint8(at) & 0x0f) * 4;
    return {
      view,
      from: ipv4(view, at + 12),
      to: ipv4(view, at + 16),
      protocol: view.getUint8(at + 9),
      at: at + headerBytes,
      end: at + view.getUint16(at + 2),
    };
  }
  if (ethertype === ETHERTYPE_IPV6 && view.byteLength >= at + IPV6_HEADER_BYTES) {
    return {
      view,
      from: ipv6(view, at + 8),
      to: ipv6(view, at + 24),
      protocol: view.getUint8(at + 6),
      at: at + IPV6_HEADER_BYTES,
      end: at + IPV6_HEADER_BYTES + view.getUint16(at + 4),
    };
  }
  return null;
}

function readSegment(packet: Packet, atUs: number): Segment | null {
  const { view, at, end, from, to } = packet;
  if (view.byteLength < at + 20) return null;
  const flags = view.getUint8(at + 13);
  const payloadAt = at + (view.getUint8(at + 12) >> 4) * 4;
  const captured = Math.max(0, Math.min(end, view.byteLength) - payloadAt);
  return {
    atUs,
    from: `${from}:${view.getUint16(at)}`,
    to: `${to}:${view.getUint16(at + 2)}`,
    isFin: (flags & 1) !== 0,
    isSyn: (flags & 2) !== 0,
    isRst: (flags & 4) !== 0,
    isAck: (flags & 16) !== 0,
    length: Math.max(0, end - payloadAt),
    payload: new Uint8Array(view.buffer, view.byteOffset + payloadAt, captured),
  };
}

function readRejection(packet: Packet, atUs: number): Rejection | null {
  const { view, at } = packet;
  const isV6 = packet.protocol === IP_ICMPV6;
  if (view.byteLength < at + ICMP_HEADER_BYTES) return null;
  const type = view.getUint8(at);
  if (type !== (isV6 ? ICMPV6_UNREACHABLE : ICMP_UNREACHABLE)) return null;
  const about = readPacket(view, at + ICMP_HEADER_BYTES, isV6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
  if (about === null || about.protocol !== IP_TCP || view.byteLength < about.at + 4) return null;
  return {
    atUs,
    by: packet.from,
    type,
    code: view.getUint8(at + 1),
    from: `${about.from}:${view.getUint16(about.at)}`,
    to: `${about.to}:${view.getUint16(about.at + 2)}`,
  };
}

/**
 * Reads a capture.
 * @param bytes what `tcpdump -w` wrote; a last record that is cut is left out
 * @throws Error when it is no pcap of Ethernet frames
 */
export function readCapture(bytes: Uint8Array): Capture {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isLittle = view.byteLength >= GLOBAL_HEADER_BYTES && view.getUint32(0, true) === PCAP_MAGIC;
  if (!isLittle) throw new Error('no pcap of this byte order');
  if (view.getUint32(20, true) !== 1) throw new Error('no Ethernet frames');
  const segments: Segment[] = [];
  const rejections: Rejection[] = [];
  for (let at = GLOBAL_HEADER_BYTES; at + RECORD_HEADER_BYTES <= view.byteLength; ) {
    const length = view.getUint32(at + 8, true);
    const from = at + RECORD_HEADER_BYTES;
    if (from + length > view.byteLength) break;
    const atUs = view.getUint32(at, true) * 1e6 + view.getUint32(at + 4, true);
    at = from + length;
    if (length < ETHERNET_BYTES) continue;
    const frame = new DataView(view.buffer, view.byteOffset + from, length);
    const packet = readPacket(frame, ETHERNET_BYTES, frame.getUint16(12));
    if (packet === null) continue;
    if (packet.protocol === IP_TCP) {
      const segment = readSegment(packet, atUs);
      if (segment !== null) segments.push(segment);
    } else if (packet.protocol === IP_ICMP || packet.protocol === IP_ICMPV6) {
      const rejection = readRejection(packet, atUs);
      if (rejection !== null) rejections.push(rejection);
    }
  }
  return { segments, rejections };
}
