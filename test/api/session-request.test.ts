/** Tests what `--mqtt-...` ask for together, with files, and that no password is shown. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { echoedCommand } from '../../src/api/flags/flags.ts';
import { type RunRequest, readRunRequest } from '../../src/api/run-request.ts';
import { BenchError } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-session-'));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function parsed(args: readonly string[], environment: Record<string, string> = {}) {
  const command = await parseCommandLine(
    args.includes('-c') ? args : ['-c', '10', ...args],
    environment,
    '1.2.3',
    80,
  );
  assert(command.kind === 'command');
  return command.values;
}

async function requestOf(...args: readonly string[]): Promise<RunRequest> {
  return readRunRequest(await parsed(args));
}

test('without more MQTT 5 is spoken, with a client id that differs from run to run and from connection to connection', async () => {
  const [one, other] = [await requestOf('-t', 'mqtt://h'), await requestOf('-t', 'mqtts://h')];
  const { clientId, ...rest } = one.spec.protocolOptions?.mqtt ?? assert.fail('no options of MQTT');
  assert.deepEqual(rest, { level: 5, user: null, password: null, keepAliveSec: 60, subscribe: null });
  assert.match(clientId, /^c100k-[0-9a-f]{4}-\{agent\}-\{conn\}$/);
  assert.notEqual(other.spec.protocolOptions?.mqtt?.clientId, clientId);
  assert.deepEqual([one.targets[0]?.portFrom, other.targets[0]?.portFrom], [1_883, 8_883]);
  assert.equal(one.spec.probeEveryMs, 10_000);
});

test('everything that is given reaches the spec, secrets out of files too', async () => {
  const args = ['--mqtt-version', '3.1.1', '--mqtt-client-id', 'd-{conn}', '--mqtt-keep-alive', '20m'];
  const user = ['--mqtt-user', `@${file('user', 'u-{conn}\n')}`];
  const password = ['--mqtt-password', `@${file('password', ' p w \r\n')}`];
  const request = await requestOf(
    '-t',
    'mqtt://h',
    ...args,
    ...user,
    ...password,
    '--mqtt-subscribe',
    'a/{conn}/#',
  );
  assert.deepEqual(request.spec.protocolOptions?.mqtt, {
    level: 4,
    clientId: 'd-{conn}',
    user: 'u-{conn}',
    password: ' p w ',
    keepAliveSec: 1_200,
    subscribe: 'a/{conn}/#',
  });
});

test('probes keep a session alive, however rarely they are asked for', async () => {
  const everyOf = async (...args: readonly string[]): Promise<number | null> =>
    (await requestOf('-t', 'mqtt://h', ...args)).spec.probeEveryMs;
  assert.equal(await everyOf('--probe-every', '10m'), 45_000);
  assert.equal(await everyOf('--mqtt-keep-alive', '4s'), 3_000);
  assert.equal(await everyOf('--probe-every', '10m', '--mqtt-keep-alive', '0'), 600_000);
});

test('a password is shown nowhere; the name of its file is', async () => {
  const shown = async (args: readonly string[], environment: Record<string, string> = {}): Promise<string> =>
    echoedCommand('run', await parsed(['-t', 'mqtt://h', ...args], environment));
  for (const line of [
    await shown(['--mqtt-password', 'geheim']),
    await shown(['--mqtt-password=@']),
    await shown([], { C100K_MQTT_PASSWORD: 'geheim' }),
  ])
    assert.match(line, /--mqtt-password \.\.\.$/);
  assert.match(await shown(['--mqtt-password', '@/run/secret']), /--mqtt-password @\/run\/secret$/);
});

const REFUSED: readonly (readonly [args: readonly string[], line: RegExp, hint: RegExp])[] = [
  [['--mqtt-client-id', 'same'], /same for all connections/, /--mqtt-client-id 'same-\{conn\}'/],
  [['--mqtt-client-id', 'a-{seq}'], /not \{seq\}/, /\{conn\}/],
  [['--mqtt-subscribe', 'a/#/b'], /wildcard/, /--mqtt-subscribe/],
  [['--mqtt-keep-alive', '1500ms'], /whole seconds/, /--mqtt-keep-alive 2s/],
  [['--mqtt-keep-alive', '20h'], /--mqtt-keep-alive/, /./],
  [['--mqtt-version', '3.1.1', '--mqtt-password', 'x'], /no password without a user/, /--mqtt-user/],
  [['--mqtt-password', '@/no/such/file'], /cannot be read \(ENOENT\)/, /file/],
  [['--mqtt-user', `@${file('bad', 'a\nb')}`], /control characters/, /one line/],
  [['--mqtt-version', '3.1'], /"3\.1" is not known/, /3\.1\.1/],
  [['--probe', 'echo'], /--probe echo does not go with mqtt/, /./],
];

for (const [args, line, hint] of REFUSED) {
  test(`${args.join(' ')} is refused with one line before the run`, async () => {
    await assert.rejects(requestOf('-t', 'mqtt://h', ...args), (error) => {
      assert(error instanceof BenchError);
      assert.equal(error.exitCode, 2);
      assert.match(error.message, line);
      assert.match(error.hint, hint);
      return true;
    });
  });
}

test('one connection may have any client id, and the flags of MQTT go with no other protocol', async () => {
  await requestOf('-t', 'mqtt://h', '-c', '1', '--mqtt-client-id', 'same');
  for (const flag of [
    '--mqtt-version=3.1.1',
    '--mqtt-client-id=x{conn}',
    '--mqtt-user=u',
    '--mqtt-password=p',
    '--mqtt-keep-alive=5s',
    '--mqtt-subscribe=t',
  ])
    await assert.rejects(requestOf('-t', 'ws://h', flag), /goes with mqtt:\/\/ and mqtts:\/\/ only/);
});
