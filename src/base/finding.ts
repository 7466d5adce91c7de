/**
 * Owns the shape of one thing that preflight found: what, needed, there, and the command that mends it.
 * Must never gather facts (host/) or print (report/).
 */

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
  /** the command or flag that mends it, ready to type; null where nothing is wrong */
  readonly fix: string | null;
}
