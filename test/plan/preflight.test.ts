import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import type { Finding, Severity } from '../../src/base/errors.ts';
import type { HostFacts } from '../../src/host/host-facts.ts';
import { planHost } from '../../src/plan/host-plan.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';
import { FACTS, LOOPBACK_4, SPEC, SPEC_FAR } from './plan-fixture.ts';

const FAR_ONE = ['192.168.0.101'];
const FAR_MANY = Array.from({ length: 40 }, (_, index) => `192.168.0.${index + 101}`);
const MILLION: RunSpec = { ...SPEC, connections: 1_000_000 };

interface Case {
  readonly facts?: Partial<HostFacts>;
  readonly spec?: RunSpec;
  readonly addresses?: readonly string[];
}

function find(what: string, { facts = {}, spec = SPEC, addresses = LOOPBACK_4 }: Case): Finding {
  const plan = planHost({ spec, wanted: spec.connections, facts: { ...FACTS, ...facts }, addresses });
  const found = plan.findings.filter((finding) => finding.what === what);
  assert.equal(found.length, 1, `${what} must be found once`);
  return found[0] as Finding;
}

const far = (more: Partial<RunSpec>): RunSpec => ({ ...SPEC_FAR, ...more });
const conntrack = (count: number, max: number): Partial<HostFacts> => ({
  conntrack: { active: true, count, max },
});

/** Each resource on both sides of each of its thresholds. */
const ROWS: readonly (readonly [what: string, Severity, Case])[] = [
  ['source-addresses', 'ok', {}],
  ['source-addresses', 'refuse', { addresses: [] }],
  ['tuples', 'ok', { spec: far({ connections: 64_512 }), addresses: FAR_ONE }],
  ['tuples', 'refuse', { spec: far({ connections: 64_513 }), addresses: FAR_ONE }],
  ['ephemeral-ports', 'ok', { spec: far({ connections: 35_505 }), addresses: FAR_ONE }],
  ['ephemeral-ports', 'warn', { spec: far({ connections: 35_506 }), addresses: FAR_ONE }],
  ['reserved-ports', 'ok', { facts: { reservedPorts: [{ from: 8_080, to: 8_080 }] } }],
  [
    'reserved-ports',
    'warn',
    {
      facts: { reservedPorts: [{ from: 20_000, to: 20_000 }] },
      spec: { ...SPEC, sources: { ...SPEC.sources, ports: [{ from: 20_000, to: 65_535 }] } },
    },
  ],
  [
    'reserved-ports',
    'ok',
    {
      facts: { reservedPorts: [{ from: 19_999, to: 19_999 }] },
      spec: { ...SPEC, sources: { ...SPEC.sources, ports: [{ from: 20_000, to: 65_535 }] } },
    },
  ],
  ['time-wait', 'ok', { facts: { sockstat: { inuse: 1, timeWait: 100_000, memPages: 1 } } }],
  ['time-wait', 'warn', { facts: { tcpTimestamps: 0, timeWaitOnTuples: 0 } }],
  ['time-wait', 'ok', { facts: { tcpTimestamps: 0, timeWaitOnTuples: 0 }, spec: { ...SPEC, close: 'rst' } }],
  ['time-wait', 'warn', { facts: { tcpTimestamps: 0, timeWaitOnTuples: 15_120 } }],
  ['time-wait', 'refuse', { facts: { tcpTimestamps: 0, timeWaitOnTuples: 15_121 } }],
  ['descriptors-per-process', 'ok', { facts: { nofileHard: 572 } }],
  ['descriptors-per-process', 'refuse', { facts: { nofileHard: 571 } }],
  ['descriptors-per-process', 'refuse', { facts: { nofileHard: 64 } }],
  ['descriptors-per-process', 'ok', { spec: { ...SPEC, holders: 7 } }],
  ['descriptors-per-process', 'refuse', { spec: { ...SPEC, holders: 6 } }],
  ['descriptors-per-process', 'ok', { facts: { nofileHard: null } }],
  // 2 x 130,000 ends and 7 x 64 of the holders.
  ['descriptors-per-system', 'ok', { facts: { fileMax: 260_448 + 412 } }],
  ['descriptors-per-system', 'refuse', { facts: { fileMax: 260_447 + 412 } }],
  ['descriptors-per-system', 'ok', { facts: { fileMax: null } }],
  // 260,000 x 3,700 + 7 x 55,000,000 = 1,347,000,000; a warning above 80 %.
  ['memory', 'ok', { facts: { memoryAvailableBytes: 1_347_000_000 / 0.8 } }],
  ['memory', 'warn', { facts: { memoryAvailableBytes: 1_347_000_000 / 0.8 - 1 } }],
  ['memory', 'warn', { facts: { memoryAvailableBytes: 1_347_000_000 } }],
  ['memory', 'refuse', { facts: { memoryAvailableBytes: 1_346_999_999 } }],
  ['memory', 'refuse', { facts: { cgroupMemoryLimitBytes: 1_347_000_000, cgroupMemoryUsedBytes: 1 } }],
  ['memory', 'ok', { facts: { memoryAvailableBytes: null } }],
  // 93 pages in use, 2,000 for connects in flight; at worst 260,000 more.
  ['tcp-mem', 'ok', { facts: { tcpMem: [1, 262_093, 500_000] } }],
  ['tcp-mem', 'warn', { facts: { tcpMem: [1, 262_092, 500_000] } }],
  ['tcp-mem', 'warn', { facts: { tcpMem: [1, 2, 2_093] } }],
  ['tcp-mem', 'refuse', { facts: { tcpMem: [1, 2, 2_092] } }],
  ['tcp-mem', 'ok', { facts: { tcpMem: null } }],
  ['conntrack', 'ok', { facts: conntrack(100, 130_100), spec: SPEC_FAR, addresses: FAR_MANY }],
  ['conntrack', 'refuse', { facts: conntrack(101, 130_100), spec: SPEC_FAR, addresses: FAR_MANY }],
  ['conntrack', 'warn', { facts: conntrack(101, 130_100) }],
  [
    'conntrack',
    'ok',
    { facts: { conntrack: { active: false, count: 0, max: 5 } }, spec: SPEC_FAR, addresses: FAR_MANY },
  ],
  [
    'conntrack',
    'ok',
    { facts: { conntrack: { active: null, count: null, max: 5 } }, spec: SPEC_FAR, addresses: FAR_MANY },
  ],
  ['accept-backlog', 'ok', { facts: { somaxconn: 2_000 } }],
  ['accept-backlog', 'warn', { facts: { somaxconn: 1_999 } }],
  // With SYN cookies off three quarters of the SYN backlog count: 2,668 x 0.75 = 2,001.
  ['accept-backlog', 'ok', { facts: { tcpSyncookies: 0, tcpMaxSynBacklog: 2_668 } }],
  ['accept-backlog', 'warn', { facts: { tcpSyncookies: 0, tcpMaxSynBacklog: 2_660 } }],
  ['accept-backlog', 'ok', { facts: { tcpSyncookies: 1, tcpMaxSynBacklog: 128 } }],
  ['accept-backlog', 'ok', { facts: { somaxconn: null } }],
  ['connect-timeout', 'ok', { spec: { ...SPEC, connectTimeoutMs: 1_001 } }],
  ['connect-timeout', 'warn', { spec: { ...SPEC, connectTimeoutMs: 1_000 } }],
];

