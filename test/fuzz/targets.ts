/**
 * Owns what is fuzzed: each reader of what comes from elsewhere, the recordings from which its inputs are made, and what must hold for
 * every input. Must never repair an input: what breaks a promise is thrown.
 */
import assert from 'node:assert/strict';
import { isAddress } from '../../src/base/address.ts';
import { BenchError } from '../../src/base/errors.ts';
import { clampMessage } from '../../src/control/clamp-message.ts';
import {
  type AgentMessage,
  type CoordinatorMessage,
  type Decoded,
  decodeAgentMessage,
  decodeCoordinatorMessage,
  encodeMessage,
} from '../../src/control/message.ts';
import { agentToken, claimsOf, formatToken, parseToken, peerOf } from '../../src/control/token.ts';
import { HeadReader } from '../../src/engine/protocols/http-head.ts';
import { FrameReader } from '../../src/engine/protocols/ws-frames.ts';
import { readAddressesNow, readRoutes } from '../../src/host/ip-command.ts';
import { readCounters, readKernel } from '../../src/host/kernel-evidence.ts';
import {
  hasCapability,
  isStopped,
  parsePortList,
  readCgroupMemory,
  readListenPortsAny,
  readTaskRoom,
} from '../../src/host/proc-file.ts';
import { emptyStats, type Stats, type StatsDelta, withDelta } from '../../src/stats/stats.ts';
import { fakeKernel } from '../host/fake-kernel.ts';
import { mutatedBytes, mutatedJson, mutatedText, piecesOf } from './mutate.ts';
import { PROTOCOL_TARGETS } from './protocol-targets.ts';
import { type FuzzTarget, linesOf, recording } from './recordings.ts';

/** What passes is a message that passes again, unchanged; what does not is one line. */
function checkDecoded<Message extends AgentMessage | CoordinatorMessage>(
  decode: (text: string) => Decoded<Message>,
  text: string,
): Message | null {
  const decoded = decode(text);
  if (decoded.type === 'malformed') assert.match(decoded.problem, /^[^\p{Cc}]{1,250}$/u);
  if (decoded.type !== 'message') return null;
  const again = decode(encodeMessage(decoded.message));
  assert.equal(again.type, 'message', 'a message that was read is read again');
  if (again.type === 'message')
    assert.equal(encodeMessage(again.message), encodeMessage(decoded.message), 'and is the same');
  return decoded.message;
}

/** What the coordinator keeps of an agent after one more message: histograms whose indexes rise and whose counts are counts. */
function checkFolded(known: Stats, said: StatsDelta): Stats {
  const folded = withDelta(known, said);
  for (const histogram of [folded.connectUs, folded.connectFromIntendedUs, folded.probeUs]) {
    assert.equal(histogram.length % 2, 0);
    for (let at = 0; at < histogram.length; at += 2) {
      assert(at === 0 || histogram[at]! > histogram[at - 2]!, 'indexes rise');
      assert(Number.isSafeInteger(histogram[at + 1]) && histogram[at + 1]! >= 0, 'a count');
    }
  }
  return folded;
}

function agentMessages(): FuzzTarget {
  const corpus = linesOf('agent-messages.jsonl');
  return {
    name: 'agent-message',
    run(random) {
      const message = checkDecoded(decodeAgentMessage, mutatedJson(random.of(corpus), random));
      if (message === null) return;
      if (message.type === 'stats') {
        const { recentLosses = [] } = message.stats;
        const said = { ...message.stats, recentLosses };
        checkFolded(checkFolded(emptyStats(), said), said);
      }
      // An agent that has so much to say fits it into the bounds of the message.
      assert.equal(decodeAgentMessage(encodeMessage(clampMessage(message))).type, 'message');
    },
  };
}

function coordinatorMessages(): FuzzTarget {
  const corpus = linesOf('coordinator-messages.jsonl');
  return {
    name: 'coordinator-message',
    run: (random) => void checkDecoded(decodeCoordinatorMessage, mutatedJson(random.of(corpus), random)),
  };
}

/** What a server's frames come to. */
function readFrames(pieces: readonly Uint8Array[]): string {
  const seen: string[] = [];
  let isBroken = false;
  const reader = new FrameReader(1, {
    onControl: (_slot, opcode, payload, length) => {
      seen.push(`control ${opcode} ${Buffer.from(payload.subarray(0, length)).toString('hex')}`);
      return true;
    },
    onBroken: (_slot, code, what) => {
      assert(!isBroken, 'a connection is failed once');
      isBroken = true;
      seen.push(`broken ${code} ${what}`);
    },
  });
  reader.forget(0);
  // The connection is closed when it is broken: nothing is read any more.
  for (const piece of pieces) if (!isBroken) reader.take(0, piece, 0, piece.length);
  return seen.join('\n');
}

