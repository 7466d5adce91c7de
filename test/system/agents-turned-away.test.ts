/**
 * Owns the proof that both ends say why an agent is turned away, each once: name taken, wrong token, expired token, and too
 * many connections with one token.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GATE_LIMITS } from '../../src/control/gate.ts';
import { agentToken, formatToken, generateToken } from '../../src/control/token.ts';
import { says, startAgent, startCoordinator } from '../support/agents.ts';
import { freePort, startNetTarget } from '../support/net-target.ts';
import { handshake } from '../support/refused-clients.ts';
import { until } from '../support/waiting.ts';

/** The lines of a text that have this in them. */
function linesWith(text: string, pattern: RegExp): string[] {
  return text.split('\n').filter((line) => pattern.test(line));
}

test('an agent that is turned away: both ends say why, once', async (t) => {
  const target = await startNetTarget(t);
  const port = await freePort();
  const at = `127.0.0.1:${port}`;
  const token = generateToken();
  const tokenOf = (name: string, expiresSec: number | null = null): string =>
    formatToken(agentToken(token, { name, expiresSec, targets: null }));
  // Its token is good while it waits for the coordinator, and has expired when that comes.
  const expiresSec = Math.ceil(Date.now() / 1_000) + 30;
  const expired = startAgent(t, at, 'cyd', tokenOf('cyd', expiresSec));
  await says(expired, /agent cyd: waiting for the coordinator at .*ECONNREFUSED/);
  await sleep(Math.max(0, expiresSec * 1_000 - Date.now()) + 1_000);

  const load = ['-c', '60', '-d', '10m', '--expect-agents', '2', '--wait-agents', '10m', '--listen', at];
  const run = startCoordinator(t, ['--target', `127.0.0.1:${target.port}`, ...load], { token });
  await run.port();
  const late = await expired.result;
  assert.equal(late.code, 2, late.stderr);
  assert.equal(linesWith(late.stderr, /the token has expired by its clock/).length, 1, late.stderr);

  startAgent(t, at, 'ada', tokenOf('ada'));
  await says(run, /agent ada joined/);
  const second = await startAgent(t, at, 'ada', tokenOf('ada')).result;
  assert.equal(second.code, 4);
  assert.equal(
    linesWith(second.stderr, /an agent named ada is already here with this token/).length,
    1,
    second.stderr,
  );

  const other = await startAgent(t, at, 'eve', formatToken(generateToken())).result;
  assert.equal(other.code, 4);
  assert.equal(linesWith(other.stderr, /it does not know this token/).length, 1, other.stderr);

  // More than one agent's token may have: each further one costs the oldest its place.
  const closed: string[] = [];
  const own = agentToken(token, { name: 'bob', expiresSec: null, targets: null });
  for (let count = 0; count < GATE_LIMITS.perToken + 3; count++)
    (await handshake(port, own)).resume().once('close', () => closed.push(String(count)));
  await says(run, /turned away agent bob/);

  const wanted = [
    "turned away agent cyd from 127.0.0.1: its token has expired by this host's clock",
    'turned away agent ada from 127.0.0.1: an agent named ada is already here with this token; each agent needs its own',
    'turned away a client from 127.0.0.1: its token is not of this run',
    `turned away agent bob from 127.0.0.1: too many connections with its token: at most ${GATE_LIMITS.perToken}`,
  ];
  assert.deepEqual(
    linesWith(run.stderr(), /turned away/).map((line) => line.replace(/^.*?(?=turned away)/, '')),
    wanted,
  );
  await until("the oldest of bob's are closed", () => closed.length >= 3);
  run.child.kill('SIGINT');
  await run.result;
});
