/** Owns the proof that a target is read as typed or refused with a hint. Must never resolve a name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addressPart,
  DEFAULT_PROTOCOL_OPTIONS,
  endpointsOf,
  formatEndpoint,
  PROTOCOL_NAMES,
  type ProtocolOptions,
  parseTarget,
  type TargetSpec,
  zoneOf,
  zoneProblem,
} from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import { DEFAULT_REQUEST_OPTIONS } from '../../src/base/request-options.ts';
import { NO_TRAFFIC } from '../../src/base/traffic-options.ts';
import { coordinatorMessageIn } from '../support/decoded.ts';

/** What matters of a target, as one line. */
function lineOf(target: TargetSpec): string {
  return `${target.protocol} ${target.host} ${target.portFrom}-${target.portTo} ${target.self}`;
}

test('a target is a host and a port, with a scheme, a range or brackets if wanted', () => {
  for (const [text, line] of [
    ['1.2.3.4:8000', 'tcp 1.2.3.4 8000-8000 false'],
    ['1.2.3.4:8000-8080', 'tcp 1.2.3.4 8000-8080 false'],
    ['[::1]:8000', 'tcp ::1 8000-8000 false'],
    ['[2001:DB8:0::1]:1-65535', 'tcp 2001:db8::1 1-65535 false'],
    ['tcp://Example.COM:80', 'tcp example.com 80-80 false'],
    ['TCP://a-b.c_d:80/', 'tcp a-b.c_d 80-80 false'],
    ['echo://[::1]:7', 'echo ::1 7-7 false'],
    ['localhost:65535', 'tcp localhost 65535-65535 false'],
    ['self', 'tcp 127.0.0.1 0-0 true'],
    ['echo://self', 'echo 127.0.0.1 0-0 true'],
    ['self:8000', 'tcp self 8000-8000 false'],
  ] as const) {
    assert.equal(lineOf(parseTarget(text)), line);
  }
});

test('requests have a path, and their schemes a port of their own', () => {
  for (const [text, line, path] of [
    ['ws://h/chat?a=1/2', 'ws h 80-80 false', '/chat?a=1/2'],
    ['wss://[::1]', 'wss ::1 443-443 false', '/'],
    ['http://1.2.3.4:8000-8010?x', 'http 1.2.3.4 8000-8010 false', '/?x'],
    ['https://h:8443/', 'https h 8443-8443 false', '/'],
  ] as const) {
    const target = parseTarget(text);
    assert.equal(lineOf(target), line);
    assert.equal(target.path, path);
  }
  assert.equal(parseTarget('tls://h:443').path, null);
});

test('a link-local address has a zone, in a URL with %25 as well, and endpoints carry it', () => {
  for (const [text, address, zone, names] of [
    ['[fe80::1%eth0]:80', 'fe80::1', 'eth0', ['[fe80::1%eth0]:80']],
    [
      'tcp://[FE80:0::1%eth0.100]:80-81',
      'fe80::1',
      'eth0.100',
      ['[fe80::1%eth0.100]:80', '[fe80::1%eth0.100]:81'],
    ],
    ['wss://[fe80::1%25wlan0]/a%20b', 'fe80::1', 'wlan0', ['[fe80::1%wlan0]:443']],
    ['[fe80::1%25]:80', 'fe80::1', '25', ['[fe80::1%25]:80']],
  ] as const) {
    const target = parseTarget(text);
    assert.deepEqual([target.host, target.zone], [address, zone], text);
    const endpoints = endpointsOf(target, [target.host]);
    assert.deepEqual(endpoints.map(formatEndpoint), names);
    assert.deepEqual(
      endpoints.map(formatEndpoint).map(addressPart),
      names.map(() => address),
    );
    for (const name of names)
      assert.equal(formatEndpoint(endpointsOf(parseTarget(name), [address])[0]!), name);
  }
  assert.equal(parseTarget('wss://[fe80::1%25wlan0]/a%20b').path, '/a%20b');
  assert.equal(addressPart('[::1]:80'), '::1');
  assert.equal(addressPart('10.0.0.1:80'), '10.0.0.1');
});

