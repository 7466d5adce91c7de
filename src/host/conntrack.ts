/**
 * Owns finding out whether this host tracks its own connections, and how full the table is.
 * Must never load a module or touch a rule.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after } from '../time/timer.ts';
import type { ConntrackFacts } from './host-facts.ts';
import { readSysctl } from './proc-file.ts';

const PROBE_TIMEOUT_MS = 50;

/**
 * How it is decided: the files exist in every network namespace once the code is loaded, also where nothing
 * tracks, so their presence says nothing. Entries in the table (count > 0) prove tracking. With none, one
 * UDP datagram is sent from a socket to itself on 127.0.0.1: where a hook is registered, that alone makes an
 * entry, and the count is no longer 0. (Rules cannot be asked instead: that needs root and knowledge of nft and
 * of both kinds of iptables.) Not seen this way: rules that track IPv6 only, or everything except loopback, on
 * a host that has talked to nobody.
 * @param procRoot `/proc` or a test's folder
 * @param probe sends the datagram; a test passes its own
 */
export async function readConntrack(
  procRoot: string,
  probe: () => Promise<void> = sendToMyself,
): Promise<ConntrackFacts> {
  const max =
    readSysctl(procRoot, 'net/netfilter/nf_conntrack_max') ?? readSysctl(procRoot, 'net/nf_conntrack_max');
  let count = readSysctl(procRoot, 'net/netfilter/nf_conntrack_count');
  if (count === null) return { active: max === null ? false : null, count, max };
  if (count === 0) {
    await probe();
    count = readSysctl(procRoot, 'net/netfilter/nf_conntrack_count') ?? 0;
  }
  return { active: count > 0, count, max };
}

/** One datagram to our own socket on loopback; gives up after 50 ms. */
async function sendToMyself(): Promise<void> {
  const socket = createSocket('udp4');
  const late = new AbortController();
  const timer = after(PROBE_TIMEOUT_MS, () => late.abort());
  try {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening', { signal: late.signal });
    const arrived = once(socket, 'message', { signal: late.signal });
    socket.send('x', socket.address().port, '127.0.0.1');
    await arrived;
  } catch {
    // No loopback, or a rule that drops it: the count then says what it says.
  } finally {
    timer.cancel();
    socket.close();
  }
}
