/**
 * Owns which protocol a run's connections speak, and what it is given. Must never speak itself.
 */
import { DEFAULT_PROTOCOL_OPTIONS, defaultPortOf, hasPath, isMqtt, isTls } from '../../base/endpoint.ts';
import { DEFAULT_MQTT_OPTIONS } from '../../base/session-options.ts';
import type { HolderSpec } from '../../run/run-spec.ts';
import { type BackendTally, withBackends } from './backend.ts';
import { EchoProtocol } from './echo.ts';
import { HttpProtocol } from './http.ts';
import { authorityOf } from './http-head.ts';
import type { MessageFacts } from './message-renderer.ts';
import type { MessagesOf } from './messages.ts';
import { type ConnectionNumbers, MqttProtocol } from './mqtt.ts';
import type { Protocol, ProtocolHost } from './protocol.ts';
import { TalkProtocol } from './talk.ts';
import { BannerProtocol, SilentProtocol } from './tcp.ts';
import { TlsLayer } from './tls-layer.ts';
import { type BoundTuples, SeenTally, WhoamiProtocol } from './whoami.ts';
import { type RequestTarget, WsProtocol } from './ws.ts';

/** What protocols know of connections. */
interface ProtocolParts {
  /** what a slot's connection was bound to */
  readonly bound: BoundTuples;
  /** 32 bits that differ between processes */
  readonly salt: number;
  /** what messages may say */
  readonly facts: MessageFacts;
  /** who counts back ends; absent or null: nothing is looked for */
  readonly backends?: BackendTally | null;
}

/** The protocol of a run. @throws Error from OpenSSL when a CA, a certificate or a key is no PEM */
export function makeProtocol(
  host: ProtocolHost,
  spec: HolderSpec,
  { bound, salt, facts, backends = null }: ProtocolParts,
): Protocol {
  if (spec.protocol === 'whoami') return new WhoamiProtocol(host, new SeenTally(spec), bound, backends);
  const { endpointIndex } = bound;
  const options = spec.protocolOptions ?? DEFAULT_PROTOCOL_OPTIONS;
  const { traffic } = options;
  const isEcho = spec.protocol === 'echo';
  const said = traffic === undefined ? null : { traffic, facts, salt, isEcho };
  const plain = (inner: ProtocolHost): Protocol => {
    const protocol = plainProtocol(inner, spec, endpointIndex, salt, said);
    return backends === null ? protocol : withBackends(protocol, backends);
  };
  if (!isTls(spec.protocol)) return plain(host);
  const layer = {
    options,
    closesGently: spec.close === 'fin',
    address: (slot: number) => spec.endpoints[endpointIndex(slot)]!.address,
    endpoint: endpointIndex,
    connectionsFrom: numbersOf(spec).from,
    alpn: options.tls.alpn ?? (isMqtt(spec.protocol) ? [] : ['http/1.1']),
    isHttp: hasPath(spec.protocol),
  };
  return new TlsLayer(host, layer, plain);
}

function plainProtocol(
  host: ProtocolHost,
  spec: HolderSpec,
  endpointIndex: (slot: number) => number,
  salt: number,
  said: MessagesOf | null,
): Protocol {
  const options = spec.protocolOptions ?? DEFAULT_PROTOCOL_OPTIONS;
  const defaultPort = defaultPortOf(spec.protocol) ?? 0;
  const authorities = spec.endpoints.map(
    ({ address, port }) => options.hostHeader ?? authorityOf(options.host ?? address, port, defaultPort),
  );
  const target: RequestTarget = { options, authority: (slot) => authorities[endpointIndex(slot)]! };
  switch (spec.protocol) {
    case 'echo':
      return said === null ? new EchoProtocol(host, salt) : new TalkProtocol(host, said);
    case 'ws':
    case 'wss':
      return new WsProtocol(host, salt, target, said);
    case 'http':
    case 'https':
      return new HttpProtocol(host, target);
    case 'mqtt':
    case 'mqtts':
      return new MqttProtocol(host, options.mqtt ?? DEFAULT_MQTT_OPTIONS, numbersOf(spec));
    default:
      if (said !== null) return new TalkProtocol(host, said);
      return options.banner === null ? new SilentProtocol(host) : new BannerProtocol(host, options.banner);
  }
}

/** How the connections of a holder are numbered. */
export function numbersOf({ id, connectionsFrom }: HolderSpec): ConnectionNumbers {
  // The name of an agent may hold a slash; the number of its holder comes after the last one.
  return { agent: id.replace(/\/\d+$/, ''), from: connectionsFrom ?? 0 };
}
