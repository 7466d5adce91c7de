/**
 * Owns a folder of saved reports, and the command line as a user starts it, for the tests of the commands that read reports.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { CliSeries } from './cli-series.ts';

/** A folder and a command line for one test file; both are gone when it is over. */
export function savedReports(): {
  readonly folder: string;
  readonly series: CliSeries;
  /** Writes a report as `--json` does; returns its path. */
  readonly saved: (name: string, report: RunReport) => string;
} {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-report-'));
  const series = new CliSeries();
  after(async () => {
    await series.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const saved = (name: string, report: RunReport): string => {
    const path = join(folder, name);
    writeFileSync(path, JSON.stringify(report));
    return path;
  };
  return { folder, series, saved };
}
