/** Owns the tests of PROXY headers: both versions read back by a reader of their own, made-up clients, sockets that are full. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { addressToBigInt, parseAddress } from '../../src/base/address.ts';
import type { ProxyHeaderSpec } from '../../src/base/proxy-header.ts';
import { ProxyHeaders } from '../../src/engine/proxy-headers.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import type { LoadShare } from '../../src/run/schedule.ts';
import { specTo } from './engine-run.ts';

/** What a header says; addresses in canonical text. */
interface Said {
  readonly family: number;
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
  readonly toPort: number;
}

/** Version 1, as section 2.1 of the specification has it. */
function readText(bytes: Uint8Array): Said {
  const text = Buffer.from(bytes).toString('latin1');
  assert.ok(bytes.length <= 107, 'the longest line that a receiver must take');
  const found = /^PROXY TCP([46]) ([0-9a-f.:]+) ([0-9a-f.:]+) (\d{1,5}) (\d{1,5})\r\n$/.exec(text);
  assert.ok(found, text);
  const [, family, from = '', to = '', fromPort, toPort] = found;
  for (const address of [from, to]) assert.equal(parseAddress(address).family, Number(family), text);
  return {
    family: Number(family),
    from: parseAddress(from).address,
    to: parseAddress(to).address,
    fromPort: Number(fromPort),
    toPort: Number(toPort),
  };
}

/** Version 2, as section 2.2 has it. */
function readBinary(bytes: Uint8Array): Said {
  const buffer = Buffer.from(bytes);
  assert.equal(buffer.subarray(0, 12).toString('latin1'), '\r\n\r\n\0\r\nQUIT\n');
  assert.equal(buffer[12], 0x21);
  const family = buffer[13] === 0x11 ? 4 : buffer[13] === 0x21 ? 6 : 0;
  const size = family === 4 ? 4 : 16;
  assert.equal(buffer.readUInt16BE(14), 2 * size + 4);
  assert.equal(buffer.length, 16 + 2 * size + 4);
  const address = (at: number): string => {
    const part = buffer.subarray(at, at + size);
    const text = family === 4 ? [...part].join('.') : [...part.toString('hex').matchAll(/..../g)].join(':');
    return parseAddress(text).address;
  };
  const ports = 16 + 2 * size;
  return {
    family,
    from: address(16),
    to: address(16 + size),
    fromPort: buffer.readUInt16BE(ports),
    toPort: buffer.readUInt16BE(ports + 2),
  };
}

interface Connection {
  readonly source: string;
  readonly port: number;
  readonly endpoint: string;
  readonly endpointPort: number;
}

function headersOf(
  header: ProxyHeaderSpec,
  some: readonly Connection[],
  shares?: readonly LoadShare[],
): ProxyHeaders {
  const spec: HolderSpec = {
    ...specTo(80, some.length),
    addresses: some.map(({ source }) => source),
    endpoints: some.map(({ endpoint, endpointPort }) => ({
      address: endpoint,
      port: endpointPort,
      family: parseAddress(endpoint).family,
    })),
    proxyHeader: header,
    ...(shares === undefined ? {} : { shares }),
  };
  return new ProxyHeaders(spec, {
    sourceIndex: (slot) => slot,
    port: (slot) => some[slot]!.port,
    endpointIndex: (slot) => slot,
  });
}

function saidBy(headers: ProxyHeaders, version: 'v1' | 'v2', slot: number): Said {
  let said: Uint8Array | null = null;
  const isWhole = headers.send(slot, (at, buffer, length) => {
    assert.equal(at, slot);
    said = buffer.slice(0, length);
    return length;
  });
  assert.ok(isWhole && said !== null);
  return version === 'v1' ? readText(said) : readBinary(said);
}

const port = fc.integer({ min: 1, max: 65_535 });
const v4 = fc.ipV4();
const v6 = fc.ipV6().filter((text) => !/^(?:0{1,4}:|:)*:?(?:ffff:)/i.test(text));
const versions = ['v1', 'v2'] as const;

