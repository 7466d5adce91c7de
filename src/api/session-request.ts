/**
 * Owns what the flags of a session ask for together: `--mqtt-...`; files read, contradictions refused. Must never know the network.
 */
import { randomBytes } from 'node:crypto';
import { ErrorCode, usageError } from '../base/errors.ts';
import {
  differsByConnection,
  type MqttOptions,
  PASSWORD_BYTES_MAX,
  passwordProblem,
  templateProblem,
} from '../base/session-options.ts';
import { flagWith, formatCount } from '../base/units.ts';
import { type FlagValues, flagValue } from './flags/flags.ts';
import { readWhole } from './protocol-request.ts';

/** Tells the sessions of one run from those of another that runs at the same time: each would end the other's. */
const RUN_ID_BYTES = 2;

/**
 * What a session of MQTT is asked with.
 * @throws BenchError (exit code 2) for what a broker could not take, and for files that cannot be read
 */
export function readMqtt(values: FlagValues): MqttOptions {
  const user = textOf(values, 'mqtt-user', templateProblem);
  const password = textOf(values, 'mqtt-password', passwordProblem);
  const level = flagValue(values, 'mqtt-version') === '5' ? 5 : 4;
  if (level === 4 && password !== null && user === null) {
    throw usageError(
      ErrorCode.usage,
      `MQTT 3.1.1 has no password without a user name, and ${values.origin('mqtt-user')} gives none`,
      `add --mqtt-user, or type ${flagWith(values.origin('mqtt-version'), '5')}`,
    );
  }
  return {
    level,
    clientId: readClientId(values),
    user,
    password,
    keepAliveSec: readKeepAliveSec(values),
    subscribe: flagValue(values, 'mqtt-subscribe'),
  };
}

function readClientId(values: FlagValues): string {
  const given = flagValue(values, 'mqtt-client-id');
  if (given === null) return `c100k-${randomBytes(RUN_ID_BYTES).toString('hex')}-{agent}-{conn}`;
  if (differsByConnection(given) || flagValue(values, 'conns') === 1) return given;
  const origin = values.origin('mqtt-client-id');
  throw usageError(
    ErrorCode.usage,
    `${origin} ${given} is the same for all connections: each would take the session of the one before it over`,
    `type ${flagWith(origin, `'${given}-{conn}'`)}`,
  );
}

function readKeepAliveSec(values: FlagValues): number {
  const ms = flagValue(values, 'mqtt-keep-alive');
  if (ms % 1_000 === 0) return ms / 1_000;
  const origin = values.origin('mqtt-keep-alive');
  throw usageError(
    ErrorCode.badDuration,
    `${origin} is in whole seconds, not ${ms} ms`,
    `type ${flagWith(origin, `${Math.ceil(ms / 1_000)}s`)}`,
  );
}

/** A text as typed or, behind `@`, of a file without its last line break. */
function textOf(
  values: FlagValues,
  name: 'mqtt-user' | 'mqtt-password',
  problemOf: (text: string) => string | null,
): string | null {
  const given = flagValue(values, name);
  if (given === null || !/^@./.test(given)) return given;
  const what = `${values.origin(name)} ${given}`;
  const text = readWhole(given.slice(1), what, PASSWORD_BYTES_MAX)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  const problem = problemOf(text);
  if (problem === null) return text;
  throw usageError(
    ErrorCode.usage,
    `${what}: what is in the file ${problem}`,
    `give a file with one line of at most ${formatCount(PASSWORD_BYTES_MAX)} bytes`,
  );
}
