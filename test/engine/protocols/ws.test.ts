/**
 * Tests the WebSocket client against a server that misbehaves on purpose: each case of RFC 6455 that a client can get
 * wrong, as the server sees the answer.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS } from '../../../src/base/endpoint.ts';
import type { HolderSpec } from '../../../src/run/run-spec.ts';
import { until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, ManualClock, specTo, Target } from '../engine-run.ts';
import { closeFrame, frame, ScriptedSocket } from './ws-script.ts';

afterEach(cleanUp);

function wsSpec(port: number, connections: number, over: Partial<HolderSpec> = {}): HolderSpec {
  return specTo(port, connections, { protocol: 'ws', ...over });
}

const ALIVE = frame(9, 'still there?');

interface Case {
  readonly name: string;
  readonly bytes: Buffer;
  /** the code that the client must close with; `held`: it must go on */
  readonly expect: number | 'held';
  /** payloads of the pongs that must have come back, in order */
  readonly pongs?: readonly string[];
}

const long = 'x'.repeat(125);
const text16 = Buffer.from('é'.repeat(300));
const CASES: readonly Case[] = [
  { name: 'an empty text', bytes: frame(1, ''), expect: 'held' },
  { name: 'a text with a 16-bit length', bytes: frame(1, text16), expect: 'held' },
  { name: 'a binary with a 64-bit length', bytes: frame(2, Buffer.alloc(70_000, 0xff)), expect: 'held' },
  { name: 'a ping with 125 bytes', bytes: frame(9, long), expect: 'held', pongs: [long] },
  { name: 'an empty ping', bytes: frame(9, ''), expect: 'held', pongs: [''] },
  { name: 'a pong without a ping', bytes: frame(10, 'hello'), expect: 'held' },
  {
    name: 'three pings in one segment',
    bytes: Buffer.concat([frame(9, 'a'), frame(9, 'b'), frame(9, 'c')]),
    expect: 'held',
    pongs: ['a', 'b', 'c'],
  },
  {
    name: 'a fragmented text with a ping and a pong in between',
    bytes: Buffer.concat([
      frame(1, 'Hel', { final: false }),
      frame(9, 'between'),
      frame(0, 'l', { final: false }),
      frame(10, 'unasked'),
      frame(0, 'o'),
    ]),
    expect: 'held',
    pongs: ['between'],
  },
  {
    name: 'a character that is cut between two fragments',
    bytes: Buffer.concat([
      frame(1, Buffer.from([0xe2, 0x82]), { final: false }),
      frame(9, 'in it'),
      frame(0, Buffer.from([0xac])),
    ]),
    expect: 'held',
    pongs: ['in it'],
  },
  {
    name: 'fragments without payload',
    bytes: Buffer.concat([frame(2, '', { final: false }), frame(0, '', { final: false }), frame(0, '')]),
    expect: 'held',
  },
  { name: 'bytes that are no UTF-8 in a binary', bytes: frame(2, Buffer.from([0xff, 0xc0])), expect: 'held' },
  { name: 'a masked text', bytes: frame(1, 'hello', { masked: true }), expect: 1002 },
  { name: 'a masked ping', bytes: frame(9, 'hello', { masked: true }), expect: 1002 },
  { name: 'reserved bit 1 on a text', bytes: frame(1, 'a', { reserved: 4 }), expect: 1002 },
  { name: 'reserved bit 2 on a ping', bytes: frame(9, 'a', { reserved: 2 }), expect: 1002 },
  { name: 'reserved bit 3 on a close', bytes: frame(8, '', { reserved: 1 }), expect: 1002 },
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(
    (opcode): Case => ({ name: `opcode ${opcode}`, bytes: frame(opcode, 'a'), expect: 1002 }),
  ),
  { name: 'a ping of 126 bytes', bytes: frame(9, `${long}x`), expect: 1002 },
  { name: 'a ping in fragments', bytes: frame(9, 'a', { final: false }), expect: 1002 },
  { name: 'a close in fragments', bytes: frame(8, '', { final: false }), expect: 1002 },
  { name: 'a continuation of nothing', bytes: frame(0, 'a'), expect: 1002 },
  {
    name: 'a continuation after a whole message',
    bytes: Buffer.concat([frame(1, 'a', { final: false }), frame(0, 'b'), frame(0, 'c')]),
    expect: 1002,
  },
  {
    name: 'a new text inside a fragmented one',
    bytes: Buffer.concat([frame(1, 'a', { final: false }), frame(1, 'b')]),
    expect: 1002,
  },
  { name: 'a 16-bit length for 5 bytes', bytes: frame(1, 'hello', { lengthBytes: 2 }), expect: 1002 },
  {
    name: 'a 64-bit length for 300 bytes',
    bytes: frame(2, Buffer.alloc(300), { lengthBytes: 8 }),
    expect: 1002,
  },
  {
    name: 'a 64-bit length with its highest bit set',
    bytes: frame(2, '', { claimed: (1n << 63n) + 70_000n }),
    expect: 1002,
  },
  { name: 'a message of 2^62 bytes', bytes: frame(2, '', { claimed: 1n << 62n }), expect: 1009 },
  {
    name: 'a message above the limit of 16 MiB',
    bytes: frame(2, '', { claimed: 16n * 1024n * 1024n + 1n }),
    expect: 1009,
  },
  {
    name: 'fragments that are above the limit together',
    bytes: Buffer.concat([
      frame(2, Buffer.alloc(70_000), { final: false }),
      frame(0, '', { claimed: 16n * 1024n * 1024n - 69_999n }),
    ]),
    expect: 1009,
  },
  { name: 'a text with an overlong form', bytes: frame(1, Buffer.from([0xc0, 0xaf])), expect: 1007 },
  { name: 'a text with a surrogate', bytes: frame(1, Buffer.from([0xed, 0xa0, 0x80])), expect: 1007 },
  { name: 'a text above U+10FFFF', bytes: frame(1, Buffer.from([0xf4, 0x90, 0x80, 0x80])), expect: 1007 },
  {
    name: 'a text that ends inside a character',
    bytes: frame(1, Buffer.from([0x61, 0xe2, 0x82])),
    expect: 1007,
  },
  {
    name: 'a fragmented text that breaks in its second fragment',
    bytes: Buffer.concat([
      frame(1, Buffer.from([0xe2]), { final: false }),
      frame(0, Buffer.from([0x28, 0xa1])),
    ]),
    expect: 1007,
  },
  { name: 'a close without a code', bytes: frame(8, ''), expect: 0 },
  { name: 'a close 1000', bytes: closeFrame(1000), expect: 1000 },
  { name: 'a close 1001 with a reason', bytes: closeFrame(1001, 'going away'), expect: 1001 },
  { name: 'a close 4999 with 123 bytes of reason', bytes: closeFrame(4999, 'r'.repeat(123)), expect: 4999 },
  { name: 'a close of one byte', bytes: frame(8, 'x'), expect: 1002 },
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map(
    (code): Case => ({ name: `a close ${code}`, bytes: closeFrame(code), expect: 1002 }),
  ),
  { name: 'a close reason that is no UTF-8', bytes: closeFrame(1000, Buffer.from([0xff])), expect: 1007 },
  {
    name: 'a close in the middle of a fragmented text',
    bytes: Buffer.concat([frame(1, 'a', { final: false }), closeFrame(1000)]),
    expect: 1000,
  },
];

