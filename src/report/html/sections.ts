/**
 * Owns the sections of the report's page: what is said in which order, each number with the path of its field in the JSON.
 * Must never judge, and never hold a text of another process outside of a template (markup.ts).
 */
import { type Counts, totalOf } from '../../base/outcome.ts';
import { formatBytes, formatCount, formatDuration, formatMs, formatRate } from '../../base/units.ts';
import type { AgentReport, Latency, RunReport, TimelinePoint } from '../../judge/report.ts';
import { holdWords } from '../../run/run-spec.ts';
import { messagePieces, verdictLine } from '../verdict-text.ts';
import { balanceSection } from './balance-section.ts';
import { incidentSection } from './incidents.ts';
import { loadSection } from './load-section.ts';
import { type Cell, htmlTable, type Markup, markup, openedInParts, tableBehind } from './markup.ts';
import { heatMap, lossRaster, type Picture, ROWS_MAX, type spectraOf, thinned } from './pictures.ts';

/** Rows of lists that another process makes long: agents, places, losses. */
const LIST_ROWS_MAX = 150;

/** A number with its field: what is shown can be compared with the JSON. null: not known. */
function field(path: string, value: number | null, text: (value: number) => string = formatCount): Markup {
  if (value === null) return markup`<span class="none">not known</span>`;
  return markup`<data value="${value}" data-path="${path}">${text(value)}</data>`;
}

function section(id: string, title: string, body: readonly (Markup | null)[]): Markup {
  const parts = body.filter((part) => part !== null);
  if (parts.length === 0) return markup``;
  return markup`<section id="${id}" aria-labelledby="${id}-title"><h2 id="${id}-title">${title}</h2>
${parts}</section>
`;
}

