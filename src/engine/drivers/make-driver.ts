/** Owns which driver an engine gets. Must never choose: the agent has chosen (plan/engine-choice.ts). */
import { zoneOf } from '../../base/endpoint.ts';
import type { HolderSpec } from '../../run/run-spec.ts';
import type { Driver, DriverOptions } from './driver.ts';
import { EpollDriver } from './epoll-driver.ts';
import { sockAddr } from './sockaddr.ts';
import { UringDriver } from './uring-driver.ts';
import { refusalOf } from './uring-probe.ts';
import { RingError } from './uring-ring.ts';

/**
 * The driver that a holder was asked to use.
 * @throws Error, worded for a person, when this process cannot have what it needs
 */
export function makeDriver(spec: HolderSpec): Driver {
  const zone = zoneOf(spec.endpoints);
  const options: DriverOptions = {
    capacity: Math.max(1, spec.connections),
    sources: spec.addresses.map((address) => sockAddr(address, 0, zone)),
    endpoints: spec.endpoints.map(({ address, port }) => sockAddr(address, port, zone)),
  };
  if (spec.engine !== 'uring') return new EpollDriver(options);
  try {
    return new UringDriver(options);
  } catch (error) {
    if (!(error instanceof RingError)) throw error;
    throw new Error(`io_uring: ${refusalOf(error).text}; --engine epoll does without it`);
  }
}
