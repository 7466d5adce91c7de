/**
 * Tests what connections say on a plain stream, over both drivers, against targets that answer rightly, wrongly, in pieces, late or not at all:
 * what counts is what these have heard.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS } from '../../../src/base/endpoint.ts';
import {
  NO_TRAFFIC,
  readAnswer,
  readPattern,
  readTemplate,
  type TrafficOptions,
} from '../../../src/base/traffic-options.ts';
import type { HolderSpec } from '../../../src/run/run-spec.ts';
import type { Stats } from '../../../src/stats/stats.ts';
import { ENGINES } from '../../support/test-engine.ts';
import { settled, until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, specTo, Target } from '../engine-run.ts';

afterEach(cleanUp);

interface Said {
  readonly first?: string;
  readonly expect?: string;
  readonly answers?: readonly string[];
  readonly send?: string;
  readonly everyMs?: number;
}

function wellRead<Value>(read: { readonly value: Value } | { readonly problem: string }): Value {
  assert('value' in read, JSON.stringify(read));
  return read.value;
}

function traffic({ first, expect, answers = [], send, everyMs = 100 }: Said): TrafficOptions {
  const template = (text: string) =>
    wellRead(readTemplate(Buffer.from(text), { hasEscapes: true, hasGroups: false }));
  return {
    ...NO_TRAFFIC,
    ...(first === undefined ? {} : { first: template(first) }),
    ...(expect === undefined ? {} : { expect: wellRead(readPattern(expect)) }),
    answers: answers.map((text) => wellRead(readAnswer(text))),
    ...(send === undefined ? {} : { send: { template: template(send), everyMs } }),
  };
}

function talkSpec(port: number, connections: number, said: Said, over: Partial<HolderSpec> = {}): HolderSpec {
  const options = { ...DEFAULT_PROTOCOL_OPTIONS, traffic: traffic(said) };
  return specTo(port, connections, { protocolOptions: options, id: 'agent/of/host/3', ...over });
}

/** Opens all, and waits for the first answer on each. */
async function proven(run: EngineRun): Promise<Stats> {
  await run.open();
  await settled('each must be proven or lost', run.settled);
  return run.stats();
}

/** A target that answers each whole line. */
function lines(answer: (line: string, socket: Socket) => void): Promise<Target> {
  return Target.listen((socket) => {
    let rest = '';
    socket.on('data', (chunk) => {
      const parts = (rest + chunk.toString('latin1')).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) answer(line.replace(/\r$/, ''), socket);
    });
  });
}

