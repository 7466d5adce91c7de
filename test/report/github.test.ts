/** Owns the proof that GitHub can show a run: a summary within its limit, and at most ten annotations of a kind. */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { micromark } from 'micromark';
import { gfm, gfmHtml } from 'micromark-extension-gfm';
import type { RequirementResult } from '../../src/judge/requirement.ts';
import { annotations, stepSummary } from '../../src/report/github.ts';
import { harmlessReport, hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { sampleReport } from './sample-report.ts';

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
      '::error title=c100k-bench%3A FAIL held 130%2C000 of 130%2C000 for 30 s::50%25 of all: lost',
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
