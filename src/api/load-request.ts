/**
 * Owns the load that a run was asked for: how many connections are open when, how they come and go, and how fast they are opened. Must
 * never know what a host can carry (plan/).
 */
import { ErrorCode, usageError } from '../base/errors.ts';
import {
  counted,
  DURATION_MS_MAX,
  flagAway,
  flagWith,
  formatCount,
  formatDuration,
  formatRate,
} from '../base/units.ts';
import { type Churn, closesPerSec, type RunSpec } from '../run/run-spec.ts';
import { holdFromMsOf, lengthMsOf, peakOf, STAGES_MAX, type Stage } from '../run/schedule.ts';
import { type FlagValues, flagValue, flagValues } from './flags/flags.ts';

/** The longest ramp that a rate may ask for: as long as the longest hold. */
const RAMP_MS_MAX = DURATION_MS_MAX;

type Load = Pick<
  RunSpec,
  | 'connections'
  | 'ratePerSec'
  | 'pendingMax'
  | 'connectTimeoutMs'
  | 'holdMs'
  | 'close'
  | 'stages'
  | 'closeOrder'
  | 'churn'
>;

/**
 * The flags of the load.
 * @throws BenchError (exit code 2) on anything that cannot be
 */
export function readLoad(values: FlagValues): Load {
  const size = readSize(values);
  const ratePerSec = readRate(values, size.connections);
  return {
    ...size,
    ratePerSec,
    connectTimeoutMs: flagValue(values, 'connect-timeout'),
    pendingMax: flagValue(values, 'max-pending'),
    close: flagValue(values, 'close'),
    ...readCloseOrder(values, size.stages !== undefined),
    ...readChurn(values, size.connections, ratePerSec),
  };
}

function readSize(values: FlagValues): Pick<Load, 'connections' | 'holdMs' | 'stages'> {
  const stages = flagValues(values, 'stage');
  if (stages.length > 0) return readStages(values, stages);
  const connections = flagValue(values, 'conns');
  if (connections !== null) return { connections, holdMs: flagValue(values, 'duration') };
  throw usageError(
    ErrorCode.usage,
    'how many connections? --conns is missing',
    'add --conns 130k, or try c100k-bench --target self --conns 130k',
  );
}

function readStages(
  values: FlagValues,
  stages: readonly Stage[],
): Pick<Load, 'connections' | 'holdMs' | 'stages'> {
  for (const flag of ['conns', 'duration']) {
    if (!values.isGiven(flag)) continue;
    throw usageError(
      ErrorCode.usage,
      `${values.origin(flag)} does not go with ${values.origin('stage')}: the stages say how many connections are open, and how long`,
      `${flagAway(values.origin(flag))}, or hold the last number with another ${flagWith('--stage', '10m:130k')}`,
    );
  }
  if (stages.length > STAGES_MAX) {
    throw usageError(
      ErrorCode.usage,
      `${stages.length} stages; at most ${STAGES_MAX} are possible`,
      'give fewer and longer ones',
    );
  }
  const connections = peakOf(stages);
  if (connections === 0) {
    throw usageError(ErrorCode.badNumber, '--stage: none asks for a connection', 'type --stage 2m:130k');
  }
  const lengthMs = lengthMsOf(stages);
  if (lengthMs < 1 || lengthMs > DURATION_MS_MAX) {
    throw usageError(
      ErrorCode.badDuration,
      `--stage: all together take ${formatDuration(lengthMs)}; they must take between 1ms and ${formatDuration(DURATION_MS_MAX)}`,
      'type --stage 2m:130k --stage 10m:130k',
    );
  }
  return { connections, holdMs: lengthMs - holdFromMsOf(stages), stages };
}

/** A rate at which the ramp would not end within a year is a slip, and no process lives for it. */
function readRate(values: FlagValues, connections: number): number | null {
  const ratePerSec = flagValue(values, 'rate');
  if (ratePerSec === null || (connections / ratePerSec) * 1_000 <= RAMP_MS_MAX) return ratePerSec;
  const flag = values.origin('rate');
  const days = formatCount(connections / ratePerSec / 86_400);
  const leastPerHour = Math.ceil((connections * 3_600_000) / RAMP_MS_MAX);
  throw usageError(
    ErrorCode.badRate,
    `${flag} ${values.one('rate')} takes ${days} days for ${counted(connections, 'connection')}, more than ${formatDuration(RAMP_MS_MAX)}`,
    `type ${flagWith(flag, `${leastPerHour}/h`)} or more`,
  );
}

function readCloseOrder(values: FlagValues, hasStages: boolean): Pick<Load, 'closeOrder'> {
  const closeOrder = flagValue(values, 'close-order');
  if (closeOrder === null) return {};
  if (hasStages) return { closeOrder };
  throw usageError(
    ErrorCode.usage,
    `${values.origin('close-order')} says which connections go where the stages go down, and there are no stages`,
    `${flagAway(values.origin('close-order'))}, or type --stage 2m:130k --stage 1m:20k`,
  );
}

function readChurn(values: FlagValues, connections: number, ratePerSec: number | null): Pick<Load, 'churn'> {
  const [perSec, life] = [flagValue(values, 'churn'), flagValue(values, 'lifetime')];
  if (perSec !== null && life !== null) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('churn')} and ${values.origin('lifetime')} are two ways to say the same`,
      `${flagAway(values.origin('churn'))}, or ${flagAway(values.origin('lifetime'))}`,
    );
  }
  const churn: Churn | null = perSec === null ? life : { kind: 'rate', perSec };
  if (churn === null) return {};
  const closes = closesPerSec(churn, connections);
  if (ratePerSec === null || closes <= ratePerSec) return { churn };
  const origin = values.origin(perSec === null ? 'lifetime' : 'churn');
  throw usageError(
    ErrorCode.badRate,
    `${origin} opens ${formatRate(closes)}, and ${values.origin('rate')} allows ${formatRate(ratePerSec)}`,
    `type ${flagWith(values.origin('rate'), `${Math.ceil(closes)}/s`)} or more, or ${flagAway(values.origin('rate'))}`,
  );
}
