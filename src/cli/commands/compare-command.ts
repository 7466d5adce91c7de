/**
 * Owns `c100k-bench compare`: which reports stand together, and where the comparison goes. Must never compare (judge/comparison.ts).
 */
import { type FlagValues, flagValue, flagValues } from '../../api/flags/flags.ts';
import { readReport } from '../../api/read-report.ts';
import { checkReportFile } from '../../api/report-file.ts';
import { type BenchError, ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { compareReports, type ReportGroup } from '../../judge/comparison.ts';
import { comparisonJson, comparisonMarkdown, renderComparison } from '../../report/comparison-text.ts';
import type { CommandContext } from '../command-line.ts';
import { paintFor, publish, resultPlaces, tell } from '../output.ts';

/**
 * Compares and prints.
 * @returns 0, or 1 when a metric named with `--fail-on` got worse by more than it may
 * @throws BenchError exit 2 for what is no report or cannot be grouped, 5 for a file that cannot be written
 */
export async function compareCommand({ values, files }: CommandContext): Promise<ExitCode> {
  const places = resultPlaces(values);
  const path = flagValue(values, 'markdown');
  const markdown = path === null ? null : checkReportFile(path, '--markdown');
  const tolerances = flagValues(values, 'fail-on');
  const comparison = compareReports(readGroups(values, files), tolerances);
  await publish(places, {
    text: renderComparison(comparison, paintFor(places.textStream)),
    json: comparisonJson(comparison),
  });
  if (markdown !== null) {
    markdown.write(comparisonMarkdown(comparison));
    if (!values.on('quiet')) tell(`markdown: ${markdown.path}`);
  }
  return comparison.failed ? ExitCode.notHeld : ExitCode.held;
}

/** By `--label`, in the order of the labels; files without one by the name that their run had, two files each by itself. */
function readGroups(values: FlagValues, files: readonly string[]): readonly ReportGroup[] {
  const labels = flagValues(values, 'label');
  const groups = new Map<string, ReportGroup['reports'][number][]>();
  const add = (label: string, path: string): void => {
    groups.set(label, [...(groups.get(label) ?? []), readReport(path)]);
  };
  for (const { label, paths } of labels) for (const path of paths) add(label, path);
  if (labels.length > 0 && files.length > 0) {
    throw usageError(
      ErrorCode.usage,
      `${files[0]} has no label, and others have`,
      `for example: --label after=${files[0]}`,
    );
  }
  if (labels.length === 0) addUnlabelled(groups, files);
  if (groups.size < 2) throw noGroups(groups.size);
  return [...groups].map(([label, reports]) => ({ label, reports }));
}

function addUnlabelled(
  groups: Map<string, ReportGroup['reports'][number][]>,
  files: readonly string[],
): void {
  const reports = files.map((path) => ({ path, report: readReport(path) }));
  const names = new Set(reports.map(({ report }) => report.about?.name ?? null));
  const isByName = names.size >= 2 && !names.has(null);
  if (!isByName && files.length !== 2) throw noGroups(names.size);
  for (const { path, report } of reports) {
    const label = isByName ? (report.about?.name ?? path) : path;
    groups.set(label, [...(groups.get(label) ?? []), report]);
  }
}

function noGroups(size: number): BenchError {
  return usageError(
    ErrorCode.usage,
    `two or more groups of reports are compared, not ${size}`,
    'for example: --label before=a1.json,a2.json,a3.json --label after=b1.json,b2.json,b3.json',
  );
}
