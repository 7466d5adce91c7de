/**
 * Owns the proof that a run is not disturbed from outside: with a real run going on, clients that are no agents connect,
 * are refused, are counted once, and leave no memory behind.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentToken, generateToken, type Token } from '../../src/control/token.ts';
import { says, startAgent, startCoordinator } from '../support/agents.ts';
import { ControlProxy } from '../support/control-proxy.ts';
import { startNetTarget } from '../support/net-target.ts';
import { drip, handshake, sendOnly, speak, stayMute } from '../support/refused-clients.ts';

const FUZZED = 2_000;
const AT_ONCE = 20;
const HELLO = {
  type: 'hello',
  protocol: '1.0',
  name: 'eve',
  host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
  resume: null,
};

/** A small generator of even numbers in [0, 1) (Park and Miller's minimal standard). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

/** What no schema takes: a hello with something of it gone, changed, added or cut off. */
function fuzz(random: () => number): string {
  const keys = Object.keys(HELLO) as (keyof typeof HELLO)[];
  const key = keys[Math.floor(random() * keys.length)]!;
  const values: readonly unknown[] = [
    null,
    -1,
    1e308,
    'x'.repeat(300),
    [],
    {},
    { a: { b: [HELLO] } },
    true,
    0.5,
  ];
  const value = values[Math.floor(random() * values.length)];
  const text = JSON.stringify(HELLO);
  switch (Math.floor(random() * 5)) {
    case 0:
      return JSON.stringify({ ...HELLO, [key]: key === 'resume' ? 7 : value === null ? 7 : value });
    case 1:
      return JSON.stringify(Object.fromEntries(Object.entries(HELLO).filter(([name]) => name !== key)));
    case 2:
      // A field that is not known is no fault, one of another kind is.
      return JSON.stringify({ ...HELLO, host: { ...HELLO.host, cpus: -1 }, [`${key}_`]: value });
    case 3:
      return text.slice(0, Math.floor(random() * (text.length - 1)));
    default:
      return `${'['.repeat(1 + Math.floor(random() * 5_000))}${text}`;
  }
}

function residentBytes(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]);
  return pages * 4_096;
}