type Delivery = 'after the answer' | 'in one segment with the answer' | 'byte by byte';

/** Writes the case's bytes; byte by byte means its first 20, so that every header is cut everywhere. */
async function deliver(peer: ScriptedSocket, bytes: Buffer, how: Delivery): Promise<void> {
  if (how === 'in one segment with the answer') {
    peer.socket.write(Buffer.concat([Buffer.from(peer.answer), bytes]));
    return;
  }
  if (how === 'after the answer') {
    peer.socket.write(peer.answer);
    await new Promise((resolve) => setTimeout(resolve, 20));
    peer.socket.write(bytes);
    return;
  }
  const whole = Buffer.concat([Buffer.from(peer.answer), bytes]);
  const cut = Math.max(0, peer.answer.length - 3);
  peer.socket.write(whole.subarray(0, cut));
  for (let at = cut; at < whole.length; at++) {
    await new Promise((resolve) => setTimeout(resolve, 3));
    // Late timers run one after the other. Who has closed resets at the next byte, and a second one then fails with
    // EPIPE, which ends the socket with its close frame unread: what has come is read before each byte.
    await new Promise((resolve) => setImmediate(resolve));
    if (peer.isEnded) return;
    if (at - cut > 20) {
      peer.socket.write(whole.subarray(at));
      return;
    }
    peer.socket.write(whole.subarray(at, at + 1));
  }
}

