/** Owns the proof that a target is believed only when it reports its counts, whatever else answers at its address. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { httpWitness, TargetCountLog } from '../../src/coordinator/target-stats.ts';

const COUNTS = {
  openNow: 5,
  openMax: 6,
  acceptedTotal: 7,
  sourceAddresses: 1,
  descriptorsFull: 0,
  workersLost: 0,
};

async function serverOf(t: TestContext, listener: RequestListener): Promise<URL> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
}

/** What else may answer where a target is thought to report its counts. */
const OTHERS: readonly (readonly [what: string, listener: RequestListener, says: RegExp])[] = [
  ['another JSON', (_, response) => void response.end('{"status":"ok"}'), /no counts of a target$/],
  ['a page', (_, response) => void response.end('<html>'), /no counts of a target$/],
  [
    'nonsense numbers',
    (_, response) => void response.end(JSON.stringify({ ...COUNTS, openNow: 1e15 })),
    /no counts of a target$/,
  ],
  [
    'a redirection, also to one that reports',
    (request, response) => {
      if (request.url === '/counts') response.end(JSON.stringify(COUNTS));
      else response.writeHead(302, { location: '/counts' }).end();
    },
    /HTTP status 302$/,
  ],
  ['an error', (_, response) => void response.writeHead(500).end(JSON.stringify(COUNTS)), /HTTP status 500$/],
  ['silence', () => {}, /no whole answer within 900 ms$/],
  [
    'an answer without an end',
    (_, response) => void response.writeHead(200).write('{'),
    /no whole answer within 900 ms$/,
  ],
  [
    'a huge answer',
    (_, response) => void response.end(`${JSON.stringify(COUNTS)}${' '.repeat(300_000)}`),
    /more than 256 KiB$/,
  ],
  [
    'an answer that breaks off',
    (_, response) => {
      response.writeHead(200, { 'content-length': '1000' }).write('{');
      setTimeout(() => response.destroy(), 20);
    },
    /(?:broke off|ECONNRESET)$/,
  ],
];

for (const [what, listener, says] of OTHERS) {
  test(`${what} proves nothing, and the reason is given`, async (t) => {
    const url = await serverOf(t, listener);
    const log = new TargetCountLog(httpWitness([url]));
    await log.holdBegins();
    assert.equal(log.openNow, null);
    assert.equal(log.report(), null);
    assert.equal(log.proof()?.open, null);
    assert.match(log.problem ?? '', says);
  });
}

