/** Owns `node:tls` for the control channel's client under simulation: one connect, with its handshake on the way. */
import { SimTls } from '../sim-socket.ts';
import { currentWorld } from '../world.ts';
import { doorOf } from './https.ts';

interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly pskCallback: () => { readonly identity: string };
}

const HELLO_BYTES = 500;
const REFUSED_MS = 1;

/** As `node:tls` has it. */
export function connect({ host, port, pskCallback }: ConnectOptions): SimTls {
  const world = currentWorld();
  const { time, network } = world;
  const process = time.current;
  const tls = new SimTls('client', host, port);
  const fail = (message: string, code: string): void => {
    if (!tls.isGone) tls.destroy(Object.assign(new Error(message), { code }));
  };
  const found = network.connect(port);
  if (found === null) {
    time.after(REFUSED_MS, process, () => fail(`connect ECONNREFUSED ${host}:${port}`, 'ECONNREFUSED'));
    return tls;
  }
  const { wire, listener } = found;
  tls.attach(wire);
  // A connection that is gone before the handshake was over is an error of it.
  wire.onGone.client = () => {
    const error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
    tls.gone(error);
  };
  wire.toServer.send(HELLO_BYTES, () => {
    const { identity } = pskCallback();
    const server = doorOf(listener)?.handshake(wire, identity) ?? null;
    wire.toClient.send(HELLO_BYTES, () => {
      if (server === null) {
        fail('tlsv1 alert unknown psk identity', 'ERR_SSL_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY');
        return;
      }
      peers.set(tls, { server, listener });
      tls.emit('secureConnect');
    });
  });
  return tls;
}

/** The other end of a client's session. */
const peers = new WeakMap<SimTls, { readonly server: SimTls; readonly listener: object }>();

/** Asks the server for the upgrade. */
export function upgradeOf(tls: SimTls): { readonly server: SimTls; upgrade(): void } | undefined {
  const peer = peers.get(tls);
  if (peer === undefined) return undefined;
  return { server: peer.server, upgrade: () => doorOf(peer.listener)?.upgrade(peer.server) };
}
