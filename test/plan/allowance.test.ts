import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import {
  type Allowance,
  allowedShare,
  allowsEndpoint,
  checkAllowance,
  OWNER_ALLOWANCE,
  parseAllowedTarget,
} from '../../src/plan/allowance.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';

const STRANGER: Allowance = { ...OWNER_ALLOWANCE, isOwner: false };
const endpoint = (address: string, port = 8000): Endpoint => ({
  address,
  port,
  family: address.includes(':') ? 6 : 4,
});
const allowing = (...texts: string[]): Allowance => ({ ...STRANGER, targets: texts.map(parseAllowedTarget) });

describe('an agent without --allow-target', () => {
  it('accepts private and loopback targets, IPv4-mapped ones included', () => {
    for (const near of ['127.0.0.1', '10.1.2.3', '192.168.0.101', '::1', 'fd00::1', '::ffff:10.0.0.1']) {
      assert.ok(allowsEndpoint(STRANGER, endpoint(near)), near);
    }
  });

  it('refuses the rest of the world, also when it hides behind ::ffff:', () => {
    for (const far of ['1.2.3.4', '8.8.8.8', '2001:db8::1', '::ffff:8.8.8.8', '0.0.0.0', '172.32.0.1']) {
      assert.ok(!allowsEndpoint(STRANGER, endpoint(far)), far);
    }
  });
});

describe('the metadata service of a cloud', () => {
  const addresses = [
    ...['169.254.169.254', '::ffff:169.254.169.254', '::ffff:a9fe:a9fe', '169.254.0.23', '169.254.170.2'],
    ...[
      'fe80::a9fe:a9fe',
      'fe80::1',
      'febf::1',
      'fd00:ec2::254',
      'fd00:ec2::23',
      'fd20:ce::254',
      'fd00:42::42',
    ],
    ...[
      '100.100.100.200',
      '::ffff:100.100.100.200',
      '168.63.129.16',
      '64:ff9b::a9fe:a9fe',
      '::169.254.169.254',
    ],
  ];

  it('is no target by default, however its address is written', () => {
    for (const address of addresses) assert.ok(!allowsEndpoint(STRANGER, endpoint(address, 80)), address);
  });

  it('is one where the owner names it', () => {
    assert.ok(allowsEndpoint(allowing('169.254.0.0/16'), endpoint('::ffff:169.254.169.254', 80)));
    assert.ok(allowsEndpoint(allowing('[fd00:ec2::254]:80'), endpoint('fd00:ec2::254', 80)));
  });

  it('takes no neighbour with it', () => {
    for (const near of ['100.100.100.201', 'fd00:ec3::1', 'fd20:ce::253', '10.254.169.254'])
      assert.ok(allowsEndpoint(STRANGER, endpoint(near)), near);
  });
});

