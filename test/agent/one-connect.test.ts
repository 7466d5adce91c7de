/** Owns the proof that one connect says who answered it, and how, by a real kernel: a RST, ICMP errors of both families, silence. */
import assert from 'node:assert/strict';
import process from 'node:process';
import { createNetwork, type Host } from '../support/network.ts';
import { networkTest } from '../support/network-test.ts';

/** The connect is made by a process on the host itself. */
const SCRIPT = `const { connectOnce } = await import(process.argv[1]);
const list = JSON.parse(process.argv[2]);
const answers = [];
for (const [address, port, family, from] of list)
  answers.push(await connectOnce({ address, port, family }, { address: from, port: 0 }, 900));
console.log(JSON.stringify(answers));`;

const MODULE = new URL('../../src/agent/one-connect.js', import.meta.url).href;

async function connects(
  host: Host,
  list: readonly (readonly [address: string, port: number, family: 4 | 6, from: string])[],
): Promise<unknown> {
  const command = [process.execPath, '--input-type=module', '-e', SCRIPT, MODULE, JSON.stringify(list)];
  return JSON.parse(await host.must(...command));
}

const RULES = (hook: string): string => `table inet t {
  chain c {
    type filter hook ${hook} priority 0;
    tcp dport 1000 reject with icmpx type admin-prohibited
    tcp dport 1001 reject with icmpx type port-unreachable
    tcp dport 1003 drop
  }
}`;

networkTest('a RST, what a filter says by ICMP and ICMPv6 and whose it is, and silence', async (t) => {
  const network = await createNetwork(t, {
    client: { on: { lan: ['10.9.0.2/24'] } },
    server: { on: { lan: ['10.9.0.1/24'] }, nft: RULES('input') },
  });
  const client = network.host('client');
  // Without duplicate address detection, which takes a second.
  await client.must('ip', 'addr', 'add', 'fd09::2/64', 'dev', 'eth0', 'nodad');
  await network.host('server').must('ip', 'addr', 'add', 'fd09::1/64', 'dev', 'eth0', 'nodad');
  const to = (port: number) =>
    [
      ['10.9.0.1', port, 4, '10.9.0.2'],
      ['fd09::1', port, 6, 'fd09::2'],
    ] as const;
  const both = (answer: string, four: [number, number], six: [number, number], isOwn = false) => [
    { answer, rejection: { by: isOwn ? '10.9.0.2' : '10.9.0.1', type: four[0], code: four[1], isOwn } },
    { answer, rejection: { by: isOwn ? 'fd09::2' : 'fd09::1', type: six[0], code: six[1], isOwn } },
  ];
  assert.deepEqual(await connects(client, to(1_000)), both('unreachable', [3, 13], [1, 1]));
  assert.deepEqual(await connects(client, to(1_001)), both('refused', [3, 3], [1, 4]));
  const refused = { answer: 'refused', rejection: null };
  assert.deepEqual(await connects(client, to(1_002)), [refused, refused]);
  const silent = { answer: 'silent', rejection: null };
  assert.deepEqual(await connects(client, to(1_003)), [silent, silent]);
  // An address that this host does not have.
  assert.deepEqual(await connects(client, [['10.9.0.1', 1_000, 4, '10.9.0.77']]), [null]);
  await client.nft(RULES('output'));
  assert.deepEqual(await connects(client, to(1_000)), both('unreachable', [3, 13], [1, 1], true));
});
