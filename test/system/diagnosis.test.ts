/**
 * Owns the proof that the real program names who ran out: each fault is made anew, on this host or in namespaces of its
 * own, and the verdict must name the party and the number.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fault, names } from '../support/fault-test.ts';
import { echoScript, run, startRun, startScript, startServe } from '../support/faults.ts';
import { createNetwork, whyNoNetwork } from '../support/network.ts';

fault('target-never-answers', ({ report, result }) => {
  assert.equal(report.connections.established, 500);
  assert.equal(report.connections.verified, 0);
  assert.equal(report.connections.held, 0);
  assert.equal(report.whoRanOut, 'target');
  assert.equal(result.code, 1);
  assert.match(
    report.reason,
    /500 connections waited in the accept queue of the target: its application .*or has stopped/,
  );
});

fault('target-descriptors-accept-stops', (ran) => {
  assert.deepEqual(names(ran), ['target-descriptors']);
  assert.equal(ran.report.whoRanOut, 'target');
  // Its limits can be read where the target is on this host: the evidence is named, not a number that happens to be near.
  assert.match(ran.report.reason, /its process had 1,02\d of 1,024 descriptors in use/);
  assert.equal(ran.result.code, 1);
});

fault('target-descriptors-said', (ran) => {
  assert.equal(ran.report.diagnoses[0]?.what, 'target-descriptors');
  assert.match(ran.report.reason, /the target itself says that it had no descriptor left/);
  assert.match(ran.result.stdout, /times out of descriptors/);
});

fault('path-ports-100', ({ report, result }) => {
  assert.equal(report.connections.held, 100);
  assert.equal(report.whoRanOut, 'path');
  assert.match(report.reason, /100 connections are held and answered, and from then on nothing got through/);
  assert.equal(result.code, 1);
});

fault('path-forgot-silent', ({ report, result }) => {
  // Nothing was sent, so only the keepalive at the end could find it out.
  assert.equal(report.hold.proof, 'kernel-only');
  assert.equal(report.connections.held, 0, result.stdout);
  assert.equal(report.evidence?.finalCheck.holdEnd.answered, 0);
  assert.equal(result.code, 1, result.stdout);
});

fault('path-forgot-drop', (ran) => {
  const { report, losses, result } = ran;
  assert.deepEqual(report.connections.dropped, { 'probe-timeout': 1_000 });
  assert.equal(report.whoRanOut, 'path');
  assert.deepEqual(names(ran), ['path-forgot']);
  assert.equal(losses.length, 1_000);
  // Found within one period (2 s) and one timeout (2 s) of the flush; a second more for a machine that is busy.
  const foundMs = losses.map(({ at }) => Date.parse(at) - (ran.faultAtMs ?? 0));
  const [first, last] = [Math.min(...foundMs), Math.max(...foundMs)];
  assert.ok(first >= 0 && last <= 2_000 + 2_000 + 1_000, `found from ${first} to ${last} ms after the flush`);
  assert.match(result.stdout, /path: +1,000 connections had answered/);
});

test('ulimit -n 1024 on the generator: refused before the start, and nothing is opened', async (t) => {
  const { port } = await startScript(t, echoScript());
  const args = ['--target', `127.0.0.1:${port}`, '--conns', '300k', '--duration', '1s', '--engine', 'epoll'];
  const { report, result } = await run(t, args, { options: { descriptorsMax: 1_024 } });
  assert.equal(result.code, 3);
  assert.equal(report.verdict, 'refused');
  assert.equal(report.connections.attempted, 0);
});

const skip = whyNoNetwork() ?? false;

test('30 % of the SYNs are lost: all are opened, and retransmits are counted as nftables counts them', {
  skip,
}, async (t) => {
  const network = await createNetwork(t, {
    client: { on: { lan: ['10.96.0.2/24'] } },
    server: {
      on: { lan: ['10.96.0.1/24'] },
      nft: `table inet loss {
  chain input {
    type filter hook input priority 0;
    tcp flags & (syn|ack) == syn numgen random mod 10 < 3 counter drop
  }
}`,
    },
  });
  const server = network.host('server');
  await startServe(t, ['--mode', 'echo'], { host: server, address: '10.96.0.1', port: 8_000 });
  // A SYN is sent ten times within 60 s: one connect in 170,000 has lost them all. Within 20 s it was one in 50,000.
  const args = ['--target', 'echo://10.96.0.1:8000', '--conns', '1000', '--duration', '2s'];
  const { report, result } = await run(t, [...args, '--connect-timeout', '60s'], {
    host: network.host('client'),
  });
  assert.equal(report.connections.held, 1_000);
  assert.equal(result.code, 0, report.reason);
  const counted = Number(/counter packets (\d+)/.exec(await server.must('nft', 'list', 'ruleset'))?.[1]);
  const { synRetransmits } = report.ramp;
  assert.ok(counted > 250, `${counted} SYNs were dropped`);
  assert.ok(Math.abs(synRetransmits - counted) <= counted * 0.1, `${synRetransmits} of ${counted}`);
  assert.match(result.stdout, /this kernel sends a SYN again after 1, /);
});

test('what the target counts stands beside what we count, over time', async (t) => {
  const target = await startServe(t, ['--mode', 'echo', '--workers', '1']);
  const to = ['--target', `echo://127.0.0.1:${target.port}`, '--target-stats', target.statsUrl];
  const started = startRun(t, [...to, '--conns', '1000', '--duration', '4s']);
  const { report, result } = await started.finish();
  assert.equal(report.target?.openNow, 1_000);
  assert.equal(report.target?.source, target.statsUrl);
  const last = report.timeline.filter(({ phase }) => phase === 'holding').at(-1);
  assert.deepEqual([last?.open, last?.verified, last?.seenByTarget], [1_000, 1_000, 1_000]);
  assert.match(result.stdout, /at +connected +verified +seen by target/);
});
