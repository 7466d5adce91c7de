/**
 * Owns an agent that says whatever a test types: it proves its key on a real socket and then sends text, checked by nobody.
 * Must never go through the program's own client, which keeps to its bounds.
 */
import { WebSocket } from 'ws';
import type { Token } from '../../src/control/token.ts';
import { handshake } from '../support/refused-clients.ts';
import { settled } from '../support/waiting.ts';

/** How the coordinator ended it. */
export interface RawEnd {
  readonly code: number;
  readonly reason: string;
}

export interface Heard {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Stats of an agent that has nothing: the fields that a message must have. */
export function rawStats(change: object = {}): object {
  const zeros = [
    'attempted',
    'established',
    'open',
    'openAtHold',
    'openMin',
    'verified',
    'verifiedMin',
    'pending',
    'closed',
    'unattempted',
    'lossDetailsCut',
    'youngDrops',
    'resetsOnProbe',
    'probeTimeoutsAcked',
    'dropBurstMax',
    'reopened',
    'reopenFailed',
    'synRetransmits',
    'retransmittedConnects',
    'bytesIn',
    'bytesOut',
    'probesSent',
    'probesAnswered',
    'rampMs',
  ];
  const tables = ['failed', 'dropped', 'localSkips', 'droppedBy', 'openBySource', 'openByEndpoint'];
  return {
    ...Object.fromEntries(zeros.map((name) => [name, 0])),
    ...Object.fromEntries(tables.map((name) => [name, {}])),
    connectUs: [],
    connectFromIntendedUs: [],
    probeUs: [],
    ...change,
  };
}

/** One such agent. */
export class RawAgent {
  readonly heard: Heard[] = [];
  readonly ended: Promise<RawEnd>;
  readonly #socket: WebSocket;
  readonly #waiting = new Set<() => void>();

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    this.ended = new Promise((resolve) => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    socket.on('message', (data) => {
      this.heard.push(JSON.parse(data.toString()) as Heard);
      for (const look of this.#waiting) look();
    });
  }

  /** The handshake, and `hello`. @param hello changes it */
  static async join(port: number, token: Token, hello: object = {}): Promise<RawAgent> {
    const tls = await handshake(port, token);
    const socket = new WebSocket('ws://coordinator/agent', {
      createConnection: () => tls,
      perMessageDeflate: false,
    });
    socket.on('error', () => {});
    const agent = new RawAgent(socket);
    await new Promise((resolve) => socket.once('open', resolve));
    agent.say({
      type: 'hello',
      protocol: '1.0',
      name: 'liar',
      host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
      resume: null,
      ...hello,
    });
    return agent;
  }

  /** Sends a message, or a text as it is. */
  say(message: object | string): void {
    this.#socket.send(typeof message === 'string' ? message : JSON.stringify(message), () => {});
  }

  /**
   * The first message of a type.
   * @throws Error naming it when none comes: its link may have ended
   */
  async hears(type: string): Promise<Heard> {
    for (;;) {
      const found = this.heard.find((each) => each.type === type);
      if (found !== undefined) return found;
      const more = new Promise<void>((resolve) => {
        const look = (): void => {
          this.#waiting.delete(look);
          resolve();
        };
        this.#waiting.add(look);
      });
      await settled(`a message "${type}"`, more);
    }
  }

  offer(connectionsMax: number, change: object = {}): void {
    const plan = { boundBy: 'tuples', findings: [], sources: ['127.0.0.1'], notes: [] };
    this.say({ type: 'offer', connectionsMax, ...plan, ...change });
  }

  ready(change: object = {}): void {
    this.say({ type: 'ready', sources: ['127.0.0.1'], holders: 1, findings: [], notes: [], ...change });
  }

  stats(quota: number, stats: object, change: object = {}): void {
    const message = { type: 'stats', epoch: 1, sentAtMs: 1, quota, holders: [], settled: true, kernel: [] };
    this.say({ ...message, stats: rawStats(stats), ...change });
  }

  done(stats: object, change: object = {}): void {
    const message = { type: 'done', epoch: 1, holders: [], kernel: [], evidence: null, notes: [] };
    this.say({ ...message, stats: rawStats(stats), ...change });
  }

  leave(): void {
    this.#socket.terminate();
  }
}

/** Stats of an agent that holds all of its quota. */
export function holding(quota: number): object {
  return { attempted: quota, established: quota, open: quota, openAtHold: quota, openMin: quota };
}
