/**
 * Owns the page of a run that still goes on: each reader gets the report so far as a server-sent event. Must never wait for
 * a reader: one that does not keep up is cut, and making reports takes at most a twentieth of this process's time.
 *
 * On loopback any user of the host may read; elsewhere a token is asked for. It is in the fragment of the address, which a browser
 * sends to no server: the page reads it and sends it in a header, so that it is in no log.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../base/clock.ts';
import type { RunReport } from '../judge/report.ts';
import { liveFrame, pageBody } from '../report/html/page.ts';
import { type HttpListener, startListener } from './http-listener.ts';

/** Between two events at least. */
const EVENT_EVERY_MS = 1_000;
/** An event may take its maker this share of the time: 1 of 20. */
const EVENT_COST_FACTOR = 20;
/** A reader that has taken nothing for so long is cut. */
const SLOW_READER_MS = 10_000;
/** Bytes that may wait for one reader. */
const WAITING_BYTES_MAX = 2 * 1024 * 1024;
const READERS_MAX = 16;

interface Reader {
  readonly response: ServerResponse;
  /** since when bytes wait for it; null: none do */
  waitingSinceMs: number | null;
}

/** One run's live page. */
export class LivePage {
  readonly #clock: Clock;
  readonly #readers = new Set<Reader>();
  readonly #token: string | null;
  #listener: HttpListener | null = null;
  #last: string | null = null;
  #nextMs = 0;
  #isOver = false;

  private constructor(clock: Clock, token: string | null) {
    this.#clock = clock;
    this.#token = token;
  }

  /**
   * Listens.
   * @param at an address of this host; port 0 takes a free one
   * @throws BenchError `serve-failed`, exit 3
   */
  static async start(at: { readonly host: string; readonly port: number }, clock: Clock): Promise<LivePage> {
    const token = randomBytes(24).toString('base64url');
    let page: LivePage | null = null;
    const listener = await startListener({
      ...at,
      flag: '--live',
      answer: (request, response) => page?.answer(request, response),
    });
    page = new LivePage(clock, listener.isLoopback ? null : token);
    page.#listener = listener;
    return page;
  }

  /** What to open, the token included. */
  get url(): string {
    const { host = '', port = 0 } = this.#listener ?? {};
    const address = host.includes(':') ? `[${host}]` : host;
    return `http://${address}:${port}/${this.#token === null ? '' : `#token=${this.#token}`}`;
  }

  /** Answers one request; its listener alone calls this. */
  answer(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? '').split('?')[0];
    if (path === '/') {
      response
        .writeHead(200, { 'content-type': 'text/html; charset=utf-8', connection: 'close' })
        .end(liveFrame());
    } else if (path !== '/events') {
      response.writeHead(404, { connection: 'close' }).end();
    } else if (!this.#isAllowed(request)) {
      response.writeHead(401, { connection: 'close' }).end();
    } else if (this.#readers.size >= READERS_MAX) {
      response.writeHead(503, { connection: 'close' }).end();
    } else {
      this.#welcome(response);
    }
  }

  #isAllowed({ headers }: IncomingMessage): boolean {
    if (this.#token === null) return true;
    const wanted = Buffer.from(`Bearer ${this.#token}`);
    const given = Buffer.from(headers.authorization ?? '');
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  #welcome(response: ServerResponse): void {
    const reader: Reader = { response, waitingSinceMs: null };
    response.writeHead(200, { 'content-type': 'text/event-stream', connection: 'close' });
    response.flushHeaders();
    response.on('close', () => this.#readers.delete(reader));
    this.#readers.add(reader);
    if (this.#last !== null) this.#send(reader, this.#last);
    if (this.#isOver) response.end();
  }

  /** At each tick. @param report makes the report so far; is called only when a reader is there and it is time */
  update(report: () => RunReport): void {
    const nowMs = this.#clock.monotonicMs();
    this.#cutSlow(nowMs);
    if (this.#isOver || this.#readers.size === 0 || nowMs < this.#nextMs) return;
    this.#last = eventOf('report', report());
    const tookMs = this.#clock.monotonicMs() - nowMs;
    this.#nextMs = nowMs + Math.max(EVENT_EVERY_MS, EVENT_COST_FACTOR * tookMs) - 100;
    for (const reader of this.#readers) this.#send(reader, this.#last);
  }

  /** The run is over: its last report goes to those who read, as far as they take it. */
  end(report: RunReport): void {
    this.#isOver = true;
    if (this.#readers.size === 0) return;
    this.#last = eventOf('end', report);
    for (const reader of this.#readers) {
      this.#send(reader, this.#last);
      reader.response.end();
    }
  }

  /** Stops listening and cuts every reader. */
  close(): void {
    this.#listener?.close();
  }

  #cutSlow(nowMs: number): void {
    for (const reader of this.#readers) {
      if (!reader.response.writableNeedDrain) reader.waitingSinceMs = null;
      else if (reader.waitingSinceMs === null) reader.waitingSinceMs = nowMs;
      else if (nowMs - reader.waitingSinceMs > SLOW_READER_MS) reader.response.destroy();
    }
  }

  /** One that has not taken the event before is left out; one for which too much waits is cut. */
  #send({ response }: Reader, event: string): void {
    if (response.writableLength > WAITING_BYTES_MAX) response.destroy();
    else if (!response.writableNeedDrain) response.write(event);
  }
}

function eventOf(name: 'report' | 'end', report: RunReport): string {
  return `event: ${name}\ndata: ${JSON.stringify(pageBody(report))}\n\n`;
}
