/**
 * Owns the question how long a browser takes for the page of the largest report: from the first byte to the first frame after the
 * charts are drawn, and the CPU of its main thread for all of it, which what else runs on the machine changes little.
 * Must never load a page from a network.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { reportHtml } from '../../src/report/html/page.ts';
import { largeReport } from '../report/large-report.ts';
import { noBrowser, startBrowser } from '../support/browser.ts';
import { type Figure, figure, median } from './figure.ts';

const OPENINGS = 9;
const VIEWPORT = { width: 1_400, height: 900 };
/** What a window still does for the page before it. */
const AT_REST_MS = 500;

/** Runs in the page, before anything of it: notes when its first frame after loading is there. */
const NOTE_FIRST_FRAME = `addEventListener('load', () =>
  requestAnimationFrame(() => setTimeout(() => { globalThis.firstFrameMs = performance.now(); })))`;
const RENDERED = `new Promise((resolve) => {
  const look = () => globalThis.firstFrameMs === undefined ? setTimeout(look, 5)
    : resolve(globalThis.firstFrameMs - performance.getEntriesByType('navigation')[0].responseStart);
  look();
})`;

/**
 * Milliseconds of each opening, in a window that has been there for a while: one that has just been made loads pages of the browser's own at
 * the same time.
 */
async function openInOneWindow(browser: Browser, url: string): Promise<number[]> {
  const context = await browser.newContext({ viewport: VIEWPORT });
  await context.addInitScript(NOTE_FIRST_FRAME);
  const page = await context.newPage();
  const rendered: number[] = [];
  // The first opening is what warms the window up.
  for (let count = 0; count <= OPENINGS; count++) {
    await page.goto('about:blank');
    await sleep(AT_REST_MS);
    await page.goto(url);
    rendered.push(Math.round(await page.evaluate<number>(RENDERED)));
  }
  await context.close();
  return rendered.slice(1);
}

/** Milliseconds of CPU of the main thread for each opening, in a window of its own, as its count begins there. */
async function openInNewWindows(browser: Browser, url: string): Promise<number[]> {
  const worked: number[] = [];
  for (let count = 0; count < OPENINGS; count++) {
    const context = await browser.newContext({ viewport: VIEWPORT });
    await context.addInitScript(NOTE_FIRST_FRAME);
    const page = await context.newPage();
    const devtools = await context.newCDPSession(page);
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
    await page.goto(url);
    await page.evaluate<number>(RENDERED);
    const { metrics } = await devtools.send('Performance.getMetrics');
    worked.push(
      Math.round(1_000 * (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? Number.NaN)),
    );
    await context.close();
  }
  return worked;
}

/** The median of some openings, of wall time and of CPU. Nothing where no browser is installed. */
export async function measurePageCost(): Promise<Figure[]> {
  if (noBrowser !== false) return [];
  const folder = mkdtempSync(join(tmpdir(), 'c100k-page-cost-'));
  const ends: (() => unknown)[] = [];
  try {
    const file = join(folder, 'large.html');
    writeFileSync(file, reportHtml(largeReport()));
    const browser = await startBrowser({ after: (end) => void ends.push(end) });
    const url = pathToFileURL(file).href;
    const rendered = await openInOneWindow(browser, url);
    const worked = await openInNewWindows(browser, url);
    const shared = { unit: 'ms', bound: 200, boundIs: 'at-most' } as const;
    return [
      figure({
        name: 'page-render-ms',
        meaning:
          'page of 10,000 points and 10,000 losses, in a window that was open before: from its first byte to its first frame; median',
        value: median(rendered),
        samples: rendered,
        ...shared,
      }),
      figure({
        name: 'page-render-cpu',
        meaning: 'the same page in a new window: CPU of its main thread; median',
        value: median(worked),
        samples: worked,
        ...shared,
      }),
    ];
  } finally {
    for (const end of ends) await end();
    rmSync(folder, { recursive: true, force: true });
  }
}
