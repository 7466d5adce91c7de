/**
 * Owns contact with agents: who is let in under which session, what becomes of a channel that closes, and each message as
 * an event for the reducer; and what is sent to each, at first and again after a cut. Must never decide what an event means for the run (run/run-state.ts).
 */
import type { Clock } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import type { Channel, ChannelEvents } from '../control/channel.ts';
import type { TurnedAway } from '../control/gate.ts';
import type { AgentMessage, AgentMessageOf, CoordinatorMessage } from '../control/message.ts';
import { type AgentRecord, type AgentSnapshot, isLive } from '../run/agent-record.ts';
import type { LeaseTimes } from '../run/lease.ts';
import type { AgentCommand, RunEvent } from '../run/run-event.ts';
import type { HostSpec, RunSpec, SharedSpec } from '../run/run-spec.ts';
import type { RunState } from '../run/run-transition.ts';
import { after } from '../time/timer.ts';
import {
  type AgentSession,
  type AgentSessions,
  type Credentials,
  resumeRefusal,
  wrongClaim,
} from './agent-session.ts';
import { joinedLine } from './arrivals.ts';
import type { RecordedMessage, RunOptions } from './run-settings.ts';

/** Lines about cuts and returns of one agent. */
const CONTACT_NOTES_MAX = 20;

/** For a channel that is closed already. */
const UNHEARD: ChannelEvents<AgentMessage> = { onMessage: () => {}, onClose: () => {} };

/** The run around it. */
interface ContactShell {
  readonly state: () => RunState;
  readonly dispatch: (event: RunEvent) => void;
  /** one line for a person that the report keeps; `onNote` for one that it does not */
  readonly note: (line: string) => void;
  readonly onNote: (line: string) => void;
  readonly onTurnedAway: (who: TurnedAway) => void;
  /** whether an agent may not have this name */
  readonly isImpostor: (name: string, identity: string) => boolean;
  /** something came from an agent, whatever it is */
  readonly onHeard: (id: string) => void;
  /** numbers came; before they are in its record */
  readonly onStats: (agent: AgentRecord, stats: AgentMessageOf<'stats'>['stats'], atMs: number) => void;
  readonly onLosses: (agent: AgentRecord, session: AgentSession, message: AgentMessageOf<'losses'>) => void;
}

interface ContactOptions {
  readonly clock: Clock;
  readonly runId: string;
  readonly lease: LeaseTimes;
  /** what several agents may say must say which one said it */
  readonly namesFindings: boolean;
  /** agents that are expected to join from elsewhere; 0: the only one is no change */
  readonly remoteAgents: number;
}

/** The contact of one run with all of its agents. */
export class AgentContact {
  readonly #options: ContactOptions;
  readonly #sessions: AgentSessions;
  readonly #sender: CommandSender;
  readonly #shell: ContactShell;

  constructor(options: ContactOptions, sessions: AgentSessions, sender: CommandSender, shell: ContactShell) {
    this.#options = options;
    this.#sessions = sessions;
    this.#sender = sender;
    this.#shell = shell;
  }

  /** A new channel: a new agent, or one that is back after a cut. */
  welcome(
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
    identity: string,
    from: string,
  ): ChannelEvents<AgentMessage> {
    const { resume, name, secret } = hello;
    const credentials = { identity, secret };
    if (resume !== null) return this.#takeBack(channel, hello, resume, credentials, from);
    const refusal = this.#nameRefusal(name, identity);
    if (refusal !== null) {
      this.#shell.onTurnedAway({ from, name, why: refusal });
      channel.close(refusal);
      return UNHEARD;
    }
    this.#forgetCut(name, from);
    const session = this.#sessions.add(name, credentials, channel, from);
    this.#sender.record(session, hello);
    this.#dispatch({ type: 'agent-joined', agent: session.id, atMs: this.#nowMs() });
    if (this.#isLive(session)) this.#sayJoined(session);
    return this.#eventsOf(session, channel);
  }

  /**
   * Why one that is new may not have its name; null: it may. Two hosts may be called the same, and get a number each; the local
   * agent has sources that were typed for it, and a token with a name is good for one agent.
   */
  #nameRefusal(name: string, identity: string): string | null {
    if (this.#shell.isImpostor(name, identity))
      return `an agent named ${name} is already here; choose another --name`;
    return this.#sessions.isTokenInUse(identity)
      ? `an agent named ${name} is already here with this token; each agent needs its own`
      : null;
  }

  #sayJoined(session: AgentSession): void {
    const { agents, terms } = this.#shell.state();
    if (this.#options.remoteAgents === 0) return;
    this.#contactNote(session, joinedLine(session, agents.size, terms.agentsExpected));
  }

  #takeBack(
    channel: Channel<CoordinatorMessage>,
    hello: AgentMessageOf<'hello'>,
    resume: { readonly runId: string; readonly epoch: number },
    credentials: Credentials,
    from: string,
  ): ChannelEvents<AgentMessage> {
    const { runId } = this.#options;
    const session = resume.runId === runId ? this.#sessions.resumable(hello.name, resume.epoch) : undefined;
    const refusal = session === undefined ? null : resumeRefusal(session, credentials);
    if (refusal !== null) {
      this.#shell.onTurnedAway({ from, name: hello.name, why: refusal });
      channel.close(refusal);
      return UNHEARD;
    }
    const known = session === undefined ? undefined : this.#recordOf(session);
    if (session === undefined || known === undefined || known.stage === 'lost')
      return this.#endLease(channel);
    if (known.stage === 'done') {
      channel.close();
      return UNHEARD;
    }
    this.#sender.record(session, hello);
    const old = session.channel;
    session.channel = channel;
    old?.close();
    this.#contactNote(session, `agent ${session.id} is back`);
    this.#dispatch({ type: 'agent-resumed', agent: session.id, atMs: this.#nowMs() });
    return this.#eventsOf(session, channel);
  }

