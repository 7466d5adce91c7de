/**
 * Owns the proof that a run against whoami targets behind a load balancer counts connections by back end: with both drivers, and as each
 * server's own kernel counts them.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { startBench } from '../support/bench-run.ts';
import { startServe } from '../support/faults.ts';
import { freePort } from '../support/net-target.ts';
import { findProgram, whyNot } from '../support/targets.ts';
import { settled, until } from '../support/waiting.ts';

/** Starts a server, which ends with the test. @returns its port */
async function serve(t: TestContext): Promise<number> {
  const { port } = await startServe(t, ['--mode', 'whoami', '--workers', '1']);
  return port;
}

/** A front for each way of spreading connections. */
async function balance(
  t: TestContext,
  ways: readonly string[],
  servers: readonly number[],
): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-balance-'));
  const ports = await Promise.all(ways.map(() => freePort()));
  const fronts = ways.map(
    (way, index) => `listen front${index}
  bind 127.0.0.1:${ports[index]}
  balance ${way}
${servers.map((port, at) => `  server s${at} 127.0.0.1:${port}`).join('\n')}
`,
  );
  const file = join(folder, 'config');
  writeFileSync(
    file,
    `defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 10m\n  timeout server 10m\n${fronts.join('')}`,
  );
  const child = spawn(findProgram('haproxy') ?? '', ['-f', file, '-db'], { stdio: 'ignore' });
  t.after(async () => {
    if (child.exitCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await settled('haproxy ends', ended);
    }
    rmSync(folder, { recursive: true, force: true });
  });
  await until('haproxy listens', () => ports.every((port) => isListening(port)));
  return ports;
}

function linesOf(...args: string[]): string[] {
  return spawnSync('ss', ['-Htn', ...args], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter(Boolean);
}

function isListening(port: number): boolean {
  return linesOf('-l', `sport = :${port}`).length > 0;
}

test('connections are counted by the server behind a load balancer, as each server has them', {
  skip: whyNot('haproxy'),
}, async (t) => {
  const servers = [await serve(t), await serve(t), await serve(t)];
  const ways = ['leastconn', 'source'];
  const fronts = await balance(t, ways, servers);
  for (const engine of ['uring', 'epoll']) {
    for (const [index, way] of ways.entries()) {
      const run = startBench(
        t,
        [
          ...['-t', `whoami://127.0.0.1:${fronts[index]}`, '-c', '300', '-d', '2s', '--engine', engine],
          ...['--source-ip', '127.0.0.2-127.0.0.8', '--holders', '2', '--require', 'balance>=1'],
        ],
        { timeoutMs: 120_000 },
      );
      await run.saw(/ holding /);
      const own = Object.fromEntries(
        servers.map((port) => [
          `${hostname()}:${port}`,
          linesOf('state', 'established', `sport = :${port}`).length,
        ]),
      );
      const { code, stdout, stderr } = await run.result;
      assert.equal(code, 0, stdout + stderr);
      const report = run.report();
      const known = Object.entries(own).filter(([, count]) => count > 0);
      assert.equal(
        known.reduce((sum, [, count]) => sum + count, 0),
        300,
        JSON.stringify(own),
      );
      assert.deepEqual(report.balance?.end?.open, Object.fromEntries(known), `${way} ${engine}`);
      const counts = known.map(([, count]) => count);
      assert.equal(report.balance.ratioAtEnd, (Math.max(...counts) * counts.length) / 300);
      if (way === 'leastconn') assert.deepEqual(counts, [100, 100, 100]);
      assert.match(stdout, /back ends/);
    }
  }
});
