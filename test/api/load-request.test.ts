/** Tests the load as it is typed: stages, connections that come and go, and what does not go together. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type RunRequest, readRunRequest } from '../../src/api/run-request.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';

async function request(line: string): Promise<RunRequest> {
  const parsed = await parseCommandLine(line.split(' ').filter(Boolean), {}, '1.2.3', 80);
  assert(parsed.kind === 'command');
  return readRunRequest(parsed.values);
}

function isUsage(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof BenchError, String(error));
    assert.equal(error.exitCode, ExitCode.usage);
    assert.match(`${error.message} | ${error.hint}`, pattern);
    return true;
  };
}

const TO = '-t 127.0.0.1:1';
const load = async (line: string): Promise<Partial<RunSpec>> => (await request(`${TO} ${line}`)).spec;

describe('a load', () => {
  it('is the peak of its stages, and holds from the first flat one to their end', async () => {
    const spec = await load('--stage 2m:130k --stage 10m:130k --stage 1m:20k --close-order oldest');
    assert.deepEqual(spec.stages, [
      { durationMs: 120_000, connections: 130_000 },
      { durationMs: 600_000, connections: 130_000 },
      { durationMs: 60_000, connections: 20_000 },
    ]);
    assert.deepEqual([spec.connections, spec.holdMs, spec.closeOrder], [130_000, 660_000, 'oldest']);
    assert.deepEqual((await load('--stage 5s:9')).connections, 9);
  });

  it('comes and goes as was said', async () => {
    const churn = async (text: string): Promise<RunSpec['churn']> => (await load(`-c 1000 ${text}`)).churn;
    assert.deepEqual(await churn('--churn 300/m'), { kind: 'rate', perSec: 5 });
    assert.deepEqual(await churn('--lifetime 30s'), { kind: 'fixed', ms: 30_000 });
    assert.deepEqual(await churn('--lifetime exp:60s'), { kind: 'exp', ms: 60_000 });
    assert.deepEqual(await churn('--lifetime uniform:10s..2m'), {
      kind: 'uniform',
      fromMs: 10_000,
      toMs: 120_000,
    });
    assert.equal(await churn(''), undefined);
  });

  it('is refused when it cannot be, with what to type', async () => {
    for (const [line, pattern] of [
      ['', /--conns is missing/],
      ['--stage 5s:9 -c 9', /--conns does not go with --stage/],
      ['--stage 5s:9 -d 9s', /--duration does not go with --stage/],
      ['--stage 5s:0', /none asks for a connection/],
      ['--stage 0s:9', /between 1ms and 365d/],
      ['--stage 9', /needs a time and a number, not "9"/],
      ['--stage 5s:9:9', /needs a time and a number/],
      ['--stage 5x:9', /--stage needs a duration/],
      ['--stage 5s:x', /--stage needs a whole number/],
      [Array.from({ length: 65 }, () => '--stage 1s:1').join(' '), /65 stages; at most 64/],
      ['-c 9 --close-order oldest', /there are no stages/],
      ['-c 9 --churn 1/s --lifetime 9s', /two ways to say the same/],
      ['-c 9 --churn 10/s --rate 5/s', /--churn opens 10\/s, and --rate allows 5\/s/],
      ['-c 900 --lifetime 9s --rate 50/s', /--lifetime opens 100\/s/],
      ['-c 9 --lifetime uniform:9s..1s', /no range of times/],
      ['-c 9 --lifetime 1ms', /at least 100ms/],
    ] as const) {
      await assert.rejects(load(line), isUsage(pattern), line);
    }
  });
});
