/**
 * Owns what is fuzzed besides the readers of messages, answers and files of the kernel (targets.ts): packets of MQTT, PROXY headers, what a
 * holder says to its agent and a worker of the target to its parent, and run files. Must never repair an input: what breaks a promise is thrown.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readHolderMessage } from '../../src/agent/holder-message.ts';
import { readRunFile } from '../../src/api/run-file.ts';
import { addressToBigInt, isAddress } from '../../src/base/address.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { clientAddresses, clientsProblem } from '../../src/base/proxy-header.ts';
import { clampMessage } from '../../src/control/clamp-message.ts';
import { PacketReader, type PacketReason } from '../../src/engine/protocols/mqtt-packets.ts';
import { ProxyHeaders } from '../../src/engine/proxy-headers.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import {
  addTotals,
  formatLiveLine,
  mergeSources,
  readWorkerMessage,
  ZERO_TOTALS,
} from '../../src/serve/serve-counts.ts';
import { emptyStats, mergeAllStats, newHolderHealth } from '../../src/stats/stats.ts';
import type { Random } from '../simulate/random.ts';
import { mutatedBytes, mutatedJson, mutatedText, piecesOf } from './mutate.ts';
import { type FuzzTarget, linesOf, recording } from './recordings.ts';

/** What a broker's bytes come to. */
function readPackets(level: number, pieces: readonly Uint8Array[]): string {
  const seen: string[] = [];
  let isOver = false;
  const note = (what: string, reason?: PacketReason): boolean => {
    assert(!isOver, 'nothing is heard of a connection that is over');
    const words =
      reason === undefined || reason.words === null ? '' : Buffer.from(reason.words).toString('hex');
    seen.push(`${what} ${reason?.code} ${reason?.serverKeepAliveSec} ${words}`);
    return true;
  };
  const reader = new PacketReader(1, level, {
    onConnack: (_slot, reason) => note('connack', reason),
    onSuback: (_slot, reason) => note('suback', reason),
    onPublish: () => note('publish'),
    onPingresp: () => note('pingresp'),
    onDisconnect: (_slot, reason) => {
      note('disconnect', reason);
      isOver = true;
    },
    onBroken: (_slot, what, bytes, from, to) => {
      assert(from >= 0 && from <= to && to <= bytes.length, 'what came is part of the bytes');
      note(`broken ${what}`);
      isOver = true;
    },
  });
  reader.forget(0);
  for (const piece of pieces) if (!isOver) reader.take(0, piece, piece.length);
  return seen.join('\n');
}

function mqttPackets(): FuzzTarget {
  const corpus = linesOf('mqtt-packets.txt');
  return {
    name: 'mqtt-packets',
    run(random) {
      const [level = '', hex = ''] = random.of(corpus).split(' ');
      const bytes = mutatedBytes(Buffer.from(hex, 'hex'), random);
      const cut = readPackets(Number(level), piecesOf(bytes, random));
      assert.equal(cut, readPackets(Number(level), [bytes]), 'however the bytes are cut');
    },
  };
}

const V2_SIGNATURE = '0d0a0d0a000d0a515549540a';

/** The client that a header names, as a number, IPv4 as it is. */
function clientOf(header: Buffer): bigint {
  if (header.toString('hex', 0, 12) === V2_SIGNATURE) {
    const isV6 = header[13] === 0x21;
    assert.equal(header[12], 0x21);
    assert(isV6 || header[13] === 0x11, 'one of two families');
    assert.equal(header.length, 16 + header.readUInt16BE(14), 'as long as it says');
    return BigInt(`0x${header.toString('hex', 16, isV6 ? 32 : 20)}`);
  }
  const text = header.toString('latin1');
  const [, family, client = '', server = '', port] =
    /^PROXY TCP([46]) (\S+) (\S+) (\d{4,5}) \d{1,5}\r\n$/.exec(text) ?? [];
  assert(isIP(client) === Number(family) && isIP(server) === Number(family), text);
  assert(Number(port) >= 1_024 && Number(port) <= 65_535, text);
  return addressToBigInt(client);
}

/** An IPv4 address that IPv6 maps is that IPv4 address. */
function unmapped(address: bigint): bigint {
  return address >> 32n === 0xffffn ? address & 0xffff_ffffn : address;
}

/** Connections of one holder. */
const SLOTS = 2 ** 24;

const HOLDER: HolderSpec = {
  ...{ id: 'a/0', addresses: [], ports: [], endpoints: [], sliceFrom: 0, sliceTo: 1, connections: 1 },
  ...{ ratePerSec: null, pendingMax: 1, connectTimeoutMs: 1_000, close: 'rst', protocol: 'tcp' },
  ...{ probeEveryMs: null, probeTimeoutMs: 1_000 },
};

function proxyHeaders(): FuzzTarget {
  const corpus = [
    ...['203.0.113.0/24', '2001:db8::/64', '192.0.2.7', '10.0.0.0/8', '2001:db8::1/128', '0.0.0.0/0'],
  ] as const;
  return {
    name: 'proxy-header',
    run(random) {
      const clients = mutatedText(random.of(corpus), random);
      if (clientsProblem(clients, '--proxy-source') !== null) return;
      const { first, count } = clientAddresses(clients);
      assert(isAddress(first) && count >= 1 && count <= 2 ** 32);
      const isV6 = random.isLucky(0.5);
      const endpoint = isV6 ? '2001:db8::9' : '198.51.100.9';
      const from = random.whole(0, 2 ** 31);
      const spec = {
        proxyHeader: { version: random.isLucky(0.5) ? 'v1' : 'v2', clients },
        shares: [{ from, to: from + SLOTS }],
        addresses: [isV6 ? '2001:db8::8' : '198.51.100.8'],
        endpoints: [{ address: endpoint, port: 80, family: isV6 ? 6 : 4 }],
      } as const;
      const bound = { sourceIndex: () => 0, endpointIndex: () => 0, port: () => 5_000 };
      const headers = new ProxyHeaders({ ...HOLDER, ...spec }, bound);
      const slot = random.whole(0, SLOTS - 1);
      const sent: Buffer[] = [];
      headers.send(slot, (_slot, buffer, length) => {
        sent.push(Buffer.from(buffer.subarray(0, length)));
        return length;
      });
      const client = unmapped(clientOf(Buffer.concat(sent)));
      const offset = client - unmapped(addressToBigInt(first));
      assert(offset >= 0n && offset < BigInt(count), 'the client is one of the network');
    },
  };
}

