import assert from 'node:assert/strict';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { ControlServer } from '../../src/control/server.ts';
import { agentToken, formatToken, generateToken, knownKeyOf, type Token } from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';
import { temporaryFolder } from '../support/agents.ts';
import { startTalker } from '../support/control-peers.ts';
import { ControlProxy } from '../support/control-proxy.ts';
import { type CliResult, runCli, startCli } from '../support/run-cli.ts';
import { until } from '../support/waiting.ts';

/** A coordinator that turns every agent away. @param onAgent says whether it does so with this one, or is silent */
async function startRefusing(
  t: TestContext,
  master: Token,
  kind: 'unwanted' | 'version',
  onAgent = (): boolean => true,
): Promise<number> {
  const server = new ControlServer({
    clock: systemClock,
    host: '127.0.0.1',
    port: 0,
    keyFor: (identity) => knownKeyOf(master, identity, Date.now() + 3_600_000),
    onRefused: () => {},
    onAgent: (channel) => {
      if (onAgent()) channel.close('not today', kind);
      return { onMessage: () => {}, onClose: () => {} };
    },
  });
  t.after(() => server.close());
  return (await server.listen()).port;
}

/** @param wait short only where nothing but its end is waited for */
async function joins(port: number, token: Token | null, wait = '10m'): Promise<CliResult> {
  return await runCli(['agent', '--join', `127.0.0.1:${port}`, '--name', 'ada', '--wait-coordinator', wait], {
    env: token === null ? {} : { C100K_TOKEN: formatToken(token) },
  });
}

/** The line and the hint are one each. */
function assertEnds({ code, stderr }: CliResult, expected: number, says: RegExp): void {
  assert.equal(code, expected, stderr);
  assert.match(stderr, says);
  assert.doesNotMatch(stderr, /^\s+at /m, 'no stack trace');
}

it('an agent that is not wanted ends with what the coordinator said (agent-refused, 4)', async (t) => {
  const token = generateToken();
  assertEnds(
    await joins(await startRefusing(t, token, 'unwanted'), token),
    4,
    /does not take this agent: not today\n.*before the run begins/,
  );
});

it('an agent that is cut off after its hello, and before it has heard anything, joins again', async (t) => {
  const token = generateToken();
  const proxy: { cut: () => void } = { cut: () => {} };
  let hellos = 0;
  const port = await startRefusing(t, token, 'unwanted', () => {
    hellos++;
    // As a server does that has no room: without a word.
    if (hellos < 3) proxy.cut();
    return hellos === 3;
  });
  const link = new ControlProxy(port);
  t.after(() => link.close());
  proxy.cut = () => {
    link.cut();
    link.heal();
  };
  assertEnds(await joins(await link.listen(), token), 4, /does not take this agent: not today/);
  assert.equal(hellos, 3);
});

it('an agent of another major version ends with both versions (protocol-version, 4)', async (t) => {
  const token = generateToken();
  assertEnds(
    await joins(await startRefusing(t, token, 'version'), token),
    4,
    /does not take this agent: not today\n.*the same version/,
  );
});

it('a token that has expired for the coordinator alone is said to have expired (token-expired, 2)', async (t) => {
  const master = generateToken();
  const port = await startRefusing(t, master, 'unwanted');
  // Good for half an hour here; the coordinator's clock is an hour ahead.
  const token = agentToken(master, {
    name: 'ada',
    expiresSec: Math.floor(Date.now() / 1_000) + 1_800,
    targets: null,
  });
  assertEnds(await joins(port, token), 2, /expired by its clock\n.*--expires/);
});

it('a token that has expired here is not tried at all (token-expired, 2)', async () => {
  const token = agentToken(generateToken(), { name: 'ada', expiresSec: 1_000, targets: null });
  assertEnds(await joins(9, token), 2, /the token expired at\b/);
});

it('an agent without a token, and one with the token of another coordinator (bad-token, 2; control-channel, 4)', async (t) => {
  assertEnds(await joins(9, null), 2, /needs the token of its coordinator/);
  const port = await startRefusing(t, generateToken(), 'unwanted');
  assertEnds(await joins(port, generateToken(), '6s'), 4, /it does not know this token/);
});

it('a run that cannot listen for agents is refused before it starts (control-channel, 3)', async (t) => {
  const taken = await startTalker(t, '');
  const run = await runCli(
    ['-t', '127.0.0.1:9', '-c', '10', '--expect-agents', '1', '--listen', `127.0.0.1:${taken}`],
    { env: { C100K_TOKEN: formatToken(generateToken()) } },
  );
  assertEnds(run, 3, /cannot listen for agents on/);
});

it('a token whose claims are too long is refused when it is made (bad-token, 2)', async (t) => {
  const file = join(temporaryFolder(t), 'run.token');
  const targets = Array.from({ length: 200 }, (_, index) => [
    '--allow-target',
    `10.${index}.0.0/16:8000-9000`,
  ]);
  const made = await runCli(['token', '--token-file', file, '--name', 'ada', ...targets.flat()]);
  assertEnds(made, 2, /too long for a token/);
});

it('an agent that is ordered to end while it joins or waits ends immediately, not when its waiting is over', async (t) => {
  const token = generateToken();
  // Accepts and says nothing: the handshake would be waited for a week.
  let accepted = 0;
  const silent = createServer((socket) => {
    accepted += 1;
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.after(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const running = startCli(
    ['agent', '--stay', '--join', `127.0.0.1:${port}`, '--name', 'ada', '--wait-coordinator', '7d'],
    { env: { C100K_TOKEN: formatToken(token) } },
  );
  await until('it joins', () => accepted > 0);
  running.child.kill('SIGTERM');
  const { code, timedOut } = await running.result;
  assert.equal(timedOut, false);
  assert.equal(code, 4);
});
