/** Tests the door of an agent: what an honest coordinator says passes unchanged, and no number outside its range does. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { coordinatorMessageIn } from '../support/decoded.ts';
import { honestQuota, honestSpec } from '../support/lying-coordinator.ts';

const HONEST = honestSpec(8_000);
const specWith = (change: object): object => ({ ...HONEST, spec: { ...HONEST.spec, ...change } });
const quotaWith = (change: object): object => ({ ...honestQuota(5), ...change });
const decoded = (message: object) => coordinatorMessageIn(JSON.stringify(message));
const endpoint = (address: string, family: number, port = 8_000): object => ({ address, port, family });
/** JSON has no Infinity and no NaN: they arrive as null. */
const EVERYWHERE = [-1, 1e300, -1e300, 2 ** 53, '5', true, [5], { value: 5 }];

describe('what an honest coordinator says', () => {
  for (const [what, message] of [
    ['a spec', HONEST],
    ['a quota', honestQuota(5)],
    ['a quota of nothing', { type: 'quota', connections: 0, ratePerSec: 0, pendingMax: 0 }],
    ['the smallest part of a rate', quotaWith({ ratePerSec: 1e-9, pendingMax: 1 })],
    ['renew', { type: 'renew', sentAtMs: 690_633.109868 }],
    ['stop', { type: 'stop', reason: 'draining' }],
  ] as const) {
    it(`is taken as it is: ${what}`, () => {
      assert.deepEqual(decoded(message), message);
    });
  }

  it('is taken at both ends of every range', () => {
    for (const change of [
      { connections: 1, ratePerSec: 1e-9, pendingMax: 1, connectTimeoutMs: 1, probeTimeoutMs: 1, holdMs: 0 },
      { connections: 100_000_000, ratePerSec: 1e9, pendingMax: 100_000_000, connectTimeoutMs: 3_600_000 },
      { probeEveryMs: 100, holdMs: 365 * 86_400_000, probeTimeoutMs: 3_600_000 },
      { onDrop: 'reopen', reopen: { kind: 'backoff', firstMs: 0, mostMs: 86_400_000, jitter: 1 } },
      { onDrop: 'reopen', reopen: { kind: 'immediate', firstMs: 0, mostMs: 0, jitter: 0 } },
      { proxyHeader: { version: 'v1', clients: null } },
      { proxyHeader: { version: 'v2', clients: '2001:db8::/64' } },
      { probeEveryMs: 7 * 86_400_000, endpoints: [endpoint('::1', 6), endpoint('::ffff:10.0.0.1', 6)] },
    ]) {
      assert.deepEqual(decoded(specWith(change)), specWith(change));
    }
  });
});

it('a wait that cannot be, or a kind of waiting that this version does not know, is refused', () => {
  const good = { kind: 'fixed', firstMs: 1_000, mostMs: 1_000, jitter: 0.5 };
  assert.equal('type' in decoded(specWith({ reopen: good })), true);
  for (const change of [
    ...EVERYWHERE.map((firstMs) => ({ firstMs })),
    ...EVERYWHERE.map((mostMs) => ({ mostMs })),
    ...EVERYWHERE.map((jitter) => ({ jitter })),
    { jitter: 1.01 },
    { mostMs: 86_400_001 },
    { kind: 'linear' },
  ]) {
    const said = specWith({ reopen: { ...good, ...change } });
    assert.throws(() => assert.deepEqual(decoded(said), said), JSON.stringify(change));
  }
});

it('a PROXY header that this version does not know, or of clients that cannot be, is refused', () => {
  for (const proxyHeader of [
    { version: 'v3', clients: null },
    { version: 'v1' },
    { version: 'v1', clients: '10.0.0.0/33' },
    { version: 'v1', clients: `10.0.0.0/8${' '.repeat(64)}` },
    { version: 'v2', clients: 'PROXY' },
  ]) {
    const said = specWith({ proxyHeader });
    assert.throws(() => assert.deepEqual(decoded(said), said), JSON.stringify(proxyHeader));
  }
});

describe('what belongs to the agent’s host', () => {
  it('is not heard, whoever sends it', () => {
    const sources = {
      addresses: ['192.168.0.1'],
      prefixes: ['8.8.8.0/24'],
      aliasDevice: 'eth0',
      ports: [{ from: 1, to: 1_023 }],
    };
    assert.deepEqual(decoded({ ...specWith({ sources, holders: 1_024 }), sources, holders: 1_024 }), HONEST);
  });
});

