/** Tests the MQTT client against a broker that answers right, wrong and not at all: what each end sees of it. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS } from '../../../src/base/endpoint.ts';
import { DEFAULT_MQTT_OPTIONS, type MqttOptions } from '../../../src/base/session-options.ts';
import type { EngineName, HolderSpec } from '../../../src/run/run-spec.ts';
import { until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, ManualClock, specTo, Target } from '../engine-run.ts';
import { BrokerSocket, packet, text } from './mqtt-broker.ts';

afterEach(cleanUp);

const CONNECT = 1;
const SUBSCRIBE = 8;
const PINGREQ = 12;

function mqttSpec(
  port: number,
  connections: number,
  mqtt: Partial<MqttOptions>,
  over: Partial<HolderSpec> = {},
): HolderSpec {
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, mqtt: { ...DEFAULT_MQTT_OPTIONS, ...mqtt } };
  return specTo(port, connections, { protocol: 'mqtt', protocolOptions, ...over });
}

/** A broker with a script, and what it has seen. */
async function broker(
  onPacket: (self: BrokerSocket, type: number) => void,
): Promise<{ readonly port: number; readonly sockets: BrokerSocket[] }> {
  const sockets: BrokerSocket[] = [];
  const target = await Target.listen((socket) => sockets.push(new BrokerSocket(socket, onPacket)));
  return { port: target.port, sockets };
}

/** Says yes to everything. */
function friendly({ socket, connect }: BrokerSocket, type: number): void {
  const is5 = connect?.level === 5;
  if (type === CONNECT) socket.write(is5 ? packet(0x20, 0, 0, 0) : packet(0x20, 0, 0));
  if (type === SUBSCRIBE) socket.write(is5 ? packet(0x90, 0, 1, 0, 0) : packet(0x90, 0, 1, 0));
  if (type === PINGREQ) socket.write(packet(0xd0));
}

for (const engine of ['epoll', 'uring'] as const satisfies readonly EngineName[]) {
  for (const level of [4, 5] as const) {
    test(`${engine}, level ${level}: each connection has its own client id, subscribes, and is probed`, async () => {
      const { port, sockets } = await broker(friendly);
      const mqtt = {
        level,
        clientId: 'c-{agent}-{conn}',
        user: 'u{conn}',
        password: 'secret',
        keepAliveSec: 90,
        subscribe: 'to/{conn}',
      };
      const over = {
        id: 'my/agent/3',
        connectionsFrom: 1_000,
        probeEveryMs: 300,
        close: 'fin',
        engine,
      } as const;
      const run = new EngineRun(mqttSpec(port, 60, mqtt, over));
      const stats = await run.open();
      assert.deepEqual([stats.open, stats.verified, stats.failed], [60, 60, {}]);
      const numbers = Array.from({ length: 60 }, (_, index) => 1_000 + index);
      const connects = sockets.map(({ connect }) => connect);
      assert.deepEqual(
        connects.map((connect) => connect?.clientId).toSorted(),
        numbers.map((number) => `c-my/agent-${number}`).toSorted(),
      );
      for (const { connect, topics } of sockets) {
        const number = connect?.clientId.split('-').at(-1);
        assert.deepEqual(topics, [`to/${number}`]);
        assert.deepEqual(
          [connect?.level, connect?.isClean, connect?.keepAlive, connect?.user, connect?.password],
          [level, true, 90, `u${number}`, 'secret'],
        );
      }
      await until('each is probed twice', () => sockets.every(({ pings }) => pings >= 2));
      await until('and all are answered', () => run.stats().probesAnswered >= 120);
      assert.deepEqual(run.stats().dropped, {});
      await run.stop();
    });
  }

  test(`${engine}: what is closed in order says DISCONNECT first, so that no broker takes it for lost`, async () => {
    const { port, sockets } = await broker(friendly);
    const quiet = { probeEveryMs: null, close: 'fin', engine } as const;
    const run = new EngineRun(mqttSpec(port, 40, { keepAliveSec: 0 }, quiet));
    await run.open();
    await run.stop();
    await until('each says goodbye', () => sockets.every(({ disconnects }) => disconnects === 1));
  });
}

interface Refusal {
  readonly what: string;
  readonly level?: 4 | 5;
  readonly answer: Buffer;
  readonly detail: string;
}

const REFUSALS: readonly Refusal[] = [
  ...[1, 2, 3, 4, 5].map((code, index) => ({
    what: `the return code ${code} of 3.1.1`,
    level: 4 as const,
    answer: packet(0x20, 0, code),
    detail: `mqtt CONNACK ${code}: ${['unacceptable protocol version', 'identifier rejected', 'server unavailable', 'bad user name or password', 'not authorized'][index]}`,
  })),
  {
    what: 'the reason code 0x86 of 5',
    answer: packet(0x20, 0, 0x86, 0),
    detail: 'mqtt CONNACK 134: bad user name or password',
  },
  {
    what: 'a broker that only knows 3.1.1',
    answer: packet(0x20, 0, 1),
    detail: 'mqtt CONNACK 1: unacceptable protocol version',
  },
  {
    what: 'a code that there is not',
    answer: packet(0x20, 0, 0xfe, 0),
    detail: 'mqtt CONNACK 254: a code that MQTT does not have',
  },
  {
    what: 'a PUBLISH in place of CONNACK',
    answer: packet(0x30, text('t')),
    detail: 'mqtt a PUBLISH in place of CONNACK',
  },
  {
    what: 'HTTP',
    answer: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
    detail: 'mqtt HTTP on this port: use http:// or ws://',
  },
  {
    what: 'a TLS alert',
    answer: Buffer.from([21, 3, 3, 0, 2, 2, 10]),
    detail: 'mqtt TLS on this port: use mqtts://',
  },
];

