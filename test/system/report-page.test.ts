/**
 * Owns the page of a report in a real browser: light and dark, narrow and wide, by keyboard, with the numbers of the JSON
 * and without a request; and the live page of a run.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import type { RunReport } from '../../src/judge/report.ts';
import { reportHtml } from '../../src/report/html/page.ts';
import { largeReport } from '../report/large-report.ts';
import { startAgent, startCoordinator } from '../support/agents.ts';
import { startBench } from '../support/bench-run.ts';
import { compareFields, noBrowser, openPage, startBrowser, VIEWS } from '../support/browser.ts';
import { runCli } from '../support/run-cli.ts';

const RUN = { timeoutMs: 8 * 60_000 };
const PAGE_BYTES_MAX = 500_000;

const folder = mkdtempSync(join(tmpdir(), 'c100k-page-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function reportAt(path: string): RunReport {
  return JSON.parse(readFileSync(path, 'utf8')) as RunReport;
}

/** In every view: nothing goes wrong, nothing is asked for, nothing sticks out, and the numbers are those of the JSON. */
async function lookAt(browser: Browser, html: string, report: RunReport, charts: number): Promise<void> {
  assert.ok(statSync(html).size <= PAGE_BYTES_MAX, `${statSync(html).size} bytes`);
  for (const view of VIEWS) {
    const where = `${view.width} ${view.scheme}`;
    const { page, faults, requests } = await openPage(browser, pathToFileURL(html).href, view);
    assert.deepEqual(faults, [], where);
    assert.deepEqual(requests, [], where);
    // Where nothing was opened there is what was asked and its host, and little that was measured.
    const fieldsMin = report.connections.established === 0 ? 5 : 40;
    assert.ok((await compareFields(page, report)) >= fieldsMin, where);
    // What is below the window is drawn right after the first frame.
    if (charts > 0)
      await page
        .locator('canvas')
        .nth(charts - 1)
        .waitFor({ state: 'attached' });
    assert.equal(await page.locator('canvas').count(), charts, where);
    const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
    assert.ok(Number(overflow) <= 0, `${where}: ${overflow} pixels stick out`);
    const paper = await page.evaluate('getComputedStyle(document.body).backgroundColor');
    assert.equal(paper, view.scheme === 'light' ? 'rgb(255, 255, 255)' : 'rgb(15, 20, 25)', where);
    await page.context().close();
  }
}

test('a run of 130,000', { skip: noBrowser }, async (t) => {
  const browser = await startBrowser(t);
  const html = join(folder, 'large.html');
  const args = ['--target', 'self', '--conns', '130k', '-d', '3s', '--html', html, '--name', 'large'];
  const run = startBench(t, args, RUN);
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, stdout + stderr);
  const report = run.report();
  await lookAt(browser, html, report, 2);
  const { page } = await openPage(browser, pathToFileURL(html).href, { width: 1_400, scheme: 'light' });
  assert.match((await page.locator('h1').textContent()) ?? '', /✓ PASS .*held 130,000 of 130,000/);
  assert.ok(report.overTime !== null && report.overTime.connect.columns.length > 0);
  const noted = report.overTime.connect.columns.flat().filter((_, at) => at % 2 === 1);
  assert.equal(
    noted.reduce((sum, count) => sum + count, 0),
    report.connectMs.count,
    'every connect is in the map',
  );
  // The keyboard alone: the first stop skips to the report, and a table opens.
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.className'), 'skip');
  await page.locator('#table-open summary').focus();
  await page.keyboard.press('Enter');
  assert.ok(await page.locator('#table-open table').isVisible());
  // What a screen reader is given: each picture has a name, and a table right behind it.
  for (const picture of await page.locator('.chart, svg[role=img]').all())
    assert.ok(((await picture.getAttribute('aria-label')) ?? '').length > 20);
  await page.emulateMedia({ media: 'print' });
  const pdf = await page.pdf();
  assert.ok(pdf.length > 20_000, 'it prints');
});

