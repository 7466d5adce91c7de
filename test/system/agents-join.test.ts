/**
 * Owns how agents come to a run: the join line, who is missing, tokens and where they come from, and that no secret is
 * ever seen.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isCleanText } from '../../src/base/clean-text.ts';
import { agentToken, formatToken, generateToken, parseToken } from '../../src/control/token.ts';
import {
  type Coordinator,
  says,
  startAgent,
  startAt,
  startCoordinator,
  temporaryFolder,
} from '../support/agents.ts';
import { freePort, startNetTarget } from '../support/net-target.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { runCli, runShell } from '../support/run-cli.ts';

const SHORT = ['--conns', '60', '--duration', '1s'];

/** The command lines and the environments' owners of all processes, as every user of the host can see them. */
function allCommandLines(): string {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'latin1').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    })
    .join('\n');
}

/** Every text form of a token's key that could slip out. */
function keyForms(tokenText: string): string[] {
  const { key } = parseToken(tokenText);
  return [tokenText, key.toString('hex'), key.toString('base64'), key.toString('base64url')].flatMap(
    (text) => [text, text.toUpperCase()],
  );
}

function assertNoSecret(text: string, tokenTexts: readonly string[], where: string): void {
  for (const form of tokenTexts.flatMap(keyForms)) assert(!text.includes(form), `a key is in ${where}`);
}

