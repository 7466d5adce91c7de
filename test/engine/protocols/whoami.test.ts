import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { DropReason, FailReason } from '../../../src/base/outcome.ts';
import { BackendTally } from '../../../src/engine/protocols/backend.ts';
import type { ProtocolHost } from '../../../src/engine/protocols/protocol.ts';
import { SeenTally, WhoamiProtocol } from '../../../src/engine/protocols/whoami.ts';
import { SEEN_OTHER, SEEN_PAIRS_MAX } from '../../../src/stats/observed-sources.ts';

const SPEC = {
  addresses: ['10.0.0.1', '10.0.0.2'],
  endpoints: [{ address: '10.0.9.9', port: 80, family: 4 as const }],
};

function setUp() {
  const said: string[] = [];
  const texts: string[] = [];
  const host = {
    capacity: 4,
    send: () => assert.fail('whoami never sends'),
    opened: (slot: number) => said.push(`opened ${slot}`),
    verified: (slot: number) => said.push(`verified ${slot}`),
    answered: () => assert.fail('whoami never probes'),
    lost: (slot: number, fail: FailReason, drop: DropReason) => said.push(`lost ${slot} ${fail} ${drop}`),
    said: (slot: number, bytes: Uint8Array, from: number, to: number) =>
      texts.push(`${slot} ${Buffer.from(bytes.subarray(from, to)).toString()}`),
  } as unknown as ProtocolHost;
  const tally = new SeenTally(SPEC);
  const backends = new BackendTally(null, 4);
  const bound = {
    sourceIndex: (slot: number) => slot % 2,
    port: () => 4_000,
    endpointIndex: () => 0,
  };
  const protocol = new WhoamiProtocol(host, tally, bound, backends);
  const hear = (slot: number, text: string): void => {
    const bytes = new Uint8Array(1_000);
    bytes.set(Buffer.from(text));
    protocol.onBytes(slot, bytes, Buffer.byteLength(text));
  };
  return { said, texts, tally, protocol, hear, backends };
}

describe('a whoami line', () => {
  it('is an address and a port, with brackets for IPv6', () => {
    const rows = [
      ['1.2.3.4:56', '1.2.3.4'],
      ['[2001:DB8::1]:56\r', '2001:db8::1'],
      ['[::ffff:1.2.3.4]:56', '1.2.3.4'],
    ] as const;
    for (const [text, address] of rows) {
      const { tally, hear } = setUp();
      hear(0, `${text}\n`);
      const { bySource, portMin, portMax } = tally.counts();
      assert.deepEqual([bySource, portMin, portMax], [{ [`10.0.0.1>${address}`]: 1 }, 56, 56], text);
    }
    for (const text of [
      '',
      '1.2.3.4',
      '1.2.3.4:',
      '1.2.3.4:0',
      '1.2.3.4:65536',
      '::1:80',
      'host:80',
      'SSH-2.0-x',
    ]) {
      const { said, hear } = setUp();
      hear(0, `${text}\n`);
      assert.deepEqual(said, [`lost 0 ${FailReason.handshake} ${DropReason.protocol}`], text);
    }
  });

  it('opens and verifies the connection once, and counts what the path has changed', () => {
    const { said, tally, hear } = setUp();
    hear(0, '10.0.0.1:4000\n');
    hear(1, '9.9.9.9:5000\nand more');
    hear(1, 'and more');
    hear(2, '10.0.0.1:4000\n');
    assert.deepEqual(said, ['opened 0', 'verified 0', 'opened 1', 'verified 1', 'opened 2', 'verified 2']);
    assert.deepEqual(tally.counts(), {
      sourceKept: 2,
      sourceChanged: 1,
      portKept: 2,
      portChanged: 1,
      portMin: 4_000,
      portMax: 5_000,
      bySource: { '10.0.0.1>10.0.0.1': 2, '10.0.0.2>9.9.9.9': 1 },
      byEndpoint: { '10.0.9.9:80>10.0.0.1': 2, '10.0.9.9:80>9.9.9.9': 1 },
    });
  });

  it('may come in pieces', () => {
    const { said, tally, hear } = setUp();
    for (const piece of ['10.', '0.0.1:40', '00', '\n']) hear(0, piece);
    assert.deepEqual(said, ['opened 0', 'verified 0']);
    assert.equal(tally.counts().sourceKept, 1);
  });

  it('that is none ends the connection as a failed handshake', () => {
    const { said, texts, hear } = setUp();
    hear(0, 'SSH-2.0-OpenSSH\n');
    assert.deepEqual(texts, ['0 SSH-2.0-OpenSSH\n'], 'what was said instead is kept');
    hear(1, 'x'.repeat(64));
    hear(2, `${'1'.repeat(500)}\n`);
    assert.deepEqual(
      said,
      [0, 1, 2].map((slot) => `lost ${slot} ${FailReason.handshake} ${DropReason.protocol}`),
    );
  });

  it('of a slot that was used before says nothing about the next connection', () => {
    const { said, protocol, hear } = setUp();
    hear(0, '10.0.0.1:4000\n');
    protocol.onForgotten(0);
    hear(0, '10.0.');
    protocol.onForgotten(0);
    hear(0, '10.0.0.1:4000\n');
    assert.deepEqual(said, ['opened 0', 'verified 0', 'opened 0', 'verified 0']);
  });
});

