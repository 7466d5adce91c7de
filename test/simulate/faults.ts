/**
 * Owns what goes wrong in a simulated run: a list of faults that a seed draws, each with its time, and how each is done to the
 * world. Every one of them heals by itself, so that the run must end. Must never touch the program but through the world.
 */
import type { Phase } from '../../src/stats/stats.ts';
import { Answer, type ConnectAnswer } from './answers.ts';
import type { Random } from './random.ts';
import { sourceOf } from './sim-connections.ts';
import type { SimHolder } from './sim-holder.ts';
import type { IpMood } from './sim-ip.ts';
import type { SimProcess } from './virtual-time.ts';
import type { World } from './world.ts';

/** What the faults of a run are done to. */
export interface Cast {
  /** the one that coordinates now, or did last */
  readonly coordinator: SimProcess;
  /** the process of the agent on each host that serves now; undefined: none is there */
  agentOn(host: string): SimProcess | undefined;
  /** starts an agent anew on a host, under a name */
  startAgent(host: string, name: string): void;
  interrupt(): void;
  /** calls once, so long after a coordinator has next entered a phase */
  whenIn(phase: Phase, afterMs: number, call: () => void): void;
}

/** One fault. */
export interface Fault {
  readonly atMs: number;
  /** until when it lasts; the time itself for one that is over immediately */
  readonly endMs: number;
  /** in words */
  readonly what: string;
  /** it begins as the history does */
  readonly isFromTheStart?: boolean;
  begin(world: World, cast: Cast): void;
  end?(world: World, cast: Cast): void;
}

export const COORDINATOR_HOST = 'c';

type Drawn = Omit<Fault, 'atMs' | 'endMs'>;

function holdersOn(world: World, host: string): SimHolder[] {
  return world.holders.filter(({ process }) => process.host === host && process.state !== 'dead');
}

function partition(random: Random, host: string): Drawn {
  const way = random.of(['both ways', 'towards the coordinator', 'from the coordinator']);
  const pairs: [string, string][] = [];
  if (way !== 'from the coordinator') pairs.push([host, COORDINATOR_HOST]);
  if (way !== 'towards the coordinator') pairs.push([COORDINATOR_HOST, host]);
  return {
    what: `partition of ${host}, ${way}`,
    begin: ({ network }) => {
      for (const [from, to] of pairs) network.block(from, to);
    },
    end: ({ network }) => {
      for (const [from, to] of pairs) network.heal(from, to);
    },
  };
}

/** A route that flaps: answers stall, then what they answer stalls too, and then the answers come late. */
function flapping(random: Random, host: string): Drawn {
  const forMs = random.between(500, FLAP_MS_MAX);
  const messagesStallMs = random.between(100, forMs);
  return {
    what: `answers to ${host} stall for ${(forMs / 1_000).toFixed(1)} s, its messages from ${(messagesStallMs / 1_000).toFixed(1)} s on`,
    begin: ({ network, time, outside }) => {
      network.block(COORDINATOR_HOST, host);
      time.after(messagesStallMs, outside, () => network.block(host, COORDINATOR_HOST));
      time.after(forMs, outside, () => network.heal(COORDINATOR_HOST, host));
    },
    end: ({ network, time, outside }) => {
      // Not before it has begun.
      time.after(FLAP_MS_MAX, outside, () => network.heal(host, COORDINATOR_HOST));
    },
  };
}

/** What an agent says arrives as what no agent says: a liar, or a version that is none. */
function garbled(random: Random, host: string): Drawn {
  const text = random.of(GARBLED);
  return {
    what: `the next message of ${host} is ${text.slice(0, 30)}`,
    begin: ({ network }) => {
      for (const { toServer } of network.ofHost(host)) toServer.nextText = text;
    },
  };
}

