/** Owns `ws` for both ends of the control channel under simulation: the upgrade, and which sockets a server has. */
import { EventEmitter } from 'node:events';
import { type SimTls, SimWebSocket } from '../sim-socket.ts';
import { upgradeOf } from './tls.ts';

const UPGRADE_BYTES = 200;

/** The client's end that waits for an upgrade, by the server's socket. */
const asking = new WeakMap<SimTls, WebSocket>();

/** A client's end, as `ws` makes one. */
export class WebSocket extends SimWebSocket {
  constructor(_url: string, { createConnection }: { readonly createConnection: () => SimTls }) {
    const tls = createConnection();
    super('client', tls);
    const asked = upgradeOf(tls);
    tls.on('close', () => {
      // Not open yet: `ws` calls that an error.
      if (!this.#isOpen)
        this.emit('error', Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' }));
    });
    tls.on('error', () => {});
    this.on('open', () => {
      this.#isOpen = true;
    });
    if (asked === undefined) return;
    asking.set(asked.server, this);
    tls.wire?.toServer.send(UPGRADE_BYTES, () => asked.upgrade());
  }

  #isOpen = false;
}

/** A server's ends. */
export class WebSocketServer extends EventEmitter {
  readonly clients = new Set<SimWebSocket>();

  handleUpgrade(_request: object, tls: SimTls, _head: Buffer, then: (socket: SimWebSocket) => void): void {
    const client = asking.get(tls);
    if (client === undefined || tls.isGone) return;
    const server = new SimWebSocket('server', tls);
    this.clients.add(server);
    server.once('close', () => this.clients.delete(server));
    server.join(client);
    tls.wire?.toClient.send(UPGRADE_BYTES, () => {
      client.join(server);
      client.emit('open');
    });
    then(server);
  }

  close(): void {}
}
