/**
 * Owns reading the kernel settings that matter to many source addresses on one host.
 * Must never judge or change one.
 */

import { readSysctl } from '../host/proc-file.ts';
import type { NetworkSettings } from './source-findings.ts';

/**
 * @param devices names of the devices whose settings are read
 * @param procRoot `/proc` or a test's folder
 */
export function readNetworkSettings(devices: readonly string[], procRoot = '/proc'): NetworkSettings {
  // The kernel takes the larger of `all` and the device's own value (Documentation/networking/ip-sysctl.rst).
  const byDevice = (name: string): Record<string, number> => {
    const all = readSysctl(procRoot, `net/ipv4/conf/all/${name}`) ?? 0;
    return Object.fromEntries(
      devices.flatMap((device) => {
        const own = readSysctl(procRoot, `net/ipv4/conf/${device}/${name}`);
        return own === null ? [] : [[device, Math.max(all, own)]];
      }),
    );
  };
  return {
    neighboursMax: readSysctl(procRoot, 'net/ipv4/neigh/default/gc_thresh3'),
    rpFilter: byDevice('rp_filter'),
    promoteSecondaries: byDevice('promote_secondaries'),
  };
}
