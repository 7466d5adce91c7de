/** Tests what `--header`, `--ws-protocol`, `--method` and `--body` ask for together, with files. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readRunRequest } from '../../src/api/run-request.ts';
import type { ProtocolOptions } from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-request-'));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function optionsOf(...args: readonly string[]): Promise<ProtocolOptions | undefined> {
  const parsed = await parseCommandLine([...args, '-c', '1'], {}, '1.2.3', 80);
  assert(parsed.kind === 'command');
  return readRunRequest(parsed.values).spec.protocolOptions;
}

test('headers come from the command line and from files, in order; Host goes to its own place', async () => {
  const path = file('headers', '# a comment\nX-Two: 2\r\n\nHost: b.example:81\n');
  const options = await optionsOf(
    '-t',
    'wss://h/x',
    '--header',
    'X-One:1 ',
    '--header',
    `@${path}`,
    '--ws-protocol',
    'a',
    '--ws-protocol',
    'b',
  );
  assert.deepEqual(options?.request, {
    method: 'GET',
    headers: [
      { name: 'X-One', value: '1' },
      { name: 'X-Two', value: '2' },
    ],
    body: null,
    subprotocols: ['a', 'b'],
  });
  assert.equal(options?.hostHeader, 'b.example:81');
});

test('a body makes it a POST, and is sent as its bytes; without any of it there is no request in the spec', async () => {
  const bytes = Buffer.from([0, 255, 10, 13]);
  const posted = await optionsOf('-t', 'http://h', '--body', `@${file('body', bytes)}`);
  assert.equal(posted?.request?.method, 'POST');
  assert.deepEqual(Buffer.from(posted?.request?.body ?? '', 'base64'), bytes);
  const put = await optionsOf('-t', 'http://h', '--method', 'PUT', '--body', 'grüß');
  assert.deepEqual(
    [put?.request?.method, put?.request?.body],
    ['PUT', Buffer.from('grüß').toString('base64')],
  );
  assert.equal((await optionsOf('-t', 'http://h', '--method', 'GET'))?.request, undefined);
  assert.equal((await optionsOf('-t', 'http://h', '--header', 'Host: other'))?.request, undefined);
});

const large = 'x'.repeat(65_537);
for (const [args, pattern] of [
  [['-t', 'http://h', '--header', 'X: a\r\nY: b'], /the value of X must be one line/],
  [['-t', 'http://h', '--header', 'Authorization'], /without a colon is no header field/],
  [['-t', 'http://h', '--header', ': x'], /its name must be letters/],
  [['-t', 'ws://h', '--header', 'sec-websocket-key: x'], /each connection has its own/],
  [['-t', 'ws://h', '--header', 'Sec-WebSocket-Protocol: x'], /--ws-protocol offers one/],
  [
    ['-t', 'http://h', '--header', 'Host: a', '--host-header', 'b'],
    /Host is given twice, by --header and --host-header/,
  ],
  [['-t', 'http://h', '--header', 'Host: a', '--header', 'host: b'], /Host is given twice/],
  [['-t', 'http://h', '--header', 'Host: a b'], /"a b" is not a host/],
  [['-t', 'http://h', '--header', `@${folder}/none`], /none cannot be read \(ENOENT\)/],
  [['-t', 'http://h', '--header', `@${file('bad', 'X: 1\nnonsense\n')}`], /bad without a colon/],
  [['-t', 'http://h', ...Array.from({ length: 65 }, () => ['--header', 'A: b']).flat()], /65 header fields/],
  [['-t', 'http://h', '--method', 'BREW'], /Invalid|BREW/],
  [['-t', 'http://h', '--method', 'HEAD', '--body', 'x'], /HEAD has no body/],
  [['-t', 'http://h', '--body', large], /65,536 bytes/],
  [['-t', 'http://h', '--body', `@${file('large', large)}`], /has 65,537 bytes, more than 65,536/],
  [['-t', 'http://h', '--ws-protocol', 'a'], /--ws-protocol goes with ws/],
  [['-t', 'ws://h', '--ws-protocol', 'a, b'], /one name without blanks and commas/],
  [['-t', 'ws://h', '--method', 'POST'], /--method goes with http/],
  [['-t', 'ws://h', '--body', 'x'], /--body goes with http/],
  [['-t', 'tcp://h:1', '--header', 'A: b'], /--header goes with ws/],
] as const) {
  test(`refused with one line and a hint: ${args.slice(2, 6).join(' ').slice(0, 70)}`, async () => {
    await assert.rejects(optionsOf(...args), (error) => {
      assert.ok(error instanceof BenchError, String(error));
      assert.equal(error.exitCode, 2);
      assert.match(error.message, pattern);
      assert.match(`${error.message}${error.hint}`, /^[^\p{Cc}]+$/u);
      return error.hint !== '';
    });
  });
}
