/**
 * Owns looking at the target's sockets from its own host while a run goes on: established, half open, and in its accept queue.
 * Must never ask the program, or the target's application.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../support/network.ts';
import type { RunningCli } from '../support/run-cli.ts';
import type { FarSide } from './expectation.ts';

const LOOK_EVERY_MS = 700;

interface Look {
  readonly taken: number;
  readonly waiting: number;
  readonly synReceived: number;
  readonly acceptQueue: number;
}

/** What `ss -Htane` says of the target's ports. A socket that no process has taken yet has no inode (`ino:0`). */
function lookOf(text: string): Look {
  const look = { taken: 0, waiting: 0, synReceived: 0, acceptQueue: 0 };
  for (const line of text.split('\n')) {
    const [state, received = '0'] = line.trim().split(/\s+/);
    if (state === 'ESTAB') look[/ ino:0\b/.test(line) ? 'waiting' : 'taken'] += 1;
    else if (state === 'SYN-RECV') look.synReceived += 1;
    else if (state === 'LISTEN') look.acceptQueue += Number(received);
  }
  return look;
}

/** Looks from its making until `end`. */
export class FarSideWatch {
  readonly #host: Host;
  readonly #filter: string;
  readonly #running: RunningCli;
  readonly #looking: Promise<void>;
  readonly #max = { taken: 0, waiting: 0, synReceived: 0, acceptQueue: 0 };
  #last: Look | null = null;
  #isOver = false;

  constructor(host: Host, ports: readonly number[], running: RunningCli) {
    this.#host = host;
    this.#filter = `( ${ports.map((port) => `sport = :${port}`).join(' or ')} )`;
    this.#running = running;
    this.#looking = ports.length === 0 ? Promise.resolve() : this.#look();
  }

  async #look(): Promise<void> {
    void this.#running.result.then(() => {
      this.#isOver = true;
    });
    while (!this.#isOver) {
      const isHolding = this.#isHolding();
      const { stdout } = await this.#host.run(['ss', '-Htane', this.#filter]);
      const look = lookOf(stdout);
      for (const key of ['taken', 'waiting', 'synReceived', 'acceptQueue'] as const)
        this.#max[key] = Math.max(this.#max[key], look[key]);
      // Only a look that both began and ended in the hold tells what was there in it.
      if (isHolding && this.#isHolding()) this.#last = look;
      await sleep(LOOK_EVERY_MS);
    }
  }

  #isHolding(): boolean {
    const text = this.#running.stderr();
    return /\bholding\b/.test(text) && !/\bdraining\b|\bended\b/.test(text);
  }

  async end(): Promise<FarSide> {
    await this.#looking;
    return {
      takenMax: this.#max.taken,
      takenLast: this.#last?.taken ?? null,
      waitingMax: this.#max.waiting,
      waitingLast: this.#last?.waiting ?? null,
      synReceivedMax: this.#max.synReceived,
      acceptQueueMax: this.#max.acceptQueue,
    };
  }
}
