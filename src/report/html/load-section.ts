/**
 * Owns the section of the page about a load that changes. Must never show a text but through markup.ts.
 */
import type { RunReport } from '../../judge/report.ts';
import { churnText, loadNotes, STAGE_HEADS, stageCells } from '../load-text.ts';
import { htmlTable, type Markup, markup } from './markup.ts';

/** A row for each stage; nothing where the number of connections does not change. */
export function loadSection({ load }: RunReport): Markup {
  if (load == null) return markup``;
  const notes = [...churnText(load), ...loadNotes(load)].map((note) => markup`<p>${note}</p>`);
  const stages =
    load.stages.length === 0 ? null : htmlTable('Stages', STAGE_HEADS, load.stages.map(stageCells));
  return markup`<section id="load"><h2>Load</h2>
${stages}${notes}</section>
`;
}
