/**
 * Owns which capabilities this process has in effect. Must never judge what one allows.
 */
import { readText } from './proc-file.ts';

/** Capability numbers: include/uapi/linux/capability.h. */
export const CAP_NET_BIND_SERVICE = 10n;
export const CAP_SYS_ADMIN = 21n;
export const CAP_SYS_RESOURCE = 24n;

/** The effective set as a bit mask; none where it cannot be read. */
export function readCapabilities(procRoot: string): bigint {
  const match = /^CapEff:\s+([0-9a-f]{1,16})$/m.exec(readText(procRoot, 'self/status') ?? '');
  return match === null ? 0n : BigInt(`0x${match[1]}`);
}

/** Whether a set holds a capability. */
export function hasCapability(capabilities: bigint, number: bigint): boolean {
  return ((capabilities >> number) & 1n) === 1n;
}
