import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import type { RunReport } from '../../src/judge/report.ts';
import { renderReport } from '../../src/report/text.ts';
import { verdictLine } from '../../src/report/verdict-text.ts';
import { hasOrder, hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { sampleReport } from './sample-report.ts';

const linesOf = (text: string): string[] => text.trimEnd().split('\n');

/** A run in which half of the connects failed. */
function failedReport(): ReturnType<typeof sampleReport> {
  const report = sampleReport();
  return {
    ...report,
    verdict: 'fail',
    exitCode: 1,
    reason: '64,512 of 130,000 held: 65,488 connects timed out; nothing tells target from path',
    whoRanOut: 'unknown',
    connections: {
      ...report.connections,
      established: 64_512,
      held: 64_512,
      failed: { timeout: 65_400, refused: 88 },
      dropped: { rst: 7 },
    },
  };
}

describe('a load that changes', () => {
  const { connectMs } = sampleReport();
  const row = {
    durationMs: 10_000,
    reachedSec: null,
    established: 7,
    failed: 1,
    dropped: 2,
    lowered: 3,
    churned: 4,
  };
  const load: RunReport['load'] = {
    churn: '5,000/s',
    closeOrder: 'newest',
    churned: 4,
    lowered: 3,
    stages: [
      { ...row, stage: 1, connections: 130_000, isFlat: false, held: null, open: 129_990, connectMs },
      { ...row, stage: 2, connections: 130_000, isFlat: true, held: 129_985, open: 129_999, connectMs },
    ],
  };

  it('has a row for each stage, and says what held is judged on', () => {
    const text = renderReport({ ...sampleReport(), load });
    assert.match(text, /in 2 stages 10s:130,000 10s:130,000/);
    assert.match(text, /5,000\/s closed and opened/);
    assert.match(text, /^ *stage +asked +lowest +at end +opened +failed +lost +closed +p99$/m);
    assert.match(text, /^ *2 +10s:130,000 +129,985 +129,999 +7 +1 +2 +7 /m);
    assert.match(text, /held is judged on the flat stages: 2/);
    assert.match(text, /3 closed by us on the way down, 4 closed by us in their turn/);
    const flatless = { ...load, stages: load.stages.slice(0, 1) };
    assert.match(
      renderReport({ ...sampleReport(), load: flatless }),
      /no stage is flat: held is what was open at the end/,
    );
  });
});

describe('the report as text', () => {
  it('names the engine once, and whose it is only where agents differ', () => {
    const [agent] = sampleReport().agents;
    assert(agent);
    const uring = { name: 'uring', why: 'io_uring works here' };
    const refused = { name: 'epoll', why: 'io_uring: not permitted (seccomp)' };
    const engineOf = (engines: readonly (typeof uring | null)[]): string => {
      const agents = engines.map((engine, index) => ({ ...agent, name: `vm${index}`, engine }));
      return /^engine +(.*(?:\n {13}.*)*)$/m.exec(renderReport(sampleReport({ agents })))?.[1] ?? '';
    };
    const words = (text: string): string => text.replaceAll(/\s+/g, ' ');
    assert.equal(engineOf([uring, uring, null]), 'uring: io_uring works here');
    assert.equal(
      words(engineOf([uring, refused, uring])),
      'uring: io_uring works here (vm0, vm2) epoll: io_uring: not permitted (seccomp) (vm1)',
    );
    const many = [refused, ...Array.from({ length: 5 }, () => uring)];
    assert.match(words(engineOf(many)), /^epoll: .* \(vm0\) uring: io_uring works here \(5 agents\)$/);
    assert.equal(engineOf([null]), '');
  });

  it('begins with the verdict', () => {
    assert.equal(linesOf(renderReport(sampleReport())).at(-1), 'PASS held 130,000 of 130,000 for 30 s');
    assert.equal(linesOf(renderReport(failedReport())).at(-1), 'FAIL held 64,512 of 130,000 for 30 s');
  });

  it('says in its first line when a pass rests on kernels alone: no application has answered or counted', () => {
    const { hold, target, connections } = sampleReport();
    const first = (change: Partial<RunReport>): string | undefined =>
      linesOf(renderReport(sampleReport(change))).at(-1);
    const kernelOnly = { hold: { ...hold, proof: 'kernel-only' as const } };
    const openNow = connections.held;
    assert.match(first({ ...kernelOnly, target: null }) ?? '', /^PASS \(kernel only\) held 130,000 of/);
    assert(target !== null);
    assert.match(first({ ...kernelOnly, target: { ...target, openNow } }) ?? '', /^PASS held/);
    const fewer = { ...target, openNow: openNow - 1 };
    assert.match(first({ ...kernelOnly, target: fewer }) ?? '', /^PASS \(kernel only\)/);
    assert.match(first({ target: null, hold: { ...hold, proof: 'probes' } }) ?? '', /^PASS held/);
    assert.match(first({ ...kernelOnly, target: null, verdict: 'fail' }) ?? '', /^FAIL held/);
  });

  it('claims no hold time when there was no hold', () => {
    const line = verdictLine(
      sampleReport({ verdict: 'incomplete', hold: { seconds: 0, proof: 'kernel-only' } }),
    );
    assert.equal(line, 'INCOMPLETE held 130,000 of 130,000');
  });

  it('names who ran out and why, without saying the numbers of the verdict twice', () => {
    const lines = linesOf(renderReport(failedReport()));
    const at = lines.indexOf('65,488 connects timed out; nothing tells target from path');
    assert(at > 0, lines.join('\n'));
    assert.equal(lines[at + 1], 'who ran out: unknown');
  });

  it('lists failures and drops by reason, the most frequent first', () => {
    const text = renderReport(failedReport());
    assert.match(text, /^failed +65,488 {2}timeout 65,400 {2}refused 88$/m);
    assert.match(text, /^dropped +7 {2}rst 7$/m);
  });

  it('shows latency from the intended time only when it differs', () => {
    assert.doesNotMatch(renderReport(sampleReport()), /intended/);
    const late = sampleReport({ connectFromIntendedMs: { ...sampleReport().connectMs, p99: 900 } });
    assert.match(renderReport(late), /intended +p50 0\.41 ms .*p99 900 ms/);
  });

  it('names SYN retransmits', () => {
    assert.match(renderReport(sampleReport()), /12 connects needed a SYN retransmit \(14 in all\)/);
    const none = sampleReport({
      ramp: { seconds: 1, ratePerSec: 1, synRetransmits: 0, retransmittedConnects: 0 },
    });
    assert.doesNotMatch(renderReport(none), /needed a SYN retransmit/);
  });

  it('lists few sources one by one and tells the spread of many', () => {
    assert.match(renderReport(sampleReport()), /127\.0\.0\.3 43,333/);
    const many = Object.fromEntries(
      Array.from({ length: 40 }, (_, index) => [`10.0.0.${index}`, 100 + index]),
    );
    const text = renderReport(sampleReport({ bySource: many }));
    assert.match(text, /40 of them, from 100 to 139 connections each/);
    assert.doesNotMatch(text, /10\.0\.0\.7/);
  });

  it('sets the count of the kernel beside our own count', () => {
    assert.match(
      renderReport(sampleReport()),
      /130,000 established after the hold \(ss\) {2}others 50\s+our count 130,000/,
    );
    const unasked = sampleReport({
      kernel: {
        established: null,
        counts: [
          { agent: 'local', when: 'hold-end', established: null, openBefore: 5, open: 5, method: 'none' },
        ],
        counters: {},
        hosts: [],
      },
    });
    assert.match(renderReport(unasked), /could not be asked after the hold/);
  });

  it('tells a refusal by its findings and the commands that fix them, and shows no empty numbers', () => {
    const report = sampleReport({
      verdict: 'refused',
      exitCode: 3,
      reason: 'needs 130,000 tuples, has 64,512',
      whoRanOut: 'generator',
      findings: [
        {
          what: 'tuples',
          severity: 'refuse',
          needed: 130_000,
          available: 64_512,
          unit: 'tuples',
          message: 'needs 130,000 tuples, has 64,512',
          fix: 'c100k-bench --target 192.168.0.10:8000 --conns 130000 --source-ip 192.168.0.102-192.168.0.103',
        },
      ],
    });
    const text = renderReport(report);
    assert.match(text, /\nREFUSED nothing was opened\n$/);
    assert.match(text, /needs 130,000 tuples, has 64,512/);
    assert.match(text, /^ +c100k-bench --target .* --source-ip 192\.168\.0\.102-192\.168\.0\.103$/m);
    assert.doesNotMatch(text, /established/);
  });

  it('shows warnings with the command that fixes them', () => {
    assert.match(
      renderReport(sampleReport()),
      /warnings\n {2}! the accept queue[\s\S]*sysctl -w net\.core\.somaxconn/,
    );
  });

  it('colours the verdict and the marks', () => {
    const text = renderReport(sampleReport(), (style, line) => `<${style}>${line}</${style}>`);
    assert.equal(linesOf(text).at(-1), '<bold><good>PASS held 130,000 of 130,000 for 30 s</good></bold>');
    assert.deepEqual(text.match(/<good>|<bad>/g), ['<good>']);
    assert.match(text, /^ {2}<warn>!<\/warn> the accept queue/m);
  });

  it('fits 80 columns, whatever the numbers and names', () => {
    const count = fc.nat({ max: 100_000_000 });
    const ms = fc.option(fc.double({ min: 0, max: 10_000_000, noNaN: true }));
    const latency = fc.record({
      count: fc.constant(1),
      p50: ms,
      p90: ms,
      p99: ms,
      p999: ms,
      max: ms,
      histogram: fc.constant(null),
    });
    const property = fc.property(
      fc.record({
        name: fc.stringMatching(/^[a-z0-9.-]{1,100}$/),
        numbers: fc.array(count, { minLength: 12, maxLength: 12 }),
        latency,
        words: fc.array(fc.stringMatching(/^[a-z0-9]{1,40}$/), { minLength: 1, maxLength: 60 }),
        sources: fc.nat({ max: 20 }),
      }),
      ({ name, numbers, latency: measured, words, sources }) => {
        const n = (index: number): number => numbers[index] ?? 0;
        const base = failedReport();
        const report = {
          ...base,
          reason: words.join(' '),
          notes: [words.join(' ')],
          connections: {
            ...base.connections,
            established: n(0),
            attempted: n(1),
            unattempted: n(2),
            verified: n(3),
          },
          connectMs: measured,
          echoMs: measured,
          ramp: { seconds: n(4), ratePerSec: n(5), synRetransmits: n(6), retransmittedConnects: n(7) },
          bySource: Object.fromEntries(
            Array.from({ length: sources }, (_, i) => [`2001:db8:aaaa:bbbb:cccc:dddd:eeee:${i}`, n(i % 12)]),
          ),
          agents: base.agents.map((agent) => ({
            ...agent,
            name,
            quota: n(8),
            capacity: n(9),
            boundBy: name,
          })),
          generator: { ...base.generator, cpuMs: n(10), residentBytesMax: n(11) },
        };
        for (const line of linesOf(renderReport(report))) assert.ok(line.length <= 80, line);
      },
    );
    fc.assert(property, { numRuns: 200 });
  });
});

// PROTOCOL.md: text-formats
test('whatever another process has said, the text is visible lines and no order to a CI server', () => {
  fc.assert(
    fc.property(hostileReport, (report) => {
      const text = renderReport(report);
      assert.doesNotMatch(text, INVISIBLE);
      assert.equal(hasOrder(text), false, text);
    }),
    { numRuns: 200 },
  );
});
