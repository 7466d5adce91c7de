/** Tests the report in each format: by the format's own schema or parser, and with whatever text another process has sent. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { micromark } from 'micromark';
import { gfm, gfmHtml } from 'micromark-extension-gfm';
import type { RunReport } from '../../src/judge/report.ts';
import type { RequirementResult } from '../../src/judge/requirement.ts';
import {
  annotations,
  failureAnnotation,
  failureJunit,
  junitXml,
  reportJson,
  stepSummary,
} from '../../src/report/formats.ts';
import { prometheusText } from '../../src/report/metrics-text.ts';
import { harmlessReport, hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { sampleReport } from './sample-report.ts';

describe('the report as JSON', () => {
  it('keeps every field and ends in a line break', () => {
    const report = sampleReport();
    const text = reportJson(report);
    assert.ok(text.endsWith('}\n'));
    assert.deepEqual(JSON.parse(text), report);
  });

  it('is what docs/report.schema.json describes', () => {
    assert.deepEqual(schemaErrors(JSON.parse(reportJson(sampleReport()))), []);
  });

  it('would not pass with a field too many, a field too few, an unknown reason or a negative count', () => {
    const report = JSON.parse(reportJson(sampleReport())) as Record<string, Record<string, unknown>>;
    assert.notDeepEqual(schemaErrors({ ...report, surprise: 1 }), []);
    const { ramp: _, ...fewer } = report;
    assert.notDeepEqual(schemaErrors(fewer), []);
    const connections = report.connections ?? {};
    assert.notDeepEqual(
      schemaErrors({ ...report, connections: { ...connections, failed: { bored: 1 } } }),
      [],
    );
    assert.notDeepEqual(schemaErrors({ ...report, connections: { ...connections, open: -1 } }), []);
  });
});

// PROTOCOL.md: text-formats
test('whatever another process has said, the JSON can be shown, and says the same', () => {
  fc.assert(
    fc.property(hostileReport, (report) => {
      const json = reportJson(report);
      assert.doesNotMatch(json, INVISIBLE);
      assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(report)));
    }),
    { numRuns: 100 },
  );
});

const SCHEMA = join(repositoryRoot, 'test', 'support', 'junit.xsd');
const skip =
  spawnSync('xmllint', ['--version']).status === 0 ? false : 'xmllint (libxml2-utils) is not installed';

function xmllint(args: readonly string[], xml: string): string {
  const { status, stdout, stderr } = spawnSync('xmllint', [...args, '-'], { input: xml, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout;
}

/** What a parser that nobody here wrote finds. */
function found(xml: string, xpath: string): string {
  return xmllint(['--xpath', `string(${xpath})`], xml).replace(/\n$/, '');
}

function requirement(text: string, passed: boolean): RequirementResult {
  return {
    requirement: text,
    metric: 'held',
    isDefault: false,
    passed,
    actual: 5,
    actualText: '5 < 6 & "more"',
  };
}

function reportOf(change: Partial<RunReport>): string {
  return junitXml(sampleReport(change));
}

describe('the JUnit file', { skip }, () => {
  it('is valid, with a test case for each requirement', () => {
    const xml = reportOf({
      verdict: 'fail',
      requirements: [requirement('held>=10', false), requirement('connect_p99<250ms', true)],
    });
    xmllint(['--noout', '--schema', SCHEMA], xml);
    assert.equal(found(xml, 'count(//testcase)'), '2');
    assert.equal(found(xml, '//testsuites/@tests'), '2');
    assert.equal(found(xml, '//testsuite/@failures'), '1');
    assert.equal(found(xml, '//testcase[failure]/@name'), 'held>=10');
    assert.equal(found(xml, '//failure/@message'), 'held>=10: was 5 < 6 & "more"');
    assert.equal(found(xml, 'count(//testcase[@name="connect_p99<250ms"]/*)'), '0');
  });

  it('calls it an error, not a failure, when the generator fell short', () => {
    const xml = reportOf({
      verdict: 'incomplete',
      exitCode: 4,
      requirements: [requirement('held>=10', false)],
    });
    xmllint(['--noout', '--schema', SCHEMA], xml);
    assert.equal(found(xml, '//testsuite/@errors'), '1');
    assert.equal(found(xml, '//testsuite/@failures'), '0');
  });

  it('is never green for a run that was interrupted or refused', () => {
    for (const verdict of ['incomplete', 'refused'] as const) {
      const xml = reportOf({ verdict, reason: 'interrupted by SIGINT', requirements: [] });
      xmllint(['--noout', '--schema', SCHEMA], xml);
      assert.equal(found(xml, '//testcase/error/@message'), 'interrupted by SIGINT');
    }
  });

  it('survives what XML cannot say: control characters, lone surrogates, markup', () => {
    const xml = reportOf({
      reason: 'a\u0000b\u001bc \ud800 ]]> <x> & "q"\ttab',
      notes: ['second\nline ✓ 😀'],
    });
    xmllint(['--noout', '--schema', SCHEMA], xml);
    assert.match(found(xml, '//system-out'), /a\?b\?c \? \]\]> <x> & "q" tab\nsecond line ✓ 😀/);
  });

  it('has a schema that can fail', () => {
    const broken = reportOf({}).replace(' failures="0"', '');
    assert.notEqual(spawnSync('xmllint', ['--noout', '--schema', SCHEMA, '-'], { input: broken }).status, 0);
  });
});