  /** Its lease is over here: whatever it still carries is not part of the run any more. */
  #endLease(channel: Channel<CoordinatorMessage>): ChannelEvents<AgentMessage> {
    channel.send({ type: 'stop', reason: 'lease-over' });
    after(this.#options.lease.leaseMs, () => channel.close('your lease is over'), { isUnref: true });
    return { onMessage: (message) => void (message.type === 'done' && channel.close()), onClose: () => {} };
  }

  /**
   * Before the quotas an agent that was started anew takes the place of the one that is cut off. One of the same name from elsewhere
   * is another host.
   */
  #forgetCut(name: string, from: string): void {
    const old = this.#sessions.get(name);
    if (old === undefined || old.channel !== null || old.from !== from) return;
    if (this.#shell.state().phase !== 'gathering') return;
    this.#dispatch({ type: 'agent-left', agent: old.id, atMs: this.#nowMs() });
  }

  #eventsOf(session: AgentSession, channel: Channel<CoordinatorMessage>): ChannelEvents<AgentMessage> {
    return {
      onMessage: (message) => {
        if (session.channel === channel) this.#take(session, message);
      },
      onClose: (problem, end) => {
        if (session.channel !== channel) return;
        if (end === 'violated') this.#expel(session, problem ?? 'it broke the protocol');
        else this.#cut(session, problem);
      },
    };
  }

  /** Contact is cut: the lease decides whether that is the end of it. */
  #cut(session: AgentSession, problem: string | null): void {
    session.channel = null;
    if (!this.#isLive(session)) return;
    const why = problem === null ? '' : ` (${problem})`;
    const leaseSec = this.#options.lease.leaseMs / 1000;
    this.#contactNote(
      session,
      `agent ${session.id}: contact is cut${why}; it has ${leaseSec} s to come back`,
    );
    this.#dispatch({ type: 'agent-cut', agent: session.id, atMs: this.#nowMs() });
  }

  /** It said what no agent of this protocol says: the run goes on without it, as `--on-agent-loss` has it. */
  #expel(session: AgentSession, problem: string): void {
    const { channel } = session;
    session.channel = null;
    channel?.close(problem);
    if (!this.#isLive(session)) return;
    this.#shell.note(`agent ${session.id} broke the protocol (${problem}): the run goes on without it`);
    this.#dispatch({ type: 'agent-left', agent: session.id, atMs: this.#nowMs() });
  }

  #isLive(session: AgentSession): boolean {
    const known = this.#recordOf(session);
    return known !== undefined && isLive(known) && this.#shell.state().phase !== 'ended';
  }

  #recordOf(session: AgentSession): AgentRecord | undefined {
    return this.#shell.state().agents.get(session.id);
  }

  #dispatch(event: RunEvent): void {
    this.#shell.dispatch(event);
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }

  /** A line for a person; an agent that comes and goes all the time does not fill the screen. */
  #contactNote(session: AgentSession, line: string): void {
    session.contactNotes += 1;
    if (session.contactNotes < CONTACT_NOTES_MAX) this.#shell.onNote(line);
    if (session.contactNotes === CONTACT_NOTES_MAX) {
      this.#shell.onNote(`agent ${session.id} comes and goes: further cuts are not shown`);
    }
  }

  #take(session: AgentSession, message: AgentMessage): void {
    this.#shell.onHeard(session.id);
    const known = this.#recordOf(session);
    if (known === undefined || known.stage === 'lost') return;
    const wrong = wrongClaim(message, { name: session.name, quota: known.quota });
    if (wrong !== null) {
      this.#expel(session, wrong);
      return;
    }
    this.#sender.record(session, message);
    // What belongs to an earlier session of this agent counts for nothing.
    if ('epoch' in message && message.epoch !== session.epoch) return;
    const atMs = this.#nowMs();
    if (message.type === 'stats') {
      this.#sender.send(session.id, { type: 'renew', sentAtMs: message.sentAtMs });
    }
    if (message.type === 'stats' || message.type === 'done') {
      this.#shell.onStats(known, message.stats, atMs);
    }
    if (message.type === 'losses') this.#shell.onLosses(known, session, message);
    const event = this.#eventOf(session.id, message, atMs);
    if (event !== null) this.#dispatch(event);
    // The agent waits for this: without it `done` would be said again after a new link.
    if (message.type === 'done') this.#sender.send(session.id, { type: 'counted' });
  }

  /** The run is over for all: whoever is done hears how it ended, and its channel is closed in order. @param verdict one line */
  end(verdict: string): void {
    for (const session of this.#sessions.all()) {
      if (session.channel === null || this.#recordOf(session)?.stage !== 'done') continue;
      this.#sender.send(session.id, { type: 'verdict', text: verdict });
      session.channel.close();
      session.channel = null;
    }
  }

  /** A message as an event; null for one that changes nothing of the run's state. */
  #eventOf(agent: string, message: AgentMessage, atMs: number): RunEvent | null {
    switch (message.type) {
      case 'hello':
      case 'losses':
        return null;
      case 'offer': {
        const { connectionsMax: capacity, boundBy, engine = null, sources, findings, notes } = message;
        return { type: 'agent-offered', atMs, agent, capacity, boundBy, engine, sources, findings, notes };
      }
      case 'refuse':
        return { type: 'agent-refused', atMs, agent, findings: this.#named(message.findings, agent) };
      case 'ready': {
        const { engine = null, sources, findings, notes } = message;
        return { type: 'agent-ready', atMs, agent, engine, sources, findings, notes };
      }
      case 'stats': {
        const { settled, quota } = message;
        return {
          type: 'agent-reported',
          atMs,
          agent,
          quota,
          settled,
          snapshot: this.#snapshotOf(agent, message),
        };
      }
      case 'done': {
        const { evidence, notes } = message;
        return {
          type: 'agent-done',
          atMs,
          agent,
          evidence,
          notes,
          snapshot: this.#snapshotOf(agent, message),
        };
      }
    }
  }

  /** @param agent its kernel's counts are under its own name, whatever it says */
  #snapshotOf(
    agent: string,
    { stats, holders, kernel }: AgentMessageOf<'stats'> | AgentMessageOf<'done'>,
  ): AgentSnapshot {
    const { name = agent } = this.#sessions.get(agent) ?? {};
    return {
      stats: { ...stats, recentLosses: stats.recentLosses ?? [] },
      // Of two agents of one name each has a holder `name/0`.
      holders:
        name === agent ? holders : holders.map((one) => ({ ...one, id: holderOf(agent, name, one.id) })),
      kernel: kernel.map((count) => ({ ...count, agent })),
    };
  }

  #named(findings: readonly Finding[], agent: string): readonly Finding[] {
    if (!this.#options.namesFindings) return findings;
    return findings.map((finding) => ({ ...finding, message: `agent ${agent}: ${finding.message}` }));
  }
}

/** A holder's id under what the run calls its agent. @param name as the agent calls itself */
export function holderOf(agent: string, name: string, holder: string): string {
  return holder.startsWith(`${name}/`) ? `${agent}${holder.slice(name.length)}` : holder;
}

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
        const { connections, ratePerSec, pendingMax, shares } = command;
        const message = { type: 'quota', connections, ratePerSec, pendingMax } as const;
        this.send(agent, shares === undefined ? message : { ...message, shares });
        break;
      }
      case 'send-resumed':
        this.send(agent, { type: 'resumed' });
        break;
      case 'send-start':
        this.send(
          agent,
          command.elapsedMs === 0 ? { type: 'start' } : { type: 'start', elapsedMs: command.elapsedMs },
        );
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
      takesGrowth: true,
      // An agent of before this field would not mind it.
      ...(session.id === session.name ? {} : { agent: session.id }),
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
const OF_NO_HOST: Pick<HostSpec, 'sources' | 'holders'> = {
  sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
  holders: null,
};

/** What every agent is sent. What belongs to a host stays here: the local agent has it from its parent. */
function toWire({ sources: _, holders: __, engine: ___, ...shared }: RunSpec): SharedSpec {
  return { ...shared, ...OF_NO_HOST };
}
