/**
 * Owns the plan: what a run would take on this host and what is missing, as a shape and as text.
 * Must never open a connection or gather a fact (host/).
 */
import { cleanDeep, withoutOrders } from '../base/clean-text.ts';
import type { Finding } from '../base/errors.ts';
import { tupleFactors } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import type { PathPlan } from '../path/path-plan.ts';
import type { EngineChoice } from '../run/run-spec.ts';
import { bulleted, findingLines, labelled, labelledPieces, noPaint, type Paint } from './layout.ts';
import { pathPlanLines } from './path-text.ts';

/** `plan --json` prints exactly this. */
export interface Plan {
  readonly schemaVersion: string;
  readonly toolVersion: string;
  /** whether the run would start */
  readonly wouldStart: boolean;
  /** 0 when it would start, 3 when it would be refused, 1 when the path would not let all through */
  readonly exitCode: number;
  readonly connections: number;
  readonly target: readonly string[];
  readonly protocol: string;
  readonly endpoints: readonly string[];
  readonly sources: readonly string[];
  /** how many source ports each source address would use */
  readonly ports: number;
  /** possible connections: sources x ports x endpoints */
  readonly tuples: number;
  /** the most connections that this host can hold now */
  readonly capacity: number;
  /** what bounds the capacity */
  readonly boundBy: string;
  /** how sockets are driven, and why; null: the host was not planned */
  readonly engine: EngineChoice | null;
  readonly holders: number;
  /** the hops of --via; null without one */
  readonly path: PathPlan | null;
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
}

export const PLAN_SCHEMA_VERSION = '1.0.0';

/** Addresses up to this number are named; of more, the first and the last. */
const NAMES_MAX = 4;

/**
 * The plan as text, ending in a line break. The first line says whether the run would start.
 * @param given what a run would take
 * @param paint colours; default none
 */
export function renderPlan(given: Plan, paint: Paint = noPaint): string {
  const plan = cleanDeep(given);
  const word = plan.wouldStart ? 'READY to open' : 'REFUSED cannot open';
  const lines = [
    paint(
      plan.wouldStart ? 'good' : 'bad',
      `${word} ${formatCount(plan.connections)} connections from this host`,
    ),
    '',
    ...labelled('target', `${plan.target.join(', ')} (${plan.protocol})`),
    ...labelled('endpoints', named(plan.endpoints)),
    ...labelled('sources', named(plan.sources)),
    ...labelled('tuples', arithmetic(plan)),
    ...labelledPieces('capacity', [`${formatCount(plan.capacity)} connections`, `bound by ${plan.boundBy}`]),
    ...(plan.engine === null ? [] : labelled('engine', `${plan.engine.name}: ${plan.engine.why}`)),
    ...labelled('holders', formatCount(plan.holders)),
    ...(plan.path === null ? [] : ['', 'path', ...pathPlanLines(plan.path, plan.connections)]),
    '',
    'checks',
    ...plan.findings.flatMap(findingLines),
  ];
  if (plan.notes.length > 0) lines.push('', 'notes', ...plan.notes.flatMap((note) => bulleted('-', note)));
  return `${withoutOrders(lines.join('\n'))}\n`;
}

function arithmetic(plan: Plan): string {
  // An IPv6 endpoint is written with brackets around its address (RFC 3986).
  const families = plan.endpoints.map((endpoint) => (endpoint.startsWith('[') ? 6 : 4));
  return `${formatCount(plan.tuples)} = ${tupleFactors(plan.sources, families, plan.ports)}`;
}

/** `4: a, b, c, d` or `20: a ... t`. */
function named(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  if (names.length === 1) return names[0] ?? '';
  const shown = names.length <= NAMES_MAX ? names.join(', ') : `${names[0]} ... ${names[names.length - 1]}`;
  return `${formatCount(names.length)}: ${shown}`;
}