function wsFrames(): FuzzTarget {
  const corpus = linesOf('ws-frames.hex');
  return {
    name: 'ws-frames',
    run(random) {
      const bytes = mutatedBytes(Buffer.from(random.of(corpus), 'hex'), random);
      assert.equal(readFrames(piecesOf(bytes, random)), readFrames([bytes]), 'however the bytes are cut');
    },
  };
}

/** What the head of a response comes to. */
function readHead(pieces: readonly Uint8Array[]): string {
  const reader = new HeadReader();
  let before = 0;
  for (const piece of pieces) {
    const result = reader.take(0, piece, 0, piece.length);
    if (result.type === 'bad') return `bad`;
    if (result.type === 'head') {
      assert(result.next >= 0 && result.next <= piece.length, 'the body begins within what was read');
      return JSON.stringify([result.head.status, [...result.head.fields], before + result.next]);
    }
    before += piece.length;
  }
  return 'more';
}

function httpHeads(): FuzzTarget {
  const corpus = recording('http-heads.txt')
    .split('\n---\n')
    .filter((text) => text !== '') as [string];
  return {
    name: 'http-head',
    run(random) {
      const head = random.of(corpus).replaceAll('\n', '\r\n');
      const bytes = mutatedBytes(Buffer.from(head, 'latin1'), random);
      assert.equal(readHead(piecesOf(bytes, random)), readHead([bytes]), 'however the bytes are cut');
    },
  };
}

function ipAnswers(): FuzzTarget {
  const corpus = linesOf('ip-addr.jsonl');
  return {
    name: 'ip-json',
    async run(random) {
      const stdout = mutatedJson(random.of(corpus), random);
      const run = () => Promise.resolve({ code: 0, stdout, stderr: '', missing: false, truncated: false });
      const now = await readAddressesNow(run);
      for (const { address, device, prefix } of now?.addresses ?? []) {
        assert(isAddress(address), `${address} is no address`);
        assert.equal(typeof device, 'string');
        assert.equal(typeof prefix, 'number');
      }
      for (const device of now?.devices ?? []) assert.equal(typeof device, 'string');
      for (const { device } of await readRoutes(['192.0.2.1'], [], run))
        assert(device === null || typeof device === 'string', 'a device is a name');
    },
  };
}

function procFiles(): FuzzTarget {
  const tree: Readonly<Record<string, string>> = JSON.parse(recording('proc.json'));
  const names = Object.keys(tree) as [string, ...string[]];
  const kernel = fakeKernel(tree);
  return {
    name: 'proc',
    run(random) {
      const name = random.of(names);
      kernel.write(name, mutatedText(tree[name] ?? '', random));
      const { procRoot } = kernel;
      for (const { value, limit } of Object.values(readKernel(procRoot)))
        assert(Number.isFinite(value) && (limit === null || Number.isFinite(limit)), 'a reading is a number');
      for (const count of Object.values(readCounters(procRoot)))
        assert(Number.isFinite(count), 'a counter is a number');
      const { limitBytes } = readCgroupMemory(kernel);
      assert(limitBytes === null || limitBytes >= 0);
      const room = readTaskRoom(kernel);
      assert(room === null || room.free >= 0, 'no room is less than none');
      for (const port of readListenPortsAny(procRoot))
        assert(Number.isInteger(port) && port >= 0 && port <= 65_535, `${port} is no port`);
      for (const { from, to } of parsePortList(mutatedText('8080,9000-9010,1-65535', random)))
        assert(from <= to && to <= 65_535);
      hasCapability('CAP_NET_ADMIN', procRoot);
      isStopped(procRoot, 1);
      kernel.write(name, tree[name] ?? '');
    },
    end: () => kernel.remove(),
  };
}

function tokens(): FuzzTarget {
  const master = { identity: 'master', key: Buffer.alloc(32, 7) };
  const corpus = [
    formatToken(master),
    formatToken(agentToken(master, { name: 'a', expiresSec: null, targets: null })),
    formatToken(agentToken(master, { name: 'b', expiresSec: 2e9, targets: ['192.0.2.1:80', '[::1]:1-9'] })),
  ] as const;
  return {
    name: 'token',
    run(random) {
      const text = mutatedText(random.of(corpus), random);
      try {
        const token = parseToken(text);
        assert.deepEqual(parseToken(formatToken(token)), token, 'a token that was read is read again');
      } catch (error) {
        if (!(error instanceof BenchError)) throw error;
        assert(text.length < 20 || !error.message.includes(text), 'a token is not repeated');
      }
      const identity = random.isLucky(0.5)
        ? mutatedText('["a",2000000000,["192.0.2.1:80"]]', random)
        : mutatedJson('["a",2000000000,["192.0.2.1:80"]]', random);
      claimsOf(identity);
      peerOf(identity);
    },
  };
}

/** All of them, made anew. */
export const FUZZ_TARGETS: readonly (() => FuzzTarget)[] = [
  agentMessages,
  coordinatorMessages,
  wsFrames,
  httpHeads,
  ipAnswers,
  procFiles,
  tokens,
  ...PROTOCOL_TARGETS,
];
