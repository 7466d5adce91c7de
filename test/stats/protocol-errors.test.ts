/** Tests what a person is told about connections that a protocol gave up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  OTHER_PROTOCOL_ERROR,
  ProtocolErrorTally,
  protocolErrorNotes,
} from '../../src/stats/protocol-errors.ts';

test('a certificate that will not do is named with its code and what to type', () => {
  assert.deepEqual(
    protocolErrorNotes({ 'tls CERT_HAS_EXPIRED': 5_000, 'http status 404': 7_000, 'tls ODD': 1 }),
    [
      '7,000 x http status 404; check the path of --target',
      '5,000 tls: certificate has expired (CERT_HAS_EXPIRED); pass --insecure, or renew it',
      '1 tls: ODD',
    ],
  );
});

test('what a request can fix is named by its flag', () => {
  const notes = protocolErrorNotes({
    'ws no subprotocol of those offered was chosen': 4,
    'ws a subprotocol that was not offered': 3,
    'http status 401': 2,
    'http status 405': 1,
  });
  const flags = ['--ws-protocol', '--ws-protocol', '--header', '--method'];
  for (const [at, flag] of flags.entries()) assert.ok(notes[at]?.includes(flag), notes[at]);
});

test('what a broker says is named by the flag that helps', () => {
  const helps: readonly (readonly [detail: string, help: RegExp])[] = [
    ['mqtt CONNACK 1: unacceptable protocol version', /--mqtt-version/],
    ['mqtt CONNACK 2: identifier rejected', /--mqtt-client-id and --mqtt-keep-alive/],
    ['mqtt CONNACK 135: not authorized', /--mqtt-user and --mqtt-password/],
    ['mqtt SUBACK 135: not authorized', /--mqtt-subscribe/],
    ['mqtt DISCONNECT 142: session taken over', /--mqtt-client-id/],
  ];
  for (const [detail, help] of helps) assert.match(protocolErrorNotes({ [detail]: 3 })[0] ?? '', help);
  assert.deepEqual(protocolErrorNotes({ 'mqtt a second CONNACK': 1 }), ['1 x mqtt a second CONNACK']);
});

// PROTOCOL.md: memory-tables
test('details are counted, and too many different ones under one key', () => {
  const tally = new ProtocolErrorTally();
  assert.equal(tally.isEmpty, true);
  for (let status = 0; status < 64 + 10; status++) tally.add(`http status ${status}`);
  tally.add('http status 0');
  const counts = tally.counts();
  assert.equal(Object.keys(counts).length, 64 + 1);
  assert.equal(counts[OTHER_PROTOCOL_ERROR], 10);
  assert.equal(counts['http status 0'], 2);
});
