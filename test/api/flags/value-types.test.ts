import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Bounds, Flag } from '../../../src/api/flags/flag.ts';
import { FLAGS } from '../../../src/api/flags/flags.ts';
import { nearestWord } from '../../../src/api/flags/value-types.ts';
import { readRunRequest } from '../../../src/api/run-request.ts';
import { BenchError } from '../../../src/base/errors.ts';
import { RATE_PER_SEC_MAX } from '../../../src/base/units.ts';
import { parseCommandLine } from '../../../src/cli/command-line.ts';
import { NAME_CHARACTERS_MAX } from '../../../src/control/schema-part.ts';

const LIMITS = FLAGS.flatMap((flag): (readonly [Flag, Bounds])[] =>
  flag.bounds === undefined ? [] : [[flag, flag.bounds]],
);

/** What each flag may be given, in the form in which it is written back. */
const SAMPLES: Readonly<Record<string, readonly string[]>> = {
  stage: ['2m:130000', '0s:0'],
  lifetime: ['30s', 'exp:60s', 'uniform:10s..2m'],
  target: ['127.0.0.1:8000-8080', 'wss://h.example/a?b=c', 'self'],
  'source-ip': ['10.0.0.2-10.0.0.9', 'fd00::/120'],
  'source-ports': ['1024-32767,61000'],
  'source-prefix': ['10.1.0.0/20,fd00:1::/64'],
  'alias-dev': ['eth0', 'auto'],
  require: ['held>=99.9%', 'connect_p99<250ms'],
  'target-stats': ['http://10.0.0.1:8001/,http://10.0.0.2:8001/'],
  'expect-banner': ['SSH-2.0-'],
  'ws-message': ['hello there'],
  'first-message': ['PING\\r\\n', '0x0804', '{conn} {rand:8}', '@login.txt'],
  expect: ['+PONG', '/^[SN]/', '@answer.txt'],
  answer: ['2=3', '{}={}', '/^PING (.*)/=PONG $1'],
  send: ['{"id": {seq}}', '@message.bin'],
  'mqtt-client-id': ['device-{agent}-{conn}'],
  'mqtt-user': ['user-{conn}', '@user.txt'],
  'mqtt-password': ['@password.txt'],
  'mqtt-subscribe': ['devices/{conn}/commands'],
  'host-header': ['www.example:81'],
  header: ['Authorization: Bearer x', 'X-Empty: ', '@headers.txt'],
  'ws-protocol': ['graphql-transport-ws'],
  body: ['{"a": 1}', '@body.bin'],
  'tls-servername': ['www.example'],
  'tls-ca': ['ca.pem'],
  'tls-cert': ['client.pem', 'fleet/'],
  'tls-key': ['client.key'],
  alpn: ['http/1.1', 'h2,http/1.1'],
  'proxy-source': ['10.0.0.0/8'],
  'backend-from': ['header:X-Served-By', '/^id=([0-9]+)/', '/^(?:a|(b))/i'],
  'reopen-after': ['immediate', 'fixed:250ms', 'backoff:1s..90s'],
  'reopen-jitter': ['0%', '12.5%', '100%'],
  agents: ['local', 'remote', 'local,remote'],
  listen: ['0.0.0.0:7100', '[::]:0', '[fe80::1%eth0]:7100'],
  ssh: ['root@10.0.0.2,root@10.0.0.3'],
  'ssh-command': ['npx c100k-bench'],
  'ssh-option': ['-p 2222'],
  advertise: ['10.0.0.1:7100'],
  join: ['10.0.0.1:7100', '[fd00::1]:7100', '[fe80::1%eth0]:7100', 'ssh-client:7100'],
  'token-file': ['run.token'],
  name: ['host7'],
  'allow-target': ['10.0.0.0/8:8000-8080', '[2001:db8::/32]:443', '10.0.0.7/32'],
  'allow-source': ['10.0.0.0/8'],
  'allow-alias-dev': ['eth0'],
  'partial-report': ['last.json'],
  events: ['events.ndjson'],
  junit: ['junit.xml'],
  prometheus: ['c100k.prom'],
  json: ['r.json', '-'],
  html: ['report.html'],
  label: ['before=a1.json,a2.json'],
  'fail-on': ['connect_p99:10%'],
  markdown: ['compared.md'],
  live: ['127.0.0.1:0', '[::1]:8002', '[fe80::1%eth0]:8002'],
  'metrics-listen': ['127.0.0.1:9100'],
  otlp: ['http://127.0.0.1:4318/v1/metrics'],
  'stats-listen': ['127.0.0.1:8001', '[::1]:8001', '[fe80::1%eth0]:8001'],
  host: ['::1'],
  port: ['0', '65535'],
  image: ['registry.example/c100k-bench:1'],
  namespace: ['on'],
  'run-name': ['night-1'],
  cpu: ['500m'],
  memory: ['2Gi'],
  via: ['masquerade:1', 'haproxy:3x1,dnat'],
  'via-ports': ['32768-60999'],
  'via-source': ['192.168.0.102/24'],
  'via-server': ['192.168.0.101:8000'],
};