test('endpoints of one run have one zone', () => {
  const of = (...texts: string[]) =>
    texts.flatMap((text) => {
      const target = parseTarget(text);
      return endpointsOf(target, [target.host]);
    });
  const fine = of('10.0.0.1:80', '[fe80::1%a]:80', '[fe80::2%a]:81');
  assert.equal(zoneProblem(fine), null);
  assert.equal(zoneOf(fine), 'a');
  assert.equal(zoneProblem(of('10.0.0.1:80', '[::1]:80')), null);
  assert.equal(zoneOf(of('10.0.0.1:80', '[::1]:80')), undefined);
  for (const other of ['[fe80::1%b]:80', '[fd00::1]:80'])
    assert.match(zoneProblem(of('[fe80::1%a]:80', other)) ?? '', /cannot be reached from the same source/);
});

test('a wrong target is refused by name of what is wrong, with a target that can be typed', () => {
  for (const [text, message, hint] of [
    ['', /the host is missing/, '127.0.0.1:8000'],
    ['example.com', /the port is missing/, 'example.com:8000'],
    ['example.com:', /the port is missing/, 'example.com:8000'],
    ['[::1]', /the port is missing/, '[::1]:8000'],
    ['h:0', /port 0 is outside 1 to 65535/, 'h:8000'],
    ['h:70000', /port 70000 is outside 1 to 65535/, 'h:8000'],
    ['h:8000-70000', /port 70000 is outside/, 'h:8000'],
    ['h:8080-8000', /ends before it starts/, 'h:8000-8080'],
    ['h:http', /"http" is not a port/, 'h:8000'],
    ['h:80-', /"80-" is not a port/, 'h:8000'],
    ['h:-80', /"-80" is not a port/, 'h:8000'],
    [':8000', /the host is missing/, '127.0.0.1:8000'],
    ['tcp://:9', /the host is missing/, 'tcp://127.0.0.1:9'],
    ['[]:9', /the host is missing/, '127.0.0.1:9'],
    ['ftp://h:21', /unknown scheme "ftp:\/\/" \(known: tcp:\/\/, echo:\/\/, .*wss:\/\//, 'tcp://h:21'],
    ['://h:21', /unknown scheme/, 'tcp://h:21'],
    ['::1:8000', /an IPv6 address needs brackets/, '[::1]:8000'],
    ['2001:db8::1', /an IPv6 address needs brackets/, '[2001:db8::1]:8000'],
    ['tcp://fd00::5:80-90', /an IPv6 address needs brackets/, 'tcp://[fd00::5]:80-90'],
    ['a:b:80', /an IPv6 address needs brackets/, '[::1]:8000'],
    ['[::g]:80', /is not an IPv6 address/, '[::1]:8000'],
    ['1.2.3.400:80', /"1\.2\.3\.400" is not an IPv4 address/, '127.0.0.1:8000'],
    ['1.2.3:80', /is not an IPv4 address/, '127.0.0.1:8000'],
    ['fe80::1%eth0', /brackets/, '[fe80::1%eth0]:8000'],
    ['ws://fe80::1%25eth0:80', /brackets/, 'ws://[fe80::1%25eth0]:80'],
    ['[fe80::1]:80', /fe80::1 is link-local and needs a zone/, '[fe80::1%eth0]:80'],
    ['ws://[FEBF::1]/a%20b', /febf::1 is link-local and needs a zone/, 'ws://[febf::1%eth0]/a%20b'],
    ['[fd00::1%eth0]:80', /fd00::1 is not link-local/, '[fd00::1]:80'],
    ['[10.0.0.1%eth0]:80', /"10.0.0.1" is not an IPv6 address/, '[fe80::1%eth0]:80'],
    ['[fe80::1%]:80', /"" is not the name of a device/, '[fe80::1%eth0]:80'],
    ['[fe80::1%a-device-of-16--]:80', /is not the name of a device/, '[fe80::1%eth0]:80'],
    ['[fe80::1%$(id)]:80', /is not the name of a device/, '[fe80::1%eth0]:80'],
    ['user@h:80', /"user@h" is not a host name/, 'host:8000'],
    ['-h:80', /is not a host name/, 'host:8000'],
    ['tcp://h:80/path', /tcp has no path/, 'tcp://h:80'],
    ['tls://h:443/path', /tls has no path/, 'tls://h:443'],
    ['tls://h', /the port is missing/, 'tls://h:8000'],
    ['ws://h:80/a#b', /visible ASCII without #/, 'ws://h:80/'],
    ['http://h:80/ä', /visible ASCII/, 'http://h:80/'],
    ['wss://self', /the built-in target does not speak wss/, 'self'],
  ] as const) {
    assert.throws(
      () => parseTarget(text),
      (error) => {
        assert(error instanceof BenchError, `${text}: not a BenchError: ${error}`);
        assert.equal(error.code, 'bad-endpoint');
        assert.match(error.message, message, text);
        assert(error.message.startsWith('--target '), error.message);
        const typed = /^type --target (\S+)/.exec(error.hint)?.[1] ?? '';
        assert.equal(typed, hint, text);
        assert.doesNotThrow(() => parseTarget(typed), `the hint for ${text} does not work`);
        return true;
      },
      text,
    );
  }
});

test('a list in one --target becomes one --target each, and each can be typed', () => {
  for (const [text, hint] of [
    ['a b:80', 'type --target a:8000 --target b:80'],
    ['h:80,tcp://[::1]:81', 'type --target h:80 --target tcp://[::1]:81'],
    ['a;b', 'type --target a:8000 --target b:8000'],
    ['-x,', 'type --target host:8000'],
  ] as const) {
    assert.throws(
      () => parseTarget(text),
      (error) => {
        assert(error instanceof BenchError && error.code === 'bad-endpoint', String(error));
        assert.match(error.message, /one --target names one host, and this is a list$/);
        assert.equal(error.hint, hint, text);
        return true;
      },
    );
  }
});

test('any text is either a target or a bad endpoint, never a crash', () => {
  const pieces = fc.string({
    unit: fc.constantFrom('a', '1', ':', '/', '[', ']', '-', '.', '::', '%', '80', 'fe80::1', 'eth0'),
    maxLength: 12,
  });
  fc.assert(
    fc.property(fc.oneof(pieces, fc.string()), (text) => {
      try {
        const target = parseTarget(text);
        assert(target.self || (target.portFrom >= 1 && target.portTo <= 65_535 && target.host !== ''));
      } catch (error) {
        assert(error instanceof BenchError && error.code === 'bad-endpoint', `${text}: ${error}`);
      }
    }),
    { numRuns: 1_000 },
  );
});

test('an endpoint that was written is a target that reads as the same endpoint', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 1, max: 65_535 }), (address, port) => {
      const typed = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
      const [endpoint] = endpointsOf(parseTarget(typed), [address]);
      assert(endpoint !== undefined);
      assert.deepEqual(endpointsOf(parseTarget(formatEndpoint(endpoint)), [endpoint.address]), [endpoint]);
    }),
  );
});