describe('a PROXY header', () => {
  for (const version of versions) {
    it(`${version} says source and endpoint of its connection, in their family`, () => {
      const connection = fc.oneof(
        fc.record({ source: v4, port, endpoint: v4, endpointPort: port }),
        fc.record({ source: v6, port, endpoint: v6, endpointPort: port }),
      );
      fc.assert(
        fc.property(fc.array(connection, { minLength: 1, maxLength: 5 }), (some) => {
          const headers = headersOf({ version, clients: null }, some);
          for (const [slot, { source, endpoint, ...ports }] of some.entries()) {
            assert.deepEqual(saidBy(headers, version, slot), {
              family: parseAddress(source).family,
              from: parseAddress(source).address,
              to: parseAddress(endpoint).address,
              fromPort: ports.port,
              toPort: ports.endpointPort,
            });
          }
        }),
      );
    });

    it(`${version} makes up clients one after the other, then the same with the next port`, () => {
      const of = (endpoint: string): Connection[] =>
        Array.from({ length: 5 }, () => ({ source: endpoint, port: 9, endpoint, endpointPort: 443 }));
      const clients = (endpoint: string, network: string, shares?: readonly LoadShare[]): string[] => {
        const headers = headersOf({ version, clients: network }, of(endpoint), shares);
        return Array.from({ length: 5 }, (_, slot) => {
          const said = saidBy(headers, version, slot);
          assert.equal(said.toPort, 443);
          return `${said.from} ${said.fromPort}`;
        });
      };
      assert.deepEqual(clients('10.0.0.1', '203.0.113.0/30'), [
        '203.0.113.1 1024',
        '203.0.113.2 1024',
        '203.0.113.1 1025',
        '203.0.113.2 1025',
        '203.0.113.1 1026',
      ]);
      assert.deepEqual(clients('10.0.0.1', '203.0.113.255/24', [{ from: 253, to: 258 }]).slice(0, 2), [
        '203.0.113.254 1024',
        '203.0.113.1 1025',
      ]);
      // Shares of two places: a quota that grew.
      const grown = [
        { from: 9, to: 11 },
        { from: 40, to: 43 },
      ];
      assert.deepEqual(
        clients('10.0.0.1', '203.0.113.0/24', grown),
        [10, 11, 41, 42, 43].map((last) => `203.0.113.${last} 1024`),
      );
      assert.deepEqual(clients('10.0.0.1', '192.0.2.7').slice(0, 2), ['192.0.2.7 1024', '192.0.2.7 1025']);
      assert.deepEqual(clients('::1', '2001:db8:0:255::/64', [{ from: 0xffff, to: 0x1_0004 }]).slice(0, 2), [
        '2001:db8:0:255::1:0 1024',
        '2001:db8:0:255::1:1 1024',
      ]);
      // Of two families: both as IPv6.
      const [mixed = ''] = clients('::1', '203.0.113.0/30');
      assert.equal(addressToBigInt(mixed.split(' ')[0] ?? ''), addressToBigInt('::ffff:203.0.113.1'));
      const headers = headersOf({ version, clients: '2001:db8::/64' }, of('10.0.0.1'));
      const said = saidBy(headers, version, 0);
      assert.deepEqual([said.family, said.from], [6, '2001:db8::1']);
      assert.equal(addressToBigInt(said.to), addressToBigInt('::ffff:10.0.0.1'));
    });
  }

  it('goes on where a full socket has stopped it, and is forgotten with its slot', () => {
    const some = [{ source: '10.1.2.3', port: 1_234, endpoint: '10.0.0.1', endpointPort: 80 }];
    const headers = headersOf({ version: 'v1', clients: null }, some);
    const got: number[] = [];
    const take =
      (most: number) =>
      (_slot: number, buffer: Uint8Array, length: number): number => {
        const taken = Math.min(most, length);
        got.push(...buffer.subarray(0, taken));
        return taken;
      };
    assert.equal(headers.send(0, take(5)), false);
    assert.ok(headers.isPending(0));
    assert.equal(headers.sendRest(0, take(0)), false);
    assert.equal(headers.sendRest(0, take(30)), false);
    assert.equal(headers.sendRest(0, take(1_000)), true);
    assert.ok(!headers.isPending(0));
    assert.equal(readText(Uint8Array.from(got)).from, '10.1.2.3');
    // An error takes nothing either: the end of the connection follows.
    assert.equal(
      headers.send(0, () => -32),
      false,
    );
    headers.forget(0);
    assert.ok(!headers.isPending(0));
  });
});
