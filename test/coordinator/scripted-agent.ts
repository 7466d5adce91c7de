/**
 * Owns an agent without holders and without a host: it joins over a real channel on loopback and says what a test tells
 * it to say. Must never retry: an agent that comes back is a new one.
 */
import type { Channel, ChannelEnd } from '../../src/control/channel.ts';
import { connectChannel } from '../../src/control/client.ts';
import {
  type AgentMessage,
  type AgentMessageOf,
  type CoordinatorMessage,
  type CoordinatorMessageOf,
  PROTOCOL_VERSION,
} from '../../src/control/message.ts';
import type { Token } from '../../src/control/token.ts';
import { emptyStats, newHolderHealth, type Stats } from '../../src/stats/stats.ts';
import { systemClock } from '../../src/time/timer.ts';

type Done = AgentMessageOf<'done'>;

export interface Script {
  readonly name?: string;
  readonly reportEveryMs: number;
  /** instead of an offer */
  readonly refusal?: AgentMessageOf<'refuse'>['findings'];
  readonly capacity?: number;
  /** changes the stats of each report; `reportsInHold` counts those since `hold`, 0 before it */
  readonly stats?: (usual: Stats, reportsInHold: number) => Stats;
  /** ends its channel without a word after so many reports in the hold */
  readonly vanishAfter?: number;
  /** changes the last word */
  readonly done?: (usual: Done) => Done;
}

/** One agent that has joined. */
export class ScriptedAgent {
  readonly heard: CoordinatorMessage['type'][] = [];
  /** the reason of `stop` */
  stopReason: string | null = null;
  end: ChannelEnd | null = null;
  quota = 0;
  readonly #script: Script;
  #channel: Channel<AgentMessage> | null = null;
  #epoch = 0;
  #timer: NodeJS.Timeout | null = null;
  #isRunning = false;
  #isHolding = false;
  #reportsInHold = 0;

  private constructor(script: Script) {
    this.#script = script;
  }

  static async join(port: number, token: Token, script: Script): Promise<ScriptedAgent> {
    const agent = new ScriptedAgent(script);
    const events = {
      onMessage: (message: CoordinatorMessage) => agent.#take(message),
      onClose: (_problem: string | null, end: ChannelEnd) => agent.#closed(end),
    };
    agent.#channel = await connectChannel('127.0.0.1', port, token, events, 5_000, systemClock);
    agent.#channel.send({
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      name: agent.#name,
      host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
      resume: null,
    });
    return agent;
  }

  get #name(): string {
    return this.#script.name ?? 'a';
  }

  #closed(end: ChannelEnd): void {
    this.end ??= end;
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  #take(message: CoordinatorMessage): void {
    if (message.type !== 'renew') this.heard.push(message.type);
    switch (message.type) {
      case 'spec':
        this.#offer(message);
        break;
      case 'quota':
        this.quota = message.connections;
        this.#channel?.send({ type: 'ready', sources: ['127.0.0.1'], holders: 1, findings: [], notes: [] });
        break;
      case 'start':
        this.#isRunning = true;
        this.#report();
        break;
      case 'hold':
        this.#isHolding = true;
        break;
      case 'stop':
        this.stopReason = message.reason;
        this.#sayDone();
        break;
    }
  }

  #offer({ epoch, spec }: CoordinatorMessageOf<'spec'>): void {
    this.#epoch = epoch;
    const { refusal, capacity = spec.connections, reportEveryMs } = this.#script;
    this.#timer = setInterval(() => this.#report(), reportEveryMs);
    if (refusal !== undefined) this.#channel?.send({ type: 'refuse', findings: refusal });
    else {
      const plan = { boundBy: 'tuples', findings: [], sources: ['127.0.0.1'], notes: [] };
      this.#channel?.send({ type: 'offer', connectionsMax: capacity, ...plan });
    }
  }

  /** Everything open at once, and held. */
  #stats(): Stats {
    const open = this.#isRunning ? this.quota : 0;
    const held = this.#isHolding ? open : 0;
    const usual: Stats = {
      ...emptyStats(),
      attempted: open,
      established: open,
      open,
      openAtHold: held,
      openMin: held,
      openBySource: { '127.0.0.1': open },
      connectUs: open === 0 ? [] : [100, open],
    };
    return this.#script.stats?.(usual, this.#reportsInHold) ?? usual;
  }

  #holders(): Done['holders'] {
    return [newHolderHealth(`${this.#name}/1`, 1, 1_000)];
  }

  #report(): void {
    const { vanishAfter } = this.#script;
    if (this.#isHolding) this.#reportsInHold += 1;
    if (vanishAfter !== undefined && this.#reportsInHold > vanishAfter) {
      this.leave();
      return;
    }
    this.#channel?.send({
      type: 'stats',
      epoch: this.#epoch,
      sentAtMs: systemClock.monotonicMs(),
      quota: this.quota,
      stats: this.#stats() as unknown as Done['stats'],
      holders: this.#holders(),
      settled: this.#isRunning,
      kernel: [],
    });
  }

  #sayDone(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    const { quota } = this;
    const usual: Done = {
      type: 'done',
      epoch: this.#epoch,
      stats: { ...this.#stats(), closed: quota } as unknown as Done['stats'],
      holders: this.#holders(),
      kernel: [
        {
          agent: this.#name,
          when: 'hold-end',
          established: quota,
          openBefore: quota,
          open: quota,
          method: 'ss',
        },
      ],
      evidence: null,
      notes: [],
    };
    this.#channel?.send(this.#script.done?.(usual) ?? usual);
  }

  /** Is gone without a last word. */
  leave(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#channel?.close();
    this.#channel = null;
  }
}
