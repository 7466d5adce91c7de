/**
 * Owns metrics against the real thing: Prometheus scrapes a run, every panel of the dashboard finds its data there, and what goes to a
 * collector of OpenTelemetry is read with the types of its protocol.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from '../../src/judge/report.ts';
import { scrapeText } from '../../src/report/metrics-text.ts';
import { startBench } from '../support/bench-run.ts';
import { startCollector } from '../support/otlp-collector.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { settled } from '../support/waiting.ts';

const PROGRAM = '/usr/bin/prometheus';
const skip = existsSync(PROGRAM) ? false : 'prometheus is not installed';
const RUN = { timeoutMs: 6 * 60_000 };

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

/** A Prometheus that scrapes one address each second. */
async function startPrometheus(t: TestContext, scraped: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-prometheus-'));
  const port = await freePort();
  const config = join(folder, 'prometheus.yml');
  writeFileSync(
    config,
    `global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n  - { job_name: run, static_configs: [{ targets: ['${scraped}'] }] }\n`,
  );
  const args = [
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=error',
  ];
  const child = spawn(PROGRAM, args, { stdio: 'ignore' });
  t.after(async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  return `http://127.0.0.1:${port}`;
}

/** Asks until there is an answer with data. */
async function queried(base: string, query: string): Promise<readonly { value: [number, string] }[]> {
  for (;;) {
    try {
      const response = await fetch(`${base}/api/v1/query?query=${encodeURIComponent(query)}`);
      const { status, error, data } = (await response.json()) as {
        status: string;
        error?: string;
        data?: { result: { value: [number, string] }[] };
      };
      assert.equal(status, 'success', `${query}: ${error}`);
      if (data !== undefined && data.result.length > 0) return data.result;
    } catch (error) {
      // It does not listen yet.
      if (error instanceof assert.AssertionError) throw error;
    }
    await sleep(250);
  }
}

test('every panel of the dashboard has data of a run that Prometheus scrapes', { skip }, async (t) => {
  const run = startBench(
    t,
    [
      '-t',
      'echo://self',
      '-c',
      '300',
      '-d',
      '10m',
      '--probe-every',
      '1s',
      '--metrics-listen',
      '127.0.0.1:0',
      '--name',
      'observed',
    ],
    RUN,
  );
  await run.saw(/metrics: http:\/\/\S+/);
  const url = /metrics: http:\/\/(\S+)\/metrics/.exec(run.stderr())?.[1] ?? '';
  const base = await startPrometheus(t, url);
  const held = await settled(
    '300 held',
    queried(base, 'sum(c100k_connections{run="observed",state="held"}) == 300'),
  );
  assert.equal(held[0]?.value[1], '300');
  const dashboard = JSON.parse(
    readFileSync(join(repositoryRoot, 'docs', 'grafana', 'c100k-bench.json'), 'utf8'),
  ) as {
    panels: { title: string; targets: { expr: string }[] }[];
    templating: { list: { name: string; type: string; query: string }[] };
  };
  assert.ok(dashboard.panels.length >= 8);
  for (const { title, targets } of dashboard.panels) {
    for (const { expr } of targets) {
      const query = expr.replaceAll('$run', 'observed').replaceAll('$target', '.*');
      assert.ok((await settled(`${title}: ${query}`, queried(base, query))).length > 0);
    }
  }
  for (const { type, query } of dashboard.templating.list) {
    const label = /label_values\(([^,{]+)(?:\{.*\})?, (\w+)\)/.exec(query);
    if (type !== 'query') continue;
    assert.ok(label !== null, query);
    const found = await queried(base, `count by (${label[2]}) (${label[1]})`);
    assert.ok(found.length > 0, query);
  }
  process.kill(run.pid, 'SIGINT');
  assert.equal((await run.result).code, 130);
});

/** The samples of a scrape, as OTLP has them: without what the resource says. */
function scraped(report: RunReport): [string, string, number][] {
  return scrapeText(report)
    .split('\n')
    .flatMap((line) => {
      const sample = /^(\w+)\{(.*)\} (\S+)$/.exec(line);
      if (sample === null) return [];
      const labels = [...(sample[2] ?? '').matchAll(/(\w+)="([^"]*)"/g)]
        .map(([, key = '', value = '']) => `${key}=${value}`)
        .filter((label) => !/^(?:run|target)=/.test(label));
      return [[sample[1] ?? '', labels.toSorted().join(), Number(sample[3])] as [string, string, number]];
    });
}

test("a collector reads each request with the protocol's own types, and has every number of the report", async (t) => {
  const collector = await startCollector(t);
  const args = ['-t', 'echo://self', '-c', '200', '-d', '12s', '--name', 'sent', '--otlp', collector.url];
  const run = startBench(t, args, RUN);
  const { code, stderr } = await run.result;
  assert.deepEqual([code, collector.faults], [0, []], stderr);
  assert.doesNotMatch(stderr, /could not be sent/);
  const report = run.report();
  const last = collector.received.at(-1);
  assert.ok(last !== undefined && collector.received.length >= 2, 'while it went on, and at its end');
  assert.deepEqual(last.resource, {
    'service.name': 'c100k-bench',
    'service.version': report.toolVersion,
    run: 'sent',
    target: 'echo://self',
  });
  const sent = last.samples.map(({ name, labels, value }) => [
    name,
    Object.entries(labels)
      .map(([key, each]) => `${key}=${each}`)
      .toSorted()
      .join(),
    value,
  ]);
  assert.deepEqual(sent, scraped(report));
  const numberOf = (name: string, label: string): number | undefined =>
    last.samples.find((one) => one.name === name && Object.values(one.labels).join().includes(label))?.value;
  assert.equal(numberOf('c100k_connections', 'asked'), 200);
  assert.equal(numberOf('c100k_connections', 'held'), report.connections.held);
  assert.equal(numberOf('c100k_run_passed', ''), 1);
  assert.equal(numberOf('c100k_connect_seconds', '0.99'), (report.connectMs.p99 ?? Number.NaN) / 1_000);
  // Times are of this run, each request's later than the one before.
  const times = collector.received.map(({ samples }) =>
    Number((samples[0]?.timeUnixNano ?? 0n) / 1_000_000n),
  );
  assert.deepEqual(
    times,
    times.toSorted((one, other) => one - other),
  );
  const [from, to] = [Date.parse(report.startedAt), Date.parse(report.endedAt)];
  for (const time of times)
    assert.ok(time >= from - 60_000 && time <= to + 60_000, `${time}: ${from} to ${to}`);
  for (const { samples } of collector.received.slice(0, -1))
    assert.ok(
      samples.every(({ name }) => name !== 'c100k_run_passed'),
      'no verdict before the end',
    );
});

test('a collector that is not there, or refuses, changes nothing but a line', async (t) => {
  const refusing = createServer((_, response) => void response.writeHead(400).end());
  await new Promise<void>((resolve) => refusing.listen(0, '127.0.0.1', resolve));
  t.after(() => refusing.close());
  const address = refusing.address();
  assert.ok(typeof address === 'object' && address !== null);
  for (const [url, says] of [
    ['http://127.0.0.1:9/', /--otlp: metrics could not be sent/g],
    [`http://127.0.0.1:${address.port}`, /--otlp: metrics could not be sent: it answered 400/g],
  ] as const) {
    const run = startBench(t, ['-t', 'self', '-c', '200', '-d', '1s', '--otlp', url], RUN);
    const { code, stderr } = await run.result;
    assert.equal(code, 0);
    assert.equal(stderr.match(says)?.length, 1, stderr);
  }
});