/** What the pipe between two processes would have read; undefined: no JSON, which Node never hands on. */
function heard(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What a holder says, made from what agents said of theirs. */
function holderMessages(): FuzzTarget {
  const ready = { stats: emptyStats(), health: newHolderHealth('a/0', 1, 10), ramp: null };
  const corpus: [string, ...string[]] = [
    JSON.stringify({ type: 'done', ...ready }),
    ...['ready', 'warning', 'failed'].map((type) => JSON.stringify({ type, message: 'no epoll' })),
    JSON.stringify({ type: 'checked', which: 'hold-end' }),
  ];
  for (const line of linesOf('agent-messages.jsonl')) {
    const said = JSON.parse(line) as { type: string; losses?: unknown; stats?: object; holders?: unknown[] };
    if (said.type === 'losses') corpus.push(JSON.stringify({ type: 'losses', losses: said.losses }));
    if (said.stats === undefined || said.holders?.[0] === undefined) continue;
    const { evidence: _, ...own } = said.stats as Record<string, unknown>;
    const stats = { ...ready.stats, ...own, connectUs: [5, 1, 9, 2], probeUs: [] };
    const rest = { settled: true, answers: 1, openTuples: 'AQ==', begun: true, ramp: { fromMs: 1, toMs: 2 } };
    corpus.push(
      JSON.stringify({
        type: 'stats',
        stats: { ...stats, connectFromIntendedUs: [5, 3] },
        health: said.holders[0],
        ...rest,
      }),
    );
  }
  return {
    name: 'holder-message',
    run(random) {
      const message = readHolderMessage(heard(mutatedJson(random.of(corpus), random)));
      if (message?.type !== 'stats' && message?.type !== 'done') return;
      // What is taken can be added up and told to the coordinator.
      const stats = mergeAllStats([message.stats, ready.stats]);
      const told = { epoch: 1, sentAtMs: 1, quota: 1, settled: true, kernel: [], holders: [message.health] };
      clampMessage({ type: 'stats', stats, ...told });
    },
  };
}

/** What a worker of the built-in target says. */
function workerMessages(): FuzzTarget {
  const totals = { ...ZERO_TOTALS, openNow: 3, acceptedTotal: 5, bytesIn: 2 ** 40 };
  const sources = [
    ['127.0.0.2', 2],
    ['2001:db8::1', 1],
  ];
  const corpus = [
    JSON.stringify({ type: 'counts', request: 1, totals, sources }),
    JSON.stringify({ type: 'stopped', totals, sources }),
    JSON.stringify({ type: 'totals', totals }),
    JSON.stringify({ type: 'failed', call: 'listen', errno: 98 }),
    JSON.stringify({ type: 'listening', port: 8_000 }),
    JSON.stringify({ type: 'stood-still', forMs: 2_500 }),
  ] as const;
  return {
    name: 'worker-message',
    run(random) {
      const message = readWorkerMessage(heard(mutatedJson(random.of(corpus), random)));
      if (message === null || !('totals' in message)) return;
      // What is taken can be added to what the other workers said, and shown.
      const total = addTotals(totals, message.totals);
      for (const [name, count] of Object.entries(total))
        assert(Number.isFinite(count) && count >= 0, `${name} is ${count}`);
      assert.match(formatLiveLine({ total, workers: [totals, message.totals] }, 200), /^[^\p{Cc}]+$/u);
      if (!('sources' in message)) return;
      const merged = mergeSources([message.sources, [['127.0.0.2', 2]]]);
      for (const [address, count] of Object.entries(merged.bySource))
        assert(typeof address === 'string' && count >= 0);
    },
  };
}

function runFiles(): FuzzTarget {
  const corpus = recording('run-files.txt').split('=====\n') as [string];
  const folder = mkdtempSync(join(tmpdir(), 'c100k-fuzz-'));
  const path = join(folder, 'run.yaml');
  return {
    name: 'run-file',
    run(random: Random) {
      writeFileSync(path, mutatedText(random.of(corpus), random), 'utf8');
      try {
        for (const [name, { value, origin }] of readRunFile(path).values) {
          const isList = Array.isArray(value) && value.every((each) => typeof each === 'string');
          assert(isList || typeof value === 'string' || typeof value === 'boolean', `${name}: ${value}`);
          assert.match(origin, /:\d+:\d+: /, 'with its place');
        }
      } catch (error) {
        if (!(error instanceof BenchError)) throw error;
        assert.equal(error.exitCode, ExitCode.usage);
        assert.match(error.message, /^[^\p{Cc}]+$/u, 'one line');
        assert(error.hint !== '', 'a hint');
      }
    },
    end: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** All of them, made anew. */
export const PROTOCOL_TARGETS: readonly (() => FuzzTarget)[] = [
  mqttPackets,
  proxyHeaders,
  holderMessages,
  workerMessages,
  runFiles,
];
