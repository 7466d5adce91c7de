/**
 * Owns who looks at a run while it goes on, beside the terminal: the live page, a scrape of Prometheus, a collector of
 * OpenTelemetry. Must never make the run wait, or fail it once it has begun.
 */
import { type FlagValues, flagValue } from '../api/flags/flags.ts';
import { LivePage } from '../coordinator/live-page.ts';
import { MetricsExport } from '../coordinator/metrics-export.ts';
import type { RunReport } from '../judge/report.ts';
import { systemClock } from '../time/timer.ts';

/** Those of one run; none of them where no flag asks for one. */
export class RunObservers {
  readonly #live: LivePage | null;
  readonly #metrics: MetricsExport | null;

  private constructor(live: LivePage | null, metrics: MetricsExport | null) {
    this.#live = live;
    this.#metrics = metrics;
  }

  /**
   * Begins to listen, and says where.
   * @throws BenchError exit 3 when it cannot
   */
  static async start(values: FlagValues, onNote: (line: string) => void): Promise<RunObservers> {
    const live = flagValue(values, 'live');
    const listen = flagValue(values, 'metrics-listen');
    const otlp = flagValue(values, 'otlp');
    const page = live === null ? null : await LivePage.start(live, systemClock);
    if (page !== null) onNote(`live page: ${page.url}`);
    if (listen === null && otlp === null) return new RunObservers(page, null);
    const metrics = await MetricsExport.start({ listen, otlp, onNote }, systemClock);
    if (metrics.url !== null) onNote(`metrics: ${metrics.url}`);
    return new RunObservers(page, metrics);
  }

  /** Whether a report so far is of use to any of them. */
  get onTick(): ((report: () => RunReport) => void) | null {
    if (this.#live === null && this.#metrics === null) return null;
    return (report) => {
      this.#live?.update(report);
      this.#metrics?.update(report);
    };
  }

  /** The run is over. */
  async end(report: RunReport): Promise<void> {
    this.#live?.end(report);
    await this.#metrics?.end(report);
  }

  /** No report will come. */
  close(): void {
    this.#live?.close();
    this.#metrics?.close();
  }
}
