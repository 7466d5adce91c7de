/** Tests the silent hold and the banner proof against targets that speak first, late, wrongly or not at all. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { DEFAULT_PROTOCOL_OPTIONS } from '../../../src/base/endpoint.ts';
import { until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, specTo, Target } from '../engine-run.ts';

afterEach(cleanUp);

test('a silent hold sends nothing, and takes whatever the target says for no proof', async () => {
  const heard: string[] = [];
  const target = await Target.listen((socket) => {
    socket.on('data', (chunk) => heard.push(chunk.toString('latin1')));
    socket.write('hello');
  });
  const run = new EngineRun(specTo(target.port, 6, { probeEveryMs: 50 }));
  assert.equal((await run.open()).open, 6);
  await until('all of it is read', () => run.stats().bytesIn === 30);
  const { open, verified, probesSent, bytesOut } = run.stats();
  assert.deepEqual([open, verified, probesSent, bytesOut], [6, 0, 0, 0]);
  await run.stop();
  await until('the target sees all of them go', () => target.sockets.size === 0);
  assert.deepEqual(heard, []);
  await target.close();
});

for (const [banner, isGood] of [
  ['', true],
  ['SSH-2.0-', true],
  ['SSH-2.1', false],
] as const) {
  test(`a target that greets with SSH-2.0 is ${isGood ? 'proven' : 'refused'} by --expect-banner "${banner}"`, async () => {
    const target = await Target.listen((socket) => {
      socket.write('SSH-');
      setTimeout(() => socket.write('2.0-OpenSSH_9.2\r\n'), 30);
    });
    const spec = specTo(target.port, 6, { protocolOptions: { ...DEFAULT_PROTOCOL_OPTIONS, banner } });
    const run = new EngineRun(spec);
    const stats = await run.open();
    assert.equal(stats.verified, isGood ? 6 : 0);
    assert.deepEqual(stats.failed, isGood ? {} : { handshake: 6 });
    if (!isGood) assert.deepEqual(stats.troubles, { 'banner differs from --expect-banner': 6 });
    await run.stop();
    await target.close();
  });
}

test('a silent target fails --expect-banner after the connect timeout', async () => {
  const target = await Target.listen();
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, banner: '' };
  const run = new EngineRun(specTo(target.port, 4, { protocolOptions, connectTimeoutMs: 300 }));
  assert.deepEqual((await run.open()).failed, { handshake: 4 });
  await run.stop();
  await target.close();
});

test('a slot that is used again expects its banner from the beginning', async () => {
  let accepted = 0;
  const target = await Target.listen((socket) => {
    accepted++;
    // The first says half of it and ends; the connection that stands in for it would be proven by the other half.
    if (accepted === 1) socket.end('SSH-');
    else socket.write(accepted === 2 ? '2.0-' : 'SSH-2.0-');
  });
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, banner: 'SSH-2.0-' };
  const run = new EngineRun(specTo(target.port, 3, { protocolOptions, pendingMax: 1 }));
  const stats = await run.open();
  assert.deepEqual([stats.verified, stats.failed], [1, { handshake: 2 }]);
  assert.deepEqual(stats.troubles, { 'banner differs from --expect-banner': 1 });
  await run.stop();
  await target.close();
});
