import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { PathReport } from '../../src/report/plan-text.ts';
import { SHORT } from '../lab/description.ts';
import { NETWORKS } from '../lab/networks/all.ts';
import { askPathOnly } from '../lab/runner.ts';
import { startBench, until } from '../support/bench-run.ts';
import { startServe } from '../support/faults.ts';
import { createNetwork, type Host, type HostSpec, whyNoNetwork } from '../support/network.ts';
import { cliPath, runCli, startCli } from '../support/run-cli.ts';
import { whyNot } from '../support/targets.ts';

const EXPIRY_MS = 20_000;
const NEAR_MS = 2_000;

/** Why the networks of the lab cannot stand here; false: they can. */
const skip = whyNoNetwork() ?? whyNot('haproxy');

for (const name of ['S2', 'S3', 'S4', 'S7', 'S8']) {
  test(`path says the right sentence in network ${name}, in less than 10 s`, { skip }, async (t) => {
    const network = NETWORKS.find((one) => one.name === name);
    assert(network);
    for (const lab of network.cases(SHORT)) {
      const { sentence, seconds, problems } = await askPathOnly(lab);
      assert.deepEqual(problems, []);
      t.diagnostic(`${seconds.toFixed(1)} s: ${sentence}`);
    }
  });
}

/** The built-in target on a host, until the test ends. */
async function serveOn(t: TestContext, host: Host, mode: string): Promise<void> {
  const serve = host.spawn(
    [process.execPath, cliPath, 'serve', '--host', '0.0.0.0', '--workers', '1', '--mode', mode],
    {
      timeoutMs: 180_000,
    },
  );
  t.after(() => {
    serve.child.kill('SIGTERM');
    return serve.result;
  });
  await until(
    'the target listens',
    10_000,
    async () => (await host.must('ss', '-Hltn', 'sport = :8000')) !== '',
  );
}

/** A firewall that lets pass only what it knows or what begins with a SYN. */
function strictRouter(nft: string, sysctls: Record<string, number>): Readonly<Record<string, HostSpec>> {
  return {
    client: { on: { wan: ['1.2.3.11/24'] }, routes: ['default via 1.2.3.4'] },
    router: {
      on: { wan: ['1.2.3.4/24'], lan: ['192.168.0.1/24'] },
      sysctls: { 'net.ipv4.ip_forward': 1, 'net.netfilter.nf_conntrack_tcp_loose': 0, ...sysctls },
      nft: `
table ip filter {
  ${nft}
  chain forward {
    type filter hook forward priority filter
    policy drop
    ct state established accept
    tcp flags & (fin | syn | rst | ack) == syn accept
  }
}`,
    },
    server: { on: { lan: ['192.168.0.101/24'] }, routes: ['default via 192.168.0.1'] },
  };
}

async function findExpiry(t: TestContext, hosts: Readonly<Record<string, HostSpec>>): Promise<void> {
  const network = await createNetwork(t, hosts);
  await serveOn(t, network.host('server'), 'echo');
  const found = await startCli(
    [
      'path',
      '--target',
      'echo://192.168.0.101:8000',
      '--find-idle-timeout',
      '--idle-max',
      '2m',
      '--json',
      '-',
    ],
    { wrap: network.host('client').wrap, timeoutMs: 150_000 },
  ).result;
  assert.equal(found.code, 0, found.stderr);
  const { idle } = JSON.parse(found.stdout) as PathReport;
  assert(idle !== null && idle.forgottenMs !== null, found.stdout);
  for (const ms of [idle.aliveMs, idle.forgottenMs]) {
    assert(Math.abs(ms - EXPIRY_MS) <= NEAR_MS, `${idle.aliveMs} to ${idle.forgottenMs} ms`);
  }
  assert.match(found.stderr, /round 1: \d+ gaps from 1s to 2m, all at the same time/, 'a progress line');
  t.diagnostic(`between ${idle.aliveMs} and ${idle.forgottenMs} ms`);
}

test('an idle expiry of 20 s is found within 2 s, whether conntrack or nftables sets it', {
  skip,
}, async (t) => {
  const byConntrack = strictRouter('', {
    'net.netfilter.nf_conntrack_tcp_timeout_established': EXPIRY_MS / 1000,
  });
  const byNft = strictRouter(
    `ct timeout soon {
    protocol tcp
    policy = { established : ${EXPIRY_MS / 1000} }
  }
  chain timeouts {
    type filter hook prerouting priority filter
    tcp dport 8000 ct timeout set "soon"
  }`,
    {},
  );
  await Promise.all([findExpiry(t, byConntrack), findExpiry(t, byNft)]);
});

test('a run with --probe whoami reports per source address what the target saw, as text and JSON', async (t) => {
  const { port } = await startServe(t, ['--mode', 'whoami', '--workers', '2']);
  const args = ['--conns', '600', '--duration', '1s', '--source-ip', '127.0.0.2-127.0.0.4'];
  const run = startBench(t, ['--target', `127.0.0.1:${port}`, '--probe', 'whoami', ...args], {});
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, stdout + stderr);
  const { seen, connections } = run.report();
  assert.equal(connections.verified, 600, 'each connection was told of');
  assert.deepEqual(seen?.bySource, {
    '127.0.0.2>127.0.0.2': 200,
    '127.0.0.3>127.0.0.3': 200,
    '127.0.0.4>127.0.0.4': 200,
  });
  assert.equal(seen?.portKept, 600);
  assert.match(stdout, /seen +127\.0\.0\.2 {2}as itself 200/);
});

test('a target that says nothing is a failed look at the path, not a free one', async (t) => {
  const { port } = await startServe(t, ['--workers', '1']);
  const { code, stdout } = await runCli(['path', '--target', `127.0.0.1:${port}`, '--samples', '20']);
  assert.equal(code, 1, stdout);
  assert.match(stdout, /its application never answered.*start c100k-bench serve --mode whoami/s);
});

test('plan --via ends with 1 when the path is too narrow, with 0 when it is not, and writes both as JSON', async () => {
  const plan = ['plan', '--target', '127.0.0.1:8000', '--conns', '70k', '--json', '-', '--quiet'];
  const narrow = await runCli([...plan, '--via', 'dnat', '--via', 'masquerade:1']);
  assert.equal(narrow.code, 1, narrow.stderr);
  assert.equal(JSON.parse(narrow.stdout).path.predicted, 64_512);
  const wide = await runCli([...plan, '--via', 'snat:2']);
  assert.equal(wide.code, 0, wide.stderr);
  assert.equal(JSON.parse(wide.stdout).path.predicted, 70_000);
  const wrong = await runCli([...plan, '--via', 'nat:2']);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /"nat:2" is not a hop[\s\S]*haproxy:<sources>x<endpoints>/);
});
