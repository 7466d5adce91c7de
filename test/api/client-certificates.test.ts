/** Tests which files are client certificates, and that each other one is refused with a line that says what it is. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { echoedCommand } from '../../src/api/flags/flags.ts';
import { readRunRequest } from '../../src/api/run-request.ts';
import type { TlsOptions } from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { needsOf } from '../../src/control/message.ts';
import { type Certificates, makeCertificates } from '../support/certificates.ts';

let made: Certificates;
before(() => {
  made = makeCertificates();
});
after(() => made.remove());

async function valuesOf(args: readonly string[]) {
  const command = await parseCommandLine(['-c', '10', '-t', 'mqtts://h', ...args], {}, '1.2.3', 80);
  assert(command.kind === 'command');
  return command.values;
}

async function tlsOf(...args: readonly string[]): Promise<TlsOptions | undefined> {
  return readRunRequest(await valuesOf(args)).spec.protocolOptions?.tls;
}

/** A file below the folder of the certificates. */
function file(name: string, text: string): string {
  const path = join(made.folder, name);
  writeFileSync(path, text);
  return path;
}

test('a certificate and its key, in two files, in one, and with its chain', async () => {
  const { key, cert, keyPath, certPath } = made.clients.pairs[0] ?? assert.fail();
  assert.deepEqual((await tlsOf('--tls-cert', certPath, '--tls-key', keyPath))?.pairs, [{ cert, key }]);
  const both = cert + made.ca.cert + key;
  const path = file('both.pem', both);
  assert.deepEqual((await tlsOf('--tls-cert', path))?.pairs, [{ cert: both, key: both }]);
  assert.equal((await tlsOf())?.pairs, undefined);
});

test('a folder gives its pairs in the order of their names; what is neither certificate nor key is left alone', async () => {
  const tls = await tlsOf('--tls-cert', made.clients.folder);
  assert.deepEqual(
    tls?.pairs,
    made.clients.pairs.map(({ cert, key }) => ({ cert, key })),
  );
});

test('the echoed command has names of files and nothing of a key; agents of before are turned away by name', async () => {
  const { key, keyPath, certPath } = made.clients.pairs[0] ?? assert.fail();
  const values = await valuesOf([
    '--tls-cert',
    certPath,
    '--tls-key',
    keyPath,
    '--alpn',
    'a,b',
    '--tls-resume',
  ]);
  const line = echoedCommand('run', values);
  assert.match(line, /--tls-cert \S+client-0\.crt --tls-key \S+client-0\.key --alpn a,b --tls-resume/);
  assert(!line.includes(key.split('\n')[1] ?? key));
  const needs = needsOf({ ...readRunRequest(values).spec, endpoints: [] });
  assert.deepEqual(needs, { minor: 2, words: 'mqtts:// and --tls-cert and --alpn and --tls-resume' });
});

const pairAt = (index: number) => made.clients.pairs[index] ?? assert.fail();

const REFUSED: readonly (readonly [what: string, args: () => readonly string[], line: RegExp])[] = [
  [
    'a key of another certificate',
    () => ['--tls-cert', pairAt(0).certPath, '--tls-key', pairAt(1).keyPath],
    /client-1\.key: this key does not belong to the certificate of --tls-cert .*client-0\.crt/,
  ],
  [
    'a key in place of the certificate',
    () => ['--tls-cert', pairAt(0).keyPath],
    /--tls-cert .*client-0\.key holds a key in place of a certificate/,
  ],
  [
    'a certificate in place of the key',
    () => ['--tls-cert', pairAt(0).certPath, '--tls-key', pairAt(0).certPath],
    /holds a certificate and no key/,
  ],
  [
    'a certificate without any key',
    () => ['--tls-cert', pairAt(0).certPath],
    /--tls-cert .*client-0\.crt holds a certificate and no key/,
  ],
  ['a key without a certificate', () => ['--tls-key', pairAt(0).keyPath], /--tls-key without a certificate/],
  [
    'no PEM',
    () => ['--tls-cert', file('der', 'x\0y'), '--tls-key', pairAt(0).keyPath],
    /holds no certificate in PEM form/,
  ],
  [
    'a broken certificate',
    () => ['--tls-cert', file('cut.crt', pairAt(0).cert.slice(0, 200)), '--tls-key', pairAt(0).keyPath],
    /cannot be understood/,
  ],
  [
    'a broken key',
    () => ['--tls-cert', pairAt(0).certPath, '--tls-key', file('cut.key', pairAt(0).key.slice(0, 90))],
    /its key cannot be understood/,
  ],
  [
    'a file that is not there',
    () => ['--tls-cert', '/no/such.crt', '--tls-key', pairAt(0).keyPath],
    /--tls-cert \/no\/such\.crt cannot be read \(ENOENT\)/,
  ],
  ['an empty folder', () => ['--tls-cert', folderOf('empty', [])], /there is no pair in it/],
  [
    'a certificate of a folder without its key',
    () => ['--tls-cert', folderOf('lonely', ['client-0.crt'])],
    /client-0\.crt has no key/,
  ],
  [
    'a key of a folder without its certificate',
    () => ['--tls-cert', folderOf('keys', ['client-0.crt', 'client-0.key', 'client-1.key'])],
    /client-1\.key has no certificate/,
  ],
  [
    'a folder and a key beside it',
    () => ['--tls-cert', made.clients.folder, '--tls-key', pairAt(0).keyPath],
    /is a folder of pairs/,
  ],
  ['an empty name for ALPN', () => ['--alpn', 'a,,b'], /comma list/],
];

function folderOf(name: string, names: readonly string[]): string {
  const folder = join(made.folder, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const each of names) cpSync(join(made.clients.folder, each), join(folder, each));
  return folder;
}

async function refuses(args: readonly string[], line: RegExp): Promise<void> {
  await assert.rejects(tlsOf(...args), (error) => {
    assert(error instanceof BenchError);
    assert.equal(error.exitCode, 2);
    assert.match(error.message, line);
    assert.doesNotMatch(error.message + error.hint, /BEGIN|\n/);
    return true;
  });
}

for (const [what, args, line] of REFUSED)
  test(`${what} is refused with one line before the run`, () => refuses(args(), line));

test('an encrypted key is refused, in either form of PEM', async () => {
  const { certPath, keyPath } = pairAt(0);
  for (const form of [
    ['pkcs8', '-topk8', '-v2', 'aes256'],
    ['ec', '-aes256'],
  ]) {
    const out = join(made.folder, `${form[0]}.enc`);
    execFileSync('openssl', [...form, '-in', keyPath, '-out', out, '-passout', 'pass:secret'], {
      stdio: 'pipe',
    });
    await refuses(['--tls-cert', certPath, '--tls-key', out], /the key is encrypted/);
  }
});

test('the flags of TLS go with no protocol without it', async () => {
  for (const flag of ['--tls-cert=x', '--tls-key=x', '--alpn=x', '--tls-resume']) {
    const command = await parseCommandLine(['-c', '1', '-t', 'mqtt://h', flag], {}, '1', 80);
    assert(command.kind === 'command');
    assert.throws(
      () => readRunRequest(command.values),
      /goes with tls:\/\/, wss:\/\/, https:\/\/ and mqtts:\/\/ only/,
    );
  }
});
