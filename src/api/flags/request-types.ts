/**
 * Owns what the texts of flags mean that say something in a request or in a message: header fields, subprotocols, templates, patterns,
 * the clients of a PROXY header.
 * Must never read a file.
 */
import { backendExpression } from '../../base/backend-pattern.ts';
import { ErrorCode, usageError } from '../../base/errors.ts';
import { clientsProblem } from '../../base/proxy-header.ts';
import { type HeaderField, headerProblem, isSubprotocol } from '../../base/request-options.ts';
import { readAnswer, readPattern, readTemplate } from '../../base/traffic-options.ts';
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

/** Where the name of a back end stands. */
export const backendFrom: ValueType<string> = {
  placeholder: 'PATTERN',
  parse: (given, origin) => {
    if (backendExpression(given) !== null) return given;
    throw usageError(
      ErrorCode.usage,
      `${origin} "${given}" is neither /regex/ with exactly one group nor header:NAME`,
      `type ${flagWith(origin, 'header:X-Served-By')} or ${flagWith(origin, "'/^server=(\\w+)/'")}`,
    );
  },
  write: (value) => value,
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

/** What is typed where a file may be named instead: `read` says what is wrong with it. */
function typed(
  placeholder: string,
  example: string,
  read: (given: string) => { readonly value: unknown } | { readonly problem: string },
): ValueType<string> {
  return {
    placeholder,
    parse: (given, origin) => {
      const result = read(given);
      if (!('problem' in result)) return given;
      const flag = origin.replace(/ @.*/s, '');
      throw usageError(ErrorCode.usage, `${origin}: ${result.problem}`, `type ${flagWith(flag, example)}`);
    },
    write: (value) => value,
  };
}

/** What is sent; `@` and a file: what is in it. */
export const message = typed('TEMPLATE', "'PING\\r\\n'", (given) =>
  given.startsWith('@') && given.length > 1
    ? { value: given }
    : readTemplate(Buffer.from(given), { hasEscapes: true, hasGroups: false }),
);

/** What an answer must be; `@` and a file: what is in it. */
export const expectation = typed('PATTERN', "'+PONG' or '/^[SN]/'", (given) =>
  given.startsWith('@') && given.length > 1 ? { value: given } : readPattern(given),
);

/** What the target says, and what it is answered. */
export const answer = typed('PATTERN=REPLY', "'2=3'", readAnswer);

/** The network that client addresses of a PROXY header are made up from. */
export const clients: ValueType<string> = {
  placeholder: 'CIDR',
  parse: (given, origin) => {
    const problem = clientsProblem(given, origin);
    if (problem !== null) throw problem;
    return given.trim();
  },
  write: (value) => value,
};