for (const { what, level = 5, answer, detail } of REFUSALS) {
  test(`${what}: each connect is a failed handshake with its reason in words`, async () => {
    const { port, sockets } = await broker(({ socket }) => socket.end(answer));
    const run = new EngineRun(mqttSpec(port, 7, { level }));
    const stats = await run.open();
    assert.deepEqual(stats.failed, { handshake: 7 });
    assert.deepEqual(stats.troubles, { [detail]: 7 });
    assert.equal(sockets.length, 7);
    await run.stop();
  });
}

test('the words of a broker go to the evidence', async () => {
  const words = text('the fleet is full');
  const { port } = await broker(({ socket }) =>
    socket.write(packet(0x20, 0, 0x97, words.length + 1, 0x1f, words)),
  );
  const run = new EngineRun(mqttSpec(port, 3, {}));
  const stats = await run.open();
  assert.deepEqual(stats.troubles, { 'mqtt CONNACK 151: quota exceeded': 3 });
  assert.equal(stats.evidence?.said.texts[0]?.text, 'CONNACK 151: quota exceeded: the fleet is full');
  await run.stop();
});

test('a subscription that is not granted is a failed handshake, before the connection counts as open', async () => {
  const { port } = await broker((self, type) => {
    if (type === SUBSCRIBE) self.socket.write(packet(0x90, 0, 1, 0, 0x87));
    else friendly(self, type);
  });
  const run = new EngineRun(mqttSpec(port, 5, { subscribe: 'secret/#' }));
  const stats = await run.open();
  assert.deepEqual([stats.established, stats.failed], [0, { handshake: 5 }]);
  assert.deepEqual(stats.troubles, { 'mqtt SUBACK 135: not authorized': 5 });
  await run.stop();
});

test('a session that another client takes over, and a broker that shuts down, are lost with their reason', async () => {
  const { port, sockets } = await broker(friendly);
  const run = new EngineRun(mqttSpec(port, 10, {}));
  await run.open();
  for (const [index, { socket }] of sockets.entries()) socket.end(packet(0xe0, index < 6 ? 0x8e : 0x8b, 0));
  await until('all are lost', () => run.stats().open === 0);
  assert.deepEqual(run.stats().dropped, { fin: 10 });
  assert.deepEqual(run.stats().troubles, {
    'mqtt DISCONNECT 142: session taken over: another connection has the same client id': 6,
    'mqtt DISCONNECT 139: server shutting down': 4,
  });
  await run.stop();
});

const FORBIDDEN: readonly (readonly [what: string, answer: Buffer, detail: string])[] = [
  ['a second CONNACK', packet(0x20, 0, 0, 0), 'mqtt a second CONNACK'],
  ['a PINGRESP that was not asked for', packet(0xd0), 'mqtt a PINGRESP without a PINGREQ'],
  ['a SUBACK that was not asked for', packet(0x90, 0, 1, 0, 0), 'mqtt a SUBACK without a SUBSCRIBE'],
  ['no MQTT at all', Buffer.from('HTTP/1.1 200 OK\r\n'), 'mqtt PUBACK, which no server sends to us'],
];

for (const [what, answer, detail] of FORBIDDEN) {
  test(`${what} ends an open connection as protocol`, async () => {
    const { port, sockets } = await broker(friendly);
    const run = new EngineRun(mqttSpec(port, 4, {}));
    await run.open();
    for (const { socket } of sockets) socket.write(answer);
    await until('all are lost', () => run.stats().open === 0);
    assert.deepEqual(run.stats().dropped, { protocol: 4 });
    assert.deepEqual(run.stats().troubles, { [detail]: 4 });
    await run.stop();
  });
}

/** How many probes each connection has sent when `totalMs` have passed in steps of a second, the first within one. */
async function pingsIn(
  totalMs: number,
  mqtt: Partial<MqttOptions>,
  connack: Buffer,
  probeEveryMs: number | null,
) {
  const clock = new ManualClock();
  const { port, sockets } = await broker((self, type) => {
    if (type === CONNECT) self.socket.write(connack);
    else friendly(self, type);
  });
  const run = new EngineRun(mqttSpec(port, 3, mqtt, { probeEveryMs, probeTimeoutMs: 600_000 }), clock);
  await run.open();
  for (let ms = 0; ms < totalMs; ms += 1_000) {
    run.advance(clock, 1_000);
    const { looks } = clock;
    await until('a turn has begun what is due', () => clock.looks > looks);
    await until('all are answered', () => run.stats().probesSent === run.stats().probesAnswered);
  }
  const pings = sockets.map((each) => each.pings);
  await run.stop();
  return pings;
}

test('a PINGREQ goes out before the keep alive is over, however rarely probes are asked for', async () => {
  const plain = packet(0x20, 0, 0, 0);
  // One within the first second, then one each 15 s.
  for (const pings of await pingsIn(61_000, { keepAliveSec: 20 }, plain, null))
    assert(pings >= 4 && pings <= 6, `${pings}`);
  for (const pings of await pingsIn(61_000, { keepAliveSec: 20 }, plain, 3_600_000))
    assert(pings >= 4 && pings <= 6, `${pings}`);
  for (const pings of await pingsIn(61_000, { keepAliveSec: 0 }, plain, 3_600_000)) assert.equal(pings, 1);
});

test('the keep alive that a broker of MQTT 5 sets stands in place of ours', async () => {
  const shorter = packet(0x20, 0, 0, 3, 0x13, 0, 4);
  // One each 3 s.
  for (const pings of await pingsIn(31_000, { keepAliveSec: 60 }, shorter, 3_600_000))
    assert(pings >= 9 && pings <= 12, `${pings}`);
});
