/**
 * Owns the section of the page on incidents: a row for each, with its curve. Must never look for one where the report knows them: in an
 * older report only points of the timeline tell of them.
 */
import { formatCount, formatRate } from '../../base/units.ts';
import type { RunReport } from '../../judge/report.ts';
import {
  INCIDENT_SHARE,
  type Incident,
  RECOVERY_PARTS,
  type RecoveryPart,
} from '../../stats/incident-log.ts';
import { type Cell, htmlTable, type Markup, markup, tableBehind } from './markup.ts';

/** How a section shows a number with its field, and what it is made with. */
interface SectionParts {
  readonly field: (path: string, value: number | null, text?: (value: number) => string) => Markup;
  readonly section: (id: string, title: string, body: readonly (Markup | null)[]) => Markup;
}

/** Curves that are drawn; further incidents have their row. */
const CURVES_MAX = 8;
const WIDTH = 720;
const HEIGHT = 120;
const AXIS_HEIGHT = 20;

const PART_HEADS: Readonly<Record<RecoveryPart, string>> = {
  p50: '50 % back',
  p90: '90 % back',
  p99: '99 % back',
  p999: '99.9 % back',
  all: 'all back',
};
const PARTS = Object.keys(RECOVERY_PARTS) as RecoveryPart[];

const seconds = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} s`;

/** The section; empty without an incident. */
export function incidentSection(report: RunReport, parts: SectionParts): Markup {
  if (!report.incidents) return olderSection(report, parts);
  if (report.incidents.length === 0) return markup``;
  const rows = report.incidents.map((incident, at) => rowOf(incident, at, parts));
  const heads = [
    'second',
    'lost',
    'lowest open',
    ...PARTS.map((part) => PART_HEADS[part]),
    'connects per second, most',
    'refused',
    'failed otherwise',
  ];
  return parts.section('incidents', 'Incidents', [
    markup`<p class="note">1 % or more of what was open lost within a second, and how it came back; times from the first loss, exact to a quarter of a second.</p>`,
    htmlTable('Incidents', heads, rows),
    markup`${report.incidents.slice(0, CURVES_MAX).map(curveOf)}`,
  ]);
}

function rowOf(incident: Incident, at: number, { field }: SectionParts): readonly Cell[] {
  const path = `incidents.${at}`;
  const { backSec } = incident;
  return [
    field(`${path}.atSec`, incident.atSec, (value) => value.toFixed(2)),
    field(`${path}.lost`, incident.lost),
    formatCount(Math.max(0, incident.openBefore - incident.missingMax)),
    ...PARTS.map((part) =>
      backSec[part] === null ? 'not until the end' : field(`${path}.backSec.${part}`, backSec[part], seconds),
    ),
    field(`${path}.connectsPerSecMax`, incident.connectsPerSecMax, formatRate),
    field(`${path}.refused`, incident.refused),
    field(`${path}.failed`, incident.failed),
  ];
}

/** What was missing over time, as a line. */
function curveOf({ atSec, missingMax, curve }: Incident, index: number): Markup {
  const { missing, connects, bucketMs } = curve;
  const x = (bucket: number): number => Math.round((bucket / Math.max(1, missing.length)) * WIDTH * 10) / 10;
  const y = (count: number): number => Math.round((1 - count / Math.max(1, missingMax)) * HEIGHT * 10) / 10;
  const line = `M0 ${y(missingMax)}${missing.map((count, at) => `L${x(at + 1)} ${y(count)}`).join('')}`;
  const end = seconds((missing.length * bucketMs) / 1_000);
  const label = `Connections missing from second ${atSec.toFixed(2)} on: at most ${formatCount(missingMax)}; the table below has the numbers`;
  const rows = missing.map((count, at) => [
    seconds(((at + 1) * bucketMs) / 1_000),
    formatCount(count),
    formatCount(connects[at] ?? 0),
  ]);
  const name = `Incident at second ${atSec.toFixed(2)}`;
  return markup`<h3>${name}</h3><div class="scroll" role="region" tabindex="0" aria-label="${label}"><svg role="img" aria-label="${label}" viewBox="0 -2 ${WIDTH} ${HEIGHT + AXIS_HEIGHT + 2}" width="${WIDTH}" height="${HEIGHT + AXIS_HEIGHT + 2}">
<path class="missing" d="${line}"/><text x="0" y="${HEIGHT + 14}">${formatCount(missingMax)} missing at most</text><text x="${WIDTH}" y="${HEIGHT + 14}" text-anchor="end">${end}</text></svg></div>${tableBehind(
    `table-incident-${index}`,
    `Table: ${name}`,
    htmlTable(name, ['after', 'missing', 'connects called'], rows),
  )}`;
}

/** Drops between two points of the timeline, from the first connect to the end of the hold, and how long each lasted. */
function olderSection({ timeline, asked }: RunReport, { section }: SectionParts): Markup {
  const rows: string[][] = [];
  // A loss just before the hold is noticed belongs here too.
  const points = timeline.filter(({ phase }) => phase === 'ramping' || phase === 'holding');
  for (let at = 1; at < points.length; at++) {
    const [before, now] = [points[at - 1], points[at]];
    if (before === undefined || now === undefined) break;
    if (now.dropped - before.dropped < INCIDENT_SHARE * asked.connections) continue;
    let lowest = now.open;
    let end = at;
    while (end < points.length && (points[end]?.open ?? 0) < before.open) {
      lowest = Math.min(lowest, points[end]?.open ?? lowest);
      end += 1;
    }
    const back = points[end];
    rows.push([
      before.atSec.toFixed(1),
      formatCount((points[Math.min(end, points.length - 1)] ?? now).dropped - before.dropped),
      formatCount(lowest),
      back === undefined ? 'not until the end' : `${(back.atSec - before.atSec).toFixed(1)} s`,
    ]);
    at = end;
  }
  if (rows.length === 0) return markup``;
  return section('incidents', 'Incidents', [
    markup`<p class="note">1 % or more of what was asked lost from one point of the timeline to the next.</p>`,
    htmlTable(
      'Incidents',
      ['second', 'lost', 'lowest open', 'as many open again after'],
      rows.slice(0, ROWS_MAX),
    ),
    rows.length > ROWS_MAX
      ? markup`<p class="note">${rows.length - ROWS_MAX} more are in the JSON report's timeline</p>`
      : null,
  ]);
}

const ROWS_MAX = 150;