/** What no text flag takes. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  stage: ['', '9', '5x:9', '5s:9:9', '9:5s'],
  lifetime: ['', 'exp:', 'exp:x', '1ms', 'uniform:9s..1s', 'uniform:3..x'],
  target: ['', 'a', 'a:1,b:2', 'ftp://a:1'],
  'source-ip': ['', '10.0.0.300', '10.0.0.9-10.0.0.2'],
  'source-ports': ['0', '1-', '9-1', '1-5,3'],
  'source-prefix': ['10.1.0.0', '10.1.0.0/20,'],
  'alias-dev': ['', 'a b'],
  require: ['', 'held', 'held>=', 'heldd>=1'],
  'target-stats': ['', 'my-server', 'https://a:1', 'http://me@a:1'],
  'expect-banner': ['', 'x'.repeat(255)],
  'ws-message': ['', 'x'.repeat(4_097)],
  'first-message': ['', '{con}', '0x080', '\\q', '{rand:65}', 'x'.repeat(16_385)],
  expect: ['', '/(/', '/x/g', '//'],
  answer: ['', '2', '=3', '2=', '{conn}=x'],
  send: ['', '{seq:3}'],
  'host-header': ['', 'a b'],
  header: ['', '@', 'x', 'a b: c', 'X: é', 'Connection: close'],
  'ws-protocol': ['', 'a,b'],
  body: ['', 'x'.repeat(65_537)],
  alpn: ['', 'h2,h2', 'a b'],
  'tls-servername': ['', '10 0'],
  'backend-from': [
    '',
    'X-Served-By',
    'header:',
    'header:a b',
    '/x/',
    '/(a)(b)/',
    '/(/',
    `/(${'a'.repeat(256)})/`,
  ],
  'reopen-after': [
    '',
    'later',
    'fixed',
    'fixed:',
    'fixed:0s',
    'fixed:2d',
    'backoff:1s',
    'backoff:9s..1s',
    'backoff:1s..',
  ],
  'reopen-jitter': ['', '-1%', '101%', 'half', '0x10'],
  agents: ['', 'locl', 'local,'],
  listen: ['', '7100', 'a:99999', '[FE80::1]:7100', '[fe80::1%]:7100'],
  ssh: ['', '-oProxyCommand=x', 'a,'],
  join: ['', 'a', 'a:1-2', 'self', '[fe80::1]:7100'],
  name: ['', 'n'.repeat(NAME_CHARACTERS_MAX + 1)],
  'allow-target': ['10.0.0.0/33', 'x'],
  'allow-source': ['10.0.0.0/33', ''],
  'allow-alias-dev': ['auto', ''],
  label: ['', 'before', '=a.json'],
  'fail-on': ['', 'connect_p99', 'connect_p9:10%'],
  live: ['8001', '127.0.0.1:99999'],
  'metrics-listen': ['8001', 'localhost:9100'],
  otlp: ['', 'collector', 'ftp://127.0.0.1/'],
  'stats-listen': ['8001', 'localhost:8001', '127.0.0.1:99999', '[fe80::1]:8001'],
  port: ['', '-1', '65536', '1e3'],
  image: ['', '-x', 'a b'],
  namespace: ['', 'On', 'x'.repeat(64)],
  'run-name': ['', 'x'.repeat(41)],
  cpu: ['', 'much'],
  memory: ['2GiB'],
  via: ['', 'nat', 'snat:0'],
  'via-ports': ['0'],
  'via-source': ['192.168.0'],
};

/** Values of numbers, spread over the range. */
function numbersWithin(bounds: Bounds): fc.Arbitrary<number> {
  if (bounds.kind === 'rate') return fc.double({ min: 1e-9, max: RATE_PER_SEC_MAX, noNaN: true });
  const [min, max] = bounds.kind === 'count' ? [bounds.min, bounds.max] : [bounds.minMs, bounds.maxMs];
  return fc.maxSafeInteger().map((some) => min + (Math.abs(some) % (max - min + 1)));
}

