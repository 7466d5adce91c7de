/**
 * Owns a target for command lines: a server of Node in the test's own process that counts what it holds.
 * Must never import the program.
 */
import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';

export class CountingServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #accepted = 0;
  /** the most that were open at once */
  openMax = 0;

  private constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      this.openMax = Math.max(this.openMax, this.#sockets.size);
      socket.on('error', () => {});
      this.#accepted += 1;
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  /** Listens on a free port of 127.0.0.1. */
  static async listen(): Promise<CountingServer> {
    const made = new CountingServer();
    await new Promise<void>((resolve) => {
      made.#server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 }, resolve);
    });
    return made;
  }

  /** Connections that were ever accepted. */
  get accepted(): number {
    return this.#accepted;
  }

  /** As `--target` takes it. */
  get target(): string {
    const address = this.#server.address();
    assert(address !== null && typeof address === 'object');
    return `127.0.0.1:${address.port}`;
  }

  get open(): number {
    return this.#sockets.size;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
