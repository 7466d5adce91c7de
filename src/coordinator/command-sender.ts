/**
 * Owns what is said to agents: the reducer's commands as messages on their channels, and the record of every message.
 * Must never decide which agent is sent what, or wait for an answer.
 */
import type { AgentMessage, CoordinatorMessage } from '../control/message.ts';
import type { LeaseTimes } from '../run/lease.ts';
import type { AgentCommand } from '../run/run-event.ts';
import type { HostSpec, RunSpec, SharedSpec } from '../run/run-spec.ts';
import type { AgentSession, AgentSessions } from './agent-session.ts';
import type { RecordedMessage, RunOptions } from './run-settings.ts';

/** What one run sends to its agents. */
export class CommandSender {
  readonly #options: RunOptions;
  readonly #runId: string;
  readonly #lease: LeaseTimes;
  readonly #sessions: AgentSessions;

  constructor(options: RunOptions, runId: string, lease: LeaseTimes, sessions: AgentSessions) {
    this.#options = options;
    this.#runId = runId;
    this.#lease = lease;
    this.#sessions = sessions;
  }

  /** Says it to the agent; one that is away or gone hears nothing. */
  carryOut(command: AgentCommand): void {
    const { agent } = command;
    switch (command.type) {
      case 'send-spec':
        this.#sendSpec(agent);
        break;
      case 'send-quota': {
        const { connections, ratePerSec, pendingMax } = command;
        this.send(agent, { type: 'quota', connections, ratePerSec, pendingMax });
        break;
      }
      case 'send-resumed':
        this.send(agent, { type: 'resumed' });
        break;
      case 'send-start':
        this.send(agent, { type: 'start' });
        break;
      case 'send-stop-opening':
        this.send(agent, { type: 'stop-opening' });
        break;
      case 'send-hold':
        this.send(agent, { type: 'hold' });
        break;
      case 'send-stop':
        this.send(agent, { type: 'stop', reason: command.reason });
        break;
    }
  }

  #sendSpec(agent: string): void {
    const session = this.#sessions.get(agent);
    if (session === undefined) return;
    const { spec, onAgentLoss } = this.#options;
    this.send(agent, {
      type: 'spec',
      runId: this.#runId,
      epoch: session.epoch,
      spec: toWire(spec),
      mayGrow: onAgentLoss === 'replace',
      leaseMs: this.#lease.leaseMs,
      quietMs: this.#lease.quietMs,
    });
  }

  /** Sends one message, if the agent is in contact; recorded in any case. */
  send(agent: string, message: CoordinatorMessage): void {
    const session = this.#sessions.get(agent);
    if (session === undefined) return;
    this.record(session, message);
    session.channel?.send(message);
  }

  /** Notes a message, theirs or ours, for whoever checks the history of the run. */
  record(session: AgentSession, message: AgentMessage | CoordinatorMessage): void {
    const { onRecord, clock } = this.#options;
    if (onRecord === undefined) return;
    const { id: agent, epoch } = session;
    const recorded: RecordedMessage = { atMs: clock.monotonicMs(), agent, epoch, message };
    onRecord(recorded);
  }
}

/** An agent of version 1.0 insists on these. They are always empty, and a later one does not hear them. */
const OF_NO_HOST: HostSpec = {
  sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
  holders: null,
};

/** What every agent is sent. What belongs to a host stays here: the local agent has it from its parent. */
function toWire({ sources: _, holders: __, ...shared }: RunSpec): SharedSpec {
  return { ...shared, ...OF_NO_HOST };
}