async function play(how: Delivery): Promise<void> {
  const peers: ScriptedSocket[] = [];
  const target = await Target.listen((socket) => {
    const { bytes, expect } = CASES[peers.length]!;
    const all = expect === 'held' ? Buffer.concat([bytes, ALIVE]) : bytes;
    peers.push(new ScriptedSocket(socket, (self) => void deliver(self, all, how)));
  });
  const run = new EngineRun(wsSpec(target.port, CASES.length));
  await run.open();
  const isDone = (peer: ScriptedSocket, at: number): boolean =>
    CASES[at]!.expect === 'held'
      ? peer.frames.some((each) => each.payload.toString() === 'still there?')
      : peer.isEnded;
  await until(`every case is over, ${how}`, () => peers.every(isDone)).catch((error) => {
    const open = peers.flatMap((peer, at) => (isDone(peer, at) ? [] : [CASES[at]!.name]));
    assert.fail(`${error}; still open: ${open.join(', ')}`);
  });
  for (const [at, { name, expect, pongs = [] }] of CASES.entries()) {
    const peer = peers[at]!;
    const back = peer.frames.filter((each) => each.opcode === 10).map((each) => each.payload.toString());
    if (expect === 'held') {
      assert.equal(peer.closeCode, null, `${name}: goes on`);
      assert.deepEqual(back, [...pongs, 'still there?'], `${name}: pongs`);
    } else assert.equal(peer.closeCode, expect, `${name}: close code`);
  }
  const stats = run.stats();
  const held = CASES.filter(({ expect }) => expect === 'held').length;
  const closed = CASES.filter(({ name, expect }) => name.startsWith('a close') && expect === 0).length;
  const polite = CASES.filter(
    ({ expect }) => expect !== 'held' && ![1002, 1007, 1009].includes(expect) && expect !== 0,
  ).length;
  assert.equal(stats.established, CASES.length);
  assert.equal(stats.open, held);
  assert.deepEqual(stats.dropped, { fin: polite + closed, protocol: CASES.length - held - polite - closed });
  assert.match(Object.keys(stats.troubles ?? {}).join('\n'), /ws 1002: the server masks its frames/);
  await run.stop();
  await target.close();
}

test(`${CASES.length} cases of RFC 6455 are answered as it says, after the answer`, () =>
  play('after the answer'));
test('the same in one segment with the answer', () => play('in one segment with the answer'));
test('the same byte by byte', () => play('byte by byte'));

test('the upgrade is asked for as RFC 6455 says, with a new key for each connection', async () => {
  const peers: ScriptedSocket[] = [];
  const target = await Target.listen((socket) => {
    peers.push(new ScriptedSocket(socket, (self) => self.socket.write(self.answer)));
  });
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, path: '/chat?room=1', host: 'server.example' };
  const run = new EngineRun(wsSpec(target.port, 50, { protocolOptions }));
  const { open, verified } = await run.open();
  assert.deepEqual([open, verified], [50, 50]);
  for (const { request } of peers) {
    const [first, ...fields] = request.split('\r\n');
    assert.equal(first, 'GET /chat?room=1 HTTP/1.1');
    const byName = new Map(fields.map((line) => line.split(': ') as [string, string]));
    assert.equal(byName.get('Host'), `server.example:${target.port}`);
    assert.equal(byName.get('Upgrade'), 'websocket');
    assert.equal(byName.get('Connection'), 'Upgrade');
    assert.equal(byName.get('Sec-WebSocket-Version'), '13');
    assert.equal(Buffer.from(byName.get('Sec-WebSocket-Key') ?? '', 'base64').length, 16);
  }
  assert.equal(new Set(peers.map((peer) => peer.key)).size, 50, 'keys differ');
  await run.stop();
  await target.close();
});

