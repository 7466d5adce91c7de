/**
 * Owns a client as one writes it with `node:net`: so many connections at a time until all are open, then it waits for its end.
 *
 *   node peer-net-client.js PORT CONNECTIONS PENDING_MAX
 */
import { connect, type Socket } from 'node:net';

const [port, connections, pendingMax] = process.argv.slice(2).map(Number) as [number, number, number];
const open: Socket[] = [];
let begun = 0;
let pending = 0;

function next(): void {
  for (; pending < pendingMax && begun < connections; begun++, pending++) {
    const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.1' });
    socket.once('connect', () => {
      open.push(socket);
      pending--;
      next();
    });
    // No port or no descriptor is left: it is not tried again.
    socket.once('error', () => {
      pending--;
      setImmediate(next);
    });
  }
}

process.on('disconnect', () => process.exit());
next();
