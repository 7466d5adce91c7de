/** Tests what the flags of messages ask for together, with files. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readRunRequest } from '../../src/api/run-request.ts';
import { readWatch } from '../../src/api/watch-request.ts';
import { BenchError } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-traffic-'));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, bytes: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

async function valuesOf(...args: readonly string[]) {
  const parsed = await parseCommandLine([...args, '-c', '1'], {}, '1.2.3', 80);
  assert(parsed.kind === 'command');
  return parsed.values;
}

async function requestOf(...args: readonly string[]) {
  return readRunRequest(await valuesOf(...args));
}

const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
const bytes = (text: string, isBinary = false) => ({
  isBinary,
  parts: [{ type: 'bytes', base64: base64(text) }],
});

test('what is said, expected and answered goes into the spec', async () => {
  const { spec } = await requestOf(
    ...['-t', 'tcp://127.0.0.1:1', '--first-message', 'PING\\r\\n', '--expect', '+PONG'],
    ...['--answer', '2=3', '--answer', '{}={}', '--send', 'x', '--send-every', '5s'],
  );
  assert.deepEqual(spec.protocolOptions?.traffic, {
    first: bytes('PING\r\n'),
    expect: { type: 'text', template: bytes('+PONG') },
    answers: [
      { pattern: { type: 'text', template: bytes('2') }, reply: bytes('3') },
      { pattern: { type: 'text', template: bytes('{}') }, reply: bytes('{}') },
    ],
    send: { template: bytes('x'), everyMs: 5_000 },
  });
  assert.equal(spec.probeEveryMs, 5_000, 'a message that is answered is a probe');
  const silent = await requestOf('-t', 'tcp://127.0.0.1:1', '--send', 'x');
  assert.equal(silent.spec.probeEveryMs, null);
  assert.equal(silent.spec.protocolOptions?.traffic?.send?.everyMs, 1_000);
  const echo = await requestOf('-t', 'echo://127.0.0.1:1', '--send', 'x', '--send-every', '100ms');
  assert.equal(echo.spec.probeEveryMs, 100);
  assert.equal((await requestOf('-t', 'ws://127.0.0.1:1')).spec.protocolOptions?.traffic, undefined);
});

test('files are taken as they are, or as digits', async () => {
  const { spec } = await requestOf(
    ...['-t', 'tls://127.0.0.1:1', '--first-message', `@${file('login', 'AUTH \\x\r\n')}`],
    ...[
      '--expect',
      `@${file('answer', '0x2b 4f4b\n')}`,
      '--send',
      `@${file('send', Buffer.from([0xff, 1]))}`,
    ],
  );
  assert.deepEqual(spec.protocolOptions?.traffic, {
    first: bytes('AUTH \\x\r\n'),
    expect: { type: 'text', template: bytes('+OK', true) },
    answers: [],
    send: { template: bytes('\u00ff\u0001', true), everyMs: 1_000 },
  });
});

test('an answered run requires that no answer is wrong, and what nothing counts cannot be required', async () => {
  const required = async (...args: string[]): Promise<string[]> => {
    const values = await valuesOf(...args);
    return readWatch(values, readRunRequest(values)).requirements.map(({ text }) => text);
  };
  const echo = ['-t', 'echo://127.0.0.1:1', '--send', 'x'];
  assert.deepEqual(await required(...echo), ['held>=100%', 'messages_wrong==0']);
  assert.deepEqual(await required('-t', 'tcp://127.0.0.1:1', '--send', 'x'), ['held>=100%']);
  await assert.rejects(
    required('-t', 'echo://127.0.0.1:1', '--require', 'messages_wrong=0'),
    /no message is sent/,
  );
  await assert.rejects(
    required('-t', 'tcp://127.0.0.1:1', '--send', 'x', '--require', 'message_p99<1s'),
    /no message is answered/,
  );
  await required('-t', 'tcp://127.0.0.1:1', '--send', 'x', '--require', 'messages_rate>=5/s');
  await required('-t', 'tcp://127.0.0.1:1', '--first-message', 'x', '--expect', 'y', '--require', 'verified');
});

test('what does not go together is refused by name', async () => {
  for (const [args, what] of [
    [['-t', 'tcp://h:1', '--send-every', '1s'], /--send-every needs --send/],
    [['-t', 'ws://h', '--send', 'x', '--probe-every', '1s'], /--send and --probe-every do not go together/],
    [['-t', 'ws://h', '--send', 'x', '--ws-message', 'y'], /--send and --ws-message do not go/],
    [['-t', 'tcp://h:1', '--expect', 'x', '--expect-banner', 'y'], /--expect-banner and --expect do not go/],
    [['-t', 'tcp://h:1', '--answer', '2=3', '--expect-banner', 'y'], /--expect-banner and --answer/],
    [['-t', 'echo://h:1', '--first-message', 'x'], /--first-message goes with tcp/],
    [['-t', 'http://h', '--send', 'x'], /--send goes with tcp:\/\/, tls:\/\/, echo/],
    [['-t', 'echo://h:1', '--expect', 'x'], /--expect goes with/],
    [['-t', 'echo://h:1', '--answer', '2=3'], /--answer goes with/],
    [['-t', 'tcp://h:1', '--send', '{con}'], /there is no \{con\}/],
    [['-t', 'tcp://h:1', '--send', `@${folder}/none`], /none cannot be read \(ENOENT\)/],
    [['-t', 'tcp://h:1', '--send', `@${file('empty', '')}`], /it is empty/],
    [['-t', 'tcp://h:1', '--send', `@${file('large', 'x'.repeat(65_537))}`], /more than 65,536/],
    [['-t', 'tcp://h:1', '--expect', `@${file('place', '{x}')}`], /there is no \{x\}/],
    [
      ['-t', 'tcp://h:1', ...Array.from({ length: 17 }, () => ['--answer', '2=3']).flat()],
      /given 17 times; at most 16/,
    ],
  ] as const) {
    await assert.rejects(
      requestOf(...args),
      (error) => error instanceof BenchError && what.test(error.message) && error.exitCode === 2,
      args.join(' ').slice(0, 200),
    );
  }
});