test('a run with losses, of two endpoints', { skip: noBrowser }, async (t) => {
  const browser = await startBrowser(t);
  const sockets: Socket[] = [];
  const cutting = createServer((socket) => {
    sockets.push(socket.on('error', () => {}));
    setTimeout(() => socket.resetAndDestroy(), 2_500);
  });
  const holding = createServer((socket) => void sockets.push(socket.on('error', () => {})));
  t.after(() => {
    for (const server of [cutting, holding]) server.close();
    for (const socket of sockets) socket.destroy();
  });
  const ports: number[] = [];
  for (const server of [cutting, holding]) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    ports.push(address.port);
  }
  const html = join(folder, 'losses.html');
  const targets = ports.flatMap((port) => ['-t', `127.0.0.1:${port}`]);
  const run = startBench(t, [...targets, '-c', '400', '-d', '4s', '--html', html], RUN);
  const { code } = await run.result;
  assert.equal(code, 1);
  const report = run.report();
  await lookAt(browser, html, report, 2);
  const rows = report.overTime?.losses.endpoints ?? [];
  assert.deepEqual(
    rows.map(({ place, reason }) => [place, reason]),
    [[`127.0.0.1:${ports[0]}`, 'rst']],
  );
  const { page } = await openPage(browser, pathToFileURL(html).href, { width: 1_400, scheme: 'dark' });
  assert.ok((await page.locator('#losses path.loss').count()) >= 2);
  await page.locator('#table-loss-endpoint summary').click();
  const cells = await page
    .locator('#table-loss-endpoint tbody tr')
    .evaluateAll((all) => all.map((row) => Number(row.lastElementChild?.textContent?.replaceAll(',', ''))));
  assert.equal(
    cells.reduce((sum, count) => sum + count, 0),
    report.connections.dropped.rst,
  );
  assert.match((await page.locator('#incidents').textContent()) ?? '', /not until the end/);
});