describe('an agent with --allow-target', () => {
  it('keeps to the network and the ports', () => {
    const allowance = allowing(
      '10.0.0.0/24:8000-8080',
      '[2001:db8::]/32:443'.replace('[2001:db8::]/32', '[2001:db8::/32]'),
    );
    assert.ok(allowsEndpoint(allowance, endpoint('10.0.0.9', 8080)));
    assert.ok(!allowsEndpoint(allowance, endpoint('10.0.0.9', 8081)));
    assert.ok(!allowsEndpoint(allowance, endpoint('10.0.1.9', 8080)));
    assert.ok(!allowsEndpoint(allowance, endpoint('127.0.0.1', 8080)), 'the default is gone');
    assert.ok(allowsEndpoint(allowance, endpoint('2001:db8::7', 443)));
    assert.ok(!allowsEndpoint(allowance, endpoint('2001:db8::7', 80)));
  });

  it('may be set to accept everything', () => {
    assert.ok(allowsEndpoint(allowing('0.0.0.0/0'), endpoint('8.8.8.8', 1)));
    assert.ok(allowsEndpoint(allowing('0.0.0.0/0'), endpoint('::ffff:8.8.8.8', 1)));
    assert.ok(!allowsEndpoint(allowing('0.0.0.0/0'), endpoint('2001:db8::1', 1)), 'IPv6 is another decision');
  });

  it('is narrowed further by its token', () => {
    const both = { ...allowing('10.0.0.0/8'), tokenTargets: [parseAllowedTarget('10.1.0.0/16')] };
    assert.ok(allowsEndpoint(both, endpoint('10.1.0.1')));
    assert.ok(!allowsEndpoint(both, endpoint('10.2.0.1')));
    const tokenOnly = { ...STRANGER, tokenTargets: [parseAllowedTarget('1.2.3.4')] };
    assert.ok(allowsEndpoint(tokenOnly, endpoint('1.2.3.4')));
    assert.ok(!allowsEndpoint(tokenOnly, endpoint('127.0.0.1')));
  });

  it('takes networks of IPv6 with and without brackets', () => {
    for (const text of ['2001:db8::/32', '[2001:db8::/32]', '[2001:db8::/32]:8000,9000-9010', '::/0'])
      assert.ok(allowsEndpoint(allowing(text), endpoint('2001:db8::1')), text);
    assert.ok(allowsEndpoint(allowing('fe80::/10'), endpoint('fe80::1')));
    assert.ok(!allowsEndpoint(allowing('fe80::/10'), endpoint('2001:db8::1')));
    assert.ok(!allowsEndpoint(allowing('[2001:db8::/32]:9000'), endpoint('2001:db8::1')));
  });

  it('names its own flag in what it says of a text that is none, with a text that can be typed', () => {
    const HINTS = [
      ['fe80::/10:8000', '[fe80::/10]:8000'],
      ['10.0.0.1:x', '10.0.0.0/8:8000-8080'],
      ['10.0.0.1:20-10', '10.0.0.0/8:8000-8080'],
      ['10.0.0.0/33', '10.0.0.0/8:8000-8080'],
      ['foo:80', '10.0.0.0/8:8000-8080'],
    ] as const;
    for (const [text, example] of HINTS) {
      assert.throws(
        () => parseAllowedTarget(text),
        (error: unknown) => {
          assert.ok(error instanceof BenchError);
          assert.ok(error.message.startsWith(`--allow-target ${text}: `), error.message);
          assert.equal(error.hint, `for example: --allow-target ${example}`);
          parseAllowedTarget(example);
          return true;
        },
      );
    }
  });

  it('refuses texts that are no target, with a hint', () => {
    for (const text of ['10.0.0.0/33', '10.0.0.0/', 'example.org', '10.0.0.1:0', '10.0.0.1:99999', '']) {
      assert.throws(() => parseAllowedTarget(text), BenchError, text);
    }
  });
});

describe('a run that asks for too much', () => {
  const spec = {
    endpoints: [endpoint('8.8.8.8'), endpoint('10.0.0.1')],
    holdMs: 60_000,
  } as unknown as RunSpec;

  it('is refused, naming the endpoint and the time', () => {
    const findings = checkAllowance({ ...STRANGER, runMsMax: 10_000 }, spec);
    assert.deepEqual(
      findings.map((finding) => [finding.what, finding.severity]),
      [
        ['allow-target', 'refuse'],
        ['max-duration', 'refuse'],
      ],
    );
    assert.match(findings[0]!.message, /8\.8\.8\.8:8000$/);
  });

  it('is refused where it has no end of its own and this host wants one', () => {
    const local = { endpoints: [endpoint('10.0.0.1')], holdMs: 0 } as unknown as RunSpec;
    const [finding, ...more] = checkAllowance({ ...STRANGER, runMsMax: 10_000 }, local);
    assert.match(finding?.message ?? '', /holds until interrupted, this agent allows 10s in all/);
    assert.deepEqual([more, checkAllowance(STRANGER, local)], [[], []]);
  });

  it('is not refused by the agent of the person who typed the target', () => {
    assert.deepEqual(checkAllowance(OWNER_ALLOWANCE, spec), []);
  });

  it('gets no more than the rate that the owner allows', () => {
    const slow = { ...STRANGER, ratePerSecMax: 100 };
    assert.deepEqual(
      [null, 50, 500].map((rate) => allowedShare(slow, rate)),
      [100, 50, 100],
    );
    assert.deepEqual(
      [null, 50].map((rate) => allowedShare(STRANGER, rate)),
      [null, 50],
    );
  });
});
