/** Owns which engine the built-in target uses on this host. Must never start a worker. */
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { probeUring } from '../engine/drivers/uring-probe.ts';
import type { EngineAsked, EngineChoice } from '../run/run-spec.ts';

/**
 * The engine of every worker, tried in this process.
 * @throws BenchError `preflight-refused` when io_uring was asked for and does not work
 */
export function chooseServeEngine(asked: EngineAsked): EngineChoice {
  if (asked === 'epoll') return { name: 'epoll', why: 'as --engine says' };
  const refusal = uringRefusal();
  if (asked === 'auto') {
    return refusal === null
      ? { name: 'uring', why: 'io_uring works here' }
      : { name: 'epoll', why: `io_uring: ${refusal}` };
  }
  if (refusal === null) return { name: 'uring', why: 'as --engine says' };
  throw new BenchError(
    ErrorCode.preflightRefused,
    ExitCode.refused,
    `--engine uring cannot be: io_uring: ${refusal}`,
    'use --engine auto, which takes epoll here',
  );
}

/** Why io_uring does not work here; null: it does. */
function uringRefusal(): string | null {
  try {
    return probeUring()?.text ?? null;
  } catch (error) {
    // A host whose loopback is down can serve all the same.
    return `it could not be tried: ${error instanceof Error ? error.message : String(error)}`;
  }
}
