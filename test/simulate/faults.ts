/**
 * Owns what goes wrong in a simulated run: a list of faults that a seed draws, each with its time, and how each is done to the
 * world. Every one of them heals by itself, so that the run must end. Must never touch the program but through the world.
 */
import type { Random } from './random.ts';
import type { SimHolder } from './sim-holder.ts';
import type { IpMood } from './sim-ip.ts';
import type { SimProcess } from './virtual-time.ts';
import type { ConnectAnswer, World } from './world.ts';

/** What the faults of a run are done to. */
export interface Cast {
  readonly coordinator: SimProcess;
  /** the process of the agent on each host that serves now; undefined: none is there */
  agentOn(host: string): SimProcess | undefined;
  /** starts an agent anew on a host, under a name */
  startAgent(host: string, name: string): void;
  interrupt(): void;
}

/** One fault. */
export interface Fault {
  readonly atMs: number;
  /** until when it lasts; the time itself for one that is over immediately */
  readonly endMs: number;
  /** in words */
  readonly what: string;
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

function targetFails(random: Random): Drawn {
  const answer: ConnectAnswer = random.of(['refused', 'timeout', 'reset']);
  return {
    what: `the target answers connects with: ${answer}`,
    begin: (world) => {
      world.connects = answer;
    },
    end: (world) => {
      world.connects = 'established';
    },
  };
}

function hostFails(random: Random, host: string): Drawn {
  const answer: ConnectAnswer = random.of(['descriptors', 'memory']);
  return {
    what: `connects on ${host} fail for lack of ${answer}`,
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
      there.mayLeaveAliases = true;
    },
    end: (world) => {
      world.host(host).ip.mood = 'well';
    },
  };
}

function aliasStolen(host: string): Drawn {
  return {
    what: `an alias of ${host} is deleted`,
    begin: (world) => world.host(host).ip.steal(),
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
  return {
    what: `interrupt${isTwice ? ', and again a second later' : ''}`,
    begin: (world, cast) => {
      cast.interrupt();
      if (isTwice) world.time.after(1_000, cast.coordinator, () => cast.interrupt());
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

/**
 * What goes wrong in the run of a seed, in order of its beginning.
 * @param hosts of agents
 * @param withinMs after which nothing begins any more
 * @param hasAliases agents add addresses to their hosts
 */
export function drawFaults(
  random: Random,
  hosts: readonly [string, ...string[]],
  withinMs: number,
  hasAliases: boolean,
): Fault[] {
  const count = random.isLucky(0.1) ? 0 : random.whole(1, FAULTS_MAX);
  const kinds: readonly [() => Drawn, ...(() => Drawn)[]] = [
    () => partition(random, random.of(hosts)),
    () => partition(random, random.of(hosts)),
    () => flapping(random, random.of(hosts)),
    () => flapping(random, random.of(hosts)),
    () => cut(random, random.of(hosts)),
    () => cut(random, random.of(hosts)),
    () => garbled(random, random.of(hosts)),
    () => slowTarget(random),
    () => slowReader(random, random.of(hosts)),
    () => stopped(random, random.of(hosts)),
    () => killed(random, random.of(hosts)),
    () => killed(random, random.of(hosts)),
    () => coordinatorStopped(),
    () => clockStep(random, random.of([COORDINATOR_HOST, ...hosts])),
    () => targetFails(random),
    () => hostFails(random, random.of(hosts)),
    () => losses(random),
    () => newcomer(random, random.of(hosts)),
    ...(hasAliases
      ? [
          () => ipFails(random, random.of(hosts)),
          () => ipFails(random, random.of(hosts)),
          () => aliasStolen(random.of(hosts)),
          () => aliasStolen(random.of(hosts)),
        ]
      : []),
    () => (random.isLucky(0.4) ? interrupted(random) : losses(random)),
  ];
  const faults = Array.from({ length: count }, (): Fault => {
    const atMs = random.between(0, withinMs);
    const forMs = random.isLucky(0.6) ? random.between(50, 6_000) : random.between(6_000, 30_000);
    const drawn = random.of(kinds)();
    return { ...drawn, atMs, endMs: drawn.end === undefined ? atMs : atMs + forMs };
  });
  return faults.sort((one, other) => one.atMs - other.atMs);
}
