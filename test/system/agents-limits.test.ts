/** Owns what the owner of an agent's host allows, whatever the coordinator says. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentToken, formatToken } from '../../src/control/token.ts';
import { says, startAgent, startCoordinator } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { agentOf, WITHIN_MS } from '../support/lied-to-agent.ts';
import { honestQuota, honestSpec, renewing, startLyingCoordinator } from '../support/lying-coordinator.ts';
import { startNetTarget } from '../support/net-target.ts';

describe("an agent's own limits", { concurrency: 4 }, () => {
  it('refuses a target that its owner did not allow, and the run opens nothing and names the agent', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...[
        '--target',
        `127.0.0.1:${target.port}`,
        '--conns',
        '60',
        '--duration',
        '1s',
        '--expect-agents',
        '2',
      ],
    ]);
    const join = `127.0.0.1:${await run.port()}`;
    const willing = startAgent(t, join, 'ada', run.tokenText, ['--source-ip', '127.0.0.7']);
    // A refusal ends the run at once: an agent that came later would look for a coordinator in vain.
    await says(run, /ada here, 1 of 2 missing/);
    const strict = startAgent(t, join, 'bob', run.tokenText, ['--allow-target', '127.0.0.0/8:1-2']);
    const { code, stdout } = await run.result;
    assert.equal(code, 3, stdout);
    assert.match(
      stdout,
      new RegExp(`agent bob: this agent may not open connections to 127.0.0.1:${target.port}`),
    );
    assert.equal((await target.counts()).accepted, 0);
    assert.deepEqual(
      (await Promise.all([willing.result, strict.result])).map((each) => each.code),
      [0, 3],
    );
  });

  it('holds to the targets in its token as well', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...[
        '--target',
        `127.0.0.1:${target.port}`,
        '--conns',
        '60',
        '--duration',
        '1s',
        '--expect-agents',
        '1',
      ],
    ]);
    const own = agentToken(run.token, { name: 'ada', expiresSec: null, targets: ['10.0.0.0/8'] });
    startAgent(t, `127.0.0.1:${await run.port()}`, 'ada', formatToken(own), [
      '--allow-target',
      '127.0.0.0/8',
    ]);
    const { code, stdout } = await run.result;
    assert.equal(code, 3, stdout);
    assert.match(run.report().reason, /agent ada: this agent may not open connections to 127\.0\.0\.1/);
    assert.equal((await target.counts()).accepted, 0);
  });

  it('accepts no public target by default', async (t) => {
    const run = startCoordinator(t, [
      // A documentation address (RFC 5737): nothing may ever be sent to it, and nothing is.
      ...['--target', '192.0.2.1:80', '--conns', '60', '--duration', '1s', '--expect-agents', '1'],
    ]);
    // From a source on the loopback device the kernel sends nothing elsewhere, should the agent ever not refuse.
    startAgent(t, `127.0.0.1:${await run.port()}`, 'ada', run.tokenText, ['--source-ip', '127.0.0.8']);
    const { code, stdout } = await run.result;
    assert.equal(code, 3, stdout);
    assert.match(run.report().reason, /agent ada: this agent may not open connections to 192\.0\.2\.1:80/);
  });

  it('never opens more than --max-conns: others take more, and without others the run is refused', async (t) => {
    const target = await startNetTarget(t);
    const base = ['--target', `127.0.0.1:${target.port}`, '--duration', '1s'];
    const both = startCoordinator(t, [...base, '--conns', '101', '--expect-agents', '2']);
    const join = `127.0.0.1:${await both.port()}`;
    startAgent(t, join, 'ada', both.tokenText, ['--max-conns', '7', '--source-ip', '127.0.0.7']);
    startAgent(t, join, 'bob', both.tokenText, ['--source-ip', '127.0.0.8']);
    const held = await both.result;
    assert.equal(held.code, 0, `${held.stdout}${held.stderr}`);
    assert.deepEqual(Object.fromEntries(both.report().agents.map(({ name, quota }) => [name, quota])), {
      ada: 7,
      bob: 94,
    });
    const alone = startCoordinator(t, [...base, '--conns', '101', '--expect-agents', '1']);
    startAgent(t, `127.0.0.1:${await alone.port()}`, 'ada', alone.tokenText, ['--max-conns', '7']);
    const refused = await alone.result;
    assert.equal(refused.code, 3, refused.stdout);
    assert.match(alone.report().reason, /asked for 101 connections.* offer 7: ada 7 \(bound by max-conns\)/);
    assert.equal((await target.counts()).accepted, 101);
  });

  it('opens no faster than --max-rate', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...[
        '--target',
        `127.0.0.1:${target.port}`,
        '--conns',
        '200',
        '--duration',
        '1s',
        '--expect-agents',
        '1',
      ],
    ]);
    startAgent(t, `127.0.0.1:${await run.port()}`, 'ada', run.tokenText, ['--max-rate', '50/s']);
    await says(run, / ramping /);
    await sleep(1_500);
    const { accepted } = await target.counts();
    assert(accepted < 150, `${accepted} after less than two and a half seconds`);
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    const { seconds } = run.report().ramp;
    assert(seconds >= 3.8, `200 at 50 a second took ${seconds} s`);
  });

  it('has closed everything after --max-duration, and refuses a hold that is longer', async (t) => {
    const target = await startNetTarget(t);
    const base = ['--target', `127.0.0.1:${target.port}`, '--expect-agents', '1'];
    const long = startCoordinator(t, [...base, '--conns', '50', '--duration', '1m']);
    startAgent(t, `127.0.0.1:${await long.port()}`, 'ada', long.tokenText, ['--max-duration', '15s']);
    const refused = await long.result;
    assert.equal(refused.code, 3, refused.stdout);
    assert.match(long.report().reason, /agent ada: the run holds for 60s, this agent allows 15s/);
    // The hold alone would fit; the slow ramp does not. A busy machine needs some of the time before it begins.
    const slow = startCoordinator(t, [...base, '--conns', '400', '--rate', '20/s', '--duration', '2s']);
    startAgent(t, `127.0.0.1:${await slow.port()}`, 'ada', slow.tokenText, ['--max-duration', '15s']);
    await says(slow, / ramping /);
    await sleep(15_500);
    const { accepted, open } = await target.counts();
    assert(accepted > 20 && open === 0, `${accepted} were opened, ${open} are still open`);
    const { code, stdout } = await slow.result;
    assert.equal(code, 4, stdout);
    assert.match(slow.report().notes.join('\n'), /agent ada ended at its own --max-duration/);
  });

  it('opens nothing for a coordinator that goes on after a refusal, or asks for more than it may', async (t) => {
    const target = await startNetTarget(t);
    const cases = [
      {
        flags: ['--allow-target', '10.0.0.0/8'],
        quota: 5,
        answer: /may not open connections to 127\.0\.0\.1/,
      },
      { flags: ['--max-conns', '7'], quota: 8, answer: /a quota of 8 connections, this agent allows 7/ },
    ];
    for (const { flags, quota, answer } of cases) {
      // It says quota and start, whatever it hears.
      const rogue = await startLyingCoordinator(
        t,
        (victim) => victim.say(honestSpec(target.port)),
        (message, victim) => {
          renewing(message, victim);
          victim.say(honestQuota(quota));
          victim.say({ type: 'start' });
        },
      );
      const agent = agentOf(t, rogue, flags);
      await until('the agent refuses', WITHIN_MS, () => answer.test(rogue.refusals().join('\n')));
      // Time enough to fork holders, if it did.
      await sleep(2_000);
      assert.equal((await target.counts()).accepted, 0);
      agent.child.kill('SIGTERM');
      await agent.result;
    }
  });
});
