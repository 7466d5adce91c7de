/**
 * Owns `c100k-bench report`: a report that was written as JSON, as text or as a page. Must never judge it again.
 */
import { flagValue } from '../../api/flags/flags.ts';
import { readReport } from '../../api/read-report.ts';
import { checkReportFile } from '../../api/report-file.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { reportHtml } from '../../report/html/page.ts';
import { renderReport } from '../../report/text.ts';
import type { CommandContext } from '../command-line.ts';
import { paintFor, tell, textLook, writeResult } from '../output.ts';

/**
 * Writes the page, the text in the form of a run, or both; without a flag the text.
 * @returns 0, whatever the report says of its run
 * @throws BenchError exit 2 for what is no report, 5 for a page that cannot be written
 */
export async function reportCommand({ values, files }: CommandContext): Promise<ExitCode> {
  const [file] = files;
  if (file === undefined) {
    throw usageError(
      ErrorCode.usage,
      'report needs a file',
      'for example: c100k-bench report run.json --html run.html',
    );
  }
  const path = flagValue(values, 'html');
  const page = path === null || path === '-' ? null : checkReportFile(path, '--html');
  const report = readReport(file);
  if (page !== null) {
    page.write(reportHtml(report));
    if (!values.on('quiet')) tell(`page: ${page.path}`);
  }
  if (path === '-') await writeResult(reportHtml(report));
  else if (values.on('text') || page === null) {
    const look = textLook(process.stdout, flagValue(values, 'report'));
    const files = page === null ? [] : [page.path];
    await writeResult(renderReport(report, paintFor(process.stdout), { ...look, files }));
  }
  return ExitCode.held;
}
