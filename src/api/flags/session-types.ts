/**
 * Owns what the texts of flags mean that say something in a session of MQTT. Must never read a file.
 */
import { ErrorCode, usageError } from '../../base/errors.ts';
import { passwordProblem, templateProblem, topicProblem } from '../../base/session-options.ts';
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
