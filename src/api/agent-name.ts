/**
 * Owns what an agent may be called. Must never change a name: tokens, messages and reports carry it as it is.
 */

import { ErrorCode, usageError } from '../base/errors.ts';
import { NAME_CHARACTERS_MAX } from '../control/message.ts';

/**
 * Checks a name before anybody joins with it: the coordinator would take a longer one for a broken message.
 * @param origin the flag or variable that it came from
 * @throws BenchError (usage) unless it has 1 to 128 characters
 */
export function checkAgentName(name: string, origin: string): void {
  if (name.length > 0 && name.length <= NAME_CHARACTERS_MAX) return;
  throw usageError(
    ErrorCode.usage,
    `${origin}: the name of an agent has 1 to ${NAME_CHARACTERS_MAX} characters, this one has ${name.length}`,
    'choose another one, for example the short name of the host',
  );
}
