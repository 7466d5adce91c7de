/** Tests what is said of a collector of metrics that refuses, takes a part, is slow or talks without end, and that nothing waits or grows. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { type TestContext, test } from 'node:test';
import { MetricsExport } from '../../src/coordinator/metrics-export.ts';
import { sampleReport } from '../report/sample-report.ts';

/** An export to a collector that answers so; a tick is 11 s of its clock later than the one before. */
async function startExport(
  t: TestContext,
  answer: RequestListener,
): Promise<{ metrics: MetricsExport; lines: string[]; tick(): void; made(): number; requests(): number }> {
  let [nowMs, made, requests] = [0, 0, 0];
  const server = createServer((request, response) => {
    requests += 1;
    request.resume();
    response.on('error', () => {});
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const lines: string[] = [];
  const otlp = new URL(`http://127.0.0.1:${address.port}/v1/metrics`);
  const clock = { monotonicMs: () => nowMs, wallMs: () => 1_764_000_000_000 + nowMs };
  const places = { listen: null, otlp, onNote: (line: string) => void lines.push(line) };
  const metrics = await MetricsExport.start(places, clock);
  const tick = (): void => {
    nowMs += 11_000;
    metrics.update(() => {
      made += 1;
      return sampleReport();
    });
  };
  return { metrics, lines, tick, made: () => made, requests: () => requests };
}

/** The lines about a collector that answers three requests so. */
async function linesAfter(t: TestContext, status: number, body: string): Promise<string[]> {
  const { metrics, lines } = await startExport(t, (_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  });
  for (let count = 0; count < 3; count++) await metrics.end(sampleReport());
  return lines;
}

test('points that a collector did not take are a warning with its reason, once', async (t) => {
  const partial = (value: object): string => JSON.stringify({ partialSuccess: value });
  const text = 'out of\norder \u001b[31m samples';
  assert.deepEqual(await linesAfter(t, 200, partial({ rejectedDataPoints: '3', errorMessage: text })), [
    'warning: --otlp: the collector did not take 3 data points: out of order ?[31m samples',
  ]);
  assert.deepEqual(await linesAfter(t, 200, partial({ rejectedDataPoints: 1 })), [
    'warning: --otlp: the collector did not take 1 data point',
  ]);
  assert.deepEqual(await linesAfter(t, 200, partial({ errorMessage: 'old names' })), [
    'warning: --otlp: the collector took all data points, and warns: old names',
  ]);
  const [long = ''] = await linesAfter(t, 200, partial({ errorMessage: 'x'.repeat(10_000) }));
  assert.ok(long.length < 300, `${long.length} characters`);
});

test('an answer that complains of nothing, or is none of the protocol, has no line', async (t) => {
  const answers = [
    '{}',
    '{"partialSuccess":{}}',
    '{"partialSuccess":{"rejectedDataPoints":"0"}}',
    '',
    'null',
  ];
  for (const body of [...answers, '<html>', '[]', '{"partialSuccess":[7]}', '{"partialSuccess":"no"}'])
    assert.deepEqual(await linesAfter(t, 200, body), [], body);
});

test('a refusal has its number and its reason, once', async (t) => {
  assert.deepEqual(await linesAfter(t, 400, '{"code":3,"message":"no resource"}'), [
    '--otlp: metrics could not be sent: it answered 400: no resource',
  ]);
  assert.deepEqual(await linesAfter(t, 503, 'busy'), ['--otlp: metrics could not be sent: it answered 503']);
});

test('while a collector does not answer nothing more is sent or made, and the run does not wait', async (t) => {
  const { metrics, lines, tick, made, requests } = await startExport(t, () => {});
  for (let count = 0; count < 1_000; count++) tick();
  while (requests() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  for (let count = 0; count < 1_000; count++) tick();
  assert.deepEqual([made(), requests()], [1, 1]);
  // Its end gives up too.
  await metrics.end(sampleReport());
  assert.deepEqual(lines, ['--otlp: metrics could not be sent: no answer within 5 s']);
});

test('of an answer without end only the beginning is read', async (t) => {
  let [written, isCut] = [0, false];
  const { metrics, lines } = await startExport(t, (_, response) => {
    response.writeHead(200);
    response.on('close', () => {
      isCut = true;
    });
    const write = (): void => {
      while (!isCut && response.write('x'.repeat(16_384))) written += 16_384;
      written += 16_384;
    };
    response.on('drain', write);
    write();
  });
  await metrics.end(sampleReport());
  while (!isCut) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(lines, []);
  assert.ok(written < 64 * 1_048_576, `${written} bytes were taken`);
});
