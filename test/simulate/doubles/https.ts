/** Owns `node:https` for the control server under simulation: TLS is begun, and either has the key or not. */
import { EventEmitter } from 'node:events';
import type { Wire } from '../sim-network.ts';
import { SimTls } from '../sim-socket.ts';
import { currentWorld } from '../world.ts';

interface ServerOptions {
  readonly pskCallback: (socket: SimTls, identity: string) => Buffer | null;
}

/** What a client asks of the server, at the server. */
export interface ServerDoor {
  /** @returns the server's socket; null: it does not know the key */
  handshake(wire: Wire, identity: string): SimTls | null;
  upgrade(tls: SimTls): void;
}

/** The listening server by its port. */
const doors = new WeakMap<object, ServerDoor>();

/** The door of a listener. */
export function doorOf(listener: object): ServerDoor | undefined {
  return doors.get(listener);
}

class SimServer extends EventEmitter {
  readonly #options: ServerOptions;
  #port = 0;
  maxConnections = 0;
  readonly #open = new Set<SimTls>();

  constructor(options: ServerOptions) {
    super();
    this.#options = options;
    this.on('connection', (socket: SimTls) => this.emit('secureConnection', socket));
  }

  listen({ port }: { readonly port: number }, onListening: () => void): void {
    const world = currentWorld();
    this.#port = port;
    const listener = { process: world.time.current, accept: () => {} };
    doors.set(listener, {
      handshake: (wire, identity) => this.#handshake(wire, identity),
      upgrade: (tls) => void this.emit('upgrade', {}, tls, Buffer.alloc(0)),
    });
    world.network.listen(port, listener);
    world.time.after(1, world.time.current, onListening);
  }

  #handshake(wire: Wire, identity: string): SimTls | null {
    const tls = new SimTls('server', wire.client.host, currentWorld().nextPid());
    tls.attach(wire);
    tls.on('error', () => {});
    if (this.#options.pskCallback(tls, identity) === null) return null;
    this.#open.add(tls);
    tls.on('close', () => this.#open.delete(tls));
    this.emit('connection', tls);
    return tls;
  }

  address(): { address: string; port: number } {
    return { address: '10.0.0.1', port: this.#port };
  }

  close(onClosed: () => void): void {
    const world = currentWorld();
    world.network.unlisten(this.#port);
    world.time.after(1, world.time.current, onClosed);
  }

  closeAllConnections(): void {
    for (const tls of [...this.#open]) tls.destroy();
  }
}

/** As `node:https` has it. */
export function createServer(options: ServerOptions): SimServer {
  return new SimServer(options);
}
