/**
 * Owns the choice of a protocol by its name, and its layers. Must never hold state.
 */
import { DEFAULT_PROTOCOL_OPTIONS, defaultPortOf, isTls } from '../../base/endpoint.ts';
import type { HolderSpec } from '../../run/run-spec.ts';
import { EchoProtocol } from './echo.ts';
import { HttpProtocol } from './http.ts';
import { authorityOf } from './http-head.ts';
import type { Protocol, ProtocolHost } from './protocol.ts';
import { BannerProtocol, tcpProtocol } from './tcp.ts';
import { TlsLayer } from './tls-layer.ts';
import { type BoundTuples, SeenTally, WhoamiProtocol } from './whoami.ts';
import { type RequestTarget, WsProtocol } from './ws.ts';

/**
 * The protocol of a run.
 * @param bound what a slot's connection was bound to
 * @param salt 32 bits that differ between processes
 */
export function makeProtocol(
  host: ProtocolHost,
  spec: HolderSpec,
  bound: BoundTuples,
  salt: number,
): Protocol {
  if (spec.protocol === 'whoami') return new WhoamiProtocol(host, new SeenTally(spec), bound);
  const { endpointIndex } = bound;
  const options = spec.protocolOptions ?? DEFAULT_PROTOCOL_OPTIONS;
  if (!isTls(spec.protocol)) return plainProtocol(host, spec, endpointIndex, salt);
  const layer = {
    options,
    closesGently: spec.close === 'fin',
    address: (slot: number) => spec.endpoints[endpointIndex(slot)]!.address,
  };
  return new TlsLayer(host, layer, (inner) => plainProtocol(inner, spec, endpointIndex, salt));
}

function plainProtocol(
  host: ProtocolHost,
  spec: HolderSpec,
  endpointIndex: (slot: number) => number,
  salt: number,
): Protocol {
  const options = spec.protocolOptions ?? DEFAULT_PROTOCOL_OPTIONS;
  const defaultPort = defaultPortOf(spec.protocol) ?? 0;
  const authorities = spec.endpoints.map(
    ({ address, port }) => options.hostHeader ?? authorityOf(options.host ?? address, port, defaultPort),
  );
  const target: RequestTarget = { options, authority: (slot) => authorities[endpointIndex(slot)]! };
  switch (spec.protocol) {
    case 'echo':
      return new EchoProtocol(host, salt);
    case 'ws':
    case 'wss':
      return new WsProtocol(host, salt, target);
    case 'http':
    case 'https':
      return new HttpProtocol(host, target);
    default:
      return options.banner === null ? tcpProtocol : new BannerProtocol(host, options.banner);
  }
}
