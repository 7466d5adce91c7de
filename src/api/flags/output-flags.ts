/**
 * Owns the rows of what a run is shown as beside its text, and of comparing reports. Must never read a value (flags.ts).
 */
import { type CommandName, flagSwitch, list, one } from './flag.ts';
import { collectorUrl, file, labelledFiles, statsAddress, tolerance } from './value-types.ts';

const RUN_ONLY: readonly CommandName[] = ['run'];

/** Part of the table (flags.ts). */
export const OUTPUT_FLAGS = {
  label: list({
    ...labelledFiles,
    group: 'Compare:',
    commands: ['compare'],
    describe:
      'reports that belong together, NAME=FILE[,FILE...]; repeated: the first is what others are compared with',
    defaultNote: 'the --name that each run had; two files: each by itself',
  }),
  'fail-on': list({
    ...tolerance,
    group: 'Compare:',
    commands: ['compare'],
    describe:
      'exit 1 when the median of this metric gets worse by more than this, such as connect_p99:10% or failed:0, and beyond noise; repeatable',
    defaultNote: 'nothing fails',
  }),
  markdown: one({
    ...file,
    group: 'Output:',
    commands: ['compare'],
    describe: 'write the comparison as Markdown to this file, for a pull request',
    isOutput: true,
  }),
  text: flagSwitch({
    group: 'Output:',
    commands: ['report'],
    describe: 'print the text beside the page',
    isOutput: true,
  }),
  html: one({
    ...file,
    group: 'Output:',
    commands: ['run', 'report'],
    describe: 'write the report as one HTML file that needs nothing else',
    pods: { why: 'a file has no place in a pod' },
    isOutput: true,
  }),
  live: one({
    ...statsAddress,
    group: 'Output:',
    commands: RUN_ONLY,
    describe:
      'show the report as a page while the run goes on, at this address:port; alone: at 127.0.0.1 and a free port',
    bare: '127.0.0.1:0',
    pods: { why: 'a page has no reader in a pod' },
    isOutput: true,
  }),
  'metrics-listen': one({
    ...statsAddress,
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'address:port where Prometheus may scrape /metrics while the run goes on',
    pods: 'argument',
    isOutput: true,
  }),
  otlp: one({
    ...collectorUrl,
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'send metrics to this OpenTelemetry collector (OTLP over HTTP, JSON) every 10 s and at the end',
    pods: 'argument',
    isOutput: true,
  }),
};
