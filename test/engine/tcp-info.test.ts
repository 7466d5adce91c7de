/** Tests what is read from TCP_INFO: SYNs that were sent again, and whether the far kernel has what was sent. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { ConnectionTable, SlotState } from '../../src/engine/connection-table.ts';
import { sockAddr } from '../../src/engine/drivers/sockaddr.ts';
import * as libc from '../../src/engine/libc.ts';
import { Tally } from '../../src/engine/tally.ts';
import { Delivery, SynRetransmits, TcpInfo } from '../../src/engine/tcp-info.ts';
import { until } from '../support/waiting.ts';
import { cleanUp, deafListener, EngineRun, kernelCount, specTo, Target } from './engine-run.ts';

afterEach(cleanUp);

const isAcknowledged = (info: TcpInfo, fd: number): boolean => info.delivery(fd) === Delivery.acknowledged;

test('a full accept queue shows as timeouts, with the SYN retransmits counted', async () => {
  const deaf = deafListener(4);
  const run = new EngineRun(specTo(deaf.port, 20, { connectTimeoutMs: 2_500 }));
  const stats = await run.open();
  const established = kernelCount('established', deaf.port);
  assert.equal(stats.open, established);
  assert(stats.open >= 4 && stats.open <= 6, `${stats.open} of a backlog of 4`);
  assert.deepEqual(stats.failed, { timeout: 20 - stats.open });
  assert.equal(stats.retransmittedConnects, 20 - stats.open);
  // The first comes after 1 s, and tcp_syn_retries ends them; how many fit in is the kernel's matter.
  const perConnect = stats.synRetransmits / stats.retransmittedConnects;
  assert(perConnect >= 1 && perConnect <= 6, `${perConnect} retransmits a connect`);
  await run.stop();
  deaf.close();
});

/** A driver whose slots are descriptors. */
const byDescriptor = { tcpInfo: libc.tcpInfo };

/** A socket of this process on its way to 127.0.0.1:port. */
function connecting(port: number): number {
  const fd = libc.tcpSocket(libc.AF_INET);
  const to = sockAddr('127.0.0.1', port);
  assert.equal(libc.connect(fd, to.bytes, to.length), -libc.Errno.EINPROGRESS);
  return fd;
}

test('what the far kernel has received is acknowledged, whether or not its application reads', async () => {
  const target = await Target.listen((socket) => socket.pause());
  const info = new TcpInfo(byDescriptor);
  const fd = connecting(target.port);
  await until('the target accepts', () => target.accepted === 1);
  assert.equal(libc.send(fd, new Uint8Array(10), 10), 10);
  await until('all ten bytes are acknowledged', () => isAcknowledged(info, fd));
  assert.equal(info.retransmits(fd), 0);
  libc.close(fd);
});

test('what the far kernel does not answer is not acknowledged: the SYN to a full accept queue', async () => {
  const deaf = deafListener(0);
  const info = new TcpInfo(byDescriptor);
  const fds = Array.from({ length: 4 }, () => connecting(deaf.port));
  await until('the queue is full', () => fds.some((fd) => isAcknowledged(info, fd)));
  assert.equal(isAcknowledged(info, fds.at(-1) ?? -1), false);
  assert(kernelCount('syn-sent', deaf.port) > 0);
  for (const fd of fds) libc.close(fd);
  deaf.close();
});

test('a descriptor that is no socket has no retransmits and no acknowledgement', () => {
  const info = new TcpInfo(byDescriptor);
  assert.equal(info.retransmits(-1), 0);
  assert.equal(info.delivery(-1), Delivery.notAcknowledged);
});

test('the kernel is asked once per slow connect, and not for one that was fast or is no longer connecting', () => {
  const asked: number[] = [];
  class CountingInfo extends TcpInfo {
    override retransmits(slot: number): number {
      asked.push(slot);
      return slot === 0 ? 3 : 0;
    }
  }
  const table = new ConnectionTable(4);
  const tally = new Tally({ addresses: [], endpoints: [] });
  const retransmits = new SynRetransmits(table, tally, new CountingInfo(byDescriptor));
  for (let tuple = 0; tuple < 4; tuple++) {
    const slot = table.take(tuple);
    table.intendedAtMs[slot] = 1_000;
    table.calledLateMs[slot] = 500;
  }
  table.state[2] = SlotState.open;
  // It was called at 1,500: a SYN is sent again 1 s later at the earliest, and a turn may be some 100 ms older than its events.
  retransmits.decided(3, 1_749);
  for (const slot of [0, 1, 2]) retransmits.decided(slot, 1_750);
  assert.deepEqual(asked, [0, 1]);
  assert.deepEqual([tally.synRetransmits, tally.retransmittedConnects], [3, 1]);
});