test('with --close fin every server gets a close frame 1000', async () => {
  const peers: ScriptedSocket[] = [];
  const target = await Target.listen((socket) => {
    peers.push(new ScriptedSocket(socket, (self) => self.socket.write(self.answer)));
  });
  const run = new EngineRun(wsSpec(target.port, 20, { close: 'fin' }));
  await run.open();
  await run.stop();
  await until('each got a goodbye', () => peers.every((peer) => peer.closeCode === 1000));
  await target.close();
});

const WRONG_ANSWERS: readonly (readonly [string, (self: ScriptedSocket) => string, string])[] = [
  [
    'a wrong accept key',
    (self) => self.answer.replace(/Accept: .{4}/, 'Accept: AAAA'),
    'ws wrong Sec-WebSocket-Accept',
  ],
  [
    'the accept key in lower case',
    (self) => self.answer.toLowerCase().replace('http', 'HTTP'),
    'ws wrong Sec-WebSocket-Accept',
  ],
  [
    'no accept key',
    (self) => self.answer.replace(/Sec-WebSocket-Accept.*\r\n/, ''),
    'ws wrong Sec-WebSocket-Accept',
  ],
  ['status 200', (self) => self.answer.replace('101 Switching Protocols', '200 OK'), 'ws status 200'],
  ['status 404', () => 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 'ws status 404'],
  ['no Upgrade', (self) => self.answer.replace('Upgrade: websocket\r\n', ''), 'ws no "Upgrade: websocket"'],
  [
    'another Upgrade',
    (self) => self.answer.replace('websocket\r\n', 'h2c\r\n'),
    'ws no "Upgrade: websocket"',
  ],
  [
    'no Connection',
    (self) => self.answer.replace('Connection: Upgrade\r\n', ''),
    'ws no "Connection: Upgrade"',
  ],
  [
    'an extension that was not offered',
    (self) => self.answer.replace('\r\n\r\n', '\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n'),
    'ws an extension that was not offered',
  ],
  [
    'a subprotocol that was not offered',
    (self) => self.answer.replace('\r\n\r\n', '\r\nSec-WebSocket-Protocol: chat\r\n\r\n'),
    'ws a subprotocol that was not offered',
  ],
  ['no HTTP at all', () => 'SSH-2.0-OpenSSH_9.2\r\n', 'ws no HTTP/1.1 response'],
  ['HTTP/1.0', (self) => self.answer.replace('HTTP/1.1', 'HTTP/1.0'), 'ws an answer in HTTP/1.0'],
  [
    'a head without an end',
    () => `HTTP/1.1 101 x\r\n${'X: y\r\n'.repeat(3_000)}`,
    'ws a head above 16384 bytes',
  ],
];

test('a wrong answer to the upgrade is a failed handshake, counted by what was wrong', async () => {
  const peers: ScriptedSocket[] = [];
  const target = await Target.listen((socket) => {
    const make = WRONG_ANSWERS[peers.length]![1];
    peers.push(new ScriptedSocket(socket, (self) => self.socket.write(make(self))));
  });
  const run = new EngineRun(wsSpec(target.port, WRONG_ANSWERS.length));
  const stats = await run.open();
  assert.equal(stats.established, 0);
  assert.deepEqual(stats.failed, { handshake: WRONG_ANSWERS.length });
  const expected: Record<string, number> = {};
  for (const [, , detail] of WRONG_ANSWERS) expected[detail] = (expected[detail] ?? 0) + 1;
  assert.deepEqual(stats.troubles, expected);
  await run.stop();
  await target.close();
});

test('an answer with other cases, spaces and tokens is a right one', async () => {
  const target = await Target.listen((socket) => {
    new ScriptedSocket(socket, (self) => {
      const accept = /Accept: (.*)\r/.exec(self.answer)?.[1];
      self.socket.write(
        `HTTP/1.1 101\r\nSERVER: x\r\nupgrade:   WebSocket\r\nconnection: keep-alive, UPGRADE\r\nsec-websocket-accept:${accept}  \r\n\r\n`,
      );
    });
  });
  const run = new EngineRun(wsSpec(target.port, 3));
  assert.equal((await run.open()).open, 3);
  await run.stop();
  await target.close();
});

