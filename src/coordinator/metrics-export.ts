/**
 * Owns the metrics of a run while it goes on: answers a scrape of Prometheus, and sends to a collector of OpenTelemetry
 * (OTLP over HTTP, JSON). Must never wait for either in a way that the run notices, nor fail a run for them.
 */
import type { Clock } from '../base/clock.ts';
import type { RunReport } from '../judge/report.ts';
import { otlpJson, scrapeText } from '../report/metrics-text.ts';
import { after } from '../time/timer.ts';
import { type HttpListener, startListener } from './http-listener.ts';

/** A report is made anew for a scrape after so long at the earliest, and takes at most a twentieth of the time. */
const FRESH_MS = 1_000;
const COST_FACTOR = 20;
const OTLP_EVERY_MS = 10_000;
const OTLP_TIMEOUT_MS = 5_000;

/** The newest report, made when it is asked for and not too often. */
class NewestReport {
  readonly #clock: Clock;
  #make: (() => RunReport) | null = null;
  #made: RunReport | null = null;
  #nextMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  offer(make: () => RunReport): void {
    this.#make = make;
  }

  set(report: RunReport): void {
    this.#make = () => report;
    this.#nextMs = 0;
  }

  /** null: the run has not begun */
  get(): RunReport | null {
    const nowMs = this.#clock.monotonicMs();
    if (this.#make === null || nowMs < this.#nextMs) return this.#made;
    this.#made = this.#make();
    const tookMs = this.#clock.monotonicMs() - nowMs;
    this.#nextMs = nowMs + Math.max(FRESH_MS, COST_FACTOR * tookMs);
    return this.#made;
  }
}

/** Where metrics go. */
interface MetricsPlaces {
  /** null: no scrape is answered */
  readonly listen: { readonly host: string; readonly port: number } | null;
  /** null: nothing is sent */
  readonly otlp: URL | null;
  /** one line for a person */
  readonly onNote: (line: string) => void;
}

/** One run's metrics. */
export class MetricsExport {
  readonly #clock: Clock;
  readonly #newest: NewestReport;
  readonly #otlp: URL | null;
  readonly #onNote: (line: string) => void;
  #listener: HttpListener | null = null;
  #nextSendMs = 0;
  #isSending = false;
  #hasSaidFailure = false;

  private constructor(clock: Clock, { otlp, onNote }: MetricsPlaces) {
    this.#clock = clock;
    this.#newest = new NewestReport(clock);
    this.#otlp = otlp;
    this.#onNote = onNote;
  }

  /** @throws BenchError `serve-failed`, exit 3 */
  static async start(places: MetricsPlaces, clock: Clock): Promise<MetricsExport> {
    const made = new MetricsExport(clock, places);
    if (places.listen === null) return made;
    made.#listener = await startListener({
      ...places.listen,
      flag: '--metrics-listen',
      answer: (request, response) => {
        response.setHeader('connection', 'close');
        if (request.url?.split('?')[0] !== '/metrics') {
          response.writeHead(404).end();
          return;
        }
        const report = made.#newest.get();
        const text = report === null ? '' : scrapeText(report);
        response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text);
      },
    });
    return made;
  }

  /** Where a scrape is answered; null: nowhere. */
  get url(): string | null {
    if (this.#listener === null) return null;
    const { host, port } = this.#listener;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`;
  }

  /** At each tick. */
  update(report: () => RunReport): void {
    this.#newest.offer(report);
    const nowMs = this.#clock.monotonicMs();
    if (this.#otlp === null || this.#isSending || nowMs < this.#nextSendMs) return;
    this.#nextSendMs = nowMs + OTLP_EVERY_MS;
    void this.#send(this.#otlp);
  }

  /** The last numbers. Takes at most as long as one request may. */
  async end(report: RunReport): Promise<void> {
    this.#newest.set(report);
    if (this.#otlp !== null) await this.#send(this.#otlp);
  }

  close(): void {
    this.#listener?.close();
  }

  async #send(url: URL): Promise<void> {
    const report = this.#newest.get();
    if (report === null) return;
    this.#isSending = true;
    const abort = new AbortController();
    const timer = after(OTLP_TIMEOUT_MS, () => abort.abort(), { isUnref: true });
    try {
      const body = otlpJson(report, this.#clock.wallMs());
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(url, {
        method: 'POST',
        headers,
        body,
        signal: abort.signal,
        redirect: 'error',
      });
      await response.body?.cancel();
      if (!response.ok) this.#failed(`it answered ${response.status}`);
    } catch (error) {
      const { message, cause } = error as Error;
      this.#failed(cause instanceof Error ? cause.message : message);
    } finally {
      timer.cancel();
      this.#isSending = false;
    }
  }

  #failed(why: string): void {
    if (this.#hasSaidFailure) return;
    this.#hasSaidFailure = true;
    this.#onNote(`--otlp: metrics could not be sent: ${why}`);
  }
}