for (const [what, severity, given] of ROWS) {
  test(`${what}: ${severity} with ${JSON.stringify(given).slice(0, 110)}`, () => {
    const finding = find(what, given);
    assert.equal(finding.severity, severity, finding.message);
    assert.ok(finding.message.length > 0 && !finding.message.includes('\n'));
    if (severity === 'ok') assert.equal(finding.fix, null);
    else assert.ok(finding.fix);
  });
}

test('too few tuples are refused with the arithmetic, and with the addresses that are missing', () => {
  const finding = find('tuples', { spec: SPEC_FAR, addresses: FAR_ONE });
  assert.equal(
    finding.message,
    'needs 130,000 tuples, has 64,512 (1 source address x 64,512 ports x 1 endpoint)',
  );
  assert.equal(
    finding.fix,
    'add 2 source addresses: --source-ip 192.168.0.101 --source-ip FREE_1 --source-ip FREE_2 --alias-dev eth0 ' +
      '(by hand: ip addr add FREE_1/32 dev eth0 && ip addr add FREE_2/32 dev eth0); ' +
      'for FREE_1, FREE_2 put IPv4 addresses that no other host has',
  );
  assert.deepEqual([finding.needed, finding.available, finding.unit], [130_000, 64_512, 'tuples']);
});

test('on loopback more of 127.0.0.0/8 fixes it, without a command', () => {
  const finding = find('tuples', { addresses: ['127.0.0.2'] });
  assert.equal(finding.fix, 'add 2 source addresses: --source-ip 127.0.0.2-127.0.0.4');
});