test('more pairs than are distinguished are counted together', () => {
  const tally = new SeenTally({
    addresses: ['10.0.0.1'],
    endpoints: [{ address: '10.0.9.9', port: 80, family: 4 }],
  });
  for (let index = 0; index < SEEN_PAIRS_MAX + 10; index++) {
    tally.arrived(0, 1_000, 0, `192.0.${index >> 8}.${index & 255}`, 1_000);
  }
  const { bySource, byEndpoint, sourceChanged } = tally.counts();
  assert.equal(Object.keys(bySource).length, SEEN_PAIRS_MAX + 1);
  assert.equal(bySource[SEEN_OTHER], 10);
  assert.equal(byEndpoint[SEEN_OTHER], 10);
  assert.equal(sourceChanged, SEEN_PAIRS_MAX + 10);
});

describe('the name of a whoami target', () => {
  const text = '1.2.3.4:56\nat web1:8000\n';

  it('is its second line, in whatever pieces the two come, and counts while the connection is there', () => {
    for (let cut = 0; cut <= text.length; cut++) {
      const { said, texts, hear, backends, protocol } = setUp();
      for (const piece of [text.slice(0, cut), text.slice(cut)]) if (piece !== '') hear(0, piece);
      assert.deepEqual(backends.counts(), { 'web1:8000': 1 }, `cut at ${cut}`);
      assert.deepEqual(said, ['opened 0', 'verified 0']);
      // What opens it may be heard before it is known to be more; a name is never the last that a target said.
      assert.ok(
        texts.every((each) => !each.includes('at ')),
        texts.join(),
      );
      hear(1, '5.6.7.8:9\nat web2:8000\n');
      assert.deepEqual(backends.counts(), { 'web1:8000': 1, 'web2:8000': 1 });
      protocol.onForgotten(0);
      assert.deepEqual(backends.counts(), { 'web1:8000': 0, 'web2:8000': 1 });
    }
  });

  it('is missing with an earlier target, and with one that says something else: that is not an error', () => {
    for (const [behind, heard] of [
      ['', []],
      ['bye\n', ['0 bye\n']],
      ['a', []],
      [`at ${'x'.repeat(400)}\n`, [`0 at ${'x'.repeat(400)}\n`]],
    ] as const) {
      const { said, texts, hear, backends } = setUp();
      hear(0, `1.2.3.4:56\n${behind}`);
      assert.deepEqual([said, texts], [['opened 0', 'verified 0'], heard], behind);
      assert.equal(backends.isReported, false);
    }
    const { texts, hear, backends } = setUp();
    hear(0, '1.2.3.4:56\n');
    hear(0, 'at once');
    hear(0, '\nat web1:8000\n');
    assert.deepEqual(backends.counts(), { once: 1 }, 'the first line behind is the name');
    assert.deepEqual(texts, []);
  });
});
