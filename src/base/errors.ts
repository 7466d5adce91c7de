/**
 * Owns the codes with which a run is refused or ends, the error that carries one, and the shape of a finding of preflight:
 * what, needed, there, and the command that fixes it. Must never gather facts (host/) or print (report/).
 */

/** The process exit codes. Stable: scripts rely on them, and docs/MANUAL.md lists them. */
export const ExitCode = {
  held: 0,
  notHeld: 1,
  usage: 2,
  refused: 3,
  incomplete: 4,
  reportUnwritten: 5,
  bug: 70,
  interrupted: 130,
  terminated: 143,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Stable error codes; each has its row in docs/MANUAL.md (checked by test/docs.test.ts). */
export const ErrorCode = {
  usage: 'usage',
  badNumber: 'bad-number',
  badDuration: 'bad-duration',
  badRate: 'bad-rate',
  badEndpoint: 'bad-endpoint',
  badAddress: 'bad-address',
  badPorts: 'bad-ports',
  badRequirement: 'bad-requirement',
  badDevice: 'bad-device',
  badRunFile: 'bad-run-file',
  nameNotResolved: 'name-not-resolved',
  preflightRefused: 'preflight-refused',
  notOurAddress: 'not-our-address',
  notLinux: 'not-linux',
  agentMissing: 'agent-missing',
  agentRefused: 'agent-refused',
  agentLost: 'agent-lost',
  controlChannel: 'control-channel',
  badToken: 'bad-token',
  tokenExpired: 'token-expired',
  protocolVersion: 'protocol-version',
  serveFailed: 'serve-failed',
  reportUnwritable: 'report-unwritable',
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** What was typed is part of a message: a line feed or an escape sequence in it must not become one of the terminal. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trimEnd();
}

/**
 * A run that cannot start or go on, in words for a person: what happened and what to type next.
 * `message` is one line; `hint` is a line that can be typed or done.
 */
export class BenchError extends Error {
  readonly code: ErrorCode;
  readonly exitCode: ExitCode;
  readonly hint: string;

  /**
   * @param code stable error code
   * @param exitCode what the process exits with when no caller handles this
   * @param message one line: what is wrong, with the figures
   * @param hint what the user can type next
   * @param cause the underlying error, if any
   */
  constructor(code: ErrorCode, exitCode: ExitCode, message: string, hint: string, cause?: unknown) {
    super(oneLine(message), cause === undefined ? undefined : { cause });
    this.name = 'BenchError';
    this.code = code;
    this.exitCode = exitCode;
    this.hint = oneLine(hint);
  }
}

/**
 * A usage error: exit code 2.
 * @param code stable error code
 * @param message one line: what is wrong
 * @param hint what the user can type instead
 */
export function usageError(code: ErrorCode, message: string, hint: string): BenchError {
  return new BenchError(code, ExitCode.usage, message, hint);
}

/** `refuse` stops the run before anything is opened; `warn` is shown; `ok` is shown by `plan` only. */
export type Severity = 'refuse' | 'warn' | 'ok';

export interface Finding {
  /** stable name of the resource, such as `descriptors-per-process` */
  readonly what: string;
  readonly severity: Severity;
  /** null where a number says nothing */
  readonly needed: number | null;
  readonly available: number | null;
  /** unit of both numbers, plural: `descriptors`, `tuples`, `bytes` */
  readonly unit: string;
  /** one line with the arithmetic */
  readonly message: string;
  /** the command or flag that fixes it, ready to type; null where nothing is wrong */
  readonly fix: string | null;
}