describe('a command line that ended without a report', { skip }, () => {
  const failed = {
    name: 'nightly "x"',
    code: 'usage',
    message: 'unknown <flag> & more',
    hint: '--conns',
    at: '2026-01-02T03:04:05.000Z',
  };

  it('is one test case with an error, under its name', () => {
    const xml = failureJunit(failed);
    xmllint(['--noout', '--schema', SCHEMA], xml);
    assert.equal(found(xml, '//testsuite/@name'), 'c100k-bench nightly "x"');
    assert.equal(found(xml, '//testcase/error/@message'), 'unknown <flag> & more (hint: --conns)');
    assert.equal(found(xml, '//testcase/error/@type'), 'usage');
  });

  it('is one annotation', () => {
    assert.equal(
      failureAnnotation(failed),
      '::error title=c100k-bench nightly "x"%3A usage::unknown <flag> & more. --conns',
    );
  });
});

// PROTOCOL.md: text-formats
test('whatever another process has said, it stays within its attribute or text', () => {
  const line =
    /^<\?xml version="1\.0" encoding="UTF-8"\?>\n(?:\s*<\/?(?:testsuites|testsuite|testcase|failure|error|system-out)(?: [a-z]+="[^"<]*")*\/?>(?:[^<]*<\/system-out>)?\n)+$/;
  fc.assert(
    fc.property(hostileReport, (report) => {
      const xml = junitXml(report);
      assert.doesNotMatch(xml, INVISIBLE);
      assert.match(xml, line);
      assert.doesNotMatch(xml, /&(?!(?:amp|lt|gt|quot|#10|#9);)/);
    }),
    { numRuns: 200 },
  );
});

test('whatever another process has said, a parser of XML takes it', { skip }, () => {
  for (const report of fc.sample(hostileReport, 20)) xmllint(['--noout'], junitXml(report));
});

function broken(index: number): RequirementResult {
  const requirement = `connect_p99<${index}ms`;
  return {
    requirement,
    metric: 'connect_p99',
    isDefault: false,
    passed: false,
    actual: 1,
    actualText: '1 | 2',
  };
}

describe('the summary of a step', () => {
  it('begins with the verdict and has a row for each requirement, with its bars escaped', () => {
    const text = stepSummary(sampleReport({ verdict: 'fail', requirements: [broken(7)] }));
    assert.match(text, /^### ❌ FAIL held 130,000 of 130,000/);
    assert.match(text, /\n\| ❌ \| `connect_p99<7ms` \| 1 \\\| 2 \|\n/);
    assert.match(text, /\n- \*\*path\*\*: a sample\. Next: conntrack -S\n/);
    assert.ok(text.endsWith('</details>\n'));
  });

  it('shows a requirement that a code span cannot hold as text', () => {
    const requirement = { ...broken(7), requirement: '<https://evil.example>\\| a | `b`' };
    const text = stepSummary(sampleReport({ verdict: 'fail', requirements: [requirement] }));
    assert.deepEqual(
      tagsOf(text).filter((tag) => tag === 'a'),
      [],
    );
    assert.match(
      micromark(text, { extensions: [gfm()], htmlExtensions: [gfmHtml()] }),
      />&lt;https:\/\/evil.example&gt;\\\| a \| `b`<\/td>/,
    );
  });

  it('stays far below what GitHub refuses, whatever the report holds', () => {
    const notes = Array.from({ length: 50_000 }, (_, index) => `note ${index} ✓ \`\`\` ${'x'.repeat(60)}`);
    const text = stepSummary(sampleReport({ notes }));
    assert.ok(Buffer.byteLength(text) < 1_024 * 1_024, 'what GitHub takes');
    assert.ok(text.endsWith('\n```\n\n</details>\n'));
    assert.equal(text.split('```').length, 3, 'no fence of the report ends ours');
  });
});

describe('annotations', () => {
  it('are none for a pass without warnings', () => {
    assert.deepEqual(annotations(sampleReport({ findings: [], diagnoses: [] })), []);
  });

  it('name what broke, escaped, at most ten of a kind', () => {
    const requirements = Array.from({ length: 30 }, (_, index) => broken(index));
    const lines = annotations(sampleReport({ verdict: 'fail', reason: '50% of\nall: lost', requirements }));
    assert.equal(lines.filter((line) => line.startsWith('::error ')).length, 10);
    assert.equal(lines.filter((line) => line.startsWith('::warning ')).length, 1);
    assert.equal(
      lines[0],
      '::error title=c100k-bench nightly%3A FAIL held 130%2C000 of 130%2C000 for 30 s::50%25 of all: lost',
    );
    for (const line of lines) assert.doesNotMatch(line, /\n/);
  });
});

/** The tags of what GitHub makes of a summary. */
function tagsOf(markdown: string): string[] {
  const html = micromark(markdown, {
    extensions: [gfm()],
    htmlExtensions: [gfmHtml()],
    allowDangerousHtml: true,
  });
  return [...html.matchAll(/<\/?([a-z!][a-z0-9-]*)/gi)].map((match) => (match[1] ?? '').toLowerCase());
}

// PROTOCOL.md: text-formats
test('whatever another process has said, the summary has no link, image, HTML or markup but ours', () => {
  const ours = tagsOf(stepSummary(harmlessReport()));
  fc.assert(
    fc.property(hostileReport, (report) => {
      const markdown = stepSummary(report);
      assert.doesNotMatch(markdown, INVISIBLE);
      const tags = tagsOf(markdown);
      // A paragraph or a code span whose text is empty is none.
      const isFixed = (tag: string): boolean => tag !== 'p' && tag !== 'code';
      assert.deepEqual(tags.filter(isFixed), ours.filter(isFixed), markdown);
      assert(tags.filter((tag) => !isFixed(tag)).length <= ours.length);
    }),
    { numRuns: 300 },
  );
});

// PROTOCOL.md: text-formats
test('whatever another process has said, an annotation is one line and one order', () => {
  fc.assert(
    fc.property(hostileReport, (report) => {
      for (const line of annotations(report)) {
        assert.match(line, /^::(?:error|warning) title=[^:,]*::[^\n\r]*$/);
        assert.doesNotMatch(line, INVISIBLE);
      }
    }),
    { numRuns: 200 },
  );
});

const SAMPLE = /^([a-z0-9_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? -?[0-9.e+-]+$/;

it('every line is a head or a sample, each sample stands below the head of its metric, and none comes twice', () => {
  const report = sampleReport({
    requirements: [
      {
        requirement: 'a"b\\c\nd',
        metric: 'held',
        isDefault: false,
        passed: true,
        actual: 1,
        actualText: '1',
      },
    ],
    connections: { ...sampleReport().connections, failed: { timeout: 3, refused: 1 }, dropped: {} },
  });
  const text = prometheusText(report);
  const seen = new Set<string>();
  let metric = '';
  for (const line of text.trimEnd().split('\n')) {
    const head = /^# (HELP|TYPE) (\S+) /.exec(line);
    if (head !== null) {
      metric = head[2] ?? '';
      continue;
    }
    assert.match(line, SAMPLE);
    assert.equal(SAMPLE.exec(line)?.[1], metric);
    const key = line.slice(0, line.lastIndexOf(' '));
    assert.ok(!seen.has(key), key);
    seen.add(key);
  }
  assert.ok(text.includes('c100k_connections{state="held"} 130000\n'));
  assert.ok(text.includes('c100k_connections_failed{reason="timeout"} 3\n'));
  assert.ok(text.includes('c100k_requirement_passed{requirement="a\\"b\\\\c d"} 1\n'));
  assert.ok(!text.includes('probe_seconds'), 'what was not measured is left out');
});

// PROTOCOL.md: text-formats
test('whatever another process has said, each line is a comment or one sample with escaped labels', () => {
  const sample =
    /^[a-z_0-9]+(?:\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? -?[0-9.e+-]+$/;
  fc.assert(
    fc.property(hostileReport, (report) => {
      const text = prometheusText(report);
      assert.doesNotMatch(text, INVISIBLE);
      for (const line of text.trimEnd().split('\n')) {
        if (!line.startsWith('# ')) assert.match(line, sample);
      }
    }),
    { numRuns: 200 },
  );
});
