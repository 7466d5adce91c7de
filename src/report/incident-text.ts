/**
 * Owns what is said in text of incidents: what was lost, how long it took to come back, what it was like on the way. Must never say that
 * something is back which was never opened again.
 */
import { formatCount, formatRate } from '../base/units.ts';
import type { RunReport } from '../judge/report.ts';
import type { Incident } from '../stats/incident-log.ts';
import { chartRow } from './chart.ts';

/** Incidents in one text at most. */
const SHOWN_MAX = 4;
const CURVE_COLUMNS = 24;

const seconds = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} s`;

/** One text for each incident, in pieces; none where lost connections are only counted: what was lost says it all. */
export function incidentPieces({ incidents, asked }: RunReport): readonly (readonly string[])[] {
  // A report of an earlier version has none.
  if (!incidents || incidents.length === 0 || asked.onDrop !== 'reopen') return [];
  const shown = incidents.slice(0, SHOWN_MAX).map(piecesOf);
  const more = incidents.length - SHOWN_MAX;
  return more > 0 ? [...shown, [`and ${formatCount(more)} more in the JSON report`]] : shown;
}

function piecesOf(incident: Incident): string[] {
  const { backSec, hasEnded, missing, missingMax, openBefore } = incident;
  const times = [
    ['50 %', backSec.p50],
    ['90 %', backSec.p90],
    ['99 %', backSec.p99],
    ['99.9 %', backSec.p999],
    ['all', backSec.all],
  ] as const;
  const back = times.flatMap(([part, sec]) => (sec === null ? [] : [`${part} ${seconds(sec)}`]));
  return [
    `at ${seconds(incident.atSec)} ${formatCount(missingMax)} of ${formatCount(Math.max(openBefore, missingMax))} lost`,
    ...(back.length === 0 ? [] : [`back: ${back.join(', ')}`]),
    ...(hasEnded ? [] : [`not ended: ${formatCount(missing)} missing after ${seconds(incident.lastedSec)}`]),
    `connects up to ${formatRate(incident.connectsPerSecMax)}`,
    ...(incident.refused > 0 ? [`refused ${formatCount(incident.refused)}`] : []),
    ...(incident.failed > 0 ? [`failed otherwise ${formatCount(incident.failed)}`] : []),
    `open ${curveOf(incident)}`,
  ];
}

/** What was open while it lasted, as a line of blocks. */
function curveOf({ curve, missingMax, openBefore }: Incident): string {
  const most = Math.max(openBefore, missingMax);
  const { missing } = curve;
  const columns = Math.min(CURVE_COLUMNS, missing.length);
  const values = Array.from({ length: columns }, (_, column) => {
    const from = Math.floor((column * missing.length) / columns);
    const to = Math.max(from + 1, Math.floor(((column + 1) * missing.length) / columns));
    return most - Math.max(...missing.slice(from, to));
  });
  return chartRow(values, most, 0, 1).replaceAll(' ', '_');
}