test('an incident that is over', { skip: noBrowser }, async (t) => {
  const browser = await startBrowser(t);
  const held = new Set<Socket>();
  let accepted = 0;
  // The first 200 are cut while they are held; what comes for them stays.
  const target = createServer((socket) => {
    accepted += 1;
    held.add(socket.on('error', () => {}).on('close', () => held.delete(socket)));
    if (accepted <= 200) setTimeout(() => socket.resetAndDestroy(), 2_500);
  });
  t.after(() => {
    target.close();
    for (const socket of held) socket.destroy();
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  const address = target.address();
  assert.ok(typeof address === 'object' && address !== null);
  const html = join(folder, 'incident.html');
  const run = startBench(
    t,
    ['-t', `127.0.0.1:${address.port}`, '-c', '400', '-d', '6s', '--on-drop', 'reopen', '--html', html],
    RUN,
  );
  await run.result;
  const report = run.report();
  assert.deepEqual([report.connections.dropped.rst, report.connections.reopened], [200, 200]);
  await lookAt(browser, html, report, 2);
  const { page } = await openPage(browser, pathToFileURL(html).href, { width: 1_400, scheme: 'light' });
  const rows = await page.locator('#incidents tbody tr').allTextContents();
  assert.ok(rows.length >= 1, 'there was an incident');
  const lost = await page.locator('#incidents tbody td:nth-child(2)').allTextContents();
  assert.equal(
    lost.reduce((sum, text) => sum + Number(text.replaceAll(',', '')), 0),
    200,
  );
  assert.doesNotMatch(rows.at(-1) ?? '', /not until the end/);
});

test('a run in which nothing opens, and the largest report that there is', { skip: noBrowser }, async (t) => {
  const browser = await startBrowser(t);
  const html = join(folder, 'nothing.html');
  const run = startBench(t, ['-t', '127.0.0.1:9', '-c', '50', '-d', '1s', '--html', html], RUN);
  assert.equal((await run.result).code, 1);
  const report = run.report();
  assert.equal(report.connections.established, 0);
  await lookAt(browser, html, report, 1);
  const { page } = await openPage(browser, pathToFileURL(html).href, VIEWS[0]!);
  assert.match((await page.locator('h1').textContent()) ?? '', /✗ FAIL .*held 0 of 50/);

  const large = join(folder, 'most.html');
  writeFileSync(large, reportHtml(largeReport()));
  await lookAt(browser, large, largeReport(), 2);
});

/** CPU of a page's main thread until all of it is drawn, milliseconds; and the nodes that it has. */
async function costOf(browser: Browser, url: string): Promise<{ cpuMs: number; nodes: number }> {
  const context = await browser.newContext({ viewport: { width: 1_400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(4 * 60_000);
  const devtools = await context.newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
  await page.goto(url);
  await page.locator('.ready').waitFor({ state: 'attached' });
  const { metrics } = await devtools.send('Performance.getMetrics');
  const of = (wanted: string): number => metrics.find(({ name }) => name === wanted)?.value ?? Number.NaN;
  await context.close();
  return { cpuMs: 1_000 * of('TaskDuration'), nodes: of('Nodes') };
}

test('10,000 points and 10,000 losses cost the browser less than half of a bare table of the points', {
  skip: noBrowser,
}, async (t) => {
  const browser = await startBrowser(t);
  const report = largeReport();
  const ready =
    "<script>requestAnimationFrame(function look() { const drawn = document.querySelectorAll('canvas').length >= 2 || document.querySelector('.chart') === null; if (drawn) setTimeout(() => document.body.classList.add('ready')); else setTimeout(look, 5); })</script>";
  const rows = report.timeline.map(({ atSec, open }) => `<tr><td>${atSec}</td><td>${open}</td></tr>`);
  const [bare, large] = [join(folder, 'bare.html'), join(folder, 'cost.html')];
  writeFileSync(bare, `<!doctype html><title>bare</title><body><table>${rows.join('')}</table>${ready}`);
  // The note that all is drawn is no part of the page: its policy allows no script but its own.
  writeFileSync(
    large,
    reportHtml(report)
      .replace(/<meta http-equiv[^>]*>/, '')
      .replace('</body>', `${ready}</body>`),
  );
  const ratios: number[] = [];
  for (let count = 0; count < 7; count++) {
    const plain = await costOf(browser, pathToFileURL(bare).href);
    const page = await costOf(browser, pathToFileURL(large).href);
    assert.ok(page.nodes < 17_000, `${page.nodes} nodes`);
    ratios.push(page.cpuMs / plain.cpuMs);
  }
  t.diagnostic(`CPU of the page over that of the bare table: ${ratios.map((ratio) => ratio.toFixed(2))}`);
  const median = ratios.toSorted((a, b) => a - b)[3] ?? Number.NaN;
  assert.ok(median < 0.5, `${median} of the bare table`);
});

test('a page that is printed as soon as it is loaded has every chart and table', {
  skip: noBrowser,
}, async (t) => {
  const browser = await startBrowser(t);
  const html = join(folder, 'printed.html');
  writeFileSync(html, reportHtml(largeReport()));
  const page = await browser.newPage({ viewport: { width: 400, height: 900 } });
  // As in a tab that never came to the front: what waits for a frame waits for ever.
  await page.addInitScript('globalThis.requestAnimationFrame = () => 0; globalThis.setTimeout = () => 0;');
  await page.goto(pathToFileURL(html).href);
  const counts =
    "[document.querySelectorAll('canvas').length, document.querySelectorAll('details:not([open])').length]";
  const [charts, closed] = await page.evaluate<[number, number]>(counts);
  assert.ok(charts < 2 && closed > 5, `${charts} charts, ${closed} closed tables`);
  const printed = await page.evaluate(`dispatchEvent(new Event('beforeprint')), ${counts}`);
  assert.deepEqual(printed, [2, 0], 'every chart is drawn and every table is open');
});

test('three agents, and a run that was refused', { skip: noBrowser }, async (t) => {
  const browser = await startBrowser(t);
  const html = join(folder, 'agents.html');
  const run = startCoordinator(
    t,
    ['--target', 'self', '-c', '900', '-d', '2s', '--html', html, '--expect-agents', '3'],
    RUN,
  );
  const at = `127.0.0.1:${await run.port()}`;
  const agents = [1, 2, 3].map((host) =>
    startAgent(t, at, `host-${host}`, run.tokenText, ['--source-ip', `127.0.0.${10 + host}`], RUN),
  );
  assert.equal((await run.result).code, 0, run.stderr());
  await Promise.all(agents.map(({ result }) => result));
  await lookAt(browser, html, run.report(), 2);
  const { page } = await openPage(browser, pathToFileURL(html).href, VIEWS[0]!);
  for (const name of ['host-1', 'host-2', 'host-3'])
    assert.equal(await page.locator('#agents tbody th', { hasText: name }).first().count(), 1, name);

  const [empty, json] = [join(folder, 'empty.html'), join(folder, 'empty.json')];
  const refused = ['-t', '127.0.0.1:9', '-c', '50m', '--html', empty, '--json', json];
  assert.equal((await runCli(refused, RUN)).code, 3);
  await lookAt(browser, empty, reportAt(json), 0);
});

test('the live page follows a run to its end', { skip: noBrowser }, async (t) => {
  const browser = await startBrowser(t);
  const run = startBench(
    t,
    ['--target', 'self', '-c', '500', '-d', '10m', '--live', '--name', 'followed'],
    RUN,
  );
  await run.saw(/live page: http:\/\/\S+/);
  const url = /live page: (http:\/\/\S+)/.exec(run.stderr())?.[1] ?? '';
  const { page, faults, requests } = await openPage(browser, url, { width: 1_400, scheme: 'dark' });
  await page.locator('h1', { hasText: /RUNNING held 500 of 500/ }).waitFor({ timeout: 4 * 60_000 });
  await page.locator('#table-open summary').click();
  const before = await page.locator('#table-open tbody tr').count();
  await page
    .locator('#table-open tbody tr')
    .nth(before + 1)
    .waitFor({ timeout: 4 * 60_000 });
  assert.ok(await page.locator('#table-open table').isVisible(), 'what is open stays open');
  process.kill(run.pid, 'SIGINT');
  await page.locator('#connection', { hasText: 'The run is over' }).waitFor({ timeout: 4 * 60_000 });
  assert.equal((await run.result).code, 130);
  await compareFields(page, run.report());
  assert.match((await page.locator('h1').textContent()) ?? '', /INCOMPLETE/);
  assert.deepEqual(faults, []);
  assert.deepEqual([...new Set(requests)], [`${url}events`]);
});
