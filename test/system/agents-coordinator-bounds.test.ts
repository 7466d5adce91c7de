/**
 * Owns what a coordinator that has permission for something may make an agent do with it: how often and how far a quota
 * grows, what extends a lease, how large a message is, which devices addresses are added to. Each with the real program.
 * Must never send anything beyond loopback and the namespaces of a test.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { startAgent, startCoordinator, temporaryFolder } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { processesWith } from '../support/kernel-view.ts';
import { agentOf, assertRefused, LEASE, obliging, specWith, WITHIN_MS } from '../support/lied-to-agent.ts';
import { honestQuota, honestSpec, startLyingCoordinator } from '../support/lying-coordinator.ts';
import { startNetTarget } from '../support/net-target.ts';
import { createNetwork } from '../support/network.ts';
import { networkTest } from '../support/network-test.ts';
import { cliPath, startProcess } from '../support/run-cli.ts';
import { serveOn } from '../support/source-lab.ts';

// PROTOCOL.md: growth-times
it('a quota that may grow grows 64 times: one more ends the share, and all that was open is closed', async (t) => {
  const target = await startNetTarget(t);
  let hasGrown = false;
  const liar = await startLyingCoordinator(
    t,
    (victim) => victim.say({ ...(specWith(target.port, { connections: 1_000 }) as object), mayGrow: true }),
    (message, victim) => {
      obliging(message, victim);
      if (message.type !== 'stats' || message.stats.open < 5 || hasGrown) return;
      hasGrown = true;
      // All at the same moment: most of the holders that this asks for are never forked.
      for (let more = 1; more <= 65; more += 1) victim.say(honestQuota(5 + more));
    },
  );
  await assertRefused(
    agentOf(t, liar, ['--source-ip', '127.0.0.12']),
    liar,
    /^quota: the quota grew from 69 to 70 connections, for the 65th time$/m,
    4,
  );
  await until('all are closed', WITHIN_MS, async () => (await target.counts()).open === 0);
});

// PROTOCOL.md: growth-memory
it('a quota grows only as far as this host has memory for the holders, and no holder is forked beyond it', {
  skip: process.getuid?.() === 0 ? false : 'needs root for a /proc/meminfo of its own',
}, async (t) => {
  const target = await startNetTarget(t);
  const memory = join(temporaryFolder(t), 'meminfo');
  const setFree = (kib: number): void =>
    writeFileSync(memory, `MemTotal: 16000000 kB\nMemFree: ${kib} kB\nMemAvailable: ${kib} kB\n`);
  setFree(8_000_000);
  let hasGrown = false;
  const liar = await startLyingCoordinator(
    t,
    (victim) => victim.say({ ...honestSpec(target.port), mayGrow: true }),
    (message, victim) => {
      obliging(message, victim);
      if (message.type !== 'stats' || message.stats.open < 5 || hasGrown) return;
      hasGrown = true;
      setFree(1_000);
      victim.say(honestQuota(8));
    },
  );
  const mark = `${process.pid}-${target.port}`;
  const inItsOwnMounts = [
    ...['unshare', '--mount', 'bash', '-c', 'mount --bind "$0" /proc/meminfo && exec "$@"', memory],
    ...[process.execPath, cliPath, 'agent', '--join', `127.0.0.1:${liar.port}`, '--name', 'ada'],
    ...['--partial-report', join(temporaryFolder(t), 'partial.json')],
  ];
  const agent = startProcess(inItsOwnMounts, { env: { TEST_MARK: mark, C100K_TOKEN: liar.tokenText } });
  t.after(() => agent.child.kill('SIGKILL'));
  const holders = new Set<number>();
  const watch = setInterval(() => {
    for (const { pid, args } of processesWith(`TEST_MARK=${mark}`))
      if (args.includes('holder')) holders.add(pid);
  }, 50);
  t.after(() => clearInterval(watch));
  await assertRefused(
    agent,
    liar,
    /^memory: 1 more holders for a quota that grew need [\d,]+ bytes of memory, this host has 1,024,000$/m,
    4,
  );
  assert.equal(holders.size, 1, 'the first one alone');
  // The target hears of a reset in its own time.
  await until('all are closed', WITHIN_MS, async () => (await target.counts()).open === 0);
  assert.equal((await target.counts()).accepted, 5);
});

// PROTOCOL.md: lease-answers
it('an old answer, said again and again, extends no lease: everything is closed when that of the answer is over', async (t) => {
  const target = await startNetTarget(t);
  let firstSentAtMs: number | null = null;
  let answers = 0;
  const liar = await startLyingCoordinator(
    t,
    // After a cut it answers nothing but `renew`.
    (victim) => {
      if (firstSentAtMs === null) victim.say({ ...honestSpec(target.port), ...LEASE });
    },
    (message, victim) => {
      if (firstSentAtMs === null && (message.type !== 'stats' || message.stats.open < 5)) {
        obliging(message, victim);
        return;
      }
      if (message.type !== 'stats') return;
      firstSentAtMs ??= message.sentAtMs;
      answers += 1;
      victim.say({ type: 'renew', sentAtMs: firstSentAtMs });
    },
  );
  const { code, stderr } = await agentOf(t, liar).result;
  assert.equal(code, 4, stderr);
  assert.match(stderr, /no contact with the coordinator for \d+ s; closing everything/);
  assert(answers >= 2, `${answers} answers were said again`);
  // The target hears of a reset in its own time.
  await until('all are closed', WITHIN_MS, async () => (await target.counts()).open === 0);
  assert.equal((await target.counts()).accepted, 5);
});

// PROTOCOL.md: message-bytes
it('a message of more than 8 MiB ends the channel before anything is made of it', async (t) => {
  const target = await startNetTarget(t);
  const liar = await startLyingCoordinator(t, (victim) =>
    victim.say({ ...honestSpec(target.port), more: 'x'.repeat(8 * 1_048_576) }),
  );
  const agent = agentOf(t, liar);
  await until('the channel is closed', WITHIN_MS, () => liar.ends.length > 0);
  const { code, stderr } = await agent.result;
  assert.equal(code, 3, stderr);
  assert(!liar.heard.some(({ type }) => type === 'offer'), 'the spec in it was not heard');
  assert.doesNotMatch(stderr, /this is a bug/);
});

// PROTOCOL.md: devices-route
networkTest(
  'a target behind another device adds nothing there: --allow-alias-dev names the only one',
  async (t) => {
    const network = await createNetwork(t, {
      agent: { on: { lan: ['10.9.0.2/24'], far: ['10.8.0.2/24'] } },
      server: { on: { lan: ['10.9.0.1/24'], far: ['10.8.0.1/24'] } },
    });
    const [agentHost, server] = [network.host('agent'), network.host('server')];
    const aliases = async (): Promise<string[]> => {
      const devices = JSON.parse(await agentHost.must('ip', '-j', 'addr')) as {
        ifname: string;
        addr_info: { local: string; dynamic?: boolean }[];
      }[];
      return devices.flatMap(({ ifname, addr_info }) =>
        addr_info.filter(({ dynamic }) => dynamic === true).map(({ local }) => `${local} ${ifname}`),
      );
    };
    for (const host of ['10.9.0.1', '10.8.0.1']) await serveOn({ server }, { host, workers: 1 });
    const seen = new Set<string>();
    const watch = setInterval(
      () =>
        void aliases().then((all) => {
          for (const one of all) seen.add(one);
        }),
      100,
    );
    t.after(() => clearInterval(watch));
    const runOn = async (address: string, sources: string) => {
      const args = [
        '--target',
        `${address}:8000`,
        '--conns',
        '20',
        '--duration',
        '2s',
        '--expect-agents',
        '1',
      ];
      const run = startCoordinator(t, [...args, '--listen', '10.9.0.1:0'], { place: { host: server } });
      const join = `10.9.0.1:${await run.port()}`;
      const flags = ['--source-ip', sources, '--alias-dev', 'auto', '--allow-alias-dev', 'eth0'];
      const agent = startAgent(t, join, 'ada', run.tokenText, flags, { place: { host: agentHost } });
      return { run: await run.result, agent: await agent.result, report: run.report() };
    };
    const refused = await runOn('10.8.0.1', '10.8.0.101-10.8.0.102');
    assert.equal(refused.run.code, 3, refused.run.stdout);
    assert.equal(refused.agent.code, 3, refused.agent.stderr);
    assert.match(
      refused.agent.stderr,
      /refused: .*may not add addresses to eth1, the device towards the target; it may to eth0; .*--allow-alias-dev eth1/,
    );
    assert.deepEqual([...seen], [], 'nothing was added');
    const allowed = await runOn('10.9.0.1', '10.9.0.101-10.9.0.102');
    assert.equal(allowed.run.code, 0, `${allowed.run.stdout}${allowed.agent.stderr}`);
    clearInterval(watch);
    assert([...seen].length > 0 && [...seen].every((one) => one.endsWith(' eth0')), [...seen].join());
    assert.deepEqual(await aliases(), []);
  },
);
