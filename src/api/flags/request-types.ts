/**
 * Owns what the texts of flags mean that say something in a request: header fields and subprotocols. Must never read a file.
 */
import { ErrorCode, usageError } from '../../base/errors.ts';
import { type HeaderField, headerProblem, isSubprotocol } from '../../base/request-options.ts';
import { flagWith } from '../../base/units.ts';
import type { ValueType } from './flag.ts';

/** A header field, or `@` and the file that holds some: then the file's name. */
export const header: ValueType<HeaderField | string> = {
  placeholder: 'HEADER',
  parse: (given, origin) => {
    if (given.startsWith('@') && given.length > 1) return given.slice(1);
    const colon = given.indexOf(':');
    const field = {
      name: given.slice(0, Math.max(0, colon)),
      value: given.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, ''),
    };
    const hint = `type ${flagWith(origin.replace(/ @.*/s, ''), "'Authorization: Bearer ...'")}`;
    if (colon < 0) throw usageError(ErrorCode.usage, `${origin} without a colon is no header field`, hint);
    const problem = headerProblem(field);
    if (problem === null) return field;
    throw usageError(ErrorCode.usage, `${origin}: ${problem}`, hint);
  },
  write: (value) => (typeof value === 'string' ? `@${value}` : `${value.name}: ${value.value}`),
};

/** What a WebSocket client offers. */
export const subprotocol: ValueType<string> = {
  placeholder: 'NAME',
  parse: (given, origin) => {
    if (isSubprotocol(given)) return given;
    throw usageError(
      ErrorCode.usage,
      `${origin} must be one name without blanks and commas`,
      `type ${flagWith(origin, 'mqtt')}, and ${origin} again for another`,
    );
  },
  write: (value) => value,
};
