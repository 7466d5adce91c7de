/**
 * Owns a coordinator that says whatever a test wants, over the real channel: what the schema would not let it say too.
 * Must never follow the protocol by itself.
 */
import type { TestContext } from 'node:test';
import type { AgentMessage, CoordinatorMessage, CoordinatorMessageOf } from '../../src/control/message.ts';
import { ControlServer } from '../../src/control/server.ts';
import { formatToken, generateToken, knownKeyOf } from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';

/** One channel of an agent. */
export interface Victim {
  /** Says it, whatever it is. */
  say(message: object): void;
  /** Ends the channel with a reason, in words. */
  close(reason?: string): void;
}

export interface LyingCoordinator {
  readonly port: number;
  readonly tokenText: string;
  /** everything that agents said, in order */
  readonly heard: AgentMessage[];
  /** how each channel ended */
  readonly ends: string[];
  /** channels so far */
  links(): number;
  /** the findings of every `refuse`, as `what: message` */
  refusals(): string[];
}

/**
 * Starts one; it is closed after the test.
 * @param onHello a new channel
 * @param onMessage everything that an agent says after that
 */
export async function startLyingCoordinator(
  t: TestContext,
  onHello: (victim: Victim) => void,
  onMessage: (message: AgentMessage, victim: Victim) => void = renewing,
): Promise<LyingCoordinator> {
  const token = generateToken();
  const heard: AgentMessage[] = [];
  const ends: string[] = [];
  let links = 0;
  const server = new ControlServer({
    clock: systemClock,
    host: '127.0.0.1',
    port: 0,
    keyFor: (identity) => knownKeyOf(token, identity, Date.now()),
    onRefused: () => {},
    onAgent: (channel, hello) => {
      links += 1;
      heard.push(hello);
      const victim: Victim = {
        say: (message) => channel.send(message as CoordinatorMessage),
        close: (reason) => channel.close(reason),
      };
      onHello(victim);
      return {
        onClose: (problem, end) => void ends.push(`${end}: ${problem ?? ''}`),
        onMessage: (message) => {
          heard.push(message);
          onMessage(message, victim);
        },
      };
    },
  });
  t.after(() => server.close());
  const { port } = await server.listen();
  return {
    port,
    tokenText: formatToken(token),
    heard,
    ends,
    links: () => links,
    refusals: () =>
      heard.flatMap((message) =>
        message.type === 'refuse'
          ? message.findings.map(({ what, message: text }) => `${what}: ${text}`)
          : [],
      ),
  };
}

/** Answers each stats, so that the agent keeps its lease. */
export function renewing(message: AgentMessage, victim: Victim): void {
  if (message.type === 'stats') victim.say({ type: 'renew', sentAtMs: message.sentAtMs });
}

/** A `spec` as an honest coordinator says it, for 10 connections to 127.0.0.1. */
export function honestSpec(port: number): CoordinatorMessageOf<'spec'> {
  return {
    type: 'spec',
    runId: 'a-run',
    epoch: 1,
    spec: {
      endpoints: [{ address: '127.0.0.1', port, family: 4 }],
      protocol: 'tcp',
      connections: 10,
      ratePerSec: null,
      pendingMax: 100,
      connectTimeoutMs: 5_000,
      holdMs: 60_000,
      close: 'rst',
      probeEveryMs: null,
      probeTimeoutMs: 5_000,
      onDrop: 'count',
      wantsLossDetails: false,
    },
    mayGrow: false,
    leaseMs: 15_000,
    quietMs: 5_000,
  };
}

/** A `quota` as an honest coordinator says it. */
export function honestQuota(connections: number): CoordinatorMessageOf<'quota'> {
  return { type: 'quota', connections, ratePerSec: null, pendingMax: 100 };
}