test('pings go out with a fresh mask, pongs prove, and text messages go along', async () => {
  const peers: ScriptedSocket[] = [];
  const target = await Target.listen((socket) => {
    peers.push(
      new ScriptedSocket(
        socket,
        (self) => self.socket.write(self.answer),
        (self, { opcode, payload }) => {
          if (opcode === 9) self.socket.write(frame(10, payload));
          if (opcode === 1) self.socket.write(frame(1, payload));
        },
      ),
    );
  });
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, message: 'grüß dich '.repeat(20) };
  const run = new EngineRun(wsSpec(target.port, 10, { protocolOptions, probeEveryMs: 150 }));
  await run.open();
  await until('probes are answered', () => run.stats().probesAnswered >= 40);
  assert.deepEqual(run.stats().dropped, {});
  const frames = peers.flatMap((peer) => peer.frames);
  const texts = frames.filter(({ opcode }) => opcode === 1);
  assert(texts.length >= 40);
  for (const { payload } of texts) assert.equal(payload.toString(), protocolOptions.message);
  const pings = frames.filter(({ opcode }) => opcode === 9);
  assert.equal(
    new Set(pings.map(({ payload }) => payload.toString('hex'))).size,
    pings.length,
    'payloads differ',
  );
  assert(new Set(pings.map(({ mask }) => mask)).size > pings.length * 0.9, 'masks differ');
  await run.stop();
  await target.close();
});

test('a pong that differs from its ping is a mismatch; a silent server is a timeout', async () => {
  let seen = 0;
  const target = await Target.listen((socket) => {
    const isWrong = seen++ % 2 === 0;
    new ScriptedSocket(
      socket,
      (self) => self.socket.write(self.answer),
      (self, { opcode, payload }) => {
        if (opcode !== 9 || !isWrong) return;
        payload[9]! ^= 1;
        self.socket.write(frame(10, payload));
      },
    );
  });
  const clock = new ManualClock();
  const run = new EngineRun(wsSpec(target.port, 8, { probeEveryMs: 100, probeTimeoutMs: 300 }), clock);
  await run.open();
  run.advance(clock, 100);
  await until('the wrong pongs are found out', () => run.stats().open === 4);
  run.advance(clock, 300);
  await until('all are found out', () => run.stats().open === 0);
  assert.deepEqual(run.stats().dropped, { 'probe-mismatch': 4, 'probe-timeout': 4 });
  await run.stop();
  await target.close();
});

test('ws:// works over IPv6, with the address in brackets in the Host field', async () => {
  const peers: ScriptedSocket[] = [];
  const target = await Target.listen((socket) => {
    peers.push(new ScriptedSocket(socket, (self) => self.socket.write(self.answer)));
  }, '::1');
  const run = new EngineRun(
    wsSpec(target.port, 5, {
      addresses: ['::1'],
      endpoints: [{ address: '::1', port: target.port, family: 6 }],
    }),
  );
  assert.equal((await run.open()).verified, 5);
  assert.match(peers[0]!.request, new RegExp(`^Host: \\[::1\\]:${target.port}$`, 'm'));
  await run.stop();
  await target.close();
});

test('headers and subprotocols go with the upgrade, and the server must choose one of those offered', async () => {
  const peers: ScriptedSocket[] = [];
  const answers = ['', 'Sec-WebSocket-Protocol: b\r\n', 'Sec-WebSocket-Protocol: c\r\n'];
  const target = await Target.listen((socket) => {
    const field = answers[peers.length % answers.length];
    peers.push(
      new ScriptedSocket(socket, (self) =>
        self.socket.write(self.answer.replace('Upgrade: websocket\r\n', `Upgrade: websocket\r\n${field}`)),
      ),
    );
  });
  const request = {
    method: 'GET' as const,
    headers: [{ name: 'Authorization', value: 'Bearer x' }],
    body: null,
    subprotocols: ['a', 'b'],
  };
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, request };
  const run = new EngineRun(wsSpec(target.port, 6, { protocolOptions }));
  const stats = await run.open();
  assert.equal(stats.open, 2);
  assert.deepEqual(stats.troubles, {
    'ws no subprotocol of those offered was chosen': 2,
    'ws a subprotocol that was not offered': 2,
  });
  for (const peer of peers) {
    assert.match(peer.request, /^Sec-WebSocket-Protocol: a, b\r$/m);
    assert.match(peer.request, /^Authorization: Bearer x\r$/m);
  }
  assert.equal(new Set(peers.map((peer) => peer.key)).size, 6, 'keys differ');
  await run.stop();
  await target.close();
});