for (const engine of ENGINES) {
  describe(`messages on a stream, ${engine}`, () => {
    test('the first message is said once, and its answer opens and proves the connection', async () => {
      const heard: string[] = [];
      const target = await lines((line, socket) => {
        heard.push(line);
        // In two pieces: one read is no answer.
        socket.write('+PO');
        setTimeout(() => socket.write('NG\r\n'), 20);
      });
      const run = new EngineRun(
        talkSpec(target.port, 20, { first: 'PING {conn} {seq}\\r\\n', expect: '+PONG' }, { engine }),
      );
      const { open, verified, failed } = await run.open();
      assert.deepEqual([open, verified, failed], [20, 20, {}]);
      assert.equal(new Set(heard).size, 20, 'each has a number of its own');
      for (const line of heard) assert.match(line, /^PING \d+ 0$/);
      await run.stop();
      assert.equal(heard.length, 20);
    });

    test('a wrong answer, none, and an expression that never matches are failures by name, with what was said', async () => {
      const target = await lines((line, socket) => {
        if (line !== 'silent') socket.write('-ERR no\r\n');
      });
      const run = async (said: Said, connectTimeoutMs?: number) => {
        const over = connectTimeoutMs === undefined ? {} : { connectTimeoutMs };
        const each = new EngineRun(talkSpec(target.port, 5, said, { engine, ...over }));
        const stats = await each.open();
        await each.stop();
        return stats;
      };
      for (const expect of ['+PONG', '/^\\+(OK|PONG)/']) {
        const { failed, troubles, evidence, verified } = await run({ first: 'PING\\n', expect });
        assert.deepEqual([failed, verified], [{ handshake: 5 }, 0], expect);
        assert.deepEqual(troubles, { 'answer differs from --expect': 5 }, expect);
        assert.deepEqual(evidence?.said.texts, [{ text: '-ERR no\\r\\n', first: 5, last: 0 }]);
      }
      const late = await run({ first: 'PING\\n', expect: '/PONG/' }, 400);
      assert.deepEqual(late.troubles, { 'answer differs from --expect': 5 });
      const none = await run({ first: 'silent\\n', expect: '+PONG' }, 400);
      assert.deepEqual(
        [none.failed, none.troubles],
        [{ handshake: 5 }, { 'nothing was said that --expect waits for': 5 }],
      );
      assert.deepEqual(
        none.evidence?.connectsAt.counts.silent.reduce((sum, count) => sum + count, 0),
        5,
      );
    });

    test('bytes are sent as bytes, and one byte that matches is an answer', async () => {
      let heard = '';
      const target = await Target.listen((socket) => {
        socket.on('data', (chunk) => {
          heard += chunk.toString('hex');
          socket.write('N');
        });
      });
      const run = new EngineRun(
        talkSpec(target.port, 1, { first: '0x0000000804d2162f', expect: '/^[SN]/' }, { engine }),
      );
      assert.equal((await run.open()).verified, 1);
      assert.equal(heard, '0000000804d2162f');
      await run.stop();
    });

    test('what the target says is answered, also in pieces, and is no answer to a message', async () => {
      const heard: string[] = [];
      const target = await Target.listen((socket) => {
        socket.on('data', (chunk) => {
          heard.push(...chunk.toString().split('\r\n').slice(0, -1));
          if (chunk.includes('HELO')) socket.write('250 ok\r\n');
        });
        socket.write('PI');
        setTimeout(() => socket.write('NG :a\r\nPING :b\r\n220 hel'), 20);
        setTimeout(() => socket.write('lo\r\n'), 60);
      });
      const answers = ['/^PING (.*)$/=PONG $1\\r\\n', '220=HELO {agent}\\r\\n'];
      const run = new EngineRun(talkSpec(target.port, 4, { answers, expect: '250' }, { engine }));
      assert.equal((await run.open()).verified, 4);
      assert.deepEqual(
        heard.toSorted(),
        ['HELO agent/of/host', 'PONG :a', 'PONG :b'].flatMap((line) => [line, line, line, line]),
      );
      // Parked: nothing is due, and still each is answered.
      for (const socket of target.sockets) socket.write('PING :later\r\n');
      await until('all have answered', () => heard.filter((line) => line === 'PONG :later').length === 4);
      await run.stop();
    });

    test('bytes need no line: each match is answered, one that is cut too', async () => {
      let heard = '';
      const target = await Target.listen((socket) => {
        socket.on('data', (chunk) => {
          heard += chunk.toString('hex');
        });
        socket.write(Buffer.from([1, 2, 1, 2, 1]));
        setTimeout(() => socket.write(Buffer.from([2, 9])), 30);
      });
      const run = new EngineRun(talkSpec(target.port, 1, { answers: ['0x0102=0x03'] }, { engine }));
      await run.open();
      await until('three are answered', () => heard === '030303');
      await run.stop();
    });

    test('messages are sent again and again; every wrong answer is counted, and the connection goes on', async () => {
      let sent = 0;
      let wrong = 0;
      const target = await lines((line, socket) => {
        sent++;
        const isWrong = sent > 40 && sent % 10 === 0;
        if (isWrong) wrong++;
        socket.write(isWrong ? `no ${line}\n` : `re ${line}\n`);
      });
      const said = { send: '{conn} {seq} {rand:8}\\n', expect: 're {conn} {seq} {rand:8}\\n' };
      const run = new EngineRun(talkSpec(target.port, 20, said, { engine, probeEveryMs: 100 }));
      assert.equal((await proven(run)).verified, 20);
      await until('many were sent', () => sent > 300);
      await settled(
        'each must be asked once more',
        new Promise<void>((done) => run.engine.checkFinally('holdEnd', 100, done)),
      );
      const { messages, probesAnswered, open, dropped } = run.stats();
      assert.deepEqual([open, dropped], [20, {}]);
      assert(wrong > 20, `${wrong} wrong`);
      assert.deepEqual(
        { ...messages, sentInHold: 0, late: 0 },
        { sent, sentInHold: 0, wrong, late: 0, missing: 0 },
      );
      assert.equal(probesAnswered, sent - wrong);
      await run.stop();
      assert.equal(sent, messages?.sent, 'after the last question nothing is sent');
    });

    test('an echo is compared byte for byte; what comes back otherwise is wrong, what does not is missing', async () => {
      let count = 0;
      const target = await lines((line, socket) => {
        count++;
        if (count > 60 && line.includes(' 9 ')) return;
        const last = count > 60 && count % 7 === 0 ? '!' : line.at(-1);
        socket.write(`${line.slice(0, -1)}${last}\n`);
      });
      const over = { engine, protocol: 'echo', probeEveryMs: 100, probeTimeoutMs: 500 } as const;
      const run = new EngineRun(talkSpec(target.port, 10, { send: 'm {seq} {rand:4}\\n' }, over));
      assert.equal((await proven(run)).verified, 10);
      await until(
        'the ninth of each is not answered',
        () => (run.stats().dropped['probe-timeout'] ?? 0) === 10,
      );
      const { messages, probesAnswered } = run.stats();
      assert.equal(messages?.missing, 10);
      assert.equal(messages.sent, probesAnswered + messages.wrong + messages.missing);
      assert(messages.wrong > 0);
      await run.stop();
    });

    test('messages without an expected answer are only counted', async () => {
      let heard = 0;
      const target = await lines(() => {
        heard++;
      });
      const run = new EngineRun(talkSpec(target.port, 10, { send: 'x\\n' }, { engine }));
      const { verified } = await run.open();
      await until('some have come', () => heard > 100);
      assert.equal(verified, 0);
      await run.stop();
      const { messages, probesSent } = run.stats();
      await until('all that were sent have come', () => heard === messages?.sent);
      assert.equal(probesSent, 0);
    });

    test('a connection that was never answered rightly is lost, and so is one whose echo has too many bytes', async () => {
      const target = await lines((line, socket) => socket.write(line === 'wrong' ? 'no\n' : `${line}\nmore`));
      for (const [said, over] of [
        [{ send: 'wrong\\n', expect: 'yes' }, {}],
        [{ send: 'right\\n' }, { protocol: 'echo' }],
      ] as const) {
        const run = new EngineRun(talkSpec(target.port, 6, said, { engine, probeEveryMs: 100, ...over }));
        await run.open();
        await until('all are lost', () => run.stats().dropped['probe-mismatch'] === 6);
        await run.stop();
      }
    });
  });
}
