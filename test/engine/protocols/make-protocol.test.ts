/** Tests which protocol a spec asks for: what each does is tested beside it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS, PROTOCOL_NAMES, type ProtocolName } from '../../../src/base/endpoint.ts';
import { NO_TRAFFIC, type TrafficOptions } from '../../../src/base/traffic-options.ts';
import { makeProtocol, numbersOf } from '../../../src/engine/protocols/make-protocol.ts';
import type { ProtocolHost } from '../../../src/engine/protocols/protocol.ts';
import { specTo } from '../engine-run.ts';

const none = (): never => assert.fail('nothing is done before there is a connection');
const HOST: ProtocolHost = {
  capacity: 1,
  send: none,
  opened: none,
  verified: none,
  answered: none,
  answeredWrongly: none,
  lost: none,
  handOver: none,
  awake: none,
  transferred: none,
  said: none,
  probeAtLeastEvery: none,
};
const PARTS = {
  bound: { sourceIndex: none, port: none, endpointIndex: none },
  salt: 1,
  facts: { agent: 'a', source: none, port: none, connection: none, sequence: none, timeMs: none },
};

function madeFor(protocol: ProtocolName, banner: string | null, traffic?: TrafficOptions): string {
  const options = { ...DEFAULT_PROTOCOL_OPTIONS, banner, ...(traffic === undefined ? {} : { traffic }) };
  return makeProtocol(HOST, specTo(1, 1, { protocol, protocolOptions: options }), PARTS).constructor.name;
}

test('each protocol has its own, and what connections say has another where it takes the place of a probe', () => {
  assert.deepEqual(Object.fromEntries(PROTOCOL_NAMES.map((name) => [name, madeFor(name, null)])), {
    tcp: 'SilentProtocol',
    echo: 'EchoProtocol',
    whoami: 'WhoamiProtocol',
    ws: 'WsProtocol',
    http: 'HttpProtocol',
    mqtt: 'MqttProtocol',
    tls: 'TlsLayer',
    wss: 'TlsLayer',
    https: 'TlsLayer',
    mqtts: 'TlsLayer',
  });
  assert.equal(madeFor('tcp', ''), 'BannerProtocol');
  assert.equal(madeFor('tcp', null, NO_TRAFFIC), 'TalkProtocol');
  assert.equal(madeFor('echo', null, NO_TRAFFIC), 'TalkProtocol');
  assert.equal(madeFor('ws', null, NO_TRAFFIC), 'WsProtocol');
});

test('an agent is named without the number of its holder', () => {
  assert.deepEqual(numbersOf(specTo(1, 1, { id: 'vm/2/13' })), { agent: 'vm/2', from: 0 });
  assert.deepEqual(numbersOf(specTo(1, 1, { id: 'local/0', connectionsFrom: 7 })), {
    agent: 'local',
    from: 7,
  });
});
