/**
 * Owns one more look at each endpoint after connections were lost: a new connect, the same from the plan's own source and port, what an
 * ICMP error said to either, whether a router is between, and whether a host on our own segment answers for the address. Must never hold a connection, send a
 * byte, or ask for longer than a few seconds.
 */
import { isLoopback, withZone } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import type { RunProgram } from '../host/command.ts';
import { readGateway, readSourceDevices } from '../host/ip-command.ts';
import type { Aftermath } from '../host/kernel-evidence.ts';
import { pause } from '../time/timer.ts';
import { type ConnectAnswer, type ConnectFrom, connectOnce } from './one-connect.ts';

/** Endpoints that are asked: the first ones. */
const ENDPOINTS_MAX = 8;
/** A SYN is sent again after a second; who answers neither is silent. */
const CONNECT_TIMEOUT_MS = 2_500;
const ARPING_TIMEOUT_MS = 3_000;
const REST_MS = 2_500;
const AFTER_REST_MS = 1_500;

/**
 * Connects that are tried at one endpoint until an ICMP error comes, where some of the run's own were refused or found it unreachable:
 * a filter that rejects a share of them lets the first one through as well.
 */
const TRIES_MAX = 8;

/** What is looked at. */
interface Look {
  readonly endpoint: Endpoint;
  readonly from: ConnectFrom;
  readonly triesMax: number;
  readonly mayConnect: () => boolean;
}

/** @returns null: this host may not connect, or has no such source or port */
async function connectIfAllowed(
  { endpoint, mayConnect }: Look,
  from: ConnectFrom,
  timeoutMs = CONNECT_TIMEOUT_MS,
): Promise<ConnectAnswer | null> {
  return mayConnect() ? await connectOnce(endpoint, from, timeoutMs) : null;
}

/** One connect from a port of the kernel's choice, and further ones until the error queue has something. @returns the first answer */
async function connectUntilRejected(look: Look): Promise<ConnectAnswer | null> {
  const from = { ...look.from, port: 0 };
  const first = await connectIfAllowed(look, from);
  let last = first;
  // Who is silent or refuses by a RST is not asked again.
  for (let tries = 1; tries < look.triesMax && last?.answer === 'taken'; tries++)
    last = await connectIfAllowed(look, from);
  return first === null ? null : { ...first, rejection: first.rejection ?? last?.rejection ?? null };
}

/** Whether a host on the device's segment answers for an IPv4 address; null: `arping` is missing, or may not be used. */
async function isNeighbour(run: RunProgram, device: string, address: string): Promise<boolean | null> {
  const result = await run('arping', ['-I', device, '-c', '2', '-w', '2', address], {
    timeoutMs: ARPING_TIMEOUT_MS,
  });
  if (/reply from/i.test(result.stdout)) return true;
  return result.missing || result.code !== 1 || !/^Received 0 /m.test(result.stdout) ? null : false;
}

/**
 * An ICMP error is sent once in a second, and a packet that gets none takes of that too: a router without a route counts it twice
 * (ip_error() in net/ipv4/route.c, icmpv4_xrlim_allow() in net/ipv4/icmp.c). So one connect is made after a rest.
 */
async function rejectionAfterRest(look: Look): Promise<ConnectAnswer['rejection']> {
  if (look.triesMax === 1) return null;
  await pause(REST_MS);
  const last = await connectIfAllowed(look, { ...look.from, port: 0 }, AFTER_REST_MS);
  return last?.rejection ?? null;
}

async function lookAt(run: RunProgram, look: Look): Promise<Aftermath | null> {
  const { endpoint, from } = look;
  const { address, family, zone } = endpoint;
  const [first, planned] = await Promise.all([connectUntilRejected(look), connectIfAllowed(look, from)]);
  if (first === null) return null;
  const isSilent = first.answer === 'silent' && planned?.answer === 'silent';
  const rejected =
    first.rejection ?? planned?.rejection ?? (isSilent ? await rejectionAfterRest(look) : null);
  const answers = {
    connect: first.answer,
    planConnect: planned?.answer ?? null,
    ...(rejected === null ? {} : { rejected }),
  };
  if (isLoopback(address)) return { ...answers, isRouted: false, isNeighbourThere: null };
  const isRouted = (await readGateway(run, withZone(address, zone))) !== null;
  const device = (await readSourceDevices(run, [from.address], withZone(address, zone))).get(from.address);
  const isUnanswered = first.answer === 'silent' || first.answer === 'unreachable';
  const isAsked = isUnanswered && !isRouted && family === 4 && device !== undefined && device !== 'lo';
  return {
    ...answers,
    isRouted: device === undefined && !isRouted ? null : isRouted,
    isNeighbourThere: isAsked ? await isNeighbour(run, device, address) : null,
  };
}

/** How it is looked. */
interface Manner {
  /** connects of the run were refused or found the target unreachable, ICMP errors came, or nothing came at all: one is looked for */
  readonly isAnyRejected: boolean;
  /** where the plan's first connection to an endpoint begins; null: the plan has none of its family */
  readonly fromOf: (endpoint: Endpoint) => ConnectFrom | null;
  /** asked before each connect: an agent without contact to its coordinator opens nothing */
  readonly mayConnect: () => boolean;
}

/**
 * Looks once more.
 * @param endpoints of the run; the first 8 are asked
 * @returns by `address:port`; an endpoint that could not be asked is absent
 */
export async function lookAfter(
  run: RunProgram,
  endpoints: readonly Endpoint[],
  { isAnyRejected, fromOf, mayConnect }: Manner,
): Promise<Record<string, Aftermath>> {
  const triesMax = isAnyRejected ? TRIES_MAX : 1;
  const looks = endpoints.slice(0, ENDPOINTS_MAX).map(async (endpoint) => {
    const from = fromOf(endpoint);
    const look = from === null ? null : await lookAt(run, { endpoint, from, triesMax, mayConnect });
    return [formatEndpoint(endpoint), look] as const;
  });
  const found: Record<string, Aftermath> = Object.create(null);
  for (const [name, look] of await Promise.all(looks)) if (look !== null) found[name] = look;
  return found;
}