test('a target with several addresses and ports has one endpoint for each pair', () => {
  const target = parseTarget('name:8000-8001');
  assert.deepEqual(
    endpointsOf(target, ['10.0.0.1', '::1', '::ffff:10.0.0.1', '0:0::1']).map(formatEndpoint),
    ['10.0.0.1:8000', '[::1]:8000', '10.0.0.1:8001', '[::1]:8001'],
  );
  assert.equal(endpointsOf(target, ['::1'])[0]?.family, 6);
  assert.deepEqual(endpointsOf(target, []), []);
  assert.throws(() => endpointsOf(parseTarget('h:1-65535'), ['10.0.0.1', '10.0.0.2']), {
    code: 'bad-endpoint',
    message: /131,070 endpoints/,
  });
  assert.throws(() => endpointsOf(parseTarget('self'), ['127.0.0.1']), { name: 'AssertionError' });
});

test('every known scheme is accepted', () => {
  for (const protocol of PROTOCOL_NAMES) assert.equal(parseTarget(`${protocol}://h:1`).protocol, protocol);
});

function decoded(change: object): ReturnType<typeof coordinatorMessageIn> {
  const spec = {
    endpoints: [{ address: '127.0.0.1', port: 443, family: 4 }],
    protocol: 'wss',
    protocolOptions: { ...DEFAULT_PROTOCOL_OPTIONS, ...change },
    connections: 5,
    ratePerSec: null,
    pendingMax: 5,
    connectTimeoutMs: 1_000,
    holdMs: 1_000,
    close: 'rst',
    probeEveryMs: 1_000,
    probeTimeoutMs: 1_000,
    sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
    holders: null,
    onDrop: 'count',
    wantsLossDetails: false,
  };
  return coordinatorMessageIn(
    JSON.stringify({
      type: 'spec',
      runId: 'r',
      epoch: 1,
      spec,
      mayGrow: false,
      leaseMs: 30_000,
      quietMs: 10_000,
    }),
  );
}

const TLS = DEFAULT_PROTOCOL_OPTIONS.tls;
const REQUEST = DEFAULT_REQUEST_OPTIONS;
const WORD = { isBinary: false, parts: [{ type: 'bytes', base64: 'Mg==' }] } as const;
const RULE = { pattern: { type: 'text', template: WORD }, reply: WORD } as const;