/** Has the work done by so many at a time. */
async function inTurns(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

it('refuses every client without a token, counts each once, keeps its memory flat, and the run is unharmed', async (t) => {
  const target = await startNetTarget(t);
  const run = startCoordinator(t, [
    ...[
      '--target',
      `127.0.0.1:${target.port}`,
      '--conns',
      '500',
      '--duration',
      '10m',
      '--expect-agents',
      '1',
    ],
  ]);
  const port = await run.port();
  const proxy = new ControlProxy(port);
  proxy.record();
  t.after(() => proxy.close());
  startAgent(t, `127.0.0.1:${await proxy.listen()}`, 'ada', run.tokenText);
  await says(run, / holding /);
  const { token } = run;
  const pid = run.child.pid ?? 0;

  /** refused so far, by the reason that the report gives */
  const expected = {
    tls: 0,
    http: 0,
    'hello-late': 0,
    malformed: 0,
    version: 0,
    'first-not-hello': 0,
    name: 0,
  };

  await t.test(
    'without a key: wrong and expired tokens, silence, noise, a replayed conversation',
    async () => {
      const named = agentToken(token, { name: 'ada', expiresSec: null, targets: null });
      const wrong: Token[] = [
        generateToken(),
        agentToken(token, { name: 'ada', expiresSec: 1_000, targets: null }),
        { ...named, identity: named.identity.replace('ada', 'eve') },
      ];
      for (const each of wrong) {
        await assert.rejects(handshake(port, each));
        expected.tls++;
      }
      const replayed = proxy.recorded();
      assert(replayed.length > 500, 'the real conversation was recorded');
      // Each is closed by the coordinator; one that is not fails the wait for it.
      const visits = await Promise.all([
        sendOnly(port),
        sendOnly(port, Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')),
        sendOnly(port, Buffer.alloc(100_000, 'A')),
        sendOnly(port, replayed),
      ]);
      expected.tls += visits.length;
    },
  );

  await t.test(
    'with a key: mute, dripping, wrong paths and versions, 10 MB, unknown types, a second hello',
    async () => {
      const forged = JSON.stringify({ ...HELLO, resume: { runId: 'x', epoch: 1 } });
      // The first three end too: one that is not closed fails its wait.
      const [, , , huge, returned, ...others] = await Promise.all([
        stayMute(port, token),
        drip(port, token),
        speak(port, token),
        speak(port, token, 'x'.repeat(10_000_000)),
        speak(port, token, forged),
        speak(port, token, JSON.stringify({ ...HELLO, protocol: '99.0' })),
        speak(port, token, JSON.stringify({ type: 'attack' })),
        speak(port, token, Buffer.from([1, 2, 3])),
        speak(port, token, JSON.stringify({ type: 'refuse', findings: [] })),
        speak(
          port,
          agentToken(token, { name: 'bob', expiresSec: null, targets: null }),
          JSON.stringify(HELLO),
        ),
      ]);
      expected.http += 2;
      // Nothing at all, and a word that a later version may have: neither is a hello.
      expected['hello-late'] += 2;
      expected.malformed += 2;
      expected.version++;
      expected['first-not-hello']++;
      expected.name++;
      assert.equal(huge.code, 1009, 'too big');
      // One that speaks of a run that is not this one is told to stop, and given the time that closing may take.
      assert.match(returned.reason, /your lease is over/);
      assert.deepEqual(
        others.map(({ code }) => code),
        [4001, 1008, 1008, 1008, 1008],
      );
      assert.match(others[0]?.reason ?? '', /speaks protocol 1\.\d+, the agent 99\.0/);
      // A run that has begun takes no agent any more. That is not counted as refused, and what it goes on saying is not read.
      const turnedAway = await speak(port, token, JSON.stringify(HELLO), JSON.stringify(HELLO));
      assert.match(turnedAway.reason, /the run has begun without it/);
      const sameName = await speak(port, token, JSON.stringify({ ...HELLO, name: 'ada' }));
      // It would be another agent of this name, and the run has begun without that one too.
      assert.match(sameName.reason, /the run has begun without it/);
    },
  );

  await t.test(`${FUZZED} fuzzed messages, and the memory stays flat`, async () => {
    const random = randomOf(Date.now() % 1_000_000);
    const batch = async (count: number): Promise<void> =>
      inTurns(count, async () => {
        // On a busy machine one may come too late with its first message, and is cut: that is counted, and it says it again.
        let code: number | null = 1006;
        for (let tries = 0; tries < 5 && code === 1006; tries++) {
          code = (await speak(port, token, fuzz(random))).code;
          if (code === 1006) expected['hello-late']++;
        }
        assert.equal(code, 1008);
        expected.malformed++;
      });
    // The first half fills caches and lets the heap find its size. What a single client leaves is measured to the
    // byte in test/control/channel.test.ts.
    await batch(FUZZED / 2);
    const before = residentBytes(pid);
    await batch(FUZZED / 2);
    for (let count = 0; count < 5; count++) {
      await speak(port, token, 'x'.repeat(10_000_000));
      expected.malformed++;
    }
    await sleep(500);
    const grownBytes = residentBytes(pid) - before;
    t.diagnostic(`resident ${Math.round(before / 1e6)} MB, then ${Math.round(grownBytes / 1e6)} MB more`);
    assert(grownBytes < 60e6, `${grownBytes} bytes more after ${FUZZED / 2} refused clients`);
  });

  run.child.kill('SIGINT');
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 130, stderr);
  const report = run.report();
  assert.equal(report.connections.held, 500, stdout);
  assert.deepEqual(report.connections.dropped, {});
  assert.equal(report.agents.length, 1);
  const note = report.notes.find((line) => line.includes('at the control port'));
  assert(note !== undefined, report.notes.join('\n'));
  for (const [reason, count] of Object.entries(expected)) {
    const counted: number = Number(new RegExp(`\\b${reason} (\\d+)`).exec(note)?.[1] ?? 0);
    assert.equal(counted, count, `${reason}: ${note}`);
  }
});
