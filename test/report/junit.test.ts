/** Owns the proof that the JUnit file is valid XML of the common format and says what the report says. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import type { RunReport } from '../../src/judge/report.ts';
import type { RequirementResult } from '../../src/judge/requirement.ts';
import { junitXml } from '../../src/report/junit.ts';
import { hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { sampleReport } from './sample-report.ts';

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