test('1,001 connections do not fit 1,000 ports', () => {
  const spec = far({
    connections: 1_001,
    sources: { ...SPEC.sources, ports: [{ from: 20_000, to: 20_999 }] },
  });
  const one = find('tuples', { spec, addresses: FAR_ONE });
  assert.match(one.message, /needs 1,001 tuples, has 1,000 \(1 source address x 1,000 ports x 1 endpoint\)/);
  const two = find('tuples', {
    spec: { ...spec, connections: 2_000 },
    addresses: ['192.168.0.101', '192.168.0.102'],
  });
  assert.equal(two.severity, 'ok');
});

test('with both families the arithmetic goes by family', () => {
  const six = { address: '::1', port: 8_000, family: 6 } as const;
  const spec: RunSpec = { ...SPEC, endpoints: [...SPEC.endpoints, six], connections: 1_000_000 };
  const finding = find('tuples', { spec, addresses: ['127.0.0.2', '127.0.0.3', '::1'] });
  assert.ok(
    finding.message.includes(
      'has 193,536 (2 IPv4 source addresses x 64,512 ports x 1 IPv4 endpoint + ' +
        '1 IPv6 source address x 64,512 ports x 1 IPv6 endpoint)',
    ),
    finding.message,
  );
});

test('one address and one endpoint of each family are two tuples for each port, not four', () => {
  const six = { address: 'fd00::7', port: 8_000, family: 6 } as const;
  const spec: RunSpec = { ...SPEC_FAR, endpoints: [...SPEC_FAR.endpoints, six] };
  const finding = find('tuples', { spec, addresses: ['192.168.0.101', 'fd00::1'] });
  assert.match(
    finding.message,
    /has 129,024 \(1 IPv4 source .* x 1 IPv4 endpoint \+ 1 IPv6 .* x 1 IPv6 endpoint\)/,
  );
  // One more address of either family brings 64,512; an average over both would ask for the same by chance.
  assert.match(finding.fix ?? '', /^add 1 IPv4 source address: .* for FREE_1 put an IPv4 address/);
});

test('missing addresses are asked for in the family that has more endpoints', () => {
  const sixes = [1, 2, 3].map((n) => ({ address: `fd00::${n}0`, port: 8_000, family: 6 }) as const);
  const spec: RunSpec = { ...SPEC_FAR, endpoints: [...SPEC_FAR.endpoints, ...sixes], connections: 400_000 };
  const finding = find('tuples', { spec, addresses: ['192.168.0.101', 'fd00::1'] });
  // 64,512 x (1 + 3) = 258,048: 141,952 are missing, and an IPv6 address brings 193,536.
  assert.match(finding.fix ?? '', /^add 1 IPv6 source address: .*ip addr add FREE_1\/128 dev DEVICE nodad/);
});

test('more addresses than a host can name are not asked for', () => {
  const finding = find('tuples', { spec: { ...SPEC, connections: 5e9 }, addresses: ['127.0.0.2'] });
  assert.match(
    finding.fix ?? '',
    /65,536 source addresses on one host are not enough: add endpoints or agents/,
  );
});