/** Pairs of a name and a value. */
function facts(rows: readonly (readonly [string, Cell])[]): Markup {
  return markup`<dl>${rows.map(([name, value]) => markup`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function cut<Row>(
  rows: readonly Row[],
  what: string,
): { readonly rows: readonly Row[]; readonly left: Markup | null } {
  if (rows.length <= LIST_ROWS_MAX) return { rows, left: null };
  const text = `${formatCount(rows.length - LIST_ROWS_MAX)} more ${what} are in the JSON report`;
  return { rows: rows.slice(0, LIST_ROWS_MAX), left: markup`<p class="note">${text}</p>` };
}

const MARKS = { pass: '✓ PASS', fail: '✗ FAIL', incomplete: '! INCOMPLETE', refused: '! REFUSED' } as const;

/** The head of the page: the verdict and what was tested. */
export function headOf(report: RunReport): Markup {
  const { asked, about } = report;
  const line = verdictLine(report).replace(/^\w+ ?/, '');
  const state = report.isPartial
    ? markup`<p class="note">The run still goes on: these are the numbers so far.</p>`
    : null;
  const verdict = report.isPartial ? 'RUNNING' : (MARKS[report.verdict] ?? report.verdict);
  return markup`<header class="${report.isPartial ? 'running' : report.verdict}"><h1><span class="verdict">${verdict}</span> ${line}</h1>
<p>${report.reason}</p>${state}
${facts([
  ...(about?.name == null ? [] : [['run', about.name] as const]),
  ['target', asked.target.join(', ')],
  ['protocol', asked.protocol],
  ['started', time(report.startedAt)],
  ['ended', time(report.endedAt)],
  ['version', report.toolVersion],
  ['exit code', field('exitCode', report.exitCode, String)],
])}</header>
`;
}

function time(text: string): Markup {
  return markup`<time datetime="${text}">${text.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')}</time>`;
}

function verdictSection(report: RunReport): Markup {
  const requirements = cut(report.requirements, 'requirements');
  const notes = cut(report.notes, 'notes');
  const preflight = cut(
    report.findings.filter(({ severity }) => severity !== 'ok'),
    'findings',
  );
  const rows = requirements.rows.map(({ requirement, passed, actualText, isDefault }) => [
    requirement,
    passed ? '✓ holds' : '✗ broken',
    actualText,
    isDefault ? 'default' : 'asked for',
  ]);
  const causes = report.diagnoses
    .slice(0, LIST_ROWS_MAX)
    .map(
      ({ party, what, message, next, count }, at) =>
        markup`<li><b>${party}</b> (${what}, explains ${field(`diagnoses.${at}.count`, count)}): ${message}. <span class="next">Next: ${next}</span></li>`,
    );
  const findings = preflight.rows.map(
    ({ severity, what, message, fix }) =>
      markup`<li><b>${severity === 'refuse' ? 'refused' : 'warning'}</b> (${what}): ${message}${fix === null ? null : markup` <code>${fix}</code>`}</li>`,
  );
  return section('verdict', 'Verdict and requirements', [
    rows.length === 0 ? null : htmlTable('Requirements', ['requirement', 'result', 'was', 'from'], rows),
    report.whoRanOut === null ? null : markup`<p>Who ran out: <b>${report.whoRanOut}</b></p>`,
    causes.length === 0 ? null : markup`<ul>${causes}</ul>`,
    findings.length === 0 ? null : markup`<h3>Preflight</h3><ul>${findings}</ul>`,
    notes.rows.length === 0
      ? null
      : markup`<h3>Notes</h3>${openedInParts('more-notes', 'notes', notes.rows, (some) => markup`<ul>${some.map((note) => markup`<li>${note}</li>`)}</ul>`)}`,
    requirements.left,
    preflight.left,
    notes.left,
  ]);
}

function reasonRows(path: string, label: string, counts: Counts<string>): (readonly Cell[])[] {
  return Object.entries(counts)
    .toSorted(([, a], [, b]) => (b ?? 0) - (a ?? 0))
    .map(([reason, count]) => [`${label}: ${reason}`, field(`${path}.${reason}`, count ?? 0), '']);
}

function connectionsSection(report: RunReport): Markup {
  const { connections: c, asked, target, kernel, hold } = report;
  const rows: (readonly Cell[])[] = [
    ['asked', field('asked.connections', asked.connections), 'you'],
    ['established', field('connections.established', c.established), 'own count'],
    ['held', field('connections.held', c.held), `own count; proof: ${hold.proof}`],
    ['open at the end', field('connections.open', c.open), 'own count'],
    ['verified', field('connections.verified', c.verified), 'answers of the application'],
    ['established in the kernel', field('kernel.established', kernel.established), 'kernels of the agents'],
    ...(target === null
      ? []
      : [
          ['the target holds', field('target.openNow', target.openNow), `the target (${target.source})`],
          [
            'the target held at most',
            field('target.openMax', target.openMax),
            `the target (${target.source})`,
          ],
        ]),
    ['failed', markup`${formatCount(totalOf(c.failed))}`, ''],
    ...reasonRows('connections.failed', 'failed', c.failed),
    ['lost', markup`${formatCount(totalOf(c.dropped))}`, ''],
    ...reasonRows('connections.dropped', 'lost', c.dropped),
    ['reopened', field('connections.reopened', c.reopened), 'own count'],
    ['not attempted', field('connections.unattempted', c.unattempted), 'own count'],
    ...(report.messages == null ? [] : [['messages', messagePieces(report).join(', '), 'own count']]),
  ];
  const points = thinned(report.timeline, ROWS_MAX);
  const caption = 'Open connections over time';
  return section('open', 'Open against asked', [
    report.timeline.length < 2
      ? null
      : markup`<div class="chart" id="chart-open" role="img" aria-label="${openLabel(report)}"></div>${tableBehind(
          'table-open',
          `Table: open connections over time${points.length < report.timeline.length ? ` (${points.length} of ${formatCount(report.timeline.length)} points)` : ''}`,
          htmlTable(
            caption,
            ['seconds', 'phase', 'open', 'verified', 'target', 'failed', 'lost'],
            points.map(pointRow),
          ),
        )}`,
    htmlTable('Connections, and who counted them', ['count', 'connections', 'counted by'], rows),
  ]);
}

function openLabel({ timeline, asked }: RunReport): string {
  const most = timeline.reduce((max, { open }) => Math.max(max, open), 0);
  return `Open connections over time: at most ${formatCount(most)} of ${formatCount(asked.connections)} asked; the table below has the numbers`;
}

function pointRow({
  atSec,
  phase,
  open,
  verified,
  seenByTarget,
  failed,
  dropped,
}: TimelinePoint): readonly string[] {
  const target = seenByTarget === null ? '-' : formatCount(seenByTarget);
  return [
    atSec.toFixed(1),
    phase,
    formatCount(open),
    formatCount(verified),
    target,
    formatCount(failed),
    formatCount(dropped),
  ];
}

function legendOf({ legend }: Picture): Markup {
  const items = legend.map(
    ([name, text]) =>
      markup`<li><svg width="14" height="14" aria-hidden="true"><rect class="${name}" width="14" height="14"/></svg> ${text}</li>`,
  );
  return markup`<ul class="legend">${items}</ul>`;
}

function pictureWithTable(id: string, title: string, picture: Picture | null): Markup | null {
  if (picture === null) return null;
  const note = picture.left === '' ? null : markup`<p class="note">${picture.left}</p>`;
  const table = htmlTable(title, picture.heads, picture.rows);
  return markup`<h3>${title}</h3>${picture.picture}${legendOf(picture)}${note}${tableBehind(id, `Table: ${title}`, table)}`;
}

function lossSection(report: RunReport): Markup {
  const { losses, overTime } = report;
  if (losses.counts.length === 0 && totalOf(report.connections.dropped) === 0) return markup``;
  const listed = cut(losses.counts, 'counts');
  const raster = overTime?.losses;
  return section('losses', 'Losses', [
    raster === undefined
      ? markup`<p class="note">This report has no losses by time and place.</p>`
      : pictureWithTable(
          'table-loss-source',
          'Losses by time and source',
          lossRaster(raster.sources, raster.bucketMs, 'source address'),
        ),
    raster === undefined
      ? null
      : pictureWithTable(
          'table-loss-endpoint',
          'Losses by time and endpoint',
          lossRaster(raster.endpoints, raster.bucketMs, 'endpoint'),
        ),
    facts([
      ['within a second after opening', field('losses.young', losses.young)],
      ['reset in answer to a probe', field('losses.resetsOnProbe', losses.resetsOnProbe)],
      ['most within one second', field('losses.burstMax', losses.burstMax)],
      ['without details', field('losses.detailsCut', losses.detailsCut)],
    ]),
    tableBehind(
      'table-losses',
      'Table: losses by reason, source and endpoint',
      htmlTable(
        'Losses by reason, source and endpoint',
        ['reason', 'source', 'endpoint', 'lost'],
        listed.rows.map(({ reason, source, endpoint, count }) => [
          reason,
          source,
          endpoint,
          formatCount(count),
        ]),
      ),
    ),
    listed.left,
  ]);
}

const PERCENTILES = ['p50', 'p90', 'p99', 'p999', 'max'] as const;

function latencyRow(name: string, path: string, latency: Latency): readonly Cell[] {
  return [
    name,
    field(`${path}.count`, latency.count),
    ...PERCENTILES.map((part) => field(`${path}.${part}`, latency[part], formatMs)),
  ];
}

function latencySection(report: RunReport, spectra: ReturnType<typeof spectraOf>): Markup {
  const { overTime } = report;
  const rows = [
    latencyRow('connect', 'connectMs', report.connectMs),
    latencyRow('connect, from the intended time', 'connectFromIntendedMs', report.connectFromIntendedMs),
    ...(report.echoMs.count === 0 ? [] : [latencyRow('probe', 'echoMs', report.echoMs)]),
    ...(report.tls === null ? [] : [latencyRow('TLS handshake', 'tls.handshakeMs', report.tls.handshakeMs)]),
  ];
  if (report.connectMs.count === 0) return markup``;
  const spectrumRows = Object.entries(spectra).flatMap(([name, pairs]) =>
    pairs.flatMap((percent, at) =>
      at % 2 === 1 ? [] : [[`${name} ${Number(percent.toFixed(5))} %`, formatMs(pairs[at + 1] ?? 0)]],
    ),
  );
  const limited = report.latencyTrustworthy
    ? null
    : markup`<p class="warn">! These latencies may be the generator's own: ${report.generator.limits.join('; ')}</p>`;
  return section('latency', 'Latency', [
    limited,
    htmlTable('Percentiles', ['latency', 'count', 'p50', 'p90', 'p99', 'p99.9', 'max'], rows),
    spectrumRows.length === 0
      ? null
      : markup`<h3>Percentile spectrum</h3><div class="chart" id="chart-spectrum" role="img" aria-label="Latency by percentile; the table below has the numbers"></div>${tableBehind('table-spectrum', 'Table: percentile spectrum', htmlTable('Percentile spectrum', ['percentile', 'latency'], spectrumRows))}`,
    overTime === null
      ? null
      : pictureWithTable(
          'table-connect-map',
          'Connect latency by time',
          heatMap(overTime.connect, 'connect'),
        ),
    overTime === null
      ? null
      : pictureWithTable('table-probe-map', 'Probe latency by time', heatMap(overTime.probe, 'probe')),
  ]);
}

function agentRow(agent: AgentReport, at: number): readonly Cell[] {
  return [
    agent.name,
    field(`agents.${at}.quota`, agent.quota),
    field(`agents.${at}.held`, agent.held),
    field(`agents.${at}.open`, agent.open),
    formatCount(totalOf(agent.failed)),
    formatCount(totalOf(agent.dropped)),
    field(`agents.${at}.capacity`, agent.capacity),
    agent.boundBy,
    agent.engine?.name ?? '-',
    String(agent.sources.length),
    agent.lost ? 'lost' : '',
  ];
}

function agentSection({ agents }: RunReport): Markup {
  const listed = cut(agents, 'agents');
  const heads = [
    'agent',
    'quota',
    'held',
    'open',
    'failed',
    'lost',
    'capacity',
    'bound by',
    'engine',
    'sources',
    '',
  ];
  const holders = cut(
    agents.flatMap((agent) => agent.holders),
    'holders',
  );
  return section('agents', 'Agents and what bounds each', [
    openedInParts('more-agents', 'agents', listed.rows.map(agentRow), (some, title) =>
      htmlTable(title, heads, some),
    ),
    listed.left,
    tableBehind(
      'table-holders',
      'Table: holder processes',
      htmlTable(
        'Holder processes',
        ['holder', 'CPU', 'memory', 'loop lag p99', 'loop lag max', 'descriptors', 'tuples', ''],
        holders.rows.map((holder) => [
          holder.id,
          formatMs(holder.cpuUserMs + holder.cpuSystemMs),
          formatBytes(holder.residentBytes),
          formatMs(holder.loopLagMsP99),
          formatMs(holder.loopLagMsMax),
          `${formatCount(holder.descriptorsUsed)} of ${formatCount(holder.descriptorsMax)}`,
          `${formatCount(holder.tuplesUsed)} of ${formatCount(holder.tuplesMax)}`,
          holder.alive ? '' : 'ended',
        ]),
      ),
    ),
    holders.left,
  ]);
}

function placesSection(report: RunReport): Markup {
  const table = (
    what: string,
    places: Readonly<
      Record<string, { asked: number; established: number; failed: Counts<string>; dropped: Counts<string> }>
    >,
  ): Markup => {
    const listed = cut(Object.entries(places), `rows of ${what}`);
    const rows = listed.rows.map(([place, outcomes]) => [
      place === '*' ? 'others' : place,
      formatCount(outcomes.asked),
      formatCount(outcomes.established),
      reasonsText(outcomes.failed),
      reasonsText(outcomes.dropped),
    ]);
    const made = htmlTable(`By ${what}`, [what, 'asked', 'established', 'failed', 'lost'], rows);
    return markup`${tableBehind(`table-by-${what}`, `Table: by ${what}`, made)}${listed.left}`;
  };
  if (report.evidence === null) return markup``;
  return section('places', 'Endpoints and sources', [
    table('endpoint', report.evidence.byEndpoint),
    table('source', report.evidence.bySourceOutcome),
  ]);
}

function reasonsText(counts: Counts<string>): string {
  const parts = Object.entries(counts).map(([reason, count]) => `${reason} ${formatCount(count ?? 0)}`);
  return parts.length === 0 ? '0' : parts.join(', ');
}

function generatorSection({ generator: g, ramp }: RunReport): Markup {
  if (g.holders === 0) return markup``;
  const percent = (value: number): string => `${value.toFixed(1)} %`;
  const ratio = (value: number): string => percent(100 * value);
  return section('generator', "The generator's health", [
    g.limits.length === 0
      ? markup`<p>✓ Nothing is beyond its bound.</p>`
      : markup`<ul>${g.limits.map((limit) => markup`<li class="warn">! ${limit}</li>`)}</ul>`,
    facts([
      ['holders', field('generator.holders', g.holders)],
      ['CPU of all', field('generator.cpuMs', g.cpuMs, formatMs)],
      [
        'CPU while holding, of one core',
        field('generator.cpuPercentOfOneCoreWhileHolding', g.cpuPercentOfOneCoreWhileHolding, percent),
      ],
      [
        'waiting for a core in the ramp',
        field('generator.rampCpuWaitRatioMax', g.rampCpuWaitRatioMax, ratio),
      ],
      ['loop lag p99', field('generator.loopLagMsP99', g.loopLagMsP99, formatMs)],
      ['loop lag, most', field('generator.loopLagMsMax', g.loopLagMsMax, formatMs)],
      ['late for the rate, p99', field('generator.scheduleLagMsP99', g.scheduleLagMsP99, formatMs)],
      ['garbage collection', field('generator.gcMs', g.gcMs, formatMs)],
      ['memory of the largest holder', field('generator.residentBytesMax', g.residentBytesMax, formatBytes)],
      ['descriptors left', field('generator.descriptorHeadroomMin', g.descriptorHeadroomMin)],
      ['tuples used', field('generator.tupleFillRatio', g.tupleFillRatio, ratio)],
      ['ramp', field('ramp.seconds', ramp.seconds, (value) => `${value.toFixed(1)} s`)],
      [
        'connects per second',
        field('ramp.ratePerSec', ramp.ratePerSec, (value) => formatCount(Math.round(value))),
      ],
      ['SYN retransmits', field('ramp.synRetransmits', ramp.synRetransmits)],
    ]),
  ]);
}

function askedSection({ asked, about, schemaVersion }: RunReport): Markup {
  const ms = (value: number | null, none: string): string => (value === null ? none : formatDuration(value));
  const host: (readonly [string, Cell])[] =
    about === null
      ? []
      : [
          ['kernel', about.host.kernel],
          ['Node.js', about.host.node],
          ['cores', field('about.host.cpus', about.host.cpus)],
          ['memory', field('about.host.memoryBytes', about.host.memoryBytes, formatBytes)],
        ];
  return section('command', 'Command and environment', [
    about === null ? null : markup`<pre tabindex="0">${about.command}</pre>`,
    facts([
      [
        'endpoints',
        asked.endpoints.slice(0, 8).join(', ') +
          (asked.endpoints.length > 8 ? ` and ${asked.endpoints.length - 8} more` : ''),
      ],
      ['rate', asked.ratePerSec === null ? 'as fast as the target accepts' : formatRate(asked.ratePerSec)],
      ['in flight at most', field('asked.pendingMax', asked.pendingMax)],
      ['connect timeout', formatDuration(asked.connectTimeoutMs)],
      ['hold', field('asked.holdMs', asked.holdMs, holdWords)],
      ['probe every', ms(asked.probeEveryMs, 'never')],
      ['on drop', asked.onDrop],
      ['close', asked.close],
      ...host,
      ['format of the report', schemaVersion],
    ]),
  ]);
}

/** All sections, in order; those of which the report has nothing are left out. @param report cleaned */
export function sectionsOf(report: RunReport, spectra: ReturnType<typeof spectraOf>): Markup {
  const measured =
    report.verdict === 'refused'
      ? [markup`<p id="open" class="note">Nothing was opened.</p>`]
      : [
          connectionsSection(report),
          incidentSection(report, { field, section }),
          balanceSection(report, section),
          lossSection(report),
          latencySection(report, spectra),
          loadSection(report),
          placesSection(report),
          agentSection(report),
          generatorSection(report),
        ];
  return markup`${[verdictSection(report), ...measured, askedSection(report)]}`;
}
