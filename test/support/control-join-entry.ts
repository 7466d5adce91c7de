/**
 * Owns one try to join a control server, in a process of its own: on any Node, with any environment. Forked by a test; the
 * token comes over the environment, the port is the argument. It tells its parent how that ended, and ends.
 */
import { fileURLToPath } from 'node:url';
import { BenchError } from '../../src/base/errors.ts';
import { connectChannel } from '../../src/control/client.ts';
import { PROTOCOL_VERSION } from '../../src/control/message.ts';
import { parseToken } from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';

/** The compiled path of this program, to fork. */
export const CONTROL_JOIN_ENTRY = fileURLToPath(import.meta.url);

/** How it ended. */
export interface JoinNews {
  /** null: the channel was open, and hello was said */
  readonly code: string | null;
  readonly message: string;
}

async function join(port: number): Promise<JoinNews> {
  try {
    const channel = await connectChannel(
      '127.0.0.1',
      port,
      parseToken(process.env.C100K_TOKEN ?? ''),
      { onMessage: () => {}, onClose: () => {} },
      10_000,
      systemClock,
    );
    channel.send({
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      name: process.argv[3] ?? 'probe',
      host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: process.version },
      resume: null,
    });
    channel.close();
    return { code: null, message: '' };
  } catch (error) {
    return {
      code: error instanceof BenchError ? error.code : 'none',
      message: (error as Error).message,
    };
  }
}

if (process.argv[1] === CONTROL_JOIN_ENTRY) {
  process.send?.(await join(Number(process.argv[2])));
  process.disconnect();
}