function cut(random: Random, host: string): Drawn {
  const end = random.of<'both' | 'client' | 'server'>(['both', 'client', 'server']);
  return {
    what:
      end === 'both'
        ? `cut of ${host}`
        : `half-open connection of ${host}: only the ${end} learns of the cut`,
    begin: ({ network }) => {
      for (const wire of network.ofHost(host)) {
        if (end !== 'server') wire.lose('client');
        if (end !== 'client') wire.lose('server');
      }
    },
  };
}

function slowReader(random: Random, host: string): Drawn {
  const lane = random.of<'toServer' | 'toClient'>(['toServer', 'toClient']);
  const forMs = random.between(500, 20_000);
  return {
    what: `slow reader of ${host} (${lane}) for ${(forMs / 1_000).toFixed(1)} s`,
    begin: ({ network, time }) => {
      for (const wire of network.ofHost(host)) wire[lane].slowUntilMs = time.nowMs + forMs;
    },
  };
}

function stopped(random: Random, host: string): Drawn {
  const isHolder = random.isLucky(0.4);
  let some: SimProcess[] = [];
  return {
    what: `${isHolder ? 'a holder' : 'the agent'} on ${host} stopped`,
    begin: (world, cast) => {
      const agent = cast.agentOn(host);
      some = isHolder
        ? holdersOn(world, host)
            .slice(0, 1)
            .map(({ process }) => process)
        : agent
          ? [agent]
          : [];
      for (const process of some) world.time.stop(process);
    },
    end: (world) => {
      for (const process of some) world.time.go(process);
    },
  };
}

function killed(random: Random, host: string): Drawn {
  const isHolder = random.isLucky(0.5);
  const isStartedAgain = random.isLucky(0.5);
  return {
    what: isHolder
      ? `a holder on ${host} killed`
      : `the agent on ${host} killed${isStartedAgain ? ', and started again' : ''}`,
    begin: (world, cast) => {
      if (isHolder) holdersOn(world, host)[0]?.killBy('SIGKILL');
      else {
        cast.agentOn(host)?.die();
        world.host(host).mayLeaveAliases = true;
      }
      if (!isHolder && isStartedAgain)
        world.time.after(1_500, world.outside, () => cast.startAgent(host, host));
    },
  };
}

function coordinatorStopped(): Drawn {
  return {
    what: 'the coordinator stopped',
    begin: ({ time }, { coordinator }) => time.stop(coordinator),
    end: ({ time }, { coordinator }) => time.go(coordinator),
  };
}

function clockStep(random: Random, host: string): Drawn {
  const byMs = random.of([-3_600_000, -5_000, 5_000, 86_400_000]);
  return {
    what: `wall clock of ${host} stepped by ${byMs} ms`,
    begin: (world) => {
      world.host(host).wallStepMs += byMs;
    },
  };
}

function coordinatorKilled(): Drawn {
  return {
    what: 'the coordinator killed',
    begin: (_world, { coordinator }) => coordinator.die(),
  };
}

/** What its owner, or a service manager, does to it. */
function agentTold(random: Random, host: string): Drawn {
  const signal = random.of(['SIGINT', 'SIGTERM', 'SIGHUP']);
  return {
    what: `the agent on ${host} gets ${signal}`,
    begin: ({ time }, cast) => {
      const agent = cast.agentOn(host);
      if (agent !== undefined) time.after(0, agent, () => void agent.emit(signal));
    },
  };
}

const OF_TARGET = [Answer.refused, Answer.timedOut, Answer.reset, Answer.unreachable] as const;
const OF_HOST = [
  Answer.noDescriptors,
  Answer.noMemory,
  Answer.noBuffers,
  Answer.tupleInUse,
  Answer.sourceGone,
] as const;

function targetFails(random: Random): Drawn {
  const answer: ConnectAnswer = random.of<ConnectAnswer>(OF_TARGET);
  return {
    what: `the target answers connects with ${answer.name}`,
    begin: (world) => {
      world.connects = answer;
    },
    end: (world) => {
      world.connects = Answer.established;
    },
  };
}

