/**
 * Owns a real browser for tests: the system's own Chromium, what it says on its console and what it asks for.
 * Must never download one, nor leave it behind.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { RunReport } from '../../src/judge/report.ts';
import { reportedAt } from './reported-at.ts';
import { HANG_MS } from './waiting.ts';

const PROGRAM = '/usr/bin/chromium';

/** For `test({ skip })`: false when it is installed. */
export const noBrowser: string | false = existsSync(PROGRAM) ? false : 'chromium is not installed';

export interface View {
  readonly width: number;
  readonly scheme: 'light' | 'dark';
}

/** The views that every page is looked at in. */
export const VIEWS: readonly View[] = [400, 1_400].flatMap((width) =>
  (['light', 'dark'] as const).map((scheme) => ({ width, scheme })),
);

/** A browser for one test, or for what else ends by itself. */
export async function startBrowser(t: { after(end: () => unknown): void }): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: PROGRAM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
    timeout: 4 * HANG_MS,
  });
  t.after(() => browser.close());
  return browser;
}

/** A page with what went wrong on it. */
export interface WatchedPage {
  readonly page: Page;
  /** what the console showed as error or warning, and what was thrown */
  readonly faults: string[];
  /** every address that was asked for, the page's own left out */
  readonly requests: string[];
}

/** Opens an address in a view of its own. */
export async function openPage(browser: Browser, url: string, { width, scheme }: View): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme });
  const page = await context.newPage();
  page.setDefaultTimeout(4 * HANG_MS);
  const faults: string[] = [];
  const requests: string[] = [];
  page.on('console', (line) => {
    if (line.type() === 'error' || line.type() === 'warning') faults.push(line.text());
  });
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('request', (request) => {
    if (request.url() !== url && !request.url().startsWith('data:')) requests.push(request.url());
  });
  await page.goto(url, { timeout: 4 * HANG_MS });
  return { page, faults, requests };
}

/** Compares each number on the page that names its field with the report; returns how many there are. */
export async function compareFields(page: Page, report: RunReport): Promise<number> {
  const fields = await page.locator('data[data-path]').evaluateAll((all) =>
    all.map((one) => ({
      path: one.getAttribute('data-path') ?? '',
      value: one.getAttribute('value') ?? '',
      text: one.textContent ?? '',
    })),
  );
  for (const { path, value, text } of fields) {
    assert.equal(Number(value), reportedAt(report, path), path);
    // Whole counts are shown whole.
    if (/^[\d,]+$/.test(text))
      assert.equal(Number(text.replaceAll(',', '')), Math.round(Number(value)), path);
  }
  return fields.length;
}