test('ulimit -n is never advised above fs.nr_open', () => {
  const facts = { nofileHard: 1_024, canRaiseNofile: true };
  const fixOf = (connections: number, more: { holders?: number; nrOpen?: number } = {}): string =>
    find('descriptors-per-process', {
      spec: { ...SPEC, connections, holders: more.holders ?? null },
      facts: { ...facts, nrOpen: more.nrOpen ?? 1_048_576 },
    }).fix ?? '';
  // 8 holders would need 12,500,064 each; 96 have 1,041,731.
  assert.equal(fixOf(100_000_000), 'ulimit -n 1041731 (fs.nr_open allows no more than 1048576)');
  assert.match(fixOf(100_000_000, { holders: 100 }), /^ulimit -n 1000064$/);
  assert.match(fixOf(100_000_000, { holders: 300 }), /^ulimit -n 390689$/);
  assert.match(fixOf(10_000_000, { holders: 2 }), /^ulimit -n 1000064 and --holders 10 \(fs/);
  // Not even 256 holders suffice below this nr_open.
  assert.equal(
    fixOf(10_000_000, { nrOpen: 10_000 }),
    'sysctl -w fs.nr_open=40000 && ulimit -n 39127, with --holders 256',
  );
  for (const connections of [300_000, 1_000_000, 50_000_000, 268_000_000]) {
    for (const nrOpen of [1_048_576, 100_000, 1_200]) {
      const fix = fixOf(connections, { nrOpen });
      const limit = Number(/ulimit -n (\d+)/.exec(fix)?.[1]);
      const raised = Number(/fs\.nr_open=(\d+)/.exec(fix)?.[1] ?? nrOpen);
      assert.ok(limit <= raised, `${connections} with nr_open ${nrOpen}: ${fix}`);
    }
  }
});

test('tuples in TIME_WAIT are named in the arithmetic; waiting fixes it when there are enough otherwise', () => {
  const facts = { tcpTimestamps: 0, timeWaitOnTuples: 20_000 };
  const finding = find('tuples', { facts });
  assert.match(finding.message, /has 125,120 \(.*, less 20,000 in TIME_WAIT\)/);
  assert.equal(finding.fix, 'sleep 60');
  assert.equal(find('time-wait', { facts }).fix, 'sysctl -w net.ipv4.tcp_timestamps=1');
});

test('ulimit -n 256 is refused, because even 256 holders of 192 connections are too few', () => {
  const finding = find('descriptors-per-process', { facts: { nofileHard: 256 } });
  assert.equal(
    finding.message,
    'needs 130,000 descriptors, has 49,152: at most 256 x 192 a holder (256 less 64); that would take 678 holders',
  );
  assert.equal(
    finding.fix,
    'ulimit -n 16314, or where that is refused: sudo prlimit --pid $$ --nofile=16314:16314',
  );
  const root = find('descriptors-per-process', { facts: { nofileHard: 256, canRaiseNofile: true } });
  assert.equal(root.fix, 'ulimit -n 16314');
});

test('too few --holders are fixed by the number that suffices', () => {
  const finding = find('descriptors-per-process', { spec: { ...SPEC, holders: 2 } });
  assert.match(finding.message, /--holders 2 x 19,936 a holder/);
  assert.equal(finding.fix, '--holders 7');
});

test('every sysctl that is proposed would be enough', () => {
  const spec = far({ connections: 130_000 });
  const limit = (fix: string | null, name: string): number =>
    Number(new RegExp(`${name}="?(?:\\d+ )*(\\d+)"?`).exec(fix ?? '')?.[1]);
  const files = find('descriptors-per-system', { facts: { fileMax: 1_000 } });
  assert.ok(limit(files.fix, 'fs.file-max') >= 260_448 + 412);
  const table = find('conntrack', { facts: conntrack(101, 1_000), spec, addresses: FAR_MANY });
  assert.ok(limit(table.fix, 'net.netfilter.nf_conntrack_max') >= 130_101);
  const backlog = find('accept-backlog', { facts: { somaxconn: 128 } });
  assert.ok(limit(backlog.fix, 'net.core.somaxconn') >= 2_000);
  const buffers = find('tcp-mem', { spec: MILLION, addresses: FAR_MANY });
  assert.equal(buffers.severity, 'warn');
  const [, pressure] = /tcp_mem="\d+ (\d+) \d+"/.exec(buffers.fix ?? '') ?? [];
  assert.ok(Number(pressure) >= 2_002_093);
});

test('the accept backlog is looked at only where the target is on this host', () => {
  const plan = planHost({ spec: SPEC_FAR, wanted: 1_000, facts: FACTS, addresses: FAR_ONE });
  assert.ok(!plan.findings.some((finding) => finding.what === 'accept-backlog'));
});

test('nothing that could not be read refuses a run', () => {
  const blind = Object.fromEntries(
    Object.entries(FACTS).map(([name, value]) => [name, isLimit(value) ? null : value]),
  );
  const plan = planHost({
    spec: SPEC,
    wanted: 130_000,
    facts: blind as unknown as HostFacts,
    addresses: LOOPBACK_4,
  });
  assert.deepEqual(
    plan.findings.filter((finding) => finding.severity === 'refuse'),
    [],
  );
});

function isLimit(value: unknown): boolean {
  return (
    (typeof value === 'number' && value !== FACTS.cpus) ||
    (Array.isArray(value) && typeof value[0] === 'number')
  );
}

test('every finding has its section in docs/TUNING.md', () => {
  const text = readFileSync(join(process.cwd(), 'docs/TUNING.md'), 'utf8');
  const headings = [...text.matchAll(/^## (\S+)$/gm)].map((match) => match[1]);
  for (const what of new Set(ROWS.map(([name]) => name))) assert.ok(headings.includes(what), what);
});
