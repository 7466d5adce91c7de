/** Tests the page of a report without a browser: nothing of it is another's markup, nothing is loaded, its size has a bound. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { RunReport, TimelinePoint } from '../../../src/judge/report.ts';
import { reportHtml } from '../../../src/report/html/page.ts';
import { thinned } from '../../../src/report/html/pictures.ts';
import { harmlessReport, hostileReport, INVISIBLE } from '../../support/hostile-text.ts';
import { reportedAt } from '../../support/reported-at.ts';
import { repositoryRoot } from '../../support/run-cli.ts';
import { largeReport, manyPoints } from '../large-report.ts';
import { sampleReport } from '../sample-report.ts';

/** Names of the elements and attributes of a page, scripts and styles left out. */
function shapeOf(html: string): string[] {
  const body = html.replace(/<(script|style)\b[^>]*>[\s\S]*?<\/\1>/g, '<$1>');
  return [...body.matchAll(/<(\/?[a-zA-Z!][\w-]*)((?:\s+[\w-]+(?:="[^"]*")?)*)\s*\/?>/g)].map(
    ([, name, attributes = '']) => [name, ...attributes.replaceAll(/="[^"]*"/g, '').split(/\s+/)].join(' '),
  );
}

/** What stands in the page's main element. */
function pageBody(report: RunReport): { readonly main: string } {
  return { main: /<main[^>]*>([\s\S]*)<\/main>/.exec(reportHtml(report))?.[1] ?? '' };
}

describe('the page of a report', () => {
  it('has the elements of a harmless report, whatever another process has said', () => {
    const wanted = shapeOf(reportHtml(harmlessReport()));
    assert.ok(wanted.length > 200, 'the shape was read');
    fc.assert(
      fc.property(hostileReport, (report) => {
        const html = reportHtml(report);
        assert.deepEqual(shapeOf(html), wanted);
        const texts = html.replace(/<(script|style)>[\s\S]*?<\/\1>/g, '');
        assert.doesNotMatch(texts, INVISIBLE);
      }),
      { numRuns: 25 },
    );
  });

  it('ends no script early and begins no comment in one, and its data are what was given', () => {
    const name = '</script><script>alert(1)</script><!--';
    const report = sampleReport({ about: { ...sampleReport().about!, name }, reason: name });
    const html = reportHtml(report);
    assert.equal(html.match(/<script\b/g)?.length, 2);
    assert.equal(html.match(/<\/script>/g)?.length, 2);
    const json = /<script type="application\/json" id="data">([\s\S]*?)<\/script>/.exec(html)?.[1] ?? '';
    const data = JSON.parse(json) as {
      readonly asked: number;
      readonly timeline: { readonly open: readonly number[] };
    };
    assert.equal(data.asked, report.asked.connections);
    assert.deepEqual(
      data.timeline.open,
      report.timeline.map(({ open }) => open),
    );
    assert.ok(html.includes('&lt;/script&gt;&lt;script&gt;alert(1)'));
  });

  it('allows by its policy its own style and script and no request', () => {
    const html = reportHtml(sampleReport());
    const policy =
      /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html)?.[1]?.replaceAll('&#39;', "'") ??
      '';
    const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
    const style = /<style>([\s\S]*?)<\/style>/.exec(html)?.[1] ?? '';
    const script = /<script>([\s\S]*?)<\/script>/.exec(html)?.[1] ?? '';
    assert.ok(policy.includes(`style-src ${hashOf(style)};`), policy);
    assert.ok(policy.includes(`script-src ${hashOf(script)};`), policy);
    assert.match(policy, /^default-src 'none'; .*connect-src 'none';/);
    assert.doesNotMatch(html.replaceAll(script, ''), /\b(?:src|href)="(?!#|data:,)/);
  });

  it('shows each number of which it says the field as the JSON has it', () => {
    const report = largeReport();
    const fields = [...reportHtml(report).matchAll(/<data value="([^"]*)" data-path="([^"]*)">/g)];
    assert.ok(fields.length > 60, String(fields.length));
    for (const [, value = '', path = ''] of fields)
      assert.equal(Number(value), reportedAt(report, path), path);
  });

  it('has at most 500 KB with 10,000 points, 10,000 losses and 1,000 agents', () => {
    const bytes = Buffer.byteLength(reportHtml(largeReport()));
    assert.ok(bytes <= 500_000, String(bytes));
  });

  it('has at most 500 KB when every text of such a report is as long as a peer likes and needs an escape', () => {
    const long = '&'.repeat(2_000);
    const words = new Set(['startedAt', 'endedAt', 'verdict', 'severity', 'phase', 'histogram']);
    const lengthened = (value: unknown, key: string): unknown => {
      if (typeof value === 'string') return words.has(key) ? value : long;
      if (Array.isArray(value)) return value.map((each) => lengthened(each, key));
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, lengthened(each, name)]));
    };
    const report = largeReport();
    const many = <T>(rows: readonly T[]): T[] => Array.from({ length: 200 }, () => rows[0]!);
    const requirement = { requirement: 'r', metric: 'held', isDefault: false, passed: false, actual: 1 };
    const html = reportHtml(
      lengthened(
        {
          ...report,
          requirements: many([{ ...requirement, actualText: 't' }]),
          findings: many(report.findings),
          diagnoses: many(report.diagnoses),
        },
        '',
      ) as RunReport,
    );
    assert.ok(Buffer.byteLength(html) <= 500_000, String(Buffer.byteLength(html)));
    assert.match(html, /9,850 more counts are in the JSON report/, 'no row is left out for it');
  });

  it('draws each cell of a heat map and of a raster of losses where it is, and no other', () => {
    const report = largeReport();
    assert.ok(report.overTime !== null);
    const { connect, losses } = report.overTime;
    const { main } = pageBody(report);
    const [cellWidth, left] = [720 / 120, 170];
    const heat = /<section id="latency"[\s\S]*?<svg role="img"[\s\S]*?<\/svg>/.exec(main)?.[0] ?? '';
    const drawn = new Set<string>();
    for (const [, path = ''] of heat.matchAll(/<path class="heat h\d" d="([^"]*)"/g)) {
      let [x, y] = [0, 0];
      for (const [, order, a, b] of path.matchAll(/([Mmh])(-?\d+)(?: (-?\d+))?/g)) {
        if (order === 'M') [x, y] = [Number(a), Number(b)];
        else if (order === 'm') x += Number(a);
        else {
          for (let from = x; from < x + Number(a); from += cellWidth)
            drawn.add(`${(from - left) / cellWidth} ${Math.floor(y / 14)}`);
          x += Number(a);
        }
      }
    }
    const pairs = connect.columns.map((column) => column.filter((_, at) => at % 2 === 0));
    const high = Math.max(...pairs.flat());
    assert.deepEqual(
      [...drawn].toSorted(),
      pairs.flatMap((steps, column) => steps.map((step) => `${column} ${high - step}`)).toSorted(),
    );
    const raster = /<section id="losses"[\s\S]*?<svg role="img"[\s\S]*?<\/svg>/.exec(main)?.[0] ?? '';
    const boxes = [...raster.matchAll(/M(\d+) (\d+)h(\d+)v12h-\d+z/g)];
    const buckets = (losses.sources[0]?.at ?? []).filter((_, at) => at % 2 === 0);
    const width = Math.floor(720 / ((buckets.at(-1) ?? 0) + 1));
    assert.deepEqual(
      boxes.map(([, x, y, wide]) => [
        (Number(x) - left) / width,
        Math.floor(Number(y) / 14),
        Number(wide) + 1,
      ]),
      Array.from({ length: 24 }, (_, row) => buckets.map((bucket) => [bucket, row, width])).flat(),
    );
  });

  it('has a table behind each chart, and says what it leaves out', () => {
    const { main } = pageBody(largeReport());
    for (const id of [
      'table-open',
      'table-loss-source',
      'table-loss-endpoint',
      'table-connect-map',
      'table-probe-map',
    ])
      assert.match(
        main,
        new RegExp(`<details id="${id}"><summary>Table: [^<]+</summary><div class="scroll"[^>]*><table>`),
        id,
      );
    assert.match(main, /9,850 more counts are in the JSON report/);
    assert.match(main, /850 more agents are in the JSON report/);
    assert.match(main, /Open connections over time: at most 123,552 of 130,000 asked/);
  });

  it('says of a refused run what is missing and that nothing was opened', () => {
    const { main } = pageBody(
      sampleReport({ verdict: 'refused', timeline: [], requirements: [], agents: [] }),
    );
    assert.match(main, /Nothing was opened/);
    assert.match(main, /sysctl -w net\.core\.somaxconn=65535/);
    assert.doesNotMatch(main, /id="latency"|id="agents"/);
  });

  it('names an incident with what was lost and how long it lasted', () => {
    const [point] = sampleReport().timeline;
    assert.ok(point !== undefined);
    const at = (atSec: number, open: number, dropped: number): TimelinePoint => ({
      ...point,
      atSec,
      phase: 'holding',
      open,
      dropped,
    });
    const timeline = [
      at(1, 130_000, 0),
      at(2, 60_000, 70_000),
      at(3, 90_000, 70_000),
      at(4, 130_000, 70_000),
      at(5, 130_000, 70_000),
    ];
    const { main } = pageBody(sampleReport({ timeline, incidents: null }));
    assert.match(main, /<th scope="row">1\.0<\/th><td>70,000<\/td><td>60,000<\/td><td>3\.0 s<\/td>/);
    // What was lost before the hold was noticed is one too.
    const early: TimelinePoint = { ...at(1, 130_000, 0), phase: 'ramping' };
    assert.match(
      pageBody(sampleReport({ incidents: null, timeline: [early, ...timeline.slice(1)] })).main,
      /<th scope="row">1\.0<\/th><td>70,000<\/td>/,
    );
    assert.doesNotMatch(
      pageBody(sampleReport({ incidents: null, timeline: [at(1, 5, 0), at(2, 5, 1_299)] })).main,
      /id="incidents"/,
    );
  });

  it('is made from what the package has: style and script are in assets', () => {
    const html = reportHtml(sampleReport());
    for (const name of ['report-page.css', 'report-page.js'])
      assert.ok(html.includes(readFileSync(join(repositoryRoot, 'assets', name), 'utf8')), name);
  });
});

describe('a thinned timeline', () => {
  it('keeps the lowest and the highest, the last point and the order', () => {
    const points = manyPoints(10_000);
    const few = thinned(points, 400);
    assert.ok(few.length <= 420, String(few.length));
    assert.equal(Math.min(...few.map(({ open }) => open)), 7);
    assert.equal(few.at(-1), points.at(-1));
    assert.deepEqual(
      few,
      points.filter((point) => few.includes(point)),
    );
    assert.equal(thinned(points.slice(0, 50), 400).length, 50);
  });
});
