/** Tests, over a real channel, that a coordinator which does not read takes no memory of an agent but the bound. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sendGuarded } from '../../src/agent/unread-guard.ts';
import { connectChannel } from '../../src/control/client.ts';
import { type AgentMessageOf, PROTOCOL_VERSION } from '../../src/control/message.ts';
import { parseToken } from '../../src/control/token.ts';
import { systemClock } from '../../src/host/system-clock.ts';
import { ControlProxy } from '../support/control-proxy.ts';
import { startLyingCoordinator } from '../support/lying-coordinator.ts';
import { until } from '../support/waiting.ts';

const MIB = 1_048_576;
/** Lines of 4,000 characters: a quarter of a megabyte. */
const LARGE: AgentMessageOf<'offer'> = {
  type: 'offer',
  connectionsMax: 1,
  boundBy: 'tuples',
  findings: [],
  sources: Array.from({ length: 16_384 }, (_, index) => `10.0.${index >> 8}.${index & 255}`),
  notes: [],
};

// PROTOCOL.md: unread
test('what is not read is kept up to the bound; then the channel is given up, and its memory with it', async (t) => {
  const liar = await startLyingCoordinator(
    t,
    () => {},
    () => {},
  );
  const proxy = new ControlProxy(liar.port);
  const port = await proxy.listen();
  t.after(() => proxy.close());
  let isClosed = false;
  const close = (): void => {
    isClosed = true;
  };
  const events = { onMessage: () => {}, onClose: close };
  const token = parseToken(liar.tokenText);
  const channel = await connectChannel('127.0.0.1', port, token, events, 60_000, systemClock);
  const host = { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' };
  channel.send({ type: 'hello', protocol: PROTOCOL_VERSION, name: 'ada', host, resume: null });
  await until('it is known', () => liar.links() === 1);
  proxy.stall('up');
  const largeBytes = JSON.stringify(LARGE).length;
  let sent = 0;
  let most = 0;
  // The kernel takes some megabytes on the way before anything lies in this process.
  await until('the channel is given up', () => {
    const isThere = sendGuarded(channel, LARGE, 4 * MIB);
    if (isThere) sent += 1;
    most = Math.max(most, channel.bufferedBytes);
    return !isThere;
  });
  assert(most > 4 * MIB && most <= 4 * MIB + 2 * largeBytes, `${most} bytes`);
  assert(sent < 400, `${sent} messages of ${largeBytes} bytes went out before`);
  await until('it is closed', () => isClosed);
  assert.equal(channel.bufferedBytes, 0);
});