function hostFails(random: Random, host: string): Drawn {
  const answer: ConnectAnswer = random.of<ConnectAnswer>(OF_HOST);
  return {
    what: `connects on ${host} fail with ${answer.name}`,
    begin: (world) => {
      world.host(host).connects = answer;
    },
    end: (world) => {
      world.host(host).connects = null;
    },
  };
}

function losses(random: Random): Drawn {
  const count = random.whole(1, 8);
  return {
    what: `the target resets up to ${count} connections of each holder`,
    begin: (world) => {
      for (const holder of world.holders) if (holder.process.state === 'running') holder.loseSome(count);
    },
  };
}

function ipFails(random: Random, host: string): Drawn {
  const mood = random.of<IpMood>(['slow', 'forbidden', 'missing']);
  return {
    what: `ip on ${host} is ${mood}`,
    begin: (world) => {
      const there = world.host(host);
      there.ip.mood = mood;
      there.ip.wasSlow ||= mood === 'slow';
      there.mayLeaveAliases = true;
    },
    end: (world) => {
      world.host(host).ip.mood = 'well';
    },
  };
}

function aliasDeleted(random: Random, host: string): Drawn {
  const isAddedAnew = random.isLucky(0.4);
  return {
    what: `an alias of ${host} is deleted${isAddedAnew ? ', and added by another program' : ''}`,
    begin: (world) => {
      const { ip } = world.host(host);
      const address = ip.delete();
      if (address === null || !isAddedAnew) return;
      world.time.after(random.between(ANEW_MS_MIN, ANEW_MS_MAX), world.outside, () => ip.addForeign(address));
    },
  };
}

/** Another host of the segment has the address too: what is sent to it goes there, and is reset. */
function aliasStolen(random: Random, host: string, aliases: readonly string[]): Drawn {
  const address = random.of([aliases[0] ?? '', ...aliases.slice(1)]);
  return {
    what: `another host answers for ${address} of ${host}`,
    begin: (world) => {
      world.host(host).ip.answeredElsewhere.add(address);
      for (const holder of holdersOn(world, host)) holder.loseWhere((name) => sourceOf(name) === address);
    },
    end: (world) => {
      world.host(host).ip.answeredElsewhere.delete(address);
    },
  };
}

/** It is there before a run adds it, and not a run's to remove. */
function aliasForeign(random: Random, host: string, aliases: readonly string[]): Drawn {
  const address = random.of([aliases[0] ?? '', ...aliases.slice(1)]);
  return {
    what: `another program adds ${address} to ${host}`,
    begin: (world) => world.host(host).ip.addForeign(address),
  };
}

function newcomer(random: Random, host: string): Drawn {
  const name = random.isLucky(0.5) ? host : `${host}-stranger`;
  return {
    what: `a further agent on ${host}, named ${name}`,
    begin: (_world, cast) => cast.startAgent(host, name),
  };
}

function interrupted(random: Random): Drawn {
  const isTwice = random.isLucky(0.3);
  const phase = random.isLucky(0.4) ? null : random.of<Phase>(PHASES);
  const afterMs = random.between(0, random.isLucky(0.5) ? 20 : 600);
  const againMs = random.isLucky(0.5) ? random.between(0, 50) : 1_000;
  const call = (world: World, cast: Cast): void => {
    const { coordinator } = cast;
    world.note('interrupt');
    // A signal to a process that is stopped waits for it.
    world.time.after(0, coordinator, () => cast.interrupt());
    if (isTwice) world.time.after(againMs, coordinator, () => cast.interrupt());
  };
  return {
    what: `interrupt${phase === null ? '' : ` ${Math.round(afterMs)} ms into ${phase}`}${isTwice ? ', and again' : ''}`,
    isFromTheStart: phase !== null,
    begin: (world, cast) => {
      if (phase === null) call(world, cast);
      else cast.whenIn(phase, afterMs, () => call(world, cast));
    },
  };
}