describe('joining', { concurrency: 4 }, () => {
  it('prints a join line that works when it is pasted, names who is here, and makes the token file for both sides', async (t) => {
    const target = await startNetTarget(t);
    const folder = temporaryFolder(t);
    const tokenFile = join(folder, 'run.token');
    const run = startCoordinator(
      t,
      [
        ...['--target', `127.0.0.1:${target.port}`, ...SHORT, '--listen', '0.0.0.0:0'],
        ...['--expect-agents', '2', '--token-file', tokenFile],
      ],
      { env: { C100K_TOKEN: '' } },
    );
    const port = await run.port();
    await says(run, /none here, 2 of 2 missing/);
    assert.equal(statSync(tokenFile).mode & 0o777, 0o600);
    const line = /join with: c100k-bench (agent .*)/.exec(run.stderr())?.[1] ?? '';
    assert.match(line, new RegExp(`^agent --join \\S+:${port} --token-file run\\.token$`));
    // As a person would: in the folder where the token file is. Only the address is made ours, for a host without any.
    const pasted = line.replace(/--join \S+:/, '--join 127.0.0.1:');
    const first = runShell(`cd '${folder}' && $CLI ${pasted} --name ada --source-ip 127.0.0.7`);
    await says(run, /waiting for agents: ada here, 1 of 2 missing/);
    const second = runShell(`cd '${folder}' && $CLI ${pasted} --name bob --source-ip 127.0.0.8`);
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.deepEqual(
      (await Promise.all([first, second])).map((each) => each.code),
      [0, 0],
    );
    const report = run.report();
    assert.deepEqual(schemaErrors(report), []);
    assert.deepEqual(
      report.agents.map(({ name, quota }) => [name, quota]),
      [
        ['ada', 30],
        ['bob', 30],
      ],
    );
    assert.equal((await target.counts()).accepted, 60);
  });

  it('gives up after --wait-agents with exit 4 and names who came', async (t) => {
    const run = startCoordinator(t, [
      ...['--target', '127.0.0.1:9', ...SHORT, '--expect-agents', '3', '--wait-agents', '12s'],
    ]);
    const agent = startAgent(t, `127.0.0.1:${await run.port()}`, 'ada', run.tokenText);
    const { code, stderr, stdout } = await run.result;
    assert.equal(code, 4, stdout);
    assert.match(stderr, /3 agent\(s\) expected, only ada came in 12 s/);
    assert.match(stderr, /--wait-agents/);
    assert.equal((await agent.result).code, 0, 'an agent that was told to stop has ended in order');
  });

  it('mixes this host and others with --agents local,remote', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...['--target', `127.0.0.1:${target.port}`, ...SHORT],
      ...['--agents', 'local,remote', '--expect-agents', '1', '--source-ip', '127.0.0.7'],
    ]);
    const join = `127.0.0.1:${await run.port()}`;
    const impostor = startAgent(t, join, 'local', run.tokenText);
    await says(impostor, /an agent named local is already here/);
    startAgent(t, join, 'ada', run.tokenText, ['--source-ip', '127.0.0.8']);
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.equal((await impostor.result).code, 4);
    const report = run.report();
    assert.deepEqual(report.agents.map(({ name, quota }) => [name, quota]).toSorted(), [
      ['ada', 30],
      ['local', 30],
    ]);
    // The sources that were typed here are this host's; the other agent has its own.
    assert.deepEqual(report.bySource, { '127.0.0.7': 30, '127.0.0.8': 30 });
  });

  it('refuses flags that cannot work: agents without a token, agents without --expect-agents', async () => {
    const target = ['--target', '127.0.0.1:9', ...SHORT];
    const withoutToken = await runCli([...target, '--expect-agents', '2']);
    assert.equal(withoutToken.code, 2);
    assert.match(withoutToken.stderr, /--token-file run\.token/);
    assert.equal((await runCli([...target, '--agents', 'remote'])).code, 2);
    assert.equal((await runCli([...target, '--agents', 'both'])).code, 2);
    assert.equal((await runCli([...target, '--listen', 'somewhere'])).code, 2);
    assert.equal((await runCli(['agent', '--join', '127.0.0.1:9'])).code, 2, 'no token');
  });

  it('takes the token from a file, the environment and stdin, and ends when stdin does', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...[
        '--target',
        `127.0.0.1:${target.port}`,
        '--conns',
        '60',
        '--duration',
        '60s',
        '--expect-agents',
        '3',
      ],
    ]);
    const join = `127.0.0.1:${await run.port()}`;
    const file = `${temporaryFolder(t)}/token`;
    writeFileSync(file, `${run.tokenText}\n`, { mode: 0o600 });
    startAgent(t, join, 'env', run.tokenText, ['--source-ip', '127.0.0.6']);
    startAt(t, {}, [
      'agent',
      '--join',
      join,
      '--name',
      'file',
      '--token-file',
      file,
      '--source-ip',
      '127.0.0.7',
    ]);
    const end = `${file}-end`;
    const piped = runShell(
      `(printf '%s\\n' "$TOKEN"; until [ -e ${end} ]; do sleep 0.1; done) |
        $CLI agent --join ${join} --name stdin --token-stdin --source-ip 127.0.0.8`,
      { env: { TOKEN: run.tokenText }, timeoutMs: 240_000 },
    );
    await says(run, / holding /);
    writeFileSync(end, '');
    const { code, stderr } = await piped;
    assert.equal(code, 4);
    assert.match(stderr, /standard input has ended; closing everything/);
    run.child.kill('SIGINT');
    assert.equal((await run.result).code, 130);
  });

  it('lets a token for one agent be used under its name only, until it expires', async (t) => {
    const folder = temporaryFolder(t);
    const master = join(folder, 'run.token');
    const made = await runCli(['token', '--token-file', master, '--name', 'ada', '--expires', '1h']);
    assert.equal(made.code, 0, made.stderr);
    assert(existsSync(master), 'the token command makes the file of the coordinator');
    const token = parseToken(readFileSync(master, 'utf8'));
    const expired = agentToken(token, { name: 'cyd', expiresSec: 1_000, targets: null });
    const target = await startNetTarget(t);
    const run = startCoordinator(
      t,
      ['--target', `127.0.0.1:${target.port}`, ...SHORT, '--expect-agents', '1', '--token-file', master],
      { token },
    );
    const at = `127.0.0.1:${await run.port()}`;
    const wrongName = await startAgent(t, at, 'bob', made.stdout.trim()).result;
    assert.equal(wrongName.code, 4);
    assert.match(wrongName.stderr, /the token is for an agent named ada/);
    await says(run, /turned away .*the token is for an agent named ada, not bob/);
    const late = await startAgent(t, at, 'cyd', formatToken(expired)).result;
    assert.equal(late.code, 2);
    assert.match(late.stderr, /the token expired at 1970/);
    const right = startAt(t, {}, ['agent', '--join', at], { env: { C100K_TOKEN: made.stdout.trim() } });
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.equal((await right.result).code, 0);
    assert.equal(run.report().agents[0]?.name, 'ada', 'the name is the one in the token');
    assert.match(run.report().notes.join('\n'), /^1 connection at the control port was refused \(name 1\)$/m);
    const again = await runCli(['token', '--token-file', master, '--name', 'ada']);
    assert.notEqual(again.stdout, made.stdout);
    const ofAgent = join(folder, 'ada.token');
    writeFileSync(ofAgent, made.stdout, { mode: 0o600 });
    assert.equal(
      (await runCli(['token', '--token-file', ofAgent, '--name', 'bob'])).code,
      2,
      'no token makes another',
    );
  });

  it('gives two hosts of one name a number each, and both ends say each change', async (t) => {
    const target = await startNetTarget(t);
    const load = [...['--conns', '60', '--duration', '10m', '--expect-agents', '2'], '--wait-agents', '10m'];
    const run = startCoordinator(t, ['--target', `127.0.0.1:${target.port}`, ...load]);
    const at = `127.0.0.1:${await run.port()}`;
    const first = startAgent(t, at, 'vm', run.tokenText, ['--source-ip', '127.0.0.7']);
    await says(run, /agent vm joined from 127\.0\.0\.1: 1 of 2/);
    const stranger = await startAgent(t, at, 'vm', formatToken(generateToken())).result;
    assert.equal(stranger.code, 4);
    await says(run, /turned away a client from 127\.0\.0\.1: its token is not of this run/);
    const second = startAgent(t, at, 'vm', run.tokenText, ['--source-ip', '127.0.0.8']);
    await says(run, /agent vm-2 joined from 127\.0\.0\.1 \(it calls itself vm, .*\): 2 of 2/);
    const late = await startAgent(t, at, 'late', run.tokenText).result;
    assert.equal(late.code, 4);
    await says(run, /turned away agent late from 127\.0\.0\.1: the run has begun without it/);
    for (const agent of [first, second]) await says(agent, /every agent has opened/);
    run.child.kill('SIGINT');
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 130, `${stdout}${stderr}`);
    const { agents } = run.report();
    assert.deepEqual(
      agents.map(({ name, holders }) => [name, holders.map(({ id }) => id)]),
      [
        ['vm', ['vm/1']],
        ['vm-2', ['vm-2/1']],
      ],
    );
    const verdict = /^INCOMPLETE held 60 of 60.*$/m.exec(stdout)?.[0] ?? 'no verdict';
    for (const [agent, name] of [
      [first, 'vm'],
      [second, 'vm-2'],
    ] as const) {
      const ended = await agent.result;
      assert.equal(ended.code, 0, ended.stderr);
      const said = ended.stderr.trim().split('\n');
      const course = [
        'joined the run',
        'this host can hold',
        'quota: 30 connections',
        'ready with',
        'opening 30',
      ]
        .concat(['every agent has opened', 'the run was interrupted'])
        .map((what) => said.findIndex((line) => line.startsWith(`agent ${name}: ${what}`)));
      assert(!course.includes(-1), ended.stderr);
      assert.deepEqual(
        course.toSorted((a, b) => a - b),
        course,
        ended.stderr,
      );
      assert.equal(said.at(-1), `agent ${name}: done: ${verdict}`);
      // Plain lines, as a journal keeps them.
      assert(said.every(isCleanText), JSON.stringify(ended.stderr));
    }
  });

  it('takes a token with a name for one agent at a time', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      '--target',
      `127.0.0.1:${target.port}`,
      ...SHORT,
      ...['--expect-agents', '2', '--wait-agents', '10m'],
    ]);
    const at = `127.0.0.1:${await run.port()}`;
    const own = formatToken(agentToken(run.token, { name: 'ada', expiresSec: null, targets: null }));
    startAgent(t, at, 'ada', own, ['--source-ip', '127.0.0.7']);
    await says(run, /agent ada joined/);
    const second = await startAgent(t, at, 'ada', own).result;
    assert.equal(second.code, 4);
    assert.match(second.stderr, /an agent named ada is already here with this token/);
    await says(
      run,
      /turned away agent ada from 127\.0\.0\.1: an agent named ada is already here with this token/,
    );
    // Who only calls itself so takes nothing from it.
    startAgent(t, at, 'ada', run.tokenText, ['--source-ip', '127.0.0.8']);
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.deepEqual(
      run.report().agents.map(({ name }) => name),
      ['ada', 'ada-2'],
    );
  });

  it('serves one run after the other with --stay, also after one that did not want it', async (t) => {
    const target = await startNetTarget(t);
    const port = await freePort();
    const args = ['--target', `127.0.0.1:${target.port}`, ...SHORT, '--listen', `127.0.0.1:${port}`];
    const token = generateToken();
    const begin = (): Coordinator => startCoordinator(t, [...args, '--expect-agents', '1'], { token });
    const first = begin();
    await first.port();
    const agent = startAgent(t, `127.0.0.1:${port}`, 'ada', first.tokenText, ['--stay']);
    assert.equal((await first.result).code, 0, first.stderr());
    assert.equal((await begin().result).code, 0);
    // This one has all it wants before the agent is back.
    const full = begin();
    await full.port();
    const other = startAgent(t, `127.0.0.1:${port}`, 'bob', first.tokenText);
    assert.equal((await full.result).code, 0, full.stderr());
    assert.equal((await begin().result).code, 0);
    agent.child.kill('SIGTERM');
    await other.result;
    assert.equal((await agent.result).code, 4);
    assert.equal((await target.counts()).accepted, 240);
  });

  it('shows no secret in any command line, line of text or report while agents are here', async (t) => {
    const target = await startNetTarget(t);
    const folder = temporaryFolder(t);
    const run = startCoordinator(t, [
      ...['--target', `127.0.0.1:${target.port}`, '--conns', '60', '--duration', '2s'],
      ...['--agents', 'local,remote', '--expect-agents', '1'],
    ]);
    const own = formatToken(agentToken(run.token, { name: 'ada', expiresSec: null, targets: null }));
    const local = formatToken(agentToken(run.token, { name: 'local', expiresSec: null, targets: null }));
    const secrets = [run.tokenText, own, local];
    const join = `127.0.0.1:${await run.port()}`;
    const foreignToken = formatToken(
      agentToken(parseToken(own), { name: 'x', expiresSec: null, targets: null }),
    );
    const wrong = await startAgent(t, join, 'x', foreignToken).result;
    const partial = `${folder}/partial.json`;
    const agent = startAgent(t, join, 'ada', own, ['--partial-report', partial]);
    await says(run, / holding /);
    assertNoSecret(allCommandLines(), secrets, 'a command line');
    agent.child.kill('SIGTERM');
    const ended = await agent.result;
    const { stdout, stderr } = await run.result;
    for (const [where, text] of [
      ['stdout', stdout],
      ['stderr', stderr],
      ['the report', JSON.stringify(run.report())],
      ['the agent', `${ended.stdout}${ended.stderr}`],
      ['the refused agent', `${wrong.stdout}${wrong.stderr}`],
      ['the partial report', readFileSync(partial, 'utf8')],
    ] as const) {
      assert(text.length > 0 || where === 'stdout', `${where} was looked at`);
      assertNoSecret(text, secrets, where);
    }
  });
});