test('a port without a listener, and a listener that speaks no HTTP, prove nothing', async (t) => {
  const server = createTcpServer((socket) =>
    socket
      .on('error', () => {})
      .resume()
      .end('220 mail ready\r\n'),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const log = new TargetCountLog(httpWitness([url]));
  await log.holdBegins();
  assert.match(log.problem ?? '', /HPE_/);
  await new Promise((resolve) => server.close(resolve));
  t.after(() => server.close());
  await log.ask();
  assert.match(log.proof()?.problem ?? '', /ECONNREFUSED/);
});

test('only an answer to a question of the hold is a proof, and the highest one counts', async () => {
  const counts = { ...COUNTS };
  const waiting: (() => void)[] = [];
  const log = new TargetCountLog({
    source: 'test',
    targets: 1,
    isRequired: true,
    ask: () =>
      new Promise((resolve) => {
        const answer = { counts: { ...counts } };
        waiting.push(() => resolve(answer));
      }),
  });
  const early = log.ask();
  const held = log.holdBegins();
  counts.openNow = 4;
  waiting.shift()?.();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(log.proof()?.open, null, 'asked before the hold');
  assert.equal(waiting.length, 1, 'asked again immediately');
  waiting.shift()?.();
  await Promise.all([early, held]);
  assert.equal(log.proof()?.open, 4);
  const late = log.ask();
  counts.openNow = 6;
  log.holdEnds();
  waiting.shift()?.();
  await late;
  assert.equal(log.proof()?.open, 4, 'what comes after the hold is about closing');
});

test('what the target counted before the run is not of the run', async () => {
  const before = {
    ...COUNTS,
    openNow: 0,
    openMax: 900,
    acceptedTotal: 5_000,
    descriptorsFull: 7,
    workersLost: 1,
  };
  let counts = before;
  const witness = { source: 'test', targets: 1, isRequired: true, ask: async () => ({ counts }) };
  const asked = new TargetCountLog(witness);
  await asked.askBefore();
  counts = { ...before, openNow: 40, acceptedTotal: 5_040 };
  await asked.ask();
  const said = (log: TargetCountLog) => {
    const { openMax, descriptorsFull, workersLost } = log.report()!;
    return { openMax, descriptorsFull, workersLost };
  };
  assert.deepEqual(said(asked), { openMax: 40, descriptorsFull: 0, workersLost: 0 });
  counts = { ...before, openNow: 950, openMax: 960, acceptedTotal: 5_990, descriptorsFull: 9 };
  await asked.ask();
  assert.deepEqual(said(asked), { openMax: 960, descriptorsFull: 2, workersLost: 0 });
  const late = new TargetCountLog(witness);
  await late.ask();
  assert.equal(
    said(late).descriptorsFull,
    0,
    'its first answer came in the ramp: whose these are is not known',
  );
  counts = { ...COUNTS, openNow: 30, openMax: 30, acceptedTotal: 30, descriptorsFull: 3, workersLost: 0 };
  await asked.ask();
  assert.equal(said(asked).descriptorsFull, 3, 'it was started again: all of it is of this run');
});

test('the built-in target is asked without being a proof that the user asked for', () => {
  const ask = async (): Promise<{ counts: typeof COUNTS }> => ({ counts: COUNTS });
  assert.equal(new TargetCountLog({ source: 'self', targets: 1, isRequired: false, ask }).proof(), null);
});

test('several targets prove what they hold together, and nothing while one of them is silent', async (t) => {
  const told = { ...COUNTS };
  let isSilent = false;
  let descriptorsFullThere = 0;
  const first = await serverOf(t, (_, response) => void response.end(JSON.stringify(told)));
  const second = await serverOf(t, (_, response) => {
    if (isSilent) response.writeHead(503).end();
    else
      response.end(
        JSON.stringify({ ...COUNTS, openNow: 3, sourceAddresses: 4, descriptorsFull: descriptorsFullThere }),
      );
  });
  const log = new TargetCountLog(httpWitness([first, second]));
  await log.askBefore();
  descriptorsFullThere = 2;
  await log.holdBegins();
  assert.deepEqual([log.openNow, log.proof()?.targets, log.proof()?.open], [8, 2, 8]);
  const { openMax, acceptedTotal, sourceAddresses, descriptorsFull } = log.report()!;
  // Each has had 6 open, and it is not known whether at the same moment.
  assert.deepEqual([openMax, acceptedTotal, sourceAddresses, descriptorsFull], [8, 14, 4, 2]);
  isSilent = true;
  told.openNow = 6;
  told.openMax = 6;
  await log.ask();
  assert.equal(log.openNow, null);
  assert.equal(log.proof()?.open, 8, 'half an answer proves nothing more');
  assert.equal(log.problem, `${first.href} + ${second.href}: ${second.href}: HTTP status 503`);
});

/** What comes of each of these answers of one target: its counts, or null when it is no answer. */
async function readAs(t: TestContext, texts: readonly string[]): Promise<(object | null)[]> {
  let text = '';
  const witness = httpWitness([await serverOf(t, (_, response) => void response.end(text))]);
  const read: (object | null)[] = [];
  for (text of texts) {
    const answer = await witness.ask();
    if (!('counts' in answer)) assert.match(answer.problem, /no counts of a target$/);
    read.push('counts' in answer ? answer.counts : null);
  }
  return read;
}

test('a whole answer is read, with whatever else it holds left out', async (t) => {
  const text = JSON.stringify({ ...COUNTS, bySource: { '127.0.0.1': 5 } });
  assert.deepEqual(await readAs(t, [text]), [COUNTS]);
});

test('anything else is no answer', async (t) => {
  const { openNow: _, ...without } = COUNTS;
  const bad = ['', '<html>', 'null', '[]', '5', JSON.stringify(without)];
  for (const openNow of [-1, 1.5, '5', null, Number.MAX_VALUE])
    bad.push(JSON.stringify({ ...COUNTS, openNow }));
  assert.deepEqual(
    await readAs(t, bad),
    bad.map(() => null),
  );
});

test('numbers that cannot be are no counts: more open than ever, or than were accepted', async (t) => {
  const bad = [
    { ...COUNTS, openNow: 7 },
    { ...COUNTS, openMax: 8 },
  ].map((counts) => JSON.stringify(counts));
  assert.deepEqual(await readAs(t, [...bad, '{"openNow":1e999}']), [null, null, null]);
});