/** A target, or a way to it, that takes its time: connects are in flight for longer. */
function slowTarget(random: Random): Drawn {
  const upToMs = random.between(200, 4_000);
  let beforeMs = 0;
  return {
    what: `connects take up to ${Math.round(upToMs)} ms`,
    begin: (world) => {
      beforeMs = world.connectMsMax;
      world.connectMsMax = upToMs;
    },
    end: (world) => {
      world.connectMsMax = beforeMs;
    },
  };
}

/** Below the silence after which an agent makes a new link. */
const FLAP_MS_MAX = 3_400;
const GARBLED = [
  '{"type":"stats","epoch":1}',
  'no message',
  '{"type":"losses","epoch":-1,"losses":[]}',
] as const;
const FAULTS_MAX = 7;
const ANEW_MS_MIN = 200;
const ANEW_MS_MAX = 3_000;
const PHASES = ['gathering', 'preparing', 'ramping', 'holding', 'draining'] as const;

/** What faults are drawn for. */
interface Scene {
  /** of agents; at least one */
  readonly hosts: readonly string[];
  /** after which nothing begins any more */
  readonly withinMs: number;
  /** agents add addresses to their hosts */
  readonly hasAliases: boolean;
  /** those of a host */
  aliasesOf(host: string): readonly string[];
}

type Kinds = readonly [() => Drawn, ...(() => Drawn)[]];

function kindsOf(random: Random, { hosts, hasAliases, aliasesOf }: Scene): Kinds {
  const host = (): string => random.of([hosts[0] ?? COORDINATOR_HOST, ...hosts.slice(1)]);
  const aliased = (make: (random: Random, of: string, aliases: readonly string[]) => Drawn): Drawn => {
    const of = host();
    return make(random, of, aliasesOf(of));
  };
  return [
    () => partition(random, host()),
    () => partition(random, host()),
    () => flapping(random, host()),
    () => flapping(random, host()),
    () => cut(random, host()),
    () => cut(random, host()),
    () => garbled(random, host()),
    () => slowTarget(random),
    () => slowReader(random, host()),
    () => stopped(random, host()),
    () => killed(random, host()),
    () => killed(random, host()),
    () => coordinatorStopped(),
    () => (random.isLucky(0.3) ? coordinatorKilled() : coordinatorStopped()),
    () => clockStep(random, random.isLucky(0.3) ? COORDINATOR_HOST : host()),
    () => targetFails(random),
    () => hostFails(random, host()),
    () => losses(random),
    () => newcomer(random, host()),
    () => (random.isLucky(0.4) ? agentTold(random, host()) : losses(random)),
    ...(hasAliases
      ? [
          () => ipFails(random, host()),
          () => ipFails(random, host()),
          () => aliasDeleted(random, host()),
          () => aliased(aliasStolen),
          () => aliased(aliasForeign),
        ]
      : []),
    () => (random.isLucky(0.5) ? interrupted(random) : losses(random)),
  ];
}

/** What goes wrong in the history of a seed, in order of its beginning. */
export function drawFaults(random: Random, scene: Scene): Fault[] {
  const count = random.isLucky(0.1) ? 0 : random.whole(1, FAULTS_MAX);
  const kinds = kindsOf(random, scene);
  const faults = Array.from({ length: count }, (): Fault => {
    const drawn = random.of(kinds)();
    // What waits for a phase must know of it before.
    const atMs = drawn.isFromTheStart === true ? 0 : random.between(0, scene.withinMs);
    const forMs = random.isLucky(0.6) ? random.between(50, 6_000) : random.between(6_000, 30_000);
    return { ...drawn, atMs, endMs: drawn.end === undefined ? atMs : atMs + forMs };
  });
  return faults.sort((one, other) => one.atMs - other.atMs);
}
