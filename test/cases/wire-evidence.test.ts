/** Owns the proof that the second opinion is right: a capture made of hand-written segments, and one that tcpdump would write. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Capture, readCapture, type Segment } from './pcap.ts';
import { wireEvidence } from './wire-evidence.ts';

const ENDPOINT = '10.0.0.1:8000';

interface Flags {
  readonly syn?: boolean;
  readonly ack?: boolean;
  readonly fin?: boolean;
  readonly rst?: boolean;
  readonly text?: string;
}

function segment(atMs: number, from: string, to: string, flags: Flags): Segment {
  const payload = Buffer.from(flags.text ?? '');
  return {
    atUs: atMs * 1_000,
    from,
    to,
    isSyn: flags.syn ?? false,
    isAck: flags.ack ?? false,
    isFin: flags.fin ?? false,
    isRst: flags.rst ?? false,
    length: payload.length,
    payload,
  };
}

function out(atMs: number, from: string, flags: Flags, to = ENDPOINT): Segment {
  return segment(atMs, from, to, flags);
}

function back(atMs: number, from: string, flags: Flags, to = ENDPOINT): Segment {
  return segment(atMs, to, from, flags);
}

function opened(atMs: number, from: string, to = ENDPOINT): Segment[] {
  return [
    out(atMs, from, { syn: true }, to),
    back(atMs + 1, from, { syn: true, ack: true }, to),
    out(atMs + 1, from, { ack: true }, to),
  ];
}

function evidence(segments: readonly Segment[], attempted: number, capture: Partial<Capture> = {}) {
  const sorted = [...segments].sort((a, b) => a.atUs - b.atUs);
  return wireEvidence(
    { segments: sorted, rejections: [], ...capture },
    [ENDPOINT, '10.0.0.1:8001'],
    attempted,
  );
}

test('the outcomes are kept apart, and each connect counts once', () => {
  const seen = evidence(
    [
      ...opened(0, '10.0.0.2:1024'),
      out(10, '10.0.0.2:1025', { syn: true }),
      back(11, '10.0.0.2:1025', { rst: true, ack: true }),
      out(20, '10.0.0.2:1026', { syn: true }),
      out(1_020, '10.0.0.2:1026', { syn: true }),
      out(30, '10.0.0.2:1027', { syn: true }),
      back(31, '10.0.0.2:1027', { syn: true, ack: true }),
      out(40, '10.0.0.2:1028', { syn: true }),
    ],
    5,
    {
      rejections: [{ atUs: 41_000, by: '10.0.0.9', type: 3, code: 13, from: '10.0.0.2:1028', to: ENDPOINT }],
    },
  );
  assert.deepEqual(seen.total, {
    asked: 5,
    established: 1,
    refused: 1,
    rejected: 1,
    unheard: 1,
    silent: 1,
    ended: 0,
  });
  assert.deepEqual(seen.order, ['e', 1, 'r', 1, 's', 1, 'u', 1, 'i', 1]);
  assert.equal(seen.finalFailureMs, 10);
  assert.deepEqual(seen.rejections, { '10.0.0.9 3/13': 1 });
});

test('what came before the ramp is the check of sources, and no connect of the run', () => {
  const check = [...opened(0, '10.0.0.2:40000'), out(2, '10.0.0.2:40000', { rst: true })];
  const seen = evidence([...check, ...opened(500, '10.0.0.2:1024'), ...opened(600, '10.0.0.2:1025')], 2);
  assert.equal(seen.before, 1);
  assert.equal(seen.total.asked, 2);
  assert.equal(seen.lastSuccessMs, 101);
  assert.equal(seen.finalFailureMs, null);
});

test('age, silence, words and seconds of losses are those of the far side alone', () => {
  const seen = evidence(
    [
      ...opened(0, '10.0.0.2:1024'),
      back(3_001, '10.0.0.2:1024', { ack: true, text: 'too\nlong \\' }),
      back(5_001, '10.0.0.2:1024', { fin: true, ack: true }),
      ...opened(0, '10.0.0.2:1025'),
      out(5_000, '10.0.0.2:1025', { ack: true, text: 'probe' }),
      back(5_002, '10.0.0.2:1025', { rst: true }),
      ...opened(0, '10.0.0.2:1026', '10.0.0.1:8001'),
      out(9_000, '10.0.0.2:1026', { rst: true }, '10.0.0.1:8001'),
    ],
    3,
  );
  assert.equal(seen.ageAtLoss?.count, 2);
  assert.equal(seen.ageAtLoss?.minMs, 5_000);
  assert.equal(seen.silenceBeforeLoss?.maxMs, 2_000);
  assert.equal(seen.rstOnOurBytes, 1);
  assert.deepEqual(seen.lossesPerSec, [5, 2]);
  assert.deepEqual(seen.said, [
    { when: 'first', text: 'too\\nlong \\\\', count: 1 },
    { when: 'last', text: 'too\\nlong \\\\', count: 1 },
  ]);
  assert.equal(seen.endpoints[ENDPOINT]?.ended, 2);
  assert.equal(seen.endpoints['10.0.0.1:8001']?.ended, 0);
});

/** One Ethernet frame with IPv4 and TCP; what Ethernet pads is no payload. */
function pcapOf(flags: number, payload: string, padding: number): Uint8Array {
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip.writeUInt16BE(40 + payload.length, 2);
  ip[9] = 6;
  ip.set([10, 0, 0, 2], 12);
  ip.set([10, 0, 0, 1], 16);
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(1_024, 0);
  tcp.writeUInt16BE(8_000, 2);
  tcp[12] = 0x50;
  tcp[13] = flags;
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(0x0800, 12);
  const frame = Buffer.concat([ethernet, ip, tcp, Buffer.from(payload), Buffer.alloc(padding)]);
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt32LE(1, 20);
  const record = Buffer.alloc(16);
  record.writeUInt32LE(7, 0);
  record.writeUInt32LE(5, 4);
  record.writeUInt32LE(frame.length, 8);
  return Buffer.concat([header, record, frame]);
}

test('a capture is read: addresses, ports, flags, time, and payload without padding', () => {
  const { segments } = readCapture(pcapOf(0x18, 'abc', 9));
  assert.equal(segments.length, 1);
  const [only] = segments;
  assert.equal(only?.from, '10.0.0.2:1024');
  assert.equal(only?.to, ENDPOINT);
  assert.equal(only?.atUs, 7_000_005);
  assert.equal(only?.isAck, true);
  assert.equal(only?.isSyn, false);
  assert.equal(Buffer.from(only?.payload ?? []).toString(), 'abc');
});

test('a capture that is cut anywhere is read as far as it goes, and no length in it is trusted', () => {
  const whole = pcapOf(0x02, 'abcdef', 0);
  for (let end = 24; end < whole.length; end++)
    assert.deepEqual(readCapture(whole.subarray(0, end)).segments, []);
  const lying = Buffer.from(whole);
  lying.writeUInt16BE(60_000, 24 + 16 + 14 + 2);
  assert.equal(readCapture(lying).segments[0]?.payload.length, 6);
  assert.throws(() => readCapture(Buffer.alloc(24)), /no pcap/);
});
