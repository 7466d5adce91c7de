/**
 * Owns a control server in a process of its own, for tests that attack it, stop it, or run it on another Node. Forked by a
 * test; the token comes over the environment. It tells its parent where it listens, who came, and what it refused.
 * Must never know what a run is.
 */
import { fileURLToPath } from 'node:url';
import { ControlServer } from '../../src/control/server.ts';
import { knownKeyOf, parseToken } from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';

/** Between two looks at the bytes of its buffers. */
const LOOK_EVERY_MS = 10;
/** After its parent has gone. */
const ENDS_WITHIN_MS = 5_000;

/** The compiled path of this program, to fork. */
export const CONTROL_SERVER_ENTRY = fileURLToPath(import.meta.url);

/** What it tells. */
export type ControlServerNews =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'agent'; readonly name: string; readonly identity: string }
  /** so many messages of an agent so far, `hello` not counted; and the most bytes of buffers that this process had at once */
  | {
      readonly type: 'heard';
      readonly name: string;
      readonly count: number;
      readonly buffersMax: number;
    }
  | { readonly type: 'closed'; readonly name: string; readonly problem: string | null; readonly end: string };

/** What it is told: how far its wall clock goes ahead. */
export interface ClockOrder {
  readonly aheadMs: number;
}

async function main(): Promise<void> {
  const master = parseToken(process.env.C100K_TOKEN ?? '');
  let aheadMs = 0;
  process.on('message', (order: ClockOrder) => {
    aheadMs = order.aheadMs;
    process.send?.('set');
  });
  const tell = (news: ControlServerNews): void => void process.send?.(news);
  let buffersMax = 0;
  const look = (): void => {
    buffersMax = Math.max(buffersMax, process.memoryUsage().arrayBuffers);
  };
  setInterval(look, LOOK_EVERY_MS).unref();
  const server = new ControlServer({
    clock: systemClock,
    host: '127.0.0.1',
    port: 0,
    keyFor: (identity) => knownKeyOf(master, identity, Date.now() + aheadMs),
    onRefused: (reason) => tell({ type: 'refused', reason }),
    onAgent: (_channel, { name }, identity) => {
      let count = 0;
      tell({ type: 'agent', name, identity });
      return {
        onMessage: () => {
          look();
          tell({ type: 'heard', name, count: ++count, buffersMax });
        },
        onClose: (problem, end) => tell({ type: 'closed', name, problem, end }),
      };
    },
  });
  const { port } = await server.listen();
  tell({ type: 'listening', port });
  process.on('disconnect', () => {
    void server.close();
    // A test whose runner was ended waits for nothing any more, whatever a channel of this server still waits for.
    setTimeout(() => process.exit(), ENDS_WITHIN_MS).unref();
  });
}

if (process.argv[1] === CONTROL_SERVER_ENTRY) await main();
