/**
 * Owns the page of a report: one file that needs nothing else, and its frame for a run that still goes on. The styles, the
 * script and the library of the charts are in it, and a policy that allows these and no request.
 * Must never load anything from a network, nor show a text of another process as markup.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { cleanDeep, cutText } from '../../base/clean-text.ts';
import { ownPackage } from '../../host/own-package.ts';
import type { RunReport } from '../../judge/report.ts';
import { verdictLine } from '../verdict-text.ts';
import { Markup, markup, scriptJson } from './markup.ts';
import { type ChartData, chartData, spectraOf } from './pictures.ts';
import { headOf, sectionsOf } from './sections.ts';

/** What of the page changes with the report. */
interface PageBody {
  readonly title: string;
  /** HTML of the element `main` */
  readonly main: string;
  readonly data: ChartData;
}

/** Characters of a text that a page shows, from what it shows whole to what is tried where the page would be too large. */
const TEXT_MAX = [600, 300, 150, 75, 40, 20, 4] as const;
/** The same of a name of a count: two names may not become one. */
const NAME_MAX = 600;
/** What has one of a few forms, or is no text for people, and stays whole. */
const KEPT = new Set(['histogram', 'startedAt', 'endedAt', 'verdict', 'phase', 'severity']);
/** Bytes of the file of a page. Rows of its lists have bounds of their own. */
const PAGE_BYTES_MAX = 500_000;

/** Long texts are cut: what a peer says has no bound of its own, the page has. */
function shortened(value: unknown, textMax: number): unknown {
  if (typeof value === 'string') return value.length > textMax ? `${cutText(value, textMax)}...` : value;
  if (Array.isArray(value)) return value.map((each) => shortened(each, textMax));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [
      cutText(key, NAME_MAX),
      KEPT.has(key) ? each : shortened(each, textMax),
    ]),
  );
}

/**
 * The page's changing part.
 * @param given the numbers; whatever texts are in it
 * @param textMax characters that stay of each text
 */
export function pageBody(given: RunReport, textMax: number = TEXT_MAX[0]): PageBody {
  const report = cleanDeep(shortened(given, textMax) as RunReport);
  const spectra = spectraOf(report);
  return {
    title: verdictLine(report),
    main: markup`${headOf(report)}${sectionsOf(report, spectra)}`.html,
    data: chartData(report, spectra),
  };
}

/**
 * The report as one HTML file of at most 500 KB, ending in a line break.
 * @param report the final numbers
 */
export function reportHtml(report: RunReport): string {
  let html = '';
  for (const textMax of TEXT_MAX) {
    const { title, main, data } = pageBody(report, textMax);
    html = frame(title, new Markup(main), scriptJson(data), "'none'");
    if (Buffer.byteLength(html) <= PAGE_BYTES_MAX) break;
  }
  return html;
}

/** The page of a run that still goes on: it asks its own server for what it shows. */
export function liveFrame(): string {
  const waiting = markup`<p id="waiting" role="status">Waiting for the run.</p>`;
  return frame('c100k-bench', waiting, scriptJson(null), "'self'");
}

/**
 * What the library of the charts makes of the browser's languages and time zones when it is loaded, and the page never uses:
 * every label of it has a text of its own. The browser's would take longer than all charts together.
 */
const PLAIN_INTL =
  "const Intl = { NumberFormat: class { format = String; }, DateTimeFormat: class { resolvedOptions() { return { timeZone: 'UTC' }; } } };";

interface Assets {
  readonly style: string;
  readonly script: string;
}

let assets: Assets | null = null;

/** Read once: they are part of the package. */
function readAssets(): Assets {
  if (assets !== null) return assets;
  const folder = join(dirname(dirname(ownPackage().entryPath)), 'assets');
  const charts = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const read = (...path: readonly string[]): string => readFileSync(join(...path), 'utf8');
  assets = {
    style: `${read(charts, 'dist', 'uPlot.min.css')}\n${read(folder, 'report-page.css')}`,
    script: `(() => {\n${PLAIN_INTL}\n${read(charts, 'dist', 'uPlot.iife.min.js')}\n${read(folder, 'report-page.js')}})();`,
  };
  return assets;
}

/** How a policy names what it allows by its content. */
function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

function frame(title: string, main: Markup, data: Markup, connect: "'none'" | "'self'"): string {
  const { style, script } = readAssets();
  const policy = [
    "default-src 'none'",
    `style-src ${hashOf(style)}`,
    `script-src ${hashOf(script)}`,
    'img-src data:',
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  return `${
    markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="c100k-bench">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Markup(style)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<main id="main">
${main}</main>
<script type="application/json" id="data">${data}</script>
<script>${new Markup(script)}</script>
</body>
</html>
`.html
  }`;
}
