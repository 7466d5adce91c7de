/**
 * Owns a plan and a path as text and as the shapes of their JSON: what a run would take on this host and what is missing;
 * what a whoami target saw of the path, its idle timeout, or what is planned for it.
 * Must never open a connection, gather a fact (host/) or judge (path/path-verdict.ts, path/path-plan.ts).
 */
import { isLoopback } from '../base/address.ts';
import { cleanDeep, withoutOrders } from '../base/clean-text.ts';
import { addressPart } from '../base/endpoint.ts';
import type { Finding } from '../base/errors.ts';
import { tupleFactors } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import { formatInterval, type IdleInterval } from '../path/idle-search.ts';
import type { PathPlan } from '../path/path-plan.ts';
import type { PathVerdict } from '../path/path-verdict.ts';
import type { EngineChoice } from '../run/run-spec.ts';
import { type SeenCounts, seenPair } from '../stats/observed-sources.ts';
import {
  bulleted,
  findingLines,
  labelled,
  labelledPieces,
  noPaint,
  type Paint,
  TEXT_WIDTH,
  wrapText,
} from './layout.ts';

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

export const PATH_SCHEMA_VERSION = '1.0.0';

/** What `path --json` writes. */
export interface PathReport {
  readonly schemaVersion: string;
  readonly toolVersion: string;
  readonly exitCode: number;
  readonly target: readonly string[];
  readonly endpoints: readonly string[];
  /** connections that were opened for it */
  readonly samples: number;
  readonly established: number;
  /** null with --find-idle-timeout */
  readonly verdict: PathVerdict | null;
  readonly seen: SeenCounts | null;
  /** only with --find-idle-timeout, in milliseconds */
  readonly idle: IdleInterval | null;
}

/** Sources up to this number are listed one by one. */
const SOURCES_LISTED_MAX = 8;

/**
 * `path` as text, ending in a line break; the first line is the sentence.
 * @param given what was found
 */
export function renderPath(given: PathReport, paint: Paint = noPaint): string {
  const report = cleanDeep(given);
  if (report.idle !== null) return renderIdle(report, report.idle, paint);
  const { verdict, seen } = report;
  if (verdict === null) return '';
  const isFree = verdict.kind === 'preserved';
  const lines = [
    ...wrapText(verdict.sentence, TEXT_WIDTH).map((line) => paint(isFree ? 'good' : 'bad', line)),
    '',
    ...labelled('target', report.target.join(', ')),
    ...labelledPieces('reported', [
      `${formatCount(verdict.told)} of ${formatCount(report.samples)} connections`,
      `ports kept: ${verdict.portsKept}`,
    ]),
    ...(seen === null ? [] : seenLines(seen)),
  ];
  if (verdict.lift.length > 0) {
    lines.push('', 'what would lift it', ...verdict.lift.flatMap((line) => bulleted('-', line)));
  }
  return `${withoutOrders(lines.join('\n'))}\n`;
}

function renderIdle(report: PathReport, idle: IdleInterval, paint: Paint): string {
  const isLocal = report.endpoints.every((endpoint) => isLoopback(addressPart(endpoint)));
  const lines = [
    paint(idle.forgottenMs === null ? 'good' : 'bad', formatInterval(idle)),
    '',
    ...labelled('target', report.target.join(', ')),
    ...(isLocal ? labelled('path', 'loopback: nothing is between, so this is the target alone') : []),
  ];
  if (idle.forgottenMs !== null) {
    const everySec = Math.max(1, Math.floor(idle.aliveMs / 2_000));
    // Who closes by itself counts bytes of the application; a keepalive has none.
    const other = idle.ended === 'fin' ? 'raise the timeout of the target or its proxy' : 'TCP keepalive';
    lines.push(
      ...labelled('fix', `send something more often, such as --probe-every ${everySec}s, or ${other}`),
    );
  }
  return `${withoutOrders(lines.join('\n'))}\n`;
}

/**
 * What the target saw of each source, one labelled line each, or the spread when there are many.
 * @param seen from a whoami target
 */
export function seenLines(seen: SeenCounts): string[] {
  const bySource = new Map<string, string[]>();
  for (const [key, count] of Object.entries(seen.bySource)) {
    const pair = seenPair(key);
    const ours = pair === null ? 'others' : pair.ours;
    const what =
      pair === null
        ? formatCount(count)
        : `${pair.seen === ours ? 'as itself' : `as ${pair.seen}`} ${formatCount(count)}`;
    bySource.set(ours, [...(bySource.get(ours) ?? []), what]);
  }
  const sources = [...bySource];
  const lines = sources.slice(0, SOURCES_LISTED_MAX).flatMap(([source, pieces], index) => {
    return labelledPieces(index === 0 ? 'seen' : '', [source, ...pieces]);
  });
  if (sources.length > SOURCES_LISTED_MAX) {
    lines.push(...labelled('', `and ${formatCount(sources.length - SOURCES_LISTED_MAX)} further sources`));
  }
  const ports = [`kept ${formatCount(seen.portKept)}`, `changed ${formatCount(seen.portChanged)}`];
  if (seen.portMin !== null) ports.push(`seen ${seen.portMin}-${seen.portMax}`);
  return [...lines, ...labelledPieces('ports', ports)];
}

/**
 * The planned path as lines.
 * @param path from path/path-plan.ts
 * @param connections that are wanted
 */
function pathPlanLines(path: PathPlan, connections: number): string[] {
  const lines = path.hops.flatMap((hop) => labelled(hop.hop.padEnd(12), hop.arithmetic));
  if (path.suffices) {
    const ceiling = path.ceiling === null ? 'no ceiling' : `a ceiling of ${formatCount(path.ceiling)}`;
    lines.push(...labelled('server', `${formatCount(path.predicted)} connections: the path sets ${ceiling}`));
  } else {
    lines.push(
      ...labelled(
        'server',
        `${formatCount(path.predicted)} of ${formatCount(connections)} connections: ${path.boundBy} binds`,
      ),
    );
  }
  for (const change of path.changes) {
    lines.push(...bulleted('-', change.what), ...change.lines.map((line) => `      ${line}`));
  }
  return lines;
}
