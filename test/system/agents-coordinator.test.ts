/**
 * Owns what a coordinator may make an agent do, whatever it says: one test for each line of the list in docs/PROTOCOL.md, each
 * with a coordinator that lies over the real channel to an agent of the real program, and with what the far side counts.
 * Must never send anything beyond loopback: a target elsewhere is named in a `spec`, and no quota follows.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { says, startAgent, temporaryFolder } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { ControlProxy } from '../support/control-proxy.ts';
import { clientEnds, processesWith, socketsOnPort } from '../support/kernel-view.ts';
import {
  agentOf,
  assertRefused,
  goingOn,
  LEASE,
  obliging,
  specWith,
  WITHIN_MS,
} from '../support/lied-to-agent.ts';
import {
  honestQuota,
  honestSpec,
  renewing,
  startLyingCoordinator,
  type Victim,
} from '../support/lying-coordinator.ts';
import { startNetTarget } from '../support/net-target.ts';

describe('a coordinator that lies', { concurrency: 3 }, () => {
  // PROTOCOL.md: targets
  it('targets: an agent of default settings agrees to no public target, no link-local one and no metadata service', async (t) => {
    for (const [address, family] of [
      ['192.0.2.1', 4],
      ['169.254.169.254', 4],
      ['::ffff:169.254.169.254', 6],
      ['fd00:ec2::254', 6],
      ['fe80::a9fe:a9fe', 6],
    ] as const) {
      const endpoints = [
        { address: '127.0.0.1', port: 1, family: 4 },
        { address, port: 80, family },
      ];
      const liar = await startLyingCoordinator(t, (victim) => victim.say(specWith(1, { endpoints })));
      // From a source on the loopback device the kernel sends nothing elsewhere, should the agent ever not refuse.
      await assertRefused(
        agentOf(t, liar, ['--source-ip', '127.0.0.8']),
        liar,
        /^allow-target: this agent may not open connections to /,
        3,
      );
      assert(!liar.heard.some((message) => message.type === 'offer'), address);
    }
  });

  // PROTOCOL.md: connections, refusal, after-refusal
  it('connections: no quota beyond the run, the offer or --max-conns opens anything', async (t) => {
    const target = await startNetTarget(t);
    const cases: [string[], number, RegExp][] = [
      [[], 11, /^quota: a quota of 11 connections was asked for, the whole run has 10$/m],
      [['--max-conns', '7'], 8, /^max-conns: a quota of 8 connections, this agent allows 7$/m],
      [
        ['--source-ip', '127.0.0.8', '--source-ports', '23000-23004'],
        6,
        /^quota: .*, this agent offered 5$/m,
      ],
    ];
    for (const [flags, connections, pattern] of cases) {
      // A run of so many that the third agent offers less, and is not refused for that before.
      const begin = (victim: Victim): void => victim.say(honestSpec(target.port));
      const liar = await startLyingCoordinator(t, begin, goingOn(honestQuota(connections)));
      await assertRefused(agentOf(t, liar, flags), liar, pattern, 3);
      assert.equal((await target.counts()).accepted, 0, pattern.source);
    }
  });

  // PROTOCOL.md: growth, refusal
  it('growth: a quota that grows without leave ends the share, and all that was open is closed', async (t) => {
    const target = await startNetTarget(t);
    const folder = temporaryFolder(t);
    const liar = await startLyingCoordinator(
      t,
      (victim) => victim.say(honestSpec(target.port)),
      (message, victim) => {
        obliging(message, victim);
        if (message.type === 'stats' && message.stats.open === 5) victim.say(honestQuota(8));
      },
    );
    const agent = agentOf(t, liar, ['--partial-report', join(folder, 'partial.json')]);
    await assertRefused(
      agent,
      liar,
      /^quota: the quota grew from 5 to 8 connections, and this run was not/m,
      4,
    );
    const { accepted, open } = await target.counts();
    assert.deepEqual({ accepted, open }, { accepted: 5, open: 0 });
    // It says so again on a new link, because nobody answers.
    const last = liar.heard.find((message) => message.type === 'done');
    assert(last?.type === 'done' && last.stats.closed === 5, 'it counts what it had, and says so');
  });

  // PROTOCOL.md: rate
  it('rate: a run without one goes no faster than --max-rate', async (t) => {
    const target = await startNetTarget(t);
    const spec = specWith(target.port, { connections: 200 });
    const liar = await startLyingCoordinator(
      t,
      (victim) => victim.say(spec),
      (message, victim) => {
        obliging(message, victim, { ...honestQuota(200), ratePerSec: 1e9 });
      },
    );
    const agent = agentOf(t, liar, ['--max-rate', '20/s']);
    await until('the agent is ready', WITHIN_MS, () => liar.heard.some(({ type }) => type === 'ready'));
    const beganMs = performance.now();
    await until('some are open', WITHIN_MS, async () => (await target.counts()).accepted >= 40);
    const { accepted } = await target.counts();
    const elapsedSec = (performance.now() - beganMs) / 1_000;
    assert(accepted <= 20 * elapsedSec + 21, `${accepted} after ${elapsedSec} s`);
    agent.child.kill('SIGTERM');
    await agent.result;
  });

  // PROTOCOL.md: duration, after-done
  it('time: a coordinator that never says start or stop holds no agent past --max-duration', async (t) => {
    const target = await startNetTarget(t);
    const waiting = await startLyingCoordinator(
      t,
      (victim) => victim.say(specWith(target.port, { holdMs: 1 })),
      (message, victim) => {
        renewing(message, victim);
        if (message.type === 'offer') victim.say(honestQuota(5));
      },
    );
    await assertRefused(
      agentOf(t, waiting, ['--max-duration', '4s']),
      waiting,
      /^max-duration: the run did not begin within 4s/m,
      3,
    );
    assert.equal((await target.counts()).accepted, 0);
    const endless = await startLyingCoordinator(
      t,
      (victim) => victim.say(specWith(target.port, { holdMs: 1 })),
      goingOn(honestQuota(5)),
    );
    // It renews, and never closes the channel after `done`. So long because holders must be ready before the time is over.
    const agent = agentOf(t, endless, ['--max-duration', '30s']);
    const { code, stderr } = await agent.result;
    assert.equal(code, 0, stderr);
    const { accepted, open } = await target.counts();
    assert.deepEqual({ accepted, open }, { accepted: 5, open: 0 });
    assert(endless.heard.some(({ type }) => type === 'done'));
  });

  it('time: a --max-duration of 30 days is not over at once', async (t) => {
    const target = await startNetTarget(t);
    const liar = await startLyingCoordinator(
      t,
      (victim) => victim.say(honestSpec(target.port)),
      goingOn(honestQuota(5)),
    );
    const agent = agentOf(t, liar, ['--max-duration', '30d']);
    const reports = (): number =>
      liar.heard.filter((one) => one.type === 'stats' && one.stats.open === 5).length;
    await until('it holds, and tells it again and again', WITHIN_MS, () => reports() >= 3);
    assert.equal((await target.counts()).open, 5);
    assert(!liar.heard.some(({ type }) => type === 'done'));
    agent.child.kill('SIGTERM');
    await agent.result;
  });

  // PROTOCOL.md: lease-answers
  it('lease: a renewal of nothing, far in the future, extends it no further than one of now', async (t) => {
    const target = await startNetTarget(t);
    let isSilent = false;
    const liar = await startLyingCoordinator(
      t,
      (victim) => {
        // After a cut it answers nothing at all.
        if (!isSilent) victim.say({ ...honestSpec(target.port), ...LEASE });
      },
      (message, victim) => {
        if (isSilent) return;
        obliging(message, victim);
        if (message.type !== 'stats' || message.stats.open < 5) return;
        isSilent = true;
        for (let count = 0; count < 20; count += 1) victim.say({ type: 'renew', sentAtMs: 1e12 });
      },
    );
    const { code, stderr } = await agentOf(t, liar).result;
    assert.equal(code, 4, stderr);
    assert.match(stderr, /no contact with the coordinator for \d+ s; closing everything/);
    assert.equal((await target.counts()).open, 0);
  });

  // PROTOCOL.md: sources, processes
  it('sources and processes: none from the wire, whatever is sent', async (t) => {
    const target = await startNetTarget(t);
    const before = JSON.stringify(networkInterfaces());
    const sources = {
      addresses: ['127.9.9.9', '192.0.2.254'],
      ports: [{ from: 1, to: 1_023 }],
      aliasDevice: 'lo',
      aliasLeaseMs: 3_600_000,
      prefixes: ['8.8.8.0/24'],
    };
    const liar = await startLyingCoordinator(
      t,
      (victim) =>
        victim.say({ ...specWith(target.port, { sources, holders: 1_024 }), sources, holders: 1_024 }),
      (message, victim) => {
        renewing(message, victim);
        if (message.type === 'offer') victim.say({ ...honestQuota(10), sources, holders: 1_024 });
        if (message.type === 'ready') victim.say({ type: 'start', sources, holders: 1_024 });
      },
    );
    const mark = `${process.pid}-${target.port}`;
    const agent = startAgent(
      t,
      `127.0.0.1:${liar.port}`,
      'ada',
      liar.tokenText,
      ['--source-ip', '127.66.0.1', '--source-ports', '24000-24999'],
      { env: { TEST_MARK: mark } },
    );
    await until('all are open', WITHIN_MS, () => clientEnds(target.port).count === 10);
    assert.deepEqual(clientEnds(target.port).bySource, { '127.66.0.1': 10 });
    const ports = socketsOnPort(target.port).flatMap((line) => [...line.matchAll(/127\.66\.0\.1:(\d+)/g)]);
    assert(ports.length >= 10 && ports.every(([, port]) => Number(port) >= 24_000), 'no port below');
    assert.equal(JSON.stringify(networkInterfaces()), before, 'no address was added');
    // The agent and one holder.
    assert.equal(processesWith(`TEST_MARK=${mark}`).filter(({ args }) => args.includes('holder')).length, 1);
    const ready = liar.heard.find((message) => message.type === 'ready');
    assert(ready?.type === 'ready' && ready.holders === 1, JSON.stringify(ready));
    agent.child.kill('SIGTERM');
    await agent.result;
  });

  // PROTOCOL.md: sources-route
  it('sources: what the target’s route asks for is refused when --allow-source does not have it', async (t) => {
    const target = await startNetTarget(t);
    const liar = await startLyingCoordinator(
      t,
      (victim) => victim.say(honestSpec(target.port)),
      goingOn(honestQuota(5)),
    );
    await assertRefused(
      agentOf(t, liar, ['--allow-source', '10.77.0.0/16']),
      liar,
      /^allow-source: this agent may not connect from 127\.0\.0\.2, .*; it may from 10\.77\.0\.0\/16$/m,
      3,
    );
    assert.equal((await target.counts()).accepted, 0);
  });

  // PROTOCOL.md: numbers, lease
  it('numbers: one outside its range ends the share before the start, with 3 and never with 70', async (t) => {
    const target = await startNetTarget(t);
    const specs = [
      specWith(target.port, { connectTimeoutMs: 1e300 }),
      specWith(target.port, { probeTimeoutMs: 1e-9 }),
      { ...honestSpec(target.port), leaseMs: 1e12 },
    ];
    for (const spec of specs) {
      const liar = await startLyingCoordinator(t, (victim) => victim.say(spec));
      await assertRefused(
        agentOf(t, liar),
        liar,
        /^protocol: the coordinator asked for what no agent does: /m,
        3,
      );
      assert.match(liar.ends.join('\n'), /^refused: .*expected/);
    }
    const quotas = [
      { ...honestQuota(5), ratePerSec: 0 },
      { ...honestQuota(5), pendingMax: 0 },
    ];
    for (const quota of quotas) {
      const begin = (victim: Victim): void => victim.say(honestSpec(target.port));
      const liar = await startLyingCoordinator(t, begin, goingOn(quota));
      await assertRefused(
        agentOf(t, liar),
        liar,
        /^protocol: .*: expected a rate and pendingMax above 0/m,
        3,
      );
    }
    assert.equal((await target.counts()).accepted, 0);
  });

  // PROTOCOL.md: numbers, disk
  it('numbers and disk: one during the run closes what is open, and nothing is written but the last stats', async (t) => {
    const target = await startNetTarget(t);
    const folder = temporaryFolder(t);
    const temporary = join(folder, 'tmp');
    mkdirSync(temporary);
    const path = join(folder, 'partial.json');
    const liar = await startLyingCoordinator(
      t,
      (victim) => victim.say({ ...honestSpec(target.port), runId: '../../../tmp/evil', mayGrow: true }),
      (message, victim) => {
        obliging(message, victim);
        if (message.type === 'stats' && message.stats.open === 5) {
          victim.say({ type: 'quota', connections: 8, ratePerSec: null, pendingMax: -1 });
        }
      },
    );
    const agent = startAgent(t, `127.0.0.1:${liar.port}`, 'ada', liar.tokenText, ['--partial-report', path], {
      env: { TMPDIR: temporary },
    });
    await assertRefused(agent, liar, /^protocol: .*pendingMax: expected >=0/m, 4);
    const { accepted, open } = await target.counts();
    assert.deepEqual({ accepted, open }, { accepted: 5, open: 0 });
    assert.deepEqual(readdirSync(folder).toSorted(), ['partial.json', 'tmp']);
    assert.deepEqual(readdirSync(temporary), []);
    assert.equal(JSON.parse(readFileSync(path, 'utf8')).stats.open, 5);
  });

  // PROTOCOL.md: resumed
  it('memory: resumed is heard once, when it was asked for', async (t) => {
    const target = await startNetTarget(t);
    let cuts = 0;
    const liar = await startLyingCoordinator(
      t,
      (victim) => {
        if (cuts === 0) victim.say(honestSpec(target.port));
        else for (let count = 0; count < 200; count += 1) victim.say({ type: 'resumed' });
      },
      (message, victim) => {
        renewing(message, victim);
        if (message.type !== 'offer' || cuts > 0) return;
        for (let count = 0; count < 200; count += 1) victim.say({ type: 'resumed' });
        cuts += 1;
      },
    );
    const proxy = new ControlProxy(liar.port);
    const agent = startAgent(t, `127.0.0.1:${await proxy.listen()}`, 'ada', liar.tokenText);
    t.after(() => proxy.close());
    const offers = (): number => liar.heard.filter(({ type }) => type === 'offer').length;
    const stats = (): number => liar.heard.filter(({ type }) => type === 'stats').length;
    await until('it goes on', WITHIN_MS, () => cuts > 0 && stats() >= 3);
    assert.equal(offers(), 1, 'what nobody asked for brings nothing again');
    proxy.cut();
    proxy.heal();
    await until('it is back', WITHIN_MS, () => liar.links() === 2 && offers() === 2);
    const before = stats();
    await until('it goes on', WITHIN_MS, () => stats() >= before + 3);
    assert.equal(offers(), 2);
    agent.child.kill('SIGTERM');
    await agent.result;
  });

  // PROTOCOL.md: words
  it('words: what it says is one line without control characters on the owner’s terminal', async (t) => {
    const liar = await startLyingCoordinator(t, (victim) => victim.close('go\u001b[2J away\n::error::x'));
    const { code, stderr } = await agentOf(t, liar).result;
    assert.equal(code, 4, stderr);
    assert.match(stderr, /go\?\[2J away/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is what is looked for
    assert.doesNotMatch(stderr, /[\u0000-\u0009\u000b-\u001f]|^::/m);
  });
});

it('an agent with --stay that was lied to is there for the next run', async (t) => {
  const liar = await startLyingCoordinator(t, (victim) => victim.say({ ...honestSpec(1), leaseMs: 1e12 }));
  const agent = agentOf(t, liar, ['--stay']);
  await until('it comes back', WITHIN_MS, () => liar.links() >= 2);
  await says(
    agent,
    /agent ada: refused: the coordinator asked for what no agent does: leaseMs: expected <=600000/,
  );
  assert.equal(agent.child.exitCode, null);
  agent.child.kill('SIGTERM');
  await agent.result;
});
