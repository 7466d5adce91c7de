/** Owns what a target, or the kernel of a host itself, answers a connect with in a simulation. Must never say what that means for a quota. */
import { constants } from 'node:os';
import { OpenStep } from '../../src/engine/drivers/driver.ts';

const { errno } = constants;

/** A step of a connect, and what the kernel said there; 0: it is established. */
export interface ConnectAnswer {
  readonly name: string;
  readonly step: OpenStep;
  readonly errno: number;
}

/** By what it is. */
export const Answer = {
  established: { name: 'a connection', step: OpenStep.connect, errno: 0 },
  refused: { name: 'ECONNREFUSED', step: OpenStep.connect, errno: errno.ECONNREFUSED },
  reset: { name: 'ECONNRESET', step: OpenStep.connect, errno: errno.ECONNRESET },
  timedOut: { name: 'nothing', step: OpenStep.connect, errno: errno.ETIMEDOUT },
  unreachable: { name: 'EHOSTUNREACH', step: OpenStep.connect, errno: errno.EHOSTUNREACH },
  noDescriptors: { name: 'EMFILE at socket', step: OpenStep.socket, errno: errno.EMFILE },
  noMemory: { name: 'ENOBUFS at socket', step: OpenStep.socket, errno: errno.ENOBUFS },
  noBuffers: { name: 'ENOBUFS at connect', step: OpenStep.connect, errno: errno.ENOBUFS },
  tupleInUse: { name: 'EADDRNOTAVAIL at connect', step: OpenStep.connect, errno: errno.EADDRNOTAVAIL },
  sourceGone: { name: 'EADDRNOTAVAIL at bind', step: OpenStep.bind, errno: errno.EADDRNOTAVAIL },
} as const satisfies Record<string, ConnectAnswer>;
