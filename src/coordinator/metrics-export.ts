/**
 * Owns the metrics of a run while it goes on: answers a scrape of Prometheus, and sends to a collector of OpenTelemetry
 * (OTLP over HTTP, JSON). Must never wait for either in a way that the run notices, nor fail a run for them.
 */
import { cleanText, cutText } from '../base/clean-text.ts';
import type { Clock } from '../base/clock.ts';
import { counted } from '../base/units.ts';
import type { RunReport } from '../judge/report.ts';
import { otlpJson, scrapeText } from '../report/metrics-text.ts';
import { after } from '../time/timer.ts';
import { type HttpListener, startListener } from './http-listener.ts';

/** A report is made anew for a scrape after so long at the earliest, and takes at most a twentieth of the time. */
const FRESH_MS = 1_000;
const COST_FACTOR = 20;
const OTLP_EVERY_MS = 10_000;
const OTLP_TIMEOUT_MS = 5_000;
/** What is read of a collector's answer, and shown of a text in it. */
const ANSWER_BYTES_MAX = 65_536;
const ANSWER_TEXT_MAX = 200;

/** What a collector says in JSON; whatever it sends, `{}` where that is nothing of the kind. */
interface CollectorAnswer {
  /** of a request that was taken in part: `ExportMetricsPartialSuccess` */
  readonly partialSuccess?: unknown;
  /** of one that was refused: `google.rpc.Status` */
  readonly message?: unknown;
}

/** The beginning of a body; the rest is not waited for. */
async function readAnswer(response: Response): Promise<CollectorAnswer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    parts.push(part as Uint8Array);
    bytes += (part as Uint8Array).length;
    if (bytes > ANSWER_BYTES_MAX) return {};
  }
  try {
    const answer: unknown = JSON.parse(Buffer.concat(parts).toString());
    return typeof answer === 'object' && answer !== null ? answer : {};
  } catch {
    return {};
  }
}

/** A collector's text behind a colon, on one line; empty where it has none. */
function saidText(text: unknown): string {
  return typeof text === 'string' && text !== '' ? `: ${cutText(cleanText(text), ANSWER_TEXT_MAX)}` : '';
}

/**
 * What a collector that took a request says against it, in words; null: nothing.
 * The names are those of the protocol's JSON (https://opentelemetry.io/docs/specs/otlp/#partial-success-1), 64-bit numbers are texts in it.
 */
function complaintOf({ partialSuccess }: CollectorAnswer): string | null {
  if (typeof partialSuccess !== 'object' || partialSuccess === null) return null;
  const { rejectedDataPoints = 0, errorMessage } = partialSuccess as {
    rejectedDataPoints?: unknown;
    errorMessage?: unknown;
  };
  const rejected = Number(rejectedDataPoints);
  const text = saidText(errorMessage);
  if (Number.isFinite(rejected) && rejected > 0)
    return `the collector did not take ${counted(rejected, 'data point', 'data points')}${text}`;
  return text === '' ? null : `the collector took all data points, and warns${text}`;
}

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
  #hasWarned = false;

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
      const answer = await readAnswer(response);
      if (!response.ok) {
        this.#failed(`it answered ${response.status}${saidText(answer.message)}`);
        return;
      }
      const complaint = complaintOf(answer);
      if (complaint !== null) this.#warn(complaint);
    } catch (error) {
      const { message, cause } = error as Error;
      if (abort.signal.aborted) this.#failed(`no answer within ${OTLP_TIMEOUT_MS / 1_000} s`);
      else this.#failed(cause instanceof Error ? cause.message : message);
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

  /** Once: it will most likely say the same of each request. */
  #warn(complaint: string): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    this.#onNote(`warning: --otlp: ${complaint}`);
  }
}
