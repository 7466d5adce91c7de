/**
 * Owns many hosts: namespaces on one bridge, an agent in each, as in a LAN of five clients and a server. What is held is
 * counted by `ss` on the server's host.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type Coordinator, startAgent, startAt, startCoordinator } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { createNetwork, type Host, type Network } from '../support/network.ts';
import { networkTest } from '../support/network-test.ts';
import { schemaErrors } from '../support/report-schema.ts';

const HOSTS = ['ada', 'bob', 'cyd', 'dan', 'eve'] as const;
const SERVER = '10.77.0.100';
const DESK = '10.77.0.200';
const addressOf = (index: number): string => `10.77.0.${index + 1}`;

/** Five hosts, one with a server, and one where somebody types the run. */
async function lan(t: TestContext): Promise<Network> {
  const hosts = Object.fromEntries(
    HOSTS.map((name, index) => [name, { on: { lan: [`${addressOf(index)}/24`] } }]),
  );
  return await createNetwork(t, {
    ...hosts,
    server: { on: { lan: [`${SERVER}/24`] }, sysctls: { 'net.core.somaxconn': 8_192 } },
    desk: { on: { lan: [`${DESK}/24`] } },
  });
}

async function serve(t: TestContext, network: Network): Promise<void> {
  const host = network.host('server');
  startAt(t, { host }, ['serve', '--host', '0.0.0.0', '--port', '8000'], { timeoutMs: 150_000 });
  await until('the server listens', 60_000, async () => (await host.must('ss', '-Hltn')).includes(':8000'));
}

/** Established connections on the server's host by the address that they come from. */
async function heldBySource(server: Host): Promise<Record<string, number>> {
  const text = await server.must('ss', '-Htn', 'state', 'established', `src ${SERVER}:8000`);
  const counts: Record<string, number> = {};
  for (const line of text.split('\n').filter(Boolean)) {
    const peer = line.trim().split(/\s+/)[3] ?? '';
    const address = peer.slice(0, peer.lastIndexOf(':'));
    counts[address] = (counts[address] ?? 0) + 1;
  }
  return counts;
}

/** The run at the desk, and an agent on each host as soon as the join line is there. */
async function startRun(
  t: TestContext,
  network: Network,
  args: readonly string[],
  descriptors: readonly (number | undefined)[],
): Promise<Coordinator> {
  const run = startCoordinator(
    t,
    [
      ...['--target', `${SERVER}:8000`, '--listen', '0.0.0.0:7100', '--expect-agents', String(HOSTS.length)],
      ...['--connect-timeout', '30s', ...args],
    ],
    { place: { host: network.host('desk') }, timeoutMs: 150_000 },
  );
  await run.saw(/join with: .*\n/);
  assert.match(run.stderr(), new RegExp(`join with: c100k-bench agent --join ${DESK}:7100 --token-file`));
  for (const [index, name] of HOSTS.entries()) {
    const descriptorsMax = descriptors[index];
    startAgent(
      t,
      `${DESK}:7100`,
      name,
      run.tokenText,
      // With io_uring connections take no descriptors.
      descriptorsMax === undefined ? [] : ['--holders', '1', '--engine', 'epoll'],
      {
        place: { host: network.host(name), ...(descriptorsMax === undefined ? {} : { descriptorsMax }) },
        timeoutMs: 150_000,
      },
    );
  }
  return run;
}

/** What the server's host counts while the run holds, and then the end of the run. */
async function heldMeanwhile(run: Coordinator, network: Network): Promise<Record<string, number>> {
  await run.saw(/ holding /);
  const counts = await heldBySource(network.host('server'));
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, `${stdout}${stderr}`);
  return counts;
}

networkTest('five hosts hold 100,000 connections to one server, 20,000 from each', async (t) => {
  const network = await lan(t);
  await serve(t, network);
  const run = await startRun(t, network, ['--conns', '100000', '--duration', '6s'], []);
  const counts = await heldMeanwhile(run, network);
  const each = Object.fromEntries(HOSTS.map((_, index) => [addressOf(index), 20_000]));
  assert.deepEqual(counts, each, "as the server's kernel counts");
  const report = run.report();
  assert.deepEqual(schemaErrors(report), []);
  assert.equal(report.connections.held, 100_000);
  assert.deepEqual(report.bySource, each);
  assert.deepEqual(
    report.agents.map(({ name, quota, held }) => [name, quota, held]).toSorted(),
    HOSTS.map((name) => [name, 20_000, 20_000]),
  );
  assert.equal(report.kernel.established, 100_000, "as the agents' kernels count");
});

networkTest(
  'uneven hosts get quotas by what they can hold, and 60,001 is split to the last one',
  async (t) => {
    const network = await lan(t);
    await serve(t, network);
    const limits = [4_000, 9_000, undefined, 20_000, 20_000];
    const run = await startRun(t, network, ['--conns', '60001', '--duration', '3s'], limits);
    const counts = await heldMeanwhile(run, network);
    const { agents } = run.report();
    const byName = Object.fromEntries(agents.map((agent) => [agent.name, agent]));
    assert.equal(
      agents.reduce((sum, { quota }) => sum + quota, 0),
      60_001,
    );
    // Each kernel's own count is the quota that the agent was given.
    assert.deepEqual(
      counts,
      Object.fromEntries(HOSTS.map((name, index) => [addressOf(index), byName[name]?.quota])),
    );
    const [ada, bob, cyd, dan, eve] = HOSTS.map((name) => byName[name]!);
    for (const [agent, limit] of [
      [ada, 4_000],
      [bob, 9_000],
    ] as const) {
      assert.equal(agent?.quota, agent?.capacity, 'one that can hold less than the others gives all it has');
      assert(agent !== undefined && agent.quota <= limit && agent.quota > limit - 200, `${agent?.quota}`);
      assert.equal(agent.boundBy, 'descriptors');
    }
    const rest = [cyd, dan, eve].map((agent) => agent?.quota ?? 0);
    assert(
      Math.max(...rest) - Math.min(...rest) <= 1,
      `the others share the rest evenly: ${rest.join(', ')}`,
    );
  },
);
