/**
 * Tests what connections say over WebSocket, over both drivers: messages are whole however they are cut, what a server says by itself is no answer,
 * and a server that asks is answered.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS } from '../../../src/base/endpoint.ts';
import {
  readAnswer,
  readPattern,
  readTemplate,
  type TrafficOptions,
} from '../../../src/base/traffic-options.ts';
import type { HolderSpec } from '../../../src/run/run-spec.ts';
import { ENGINES } from '../../support/test-engine.ts';
import { settled, until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, specTo, Target } from '../engine-run.ts';
import { frame, ScriptedSocket } from './ws-script.ts';

afterEach(cleanUp);

function wellRead<Value>(read: { readonly value: Value } | { readonly problem: string }): Value {
  assert('value' in read, JSON.stringify(read));
  return read.value;
}

function template(text: string) {
  return wellRead(readTemplate(Buffer.from(text), { hasEscapes: true, hasGroups: false }));
}

const NOTHING: TrafficOptions = { first: null, expect: null, answers: [], send: null };

function wsSpec(port: number, count: number, traffic: TrafficOptions, over: Partial<HolderSpec> = {}) {
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, traffic };
  return specTo(port, count, { protocol: 'ws', protocolOptions, ...over });
}

/** A server that greets and then answers each text. */
async function server(
  greet: (self: ScriptedSocket) => void,
  answer: (self: ScriptedSocket, text: string) => void,
): Promise<Target> {
  return Target.listen((socket) => {
    new ScriptedSocket(
      socket,
      (self) => {
        socket.write(self.answer);
        greet(self);
      },
      (self, { opcode, payload }) => {
        if (opcode === 1 || opcode === 2) answer(self, payload.toString('latin1'));
        if (opcode === 9) socket.write(frame(10, payload));
      },
    );
  });
}

for (const engine of ENGINES) {
  describe(`messages over WebSocket, ${engine}`, () => {
    test('a login as Socket.IO asks for it: the greeting is passed over, each ping is answered while parked', async () => {
      const heard: string[] = [];
      const target = await server(
        ({ socket }) => socket.write(frame(1, '0{"sid":"a","pingInterval":25000}')),
        ({ socket }, text) => {
          heard.push(text);
          if (text === '40') socket.write(frame(1, '40{"sid":"b"}'));
        },
      );
      const traffic = {
        ...NOTHING,
        first: template('40'),
        expect: wellRead(readPattern('40{')),
        answers: [wellRead(readAnswer('2=3'))],
      };
      const run = new EngineRun(wsSpec(target.port, 8, traffic, { engine }));
      assert.equal((await run.open()).verified, 8);
      for (const socket of target.sockets) {
        // In two fragments, with a ping of RFC 6455 between them, and cut within a header.
        const bytes = Buffer.concat([
          frame(1, '', { final: false }),
          frame(9, 'x'),
          frame(0, '2'),
          frame(1, '2'),
        ]);
        socket.write(bytes.subarray(0, 3));
        setTimeout(() => socket.write(bytes.subarray(3)), 20);
      }
      await until(
        'both pings of each are answered',
        () => heard.filter((text) => text === '3').length === 16,
      );
      assert.equal(heard.filter((text) => text === '40').length, 8);
      await run.stop();
    });

    test('a server that refuses, a silent one, and one that closes: each by its name', async () => {
      const said = (say: (self: ScriptedSocket) => void) => server(say, () => {});
      const open = async (target: Target) => {
        const traffic = { ...NOTHING, first: template('40'), expect: wellRead(readPattern('40{')) };
        const run = new EngineRun(wsSpec(target.port, 3, traffic, { engine, connectTimeoutMs: 500 }));
        const stats = await run.open();
        await run.stop();
        assert.deepEqual(stats.failed, { handshake: 3 });
        return stats;
      };
      const no = await open(await said(({ socket }) => socket.write(frame(1, '44{"message":"invalid"}'))));
      assert.deepEqual(no.troubles, { 'answer differs from --expect': 3 });
      assert.equal(no.evidence?.said.texts[0]?.text, '44{"message":"invalid"}');
      const none = await open(await said(() => {}));
      assert.deepEqual(none.troubles, { 'nothing was said that --expect waits for': 3 });
      const closed = await open(
        await said(({ socket }) => socket.write(frame(8, Buffer.from([0x0b, 0xc4])))),
      );
      assert.deepEqual(closed.troubles, { 'ws close 3012': 3 });
    });

    test('messages are answered one by one; wrong ones are counted; bytes go as bytes', async () => {
      let count = 0;
      let wrong = 0;
      const heard = new Set<string>();
      const answering = () =>
        server(
          () => {},
          ({ socket, frames }, text) => {
            heard.add(`${frames.at(-1)?.opcode} ${text.charCodeAt(0)}`);
            if (text.charCodeAt(0) !== 0xff) return;
            count++;
            const isWrong = count % 5 === 0;
            if (isWrong) wrong++;
            const said = Buffer.from(`${isWrong ? 'no' : 'ok'} ${text}`, 'latin1');
            socket.write(Buffer.concat([frame(1, 'ping'), frame(2, said)]));
          },
        );
      const traffic = {
        ...NOTHING,
        send: { template: template('\\xff {seq}'), everyMs: 100 },
        expect: wellRead(readPattern('ok \\xff {seq}')),
      };
      const over = { engine, probeEveryMs: 100 };
      // Without a rule the first of both is taken for the answer, and it is none.
      const blind = new EngineRun(wsSpec((await answering()).port, 10, traffic, over));
      await blind.open();
      await until('all were wrong', () => (blind.stats().messages?.wrong ?? 0) > 20);
      assert.deepEqual([blind.stats().probesAnswered, blind.stats().dropped], [0, {}]);
      await blind.stop();
      await cleanUp();
      count = 0;
      wrong = 0;
      const answers = [wellRead(readAnswer('/^ping$/=0xfe'))];
      const run = new EngineRun(wsSpec((await answering()).port, 10, { ...traffic, answers }, over));
      await run.open();
      await until('some were wrong', () => wrong > 10);
      const done = new Promise<void>((resolve) => run.engine.checkFinally('holdEnd', 100, resolve));
      await settled('each must be asked once more', done);
      const { messages, probesAnswered, dropped } = run.stats();
      assert.deepEqual([messages?.sent, messages?.wrong, messages?.missing], [count, wrong, 0]);
      assert.deepEqual([probesAnswered, dropped], [count - wrong, {}]);
      assert.deepEqual([...heard].toSorted(), ['2 254', '2 255']);
      await run.stop();
    });

    test('without an expected answer a ping follows each message, and its pong is the answer', async () => {
      let texts = 0;
      const target = await server(
        () => {},
        () => {
          texts++;
        },
      );
      const traffic = { ...NOTHING, send: { template: template('{seq}'), everyMs: 100 } };
      const run = new EngineRun(wsSpec(target.port, 5, traffic, { engine, probeEveryMs: 100 }));
      await run.open();
      await settled('each is proven', run.settled);
      await until('some were answered', () => run.stats().probesAnswered > 20);
      const { messages, probesSent } = run.stats();
      assert.equal(messages?.sent, probesSent);
      assert(texts >= run.stats().probesAnswered);
      await run.stop();
    });
  });
}
