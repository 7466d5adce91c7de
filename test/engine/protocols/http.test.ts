/** Tests the HTTP keep-alive client: every framing of a body is read to its end, and what cannot be held is found out. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS, type ProtocolOptions } from '../../../src/base/endpoint.ts';
import { until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, specTo, Target } from '../engine-run.ts';

afterEach(cleanUp);

const OK = 'HTTP/1.1 200 OK\r\n';

/** Answers that can be held; each must be followed by a second request on the same connection. */
const GOOD: readonly (readonly [string, string])[] = [
  ['a body with its length', `${OK}Content-Length: 5\r\n\r\nhello`],
  ['an empty body', `${OK}Content-Length: 0\r\n\r\n`],
  ['204 without a length', 'HTTP/1.1 204 No Content\r\n\r\n'],
  ['304 with the length of another answer', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n'],
  ['301', 'HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 2\r\n\r\nxx'],
  ['one chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`],
  [
    'chunks with extensions, upper case and trailers',
    `${OK}transfer-encoding: Chunked\r\n\r\nA;x=y\r\n0123456789\r\n0c ;q\r\nabcdefghijkl\r\n000\r\nTrailer: 1\r\nOther: 2\r\n\r\n`,
  ],
  [
    'interim answers first',
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${OK}Content-Length: 1\r\n\r\n.`,
  ],
  ['HTTP/1.0 with keep-alive', 'HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n.'],
  ['equal lengths twice', `${OK}Content-Length: 1\r\nContent-Length: 1\r\n\r\n.`],
  ['a large body', `${OK}Content-Length: 300000\r\n\r\n${'z'.repeat(300_000)}`],
];

/** Answers that make a failed handshake, with the detail that is counted. */
const BAD: readonly (readonly [string, string])[] = [
  ['HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n', 'http status 503'],
  ['HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 'http status 404'],
  ['HTTP/1.1 101 Switching\r\n\r\n', 'http status 101'],
  [
    `${OK}Connection: close\r\nContent-Length: 0\r\n\r\n`,
    'http keep-alive refused: the target ends the connection after its answer',
  ],
  [
    'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n',
    'http keep-alive refused: the target ends the connection after its answer',
  ],
  [`${OK}\r\nhello`, 'http keep-alive impossible: a body without a length'],
  [`${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\n..`, 'http a malformed Content-Length'],
  [`${OK}Content-Length: -1\r\n\r\n..`, 'http a malformed Content-Length'],
  [`${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`, 'http an unknown Transfer-Encoding'],
  [
    `${OK}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n`,
    'http both Content-Length and Transfer-Encoding',
  ],
  [`${OK}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`, 'http a malformed chunk size'],
  [`${OK}Transfer-Encoding: chunked\r\n\r\n1234567890abcdef0\r\n`, 'http a malformed chunk size'],
  [`${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n`, 'http a chunk that is longer than it says'],
  [
    `${OK}Transfer-Encoding: chunked\r\n\r\n1;${'e'.repeat(70_000)}`,
    'http lines without an end in a chunked body',
  ],
  ['SSH-2.0-OpenSSH_9.2\r\n', 'http no HTTP/1.1 response'],
  [`${OK}${'X: y\r\n'.repeat(3_000)}`, 'http a head above 16384 bytes'],
  [`${OK}broken line\r\n\r\n`, 'http a malformed header field'],
];

function runOn(port: number, count: number, options: Partial<ProtocolOptions> = {}): EngineRun {
  const spec = specTo(port, count, { protocol: 'http', probeEveryMs: 200 });
  return new EngineRun({ ...spec, protocolOptions: { ...DEFAULT_PROTOCOL_OPTIONS, ...options } });
}

async function writeBytewise(socket: Socket, text: string): Promise<void> {
  for (const byte of text.slice(0, 200)) {
    socket.write(byte);
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.write(text.slice(200));
}

for (const isBytewise of [false, true]) {
  test(`every framing of a body is read to its end${isBytewise ? ', byte by byte' : ''}`, async () => {
    const requests = new Array<number>(GOOD.length).fill(0);
    let next = 0;
    const target = await Target.listen((socket) => {
      const at = next++;
      let got = '';
      socket.on('data', (chunk) => {
        got += chunk.toString('latin1');
        for (let end = got.indexOf('\r\n\r\n'); end >= 0; end = got.indexOf('\r\n\r\n')) {
          assert.match(got, /^GET \/health HTTP\/1\.1\r\nHost: www\.example\r\n/);
          got = got.slice(end + 4);
          requests[at]!++;
          if (isBytewise) void writeBytewise(socket, GOOD[at]![1]);
          else socket.write(GOOD[at]![1]);
        }
      });
    });
    const run = runOn(target.port, GOOD.length, { path: '/health', hostHeader: 'www.example' });
    const opened = await run.open();
    assert.deepEqual(opened.troubles ?? {}, {});
    assert.equal(opened.verified, GOOD.length);
    await until('each is asked again', () => requests.every((count) => count >= 4)).catch((error) =>
      assert.fail(`${error}: ${GOOD.map(([name], at) => `${name} ${requests[at]}`).join(', ')}`),
    );
    assert.deepEqual(run.stats().dropped, {});
    await run.stop();
    await target.close();
  });
}

test('what cannot be held is a failed handshake, counted by what was wrong', async () => {
  let next = 0;
  const target = await Target.listen((socket) => {
    const answer = BAD[next++]![0];
    socket.once('data', () => socket.write(answer));
  });
  const run = runOn(target.port, BAD.length);
  const stats = await run.open();
  assert.deepEqual(stats.failed, { handshake: BAD.length });
  const expected: Record<string, number> = {};
  for (const [, detail] of BAD) expected[detail] = (expected[detail] ?? 0) + 1;
  assert.deepEqual(stats.troubles, expected);
  await run.stop();
  await target.close();
});

test('a status that turns bad, a close and an unasked answer are losses, each by its reason', async () => {
  let next = 0;
  const target = await Target.listen((socket) => {
    const kind = next++ % 3;
    let asked = 0;
    socket.on('data', () => {
      if (++asked === 1) socket.write(`${OK}Content-Length: 0\r\n\r\n${''}`);
      else if (kind === 0) socket.write('HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n');
      else if (kind === 1) socket.end();
      else
        socket.write(
          `${OK}Content-Length: 0\r\n\r\nHTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n`,
        );
    });
  });
  const run = runOn(target.port, 9);
  await run.open();
  await until('all are lost', () => run.stats().open === 0);
  const stats = run.stats();
  assert.deepEqual(stats.dropped, { protocol: 6, fin: 3 });
  assert.deepEqual(stats.troubles, { 'http status 500': 3, 'http an answer without a request': 3 });
  await run.stop();
  await target.close();
});

test('http:// works over IPv6, with the address in brackets in the Host field', async () => {
  const hosts = new Set<string>();
  const target = await Target.listen((socket) => {
    socket.on('data', (chunk) => {
      hosts.add(/^Host: (.*)\r$/m.exec(chunk.toString())?.[1] ?? '');
      socket.write(`${OK}Content-Length: 0\r\n\r\n`);
    });
  }, '::1');
  const endpoints = [{ address: '::1', port: target.port, family: 6 as const }];
  const run = new EngineRun(specTo(target.port, 4, { protocol: 'http', addresses: ['::1'], endpoints }));
  assert.equal((await run.open()).verified, 4);
  assert.deepEqual([...hosts], [`[::1]:${target.port}`]);
  await run.stop();
  await target.close();
});

test('--http-status makes one status the good one', async () => {
  const target = await Target.listen((socket) => {
    socket.on('data', () => socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'));
  });
  const run = runOn(target.port, 4, { httpStatus: 404 });
  assert.equal((await run.open()).verified, 4);
  await run.stop();
  await target.close();
});

for (const engine of ['epoll', 'uring'] as const) {
  test(`headers, method and body go with every request, also a body larger than a socket takes, with ${engine}`, async () => {
    const bytes = Buffer.alloc(60_000, 'abc');
    const heads = new Set<string>();
    const counts = { bodies: 0, wrong: 0 };
    const target = await Target.listen((socket) => {
      let got = Buffer.alloc(0);
      socket.on('data', (chunk) => {
        got = Buffer.concat([got, chunk]);
        const end = got.indexOf('\r\n\r\n') + 4;
        if (end < 4 || got.length < end + bytes.length) return;
        heads.add(got.subarray(0, end).toString());
        counts.bodies++;
        if (!got.subarray(end, end + bytes.length).equals(bytes)) counts.wrong++;
        got = got.subarray(end + bytes.length);
        socket.write(`${OK}Content-Length: 0\r\n\r\n`);
      });
    });
    const request = {
      method: 'PUT' as const,
      headers: [
        { name: 'Authorization', value: 'Bearer x' },
        { name: 'accept', value: 'text/plain' },
      ],
      body: bytes.toString('base64'),
      subprotocols: [],
    };
    const spec = specTo(target.port, 5, { protocol: 'http', probeEveryMs: 200, engine });
    const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, hostHeader: 'a.example', request };
    const run = new EngineRun({ ...spec, protocolOptions });
    assert.equal((await run.open()).verified, 5);
    await until('each has sent it again', () => counts.bodies >= 15);
    assert.equal(counts.wrong, 0);
    assert.deepEqual(
      [...heads],
      [
        'PUT / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: c100k-bench\r\nContent-Length: 60000\r\n' +
          'Authorization: Bearer x\r\naccept: text/plain\r\n\r\n',
      ],
    );
    assert.deepEqual(run.stats().dropped, {});
    await run.stop();
    await target.close();
  });
}

test('an answer to HEAD has no body, whatever its length says, and a POST without a body says so', async () => {
  const requests: string[] = [];
  const target = await Target.listen((socket) => {
    socket.on('data', (chunk) => {
      requests.push(chunk.toString());
      socket.write(`${OK}Content-Length: ${chunk.toString().startsWith('HEAD') ? 500 : 0}\r\n\r\n`);
    });
  });
  for (const method of ['HEAD', 'POST'] as const) {
    const request = { method, headers: [], body: null, subprotocols: [] };
    const run = runOn(target.port, 2, { request });
    assert.equal((await run.open()).verified, 2, method);
    const before = requests.length;
    await until('each is asked again', () => requests.length >= before + 4);
    assert.deepEqual(run.stats().dropped, {});
    await run.stop();
  }
  assert.ok(requests.some((text) => text.startsWith('HEAD / ') && !text.includes('Content-Length')));
  assert.ok(requests.some((text) => text.startsWith('POST / ') && text.includes('Content-Length: 0\r\n')));
  await target.close();
});