/** What people and scripts type where a number belongs. */
const EXTREMES = [
  ...['0', '-1', '-0', '1e-9', '1e308', '1e400', 'NaN', 'Infinity', '-Infinity', '', ' ', '0x10', '٣', '½'],
  ...[
    '9007199254740992',
    '9007199254740993',
    '18446744073709551616',
    '9'.repeat(400),
    `0.${'0'.repeat(400)}1`,
  ],
  ...['1.7976931348623157e308', '2147483648', '4294967296ms', '999999999999d', '0.0000001ms', '1/0', '0/h'],
  ...['1;reboot', '1\n2', '\u001b[2J1', '1k1m', 'k', 'm', '/s', '1/d', '--1', '+-1'],
];

/** One line and a hint, whatever was typed. */
function assertTold(error: unknown, name: string, text: string): void {
  assert.ok(error instanceof BenchError, `--${name} ${JSON.stringify(text)}: ${String(error)}`);
  assert.equal(error.exitCode, 2);
  assert.match(
    `${error.message}${error.hint}`,
    /^[^\p{Cc}]+$/u,
    'one line, and nothing that a terminal obeys',
  );
  assert.ok(['bad-number', 'bad-duration', 'bad-rate'].includes(error.code), error.code);
  assert.ok(error.hint.includes(name) || error.hint.includes('leave'), error.hint);
}

describe('every flag with a number', () => {
  it('gives a number in its range for whatever is typed, or one clear refusal', () => {
    let refused = 0;
    for (const [{ name, parse }, bounds] of LIMITS) {
      for (const text of EXTREMES) {
        let value: unknown;
        try {
          value = parse(text, `--${name}`);
        } catch (error) {
          assertTold(error, name, text);
          refused += 1;
          continue;
        }
        assert.ok(typeof value === 'number' && Number.isFinite(value), `--${name} ${text}`);
        if (bounds.kind === 'rate') assert.ok(value > 0 && value <= RATE_PER_SEC_MAX, `--${name} ${text}`);
        else {
          const [low, high] =
            bounds.kind === 'count' ? [bounds.min, bounds.max] : [bounds.minMs, bounds.maxMs];
          assert.ok(
            Number.isSafeInteger(value) && value >= low && value <= high,
            `--${name} ${text} is ${value}`,
          );
        }
      }
    }
    assert.ok(refused > LIMITS.length * 20, `${refused} of ${LIMITS.length * EXTREMES.length} are refused`);
  });

  it('takes both ends of its range and nothing beyond', () => {
    for (const [{ name, parse }, bounds] of LIMITS) {
      if (bounds.kind === 'rate') continue;
      const unit = bounds.kind === 'count' ? '' : 'ms';
      const [low, high] = bounds.kind === 'count' ? [bounds.min, bounds.max] : [bounds.minMs, bounds.maxMs];
      for (const end of [low, high]) assert.equal(parse(`${end}${unit}`, `--${name}`), end, name);
      for (const end of [low - 1, high + 1]) {
        assert.throws(() => parse(`${end}${unit}`, `--${name}`), BenchError, `--${name} ${end}${unit}`);
      }
    }
  });

  it('is read through these ranges by a run: what is out of them is refused', async () => {
    const tried: readonly [string, string, string][] = [
      ['127.0.0.1:9', 'conns', '100000001'],
      ['127.0.0.1:9', 'connect-timeout', '365d'],
      ['127.0.0.1:9', 'max-pending', '0'],
      ['127.0.0.1:9', 'duration', '366d'],
      ['127.0.0.1:9', 'holders', '257'],
      ['127.0.0.1:9', 'alias-lease', '2h'],
      ['echo://127.0.0.1:9', 'probe-every', '8d'],
      ['echo://127.0.0.1:9', 'probe-timeout', '2h'],
      ['http://127.0.0.1:9', 'http-status', '99'],
    ];
    for (const [target, name, text] of tried) {
      const conns = name === 'conns' ? [] : ['-c', '5'];
      const parsed = await parseCommandLine(['-t', target, ...conns, `--${name}`, text], {}, '0', 80);
      assert.ok(parsed.kind === 'command');
      assert.throws(
        () => readRunRequest(parsed.values),
        (error) => {
          assertTold(error, name, text);
          return true;
        },
      );
    }
  });
});

describe('--rate', () => {
  const ask = async (conns: string, rate: string): Promise<number | null> => {
    const parsed = await parseCommandLine(['-t', '127.0.0.1:9', '-c', conns, '-r', rate], {}, '0', 80);
    assert.ok(parsed.kind === 'command');
    return readRunRequest(parsed.values).spec.ratePerSec;
  };

  it('whose ramp would take more than a year is refused with the arithmetic and a rate that will do', async () => {
    await assert.rejects(ask('1000', '0.000000001'), (error) => {
      assert.ok(error instanceof BenchError && error.exitCode === 2);
      assert.match(error.message, /takes 11,574,074 days for 1,000 connections, more than 365d/);
      assert.equal(error.hint, 'type --rate 1/h or more');
      return true;
    });
    assert.ok((await ask('1000', '1/h')) !== null, 'what the hint says works');
    assert.equal(await ask('8760', '1/h'), 1 / 3_600, 'exactly a year');
    await assert.rejects(ask('8761', '1/h'), BenchError);
  });
});

