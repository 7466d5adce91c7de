/**
 * Owns which capabilities this process has in effect: the one place that asks. Must never judge what one allows.
 */
import { readText } from './proc-file.ts';

/** Capability numbers: include/uapi/linux/capability.h. */
const NUMBERS = {
  CAP_NET_BIND_SERVICE: 10n,
  CAP_NET_ADMIN: 12n,
  CAP_SYS_ADMIN: 21n,
  CAP_SYS_RESOURCE: 24n,
} as const;

/**
 * Whether this process has a capability in its effective set; no, where that cannot be read.
 * @param procRoot `/proc` or a test's folder
 */
export function hasCapability(name: keyof typeof NUMBERS, procRoot = '/proc'): boolean {
  const hex = /^CapEff:\s+([0-9a-f]{1,16})$/m.exec(readText(procRoot, 'self/status') ?? '')?.[1] ?? '0';
  return ((BigInt(`0x${hex}`) >> NUMBERS[name]) & 1n) === 1n;
}
