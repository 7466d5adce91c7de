/**
 * Owns the peer that fills a target with connections in a run of `serve`: one process for all runs of a lab, because a run of the program
 * as the peer would cost three times what is under test. Each line on stdin asks for one round; a line on stdout says that it is over.
 * Must never judge what the target did.
 *
 *   node filler-entry.js PORT CONNECTIONS
 */
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const [port, connections] = process.argv.slice(2).map(Number);
/** So many are opened in one go. */
const BATCH = 10;
const BATCH_MS = 5;
/** A target that cannot answer, such as one that accepts nothing, is given up. */
const ANSWER_WITHIN_MS = 3_000;
const HOLD_MS = 200;
const SAID = 'are you there?\n';

/** Opens one, and asks until all came back once; settles also where it fails. */
function ask(sockets: Socket[]): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: port ?? 0 });
    let missing = SAID.length;
    sockets.push(socket);
    socket.setTimeout(ANSWER_WITHIN_MS, () => resolve());
    socket.on('connect', () => socket.write(SAID));
    socket.on('data', (bytes) => {
      missing -= bytes.length;
      if (missing <= 0) resolve();
    });
    socket.on('error', () => resolve());
    socket.on('close', () => resolve());
  });
}

async function round(): Promise<void> {
  const sockets: Socket[] = [];
  const asked: Promise<void>[] = [];
  for (let at = 0; at < (connections ?? 0); at += 1) {
    asked.push(ask(sockets));
    if (at % BATCH === BATCH - 1) await sleep(BATCH_MS);
  }
  await Promise.all(asked);
  await sleep(HOLD_MS);
  // A second message on those that are still there, and an end without waiting for the answer.
  for (const [at, socket] of sockets.entries()) {
    if (at % 2 === 0) socket.end(SAID);
    else socket.destroy();
  }
  await sleep(HOLD_MS);
  for (const socket of sockets) socket.destroy();
}

for await (const _line of createInterface({ input: process.stdin })) {
  await round();
  process.stdout.write('over\n');
}