test('options arrive as they were sent', () => {
  const options: ProtocolOptions = {
    path: '/chat?x=1',
    host: 'server.example',
    hostHeader: '[::1]:8000',
    banner: '',
    message: 'grüß dich',
    httpStatus: 204,
    tls: { servername: 'a.example', ca: '-----BEGIN CERTIFICATE-----', isVerified: false },
    request: {
      method: 'PUT',
      headers: [{ name: 'X-A', value: 'b c' }],
      body: 'AAEC/w==',
      subprotocols: ['mqtt'],
    },
    traffic: {
      first: { isBinary: true, parts: [{ type: 'bytes', base64: '/wA=' }] },
      expect: { type: 'regex', source: '^[SN]', flags: 'i' },
      answers: [
        {
          pattern: { type: 'text', template: WORD },
          reply: { isBinary: false, parts: [{ type: 'group', index: 1 }] },
        },
      ],
      send: {
        template: {
          isBinary: false,
          parts: [
            { type: 'field', name: 'conn' },
            { type: 'rand', size: 16 },
          ],
        },
        everyMs: 1_000,
      },
    },
  };
  const message = decoded(options);
  assert(message.type === 'spec', message.type);
  assert.deepEqual(message.spec.protocolOptions, options);
});

for (const [what, change] of [
  ['a path without its slash', { path: 'chat' }],
  ['a path that ends the request line', { path: '/ HTTP/1.1\r\nX: y' }],
  ['a path that is too long', { path: `/${'x'.repeat(2_048)}` }],
  ['a header in the Host field', { hostHeader: 'a\r\nX: y' }],
  ['a header in the host', { host: 'a\r\nX: y' }],
  ['a banner above 254 bytes', { banner: 'é'.repeat(128) }],
  ['an empty message', { message: '' }],
  ['a message above 4,096 bytes', { message: 'x'.repeat(4_097) }],
  ['an interim status', { httpStatus: 101 }],
  ['an address for SNI', { tls: { ...TLS, servername: '10.0.0.1' } }],
  ['a header that ends its line', { request: { ...REQUEST, headers: [{ name: 'X', value: 'a\r\nY: b' }] } }],
  [
    'a header of the connection',
    { request: { ...REQUEST, headers: [{ name: 'connection', value: 'close' }] } },
  ],
  [
    'more than 64 headers',
    { request: { ...REQUEST, headers: Array.from({ length: 65 }, () => ({ name: 'X', value: '' })) } },
  ],
  ['a body that is no base64', { request: { ...REQUEST, body: '\r\n' } }],
  ['a body above 64 KiB', { request: { ...REQUEST, body: 'A'.repeat(87_388) } }],
  ['a subprotocol that ends its line', { request: { ...REQUEST, subprotocols: ['a\r\nX: y'] } }],
  ['a message without a part', { traffic: { ...NO_TRAFFIC, first: { isBinary: false, parts: [] } } }],
  [
    'a place that is not known',
    { traffic: { ...NO_TRAFFIC, first: { isBinary: false, parts: [{ type: 'field', name: 'token' }] } } },
  ],
  [
    'a message above 16 KiB',
    {
      traffic: {
        ...NO_TRAFFIC,
        first: { isBinary: false, parts: Array.from({ length: 5 }, () => ({ type: 'group', index: 1 })) },
      },
    },
  ],
  ['more than 16 answers', { traffic: { ...NO_TRAFFIC, answers: Array.from({ length: 17 }, () => RULE) } }],
  [
    'an expression that is none',
    { traffic: { ...NO_TRAFFIC, expect: { type: 'regex', source: '(', flags: '' } } },
  ],
  [
    'an expression that keeps a place',
    { traffic: { ...NO_TRAFFIC, expect: { type: 'regex', source: 'x', flags: 'g' } } },
  ],
  [
    'messages too soon after each other',
    { traffic: { ...NO_TRAFFIC, send: { template: WORD, everyMs: 99 } } },
  ],
  ['a CA above 1 MiB', { tls: { ...TLS, ca: 'x'.repeat(1_048_577) } }],
] as const) {
  test(`${what} is refused`, () => {
    assert.equal(decoded(change).type, 'malformed');
  });
}

test('a key that is not known is left out', () => {
  const message = decoded({ tls: { ...TLS, key: 'secret' } });
  assert(message.type === 'spec', message.type);
  assert.deepEqual(message.spec.protocolOptions?.tls, TLS);
});
