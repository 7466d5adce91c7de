/**
 * Owns the flags by which the owner of a host says which of its addresses and devices an agent may use, whatever target a
 * run names. Must never choose one.
 */
import { expandAddresses } from '../base/address.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import { allowsDevice, allowsSource, parseAllowedSource, type SourceLimits } from '../plan/allowance.ts';
import { DEVICE_NAME_PATTERN, parseSourcePrefix } from '../run/alias.ts';
import type { FlagValues } from './flags/flag-values.ts';
import { readSources } from './run-request.ts';

function checkDevice(device: string, flag: string): string {
  if (DEVICE_NAME_PATTERN.test(device) && device !== 'auto') return device;
  throw usageError(
    ErrorCode.badDevice,
    `${flag}: "${device}" is not the name of a device`,
    'type --allow-alias-dev eth0; ip -br link lists the devices of a host',
  );
}

/**
 * Reads what the owner says about sources.
 * @throws BenchError (exit 2) on text that cannot be read, and on sources of the owner's own that it does not allow
 */
export function readSourceLimits(values: FlagValues): SourceLimits {
  const sources = values.list('allow-source').map((text) => parseAllowedSource(text));
  const devices = values
    .list('allow-alias-dev')
    .map((text) => checkDevice(text, values.origin('allow-alias-dev')));
  const limits: SourceLimits = {
    sources: sources.length === 0 ? null : sources,
    aliasDevices: devices.length === 0 ? null : devices,
  };
  const { addresses, prefixes, aliasDevice } = readSources(values);
  const named = [
    ...(addresses.length === 0 ? [] : expandAddresses(addresses)),
    ...prefixes.flatMap((text) => parseSourcePrefix(text).addresses),
  ];
  const outside =
    limits.sources === null ? undefined : named.find((address) => !allowsSource(limits, address));
  if (outside !== undefined) {
    throw usageError(
      ErrorCode.badAddress,
      `the source address ${outside} is not in --allow-source ${limits.sources?.join(', ')}`,
      `leave it out, or add --allow-source ${outside}`,
    );
  }
  if (aliasDevice !== null && aliasDevice !== 'auto' && !allowsDevice(limits, aliasDevice)) {
    throw usageError(
      ErrorCode.badDevice,
      `--alias-dev ${aliasDevice} is not among --allow-alias-dev ${limits.aliasDevices?.join(', ')}`,
      `add --allow-alias-dev ${aliasDevice}`,
    );
  }
  return limits;
}
