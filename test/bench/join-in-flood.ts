/**
 * Owns the question how long an agent takes to join a coordinator that 3,000 connections without a token flood, again and
 * again. Must never count a join that was not heard by the server.
 */
import { connectChannel } from '../../src/control/client.ts';
import { PROTOCOL_VERSION } from '../../src/control/message.ts';
import { generateToken } from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';
import { ServerProcess } from '../support/control-peers.ts';
import { firstBytes, startFlood } from '../support/flood-entry.ts';
import { type Figure, figure } from './figure.ts';

const AT_ONCE = 3_000;
const JOINS = 4;
const RETRY_MS = 500;
const GIVE_UP_MS = 60_000;

/** Floods of each kind, with joins one after the other in each; the slowest counts. */
export async function measureJoinInFlood(): Promise<Figure[]> {
  const ends: (() => void)[] = [];
  const t = { after: (end: () => void) => void ends.push(end) };
  try {
    const token = generateToken();
    const server = new ServerProcess(t, token);
    const { port } = await server.saw('listening');
    const join = async (name: string): Promise<number> => {
      const beganMs = performance.now();
      for (;;) {
        try {
          const events = { onMessage: () => {}, onClose: () => {} };
          const channel = await connectChannel('127.0.0.1', port, token, events, 10_000, systemClock);
          const host = { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: process.version };
          channel.send({ type: 'hello', protocol: PROTOCOL_VERSION, name, host, resume: null });
          await server.saw('agent', (news) => news.name === name);
          channel.close();
          return performance.now() - beganMs;
        } catch (error) {
          if (performance.now() - beganMs > GIVE_UP_MS) throw error;
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    };
    await join('first');
    const kinds = [Buffer.alloc(0), await firstBytes(t, null), await firstBytes(t, generateToken())];
    const samples: number[] = [];
    for (const [kind, says] of kinds.entries()) {
      const flood = startFlood(t, port, AT_ONCE, says);
      for (let count = 1; count <= JOINS; count++) {
        await flood.opened(count * AT_ONCE);
        samples.push(Math.round(await join(`agent-${kind}-${count}`)));
      }
      await flood.stop();
    }
    return [
      figure({
        name: 'join-in-flood-ms',
        meaning: `an agent joins while ${AT_ONCE} connections at a time without its token flood the port: the slowest`,
        value: Math.max(...samples),
        unit: 'ms',
        bound: 2_000,
        boundIs: 'at-most',
        samples,
      }),
    ];
  } finally {
    for (const end of ends) end();
  }
}
