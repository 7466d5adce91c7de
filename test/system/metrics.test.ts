/**
 * Owns metrics against the real thing: Prometheus scrapes a run, every panel of the dashboard finds its data there, and a
 * collector of OpenTelemetry gets the last numbers.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBench } from '../support/bench-run.ts';
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

test('a collector gets the last numbers, and one that is not there changes nothing but a line', async (t) => {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (part) => {
      text += String(part);
    });
    request.on('end', () => {
      bodies.push(`${request.url} ${request.headers['content-type']} ${text}`);
      response.end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const args = ['-t', 'self', '-c', '200', '-d', '1s'];
  const sent = startBench(t, [...args, '--otlp', `http://127.0.0.1:${address.port}`], RUN);
  assert.equal((await sent.result).code, 0);
  const last = bodies.at(-1) ?? '';
  assert.match(last, /^\/v1\/metrics application\/json \{"resourceMetrics":/);
  assert.match(last, /"name":"c100k_run_passed".*?"asDouble":1\b/);
  const lost = startBench(t, [...args, '--otlp', 'http://127.0.0.1:9/'], RUN);
  const { code, stderr } = await lost.result;
  assert.equal(code, 0);
  assert.equal(stderr.match(/--otlp: metrics could not be sent/g)?.length, 1, stderr);
});