describe('a number outside its range', () => {
  const numbers: Record<string, readonly unknown[]> = {
    connections: [...EVERYWHERE, 0, 1.5, 100_000_001, null],
    ratePerSec: [...EVERYWHERE, 0, 1e-10, 1e10],
    pendingMax: [...EVERYWHERE, 0, 0.5, 100_000_001, null],
    connectTimeoutMs: [...EVERYWHERE, 0, 1e-9, 0.5, 3_600_001, null],
    probeTimeoutMs: [...EVERYWHERE, 0, 1e-9, 3_600_001, null],
    probeEveryMs: [...EVERYWHERE, 0, 1e-9, 99, 604_800_001],
    holdMs: [...EVERYWHERE, 31_536_000_001, null],
  };
  // PROTOCOL.md: numbers
  for (const [field, values] of Object.entries(numbers)) {
    it(`is refused in spec.${field}`, () => {
      for (const value of values) {
        const message = decoded(specWith({ [field]: value }));
        assert(message.type === 'malformed', `${field} ${JSON.stringify(value)}`);
        assert.match(message.problem, new RegExp(`^spec\\.${field}: `));
      }
    });
  }

  // PROTOCOL.md: lease
  it('is refused in the lease', () => {
    for (const value of [...EVERYWHERE, 0, 1e-9, 49, 600_001, 1e12, null]) {
      assert.equal(decoded({ ...HONEST, leaseMs: value }).type, 'malformed', `leaseMs ${value}`);
      assert.equal(decoded({ ...HONEST, quietMs: value }).type, 'malformed', `quietMs ${value}`);
    }
    assert.equal(decoded({ ...HONEST, leaseMs: 5_000, quietMs: 5_000 }).type, 'malformed');
    for (const epoch of [...EVERYWHERE, 0.5, null])
      assert.equal(decoded({ ...HONEST, epoch }).type, 'malformed', `epoch ${epoch}`);
  });

  it('is refused in a quota, and so are a rate and a pendingMax of 0 for connections', () => {
    for (const change of [
      ...[...EVERYWHERE, 0.5, 100_000_001, null].map((connections) => ({ connections })),
      ...[...EVERYWHERE, 0, 1e-10, 1e10].map((ratePerSec) => ({ ratePerSec })),
      ...[...EVERYWHERE, 0, 0.5, 100_000_001, null].map((pendingMax) => ({ pendingMax })),
    ]) {
      assert.equal(decoded(quotaWith(change)).type, 'malformed', JSON.stringify(change));
    }
  });

  it('is refused in renew', () => {
    for (const sentAtMs of [...EVERYWHERE, null])
      assert.equal(decoded({ type: 'renew', sentAtMs }).type, 'malformed', `${sentAtMs}`);
  });
});

describe('an endpoint that is none', () => {
  for (const [what, endpoints] of [
    ['no endpoint', []],
    ['a name', [endpoint('localhost', 4)]],
    ['a family that is not its own', [endpoint('10.0.0.1', 6)]],
    ['another family that is not its own', [endpoint('::1', 4)]],
    ['an address with its zone', [endpoint('fe80::1%eth0', 6)]],
    ['a zone of an address that is not link-local', [{ ...endpoint('fd00::1', 6), zone: 'eth0' }]],
    ['a zone that is no name', [{ ...endpoint('fe80::1', 6), zone: 'eth0\nroute get ::1' }]],
    ['two zones', ['a', 'b'].map((zone) => ({ ...endpoint('fe80::1', 6), zone }))],
    ['an address with a network', [endpoint('10.0.0.0/8', 4)]],
    ['port 0', [endpoint('10.0.0.1', 4, 0)]],
    ['a port too high', [endpoint('10.0.0.1', 4, 65_536)]],
    ['one endpoint twice', [endpoint('10.0.0.1', 4), endpoint('10.0.0.1', 4)]],
    ['one endpoint in two spellings', [endpoint('::1', 6), endpoint('0:0:0:0:0:0:0:1', 6)]],
    // PROTOCOL.md: endpoints
    [
      'more than there may be',
      Array.from({ length: 65_537 }, (_, i) => endpoint('10.0.0.1', 4, 1 + (i % 65_535))),
    ],
  ] as const) {
    it(`is refused: ${what}`, () => {
      assert.equal(decoded(specWith({ endpoints })).type, 'malformed');
    });
  }
});

it('a link-local endpoint brings its zone', () => {
  const endpoints = [{ ...endpoint('fe80::1', 6), zone: 'eth0.1' }];
  const message = decoded(specWith({ endpoints }));
  assert(message.type === 'spec');
  assert.deepEqual(message.spec.endpoints, endpoints);
});

// PROTOCOL.md: certificates
it('certificates are taken up to 1 MiB, and refused beyond it', () => {
  const withCa = (characters: number) =>
    specWith({
      protocol: 'tls',
      protocolOptions: {
        ...{ path: '/', host: null, hostHeader: null, banner: null, message: null, httpStatus: null },
        tls: { servername: 'a.example', ca: 'x'.repeat(characters), isVerified: true },
      },
    });
  assert.equal(decoded(withCa(1_048_576)).type, 'spec');
  assert.equal(decoded(withCa(1_048_577)).type, 'malformed');
});

it('what a coordinator gives as a reason is cleaned', () => {
  assert.deepEqual(decoded({ type: 'stop', reason: 'a\u001b[2J\nb' }), { type: 'stop', reason: 'a?[2J b' });
});
