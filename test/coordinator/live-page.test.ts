/** Tests the live page as a reader meets it: what is sent, who may read, and that none of them holds a run up. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LivePage } from '../../src/coordinator/live-page.ts';
import { sampleReport } from '../report/sample-report.ts';
import { settled } from '../support/waiting.ts';

/** A clock that the test moves. */
class HandClock {
  nowMs = 0;
  monotonicMs(): number {
    return this.nowMs;
  }
  wallMs(): number {
    return this.nowMs;
  }
}

async function startPage(
  t: TestContext,
  host = '127.0.0.1',
): Promise<{ page: LivePage; clock: HandClock; url: URL }> {
  const clock = new HandClock();
  const page = await LivePage.start({ host, port: 0 }, clock);
  t.after(() => page.close());
  return { page, clock, url: new URL(page.url) };
}

interface Answer {
  readonly status: number;
  /** what has come so far */
  readonly text: () => string;
  readonly ended: Promise<void>;
}

/** Asks, and reads on while more comes. */
function ask(url: URL, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  return settled(
    `an answer to ${path}`,
    new Promise((resolve, reject) => {
      const asked = request({ host: url.hostname, port: url.port, path, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        const ended = new Promise<void>((end) => response.on('close', end));
        resolve({ status: response.statusCode ?? 0, text: () => text, ended });
      });
      asked.on('error', reject).end();
    }),
  );
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  const look = async (): Promise<void> => {
    while (!isSo()) await sleep(10);
  };
  await settled(what, look());
}

test('a reader gets the report at each tick, and the last one with the end', async (t) => {
  const { page, clock, url } = await startPage(t);
  let made = 0;
  const report = () => {
    made++;
    return sampleReport({ isPartial: true, reason: `made ${made}` });
  };
  page.update(report);
  assert.equal(made, 0, 'without a reader nothing is made');
  const reader = await ask(url, '/events');
  assert.equal(reader.status, 200);
  page.update(report);
  await until('the first event', () => reader.text().includes('made 1'));
  page.update(report);
  assert.equal(made, 1, 'not before it is time');
  clock.nowMs += 60_000;
  page.update(report);
  await until('the second event', () => reader.text().includes('made 2'));
  page.end(sampleReport({ reason: 'over' }));
  await settled('the end of the answer', reader.ended);
  const events = reader
    .text()
    .split('\n\n')
    .filter((event) => event !== '');
  assert.deepEqual(
    events.map((event) => event.split('\n')[0]),
    ['event: report', 'event: report', 'event: end'],
  );
  const { main, data } = JSON.parse(events[2]?.split('\ndata: ')[1] ?? '') as {
    main: string;
    data: { asked: number };
  };
  assert.match(main, /<h1><span class="verdict">✓ PASS/);
  assert.equal(data.asked, 130_000);
});

test('the page itself has no number of the run, and asks its own server alone', async (t) => {
  const { url } = await startPage(t);
  const answer = await ask(url, '/');
  await settled('the page', answer.ended);
  assert.match(answer.text(), /connect-src &#39;self&#39;/);
  assert.doesNotMatch(answer.text(), /130,000/);
  assert.equal((await ask(url, '/other')).status, 404);
});

test('on loopback a page of another site is refused, by whatever name it comes', async (t) => {
  const { url } = await startPage(t);
  assert.equal((await ask(url, '/events', { host: `evil.example:${url.port}` })).status, 403);
  assert.equal((await ask(url, '/', { host: `localhost:${url.port}` })).status, 200);
});

test('elsewhere the token of the fragment is asked for, and nothing less opens the events', async (t) => {
  const { page, url } = await startPage(t, '0.0.0.0');
  const token = url.hash.replace('#token=', '');
  assert.ok(token.length >= 32, url.hash);
  const here = new URL(`http://127.0.0.1:${url.port}/`);
  for (const authorization of ['', 'Bearer', `Bearer ${token.slice(1)}`, `Bearer ${token}x`, token])
    assert.equal((await ask(here, '/events', { authorization })).status, 401, authorization);
  assert.equal((await ask(here, `/events?token=${token}`)).status, 401, 'not in the path, which is logged');
  const reader = await ask(here, '/events', { authorization: `Bearer ${token}` });
  assert.equal(reader.status, 200);
  page.end(sampleReport());
  await settled('the end', reader.ended);
});

test('a reader that takes nothing is cut, others go on, and no tick waits', async (t) => {
  const { page, clock, url } = await startPage(t);
  const slow = connect(Number(url.port), url.hostname);
  t.after(() => slow.destroy());
  let closed = false;
  slow
    .on('error', () => {})
    .on('close', () => {
      closed = true;
    });
  slow.write(`GET /events HTTP/1.1\r\nhost: ${url.host}\r\n\r\n`);
  slow.pause();
  const fast = await ask(url, '/events');
  const notes = Array.from({ length: 140 }, (_, at) => `${at} ${'x'.repeat(500)}`);
  for (let ticks = 0; ticks < 400 && !closed; ticks++) {
    clock.nowMs += 1_000_000;
    page.update(() => sampleReport({ isPartial: true, notes }));
    await sleep(5);
    // Paused, it sees its own end only when it reads.
    if (ticks > 150) slow.resume();
  }
  await until('the cut', () => closed);
  page.end(sampleReport({ reason: 'over' }));
  await settled('the end for the other', fast.ended);
  assert.match(fast.text(), /event: end\n/);
});

test('at most 16 readers are taken', async (t) => {
  const { url } = await startPage(t);
  for (let readers = 0; readers < 16; readers++) assert.equal((await ask(url, '/events')).status, 200);
  assert.equal((await ask(url, '/events')).status, 503);
  assert.equal((await ask(url, '/')).status, 200);
});
