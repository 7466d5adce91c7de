/**
 * Owns one more look at each endpoint after connections were lost: a new connect, the same from the plan's own source and port,
 * whether a router is between, and whether a host on our own segment answers for the address. Must never hold a connection, send a
 * byte, or ask for longer than a few seconds.
 */
import { connect } from 'node:net';
import { isLoopback } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { after } from '../time/timer.ts';
import type { RunProgram } from './command.ts';
import { readGateway, readSourceDevices } from './ip-command.ts';
import type { Aftermath } from './kernel-evidence.ts';

/** Endpoints that are asked: the first ones. */
const ENDPOINTS_MAX = 8;
/** A SYN is sent again after a second; who answers neither is silent. */
const CONNECT_TIMEOUT_MS = 2_500;
const ARPING_TIMEOUT_MS = 3_000;

/** Answers by the error that a connect ends with. */
const ANSWERS: Readonly<Record<string, Aftermath['connect']>> = {
  ECONNREFUSED: 'refused',
  ECONNRESET: 'refused',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EACCES: 'unreachable',
  EPERM: 'unreachable',
};

/** Where a connect begins. */
interface From {
  readonly address: string;
  /** 0: the kernel's choice */
  readonly port: number;
}

/** One connect, closed as soon as it is answered. @returns null: this host had no such source or port to give */
async function connectOnce(endpoint: Endpoint, from: From | null): Promise<Aftermath['connect'] | null> {
  return await new Promise((resolve) => {
    const socket = connect({
      host: endpoint.address,
      port: endpoint.port,
      ...(from === null ? {} : { localAddress: from.address, localPort: from.port }),
    });
    const end = (answer: Aftermath['connect'] | null): void => {
      timer.cancel();
      socket.destroy();
      resolve(answer);
    };
    const timer = after(CONNECT_TIMEOUT_MS, () => end('silent'));
    socket.once('connect', () => end('taken'));
    socket.once('error', (error: NodeJS.ErrnoException) => end(ANSWERS[error.code ?? ''] ?? null));
  });
}

/** Whether a host on the device's segment answers for an IPv4 address; null: `arping` is missing, or may not be used. */
async function isNeighbour(run: RunProgram, device: string, address: string): Promise<boolean | null> {
  const result = await run('arping', ['-I', device, '-c', '2', '-w', '2', address], {
    timeoutMs: ARPING_TIMEOUT_MS,
  });
  if (/reply from/i.test(result.stdout)) return true;
  return result.missing || result.code !== 1 || !/^Received 0 /m.test(result.stdout) ? null : false;
}

async function lookAt(run: RunProgram, endpoint: Endpoint, from: From): Promise<Aftermath | null> {
  const { address, family } = endpoint;
  const [first, planConnect] = await Promise.all([
    connectOnce(endpoint, { address: from.address, port: 0 }),
    connectOnce(endpoint, from),
  ]);
  if (first === null) return null;
  if (isLoopback(address)) return { connect: first, planConnect, isRouted: false, isNeighbourThere: null };
  const isRouted = (await readGateway(run, address)) !== null;
  const device = (await readSourceDevices(run, [from.address], address)).get(from.address);
  const isUnanswered = first === 'silent' || first === 'unreachable';
  const isAsked = isUnanswered && !isRouted && family === 4 && device !== undefined && device !== 'lo';
  return {
    connect: first,
    planConnect,
    isRouted: device === undefined && !isRouted ? null : isRouted,
    isNeighbourThere: isAsked ? await isNeighbour(run, device, address) : null,
  };
}

/**
 * Looks once more.
 * @param endpoints of the run; the first 8 are asked
 * @param fromOf where the plan's first connection to an endpoint begins; null: the plan has none of its family
 * @returns by `address:port`; an endpoint that could not be asked is absent
 */
export async function lookAfter(
  run: RunProgram,
  endpoints: readonly Endpoint[],
  fromOf: (endpoint: Endpoint) => From | null,
): Promise<Record<string, Aftermath>> {
  const looks = endpoints.slice(0, ENDPOINTS_MAX).map(async (endpoint) => {
    const from = fromOf(endpoint);
    const look = from === null ? null : await lookAt(run, endpoint, from);
    return [formatEndpoint(endpoint), look] as const;
  });
  const found: Record<string, Aftermath> = Object.create(null);
  for (const [name, look] of await Promise.all(looks)) if (look !== null) found[name] = look;
  return found;
}
