/**
 * Owns what the texts of flags mean that say something in a session of MQTT. Must never read a file.
 */
import { ErrorCode, usageError } from '../../base/errors.ts';
import {
  ALPN_MAX,
  isAlpnName,
  passwordProblem,
  templateProblem,
  topicProblem,
} from '../../base/session-options.ts';
import { flagWith } from '../../base/units.ts';
import type { ValueType } from './flag.ts';

/** A text that some rule judges; what begins with `@` names a file where `mayBeFile`, and is judged when it is read. */
function judged(
  placeholder: string,
  example: string,
  problemOf: (text: string) => string | null,
  mayBeFile: boolean,
): ValueType<string> {
  return {
    placeholder,
    fileAt: mayBeFile,
    parse: (given, origin) => {
      const problem = mayBeFile && /^@./.test(given) ? null : problemOf(given);
      if (problem === null) return given;
      throw usageError(ErrorCode.usage, `${origin} ${problem}`, `type ${flagWith(origin, example)}`);
    },
    write: (value) => value,
  };
}

export const clientId = judged('TEMPLATE', "'device-{agent}-{conn}'", templateProblem, false);
export const mqttUser = judged('TEMPLATE', "'device-{conn}', or @FILE", templateProblem, true);
export const mqttPassword = judged('TEXT', '@FILE with the password in it', passwordProblem, true);
export const topic = judged('TOPIC', "'devices/{conn}/commands'", topicProblem, false);

/** What is offered by ALPN, the preferred first. */
export const alpnNames: ValueType<readonly string[]> = {
  placeholder: 'LIST',
  parse: (given, origin) => {
    const names = given.split(',').map((name) => name.trim());
    const isGood =
      names.every(isAlpnName) && new Set(names).size === names.length && names.length <= ALPN_MAX;
    if (isGood) return names;
    throw usageError(
      ErrorCode.usage,
      `${origin} is a comma list of at most ${ALPN_MAX} different names of 1 to 255 visible characters`,
      `type ${flagWith(origin, 'http/1.1')}`,
    );
  },
  write: (names) => names.join(','),
};