describe('the type of every flag', () => {
  const single = FLAGS.filter((flag) => flag.kind !== 'switch');

  it('has samples here, or is a number or one of a few words', () => {
    const without = single.filter((flag) => flag.bounds === undefined && flag.choices === undefined);
    assert.deepEqual(without.map((flag) => flag.name).toSorted(), Object.keys(SAMPLES).toSorted());
  });

  it('writes back what it reads: the same text where that was its form, and the same value', () => {
    for (const { name, parse, write, choices, default: fallback } of single) {
      const texts = [...(choices ?? []), ...(SAMPLES[name] ?? []), ...(fallback === null ? [] : [fallback])];
      for (const text of texts) {
        const value = parse(text, `--${name}`);
        assert.equal(write(value), text, `--${name}`);
        assert.deepEqual(parse(write(value), `--${name}`), value, `--${name}`);
      }
    }
  });

  it('writes every number of its range so that it is read back', () => {
    for (const [{ name, parse, write }, bounds] of LIMITS) {
      const property = fc.property(numbersWithin(bounds), (value) => {
        assert.equal(parse(write(value), `--${name}`), value, `--${name} ${write(value)}`);
      });
      fc.assert(property, { numRuns: 200 });
    }
  });

  it('refuses what it is not with the flag or the value, exit code 2, and a hint in one line', () => {
    const tried = single.flatMap((flag) =>
      [...(REFUSED[flag.name] ?? []), ...(flag.choices === undefined ? [] : ['', 'nonsense'])].map(
        (text) => [flag, text] as const,
      ),
    );
    assert.ok(tried.length > 80);
    for (const [flag, text] of tried) {
      assert.throws(
        () => flag.parse(text, `--${flag.name}`),
        (error) => {
          assert.ok(error instanceof BenchError, `--${flag.name} ${JSON.stringify(text)}: ${String(error)}`);
          assert.equal(error.exitCode, 2);
          assert.ok(error.hint.length > 5 && !/[\n\r]/.test(error.message + error.hint));
          return true;
        },
        `--${flag.name} ${JSON.stringify(text)}`,
      );
    }
  });

  it('says of a value of several parts what the whole may be, and takes what it says', () => {
    for (const name of ['stage', 'lifetime', 'reopen-after']) {
      const flag = FLAGS.find((one) => one.name === name);
      for (const text of REFUSED[name] ?? []) {
        assert.throws(
          () => flag?.parse(text, `--${name}`),
          (error) => {
            const [, typed] = /^type --[a-z-]+ ([^\s]+?):?(?:\s|$)/.exec((error as BenchError).hint) ?? [];
            assert.ok(typed !== undefined, (error as BenchError).hint);
            flag?.parse(typed, `--${name}`);
            return true;
          },
        );
      }
    }
  });

  it('names the variable, not the flag, where the value came from the environment', () => {
    for (const name of ['conns', 'alias-dev', 'listen', 'agents', 'ssh', 'image', 'port', 'target-stats']) {
      const flag = FLAGS.find((one) => one.name === name);
      assert.throws(
        () => flag?.parse('!', 'C100K_X'),
        (error) => error instanceof BenchError && /C100K_X\b/.test(error.message),
        name,
      );
    }
  });
});

const WORDS = ['target', 'conns', 'connect-timeout', 'rate', 'duration', 'source-ip', 'json', 'quiet'];

describe('the guess at a mistyped word', () => {
  it('finds what was shortened, lengthened, swapped or misspelt', () => {
    assert.equal(nearestWord('conn', WORDS), 'conns');
    assert.equal(nearestWord('connections', WORDS), null, 'as far from conns as from connect-timeout');
    assert.equal(nearestWord('tagret', WORDS), 'target');
    assert.equal(
      nearestWord('paln', ['plan', 'path']),
      'plan',
      'neighbours in the wrong order are one mistake',
    );
    assert.equal(nearestWord('agnet', ['agent', 'plan']), 'agent');
    assert.equal(nearestWord('durations', WORDS), 'duration');
    assert.equal(nearestWord('source_ip', WORDS), 'source-ip');
    assert.equal(nearestWord('jsn', WORDS), 'json');
  });

  it('does not guess when nothing is near', () => {
    assert.equal(nearestWord('x', WORDS), null);
    assert.equal(nearestWord('', WORDS), null);
    assert.equal(nearestWord('keepalive', WORDS), null);
  });
});
