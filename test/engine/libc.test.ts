/** Tests the system calls on what the kernel says about them elsewhere. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { arch } from 'node:os';
import { test } from 'node:test';
import { sockAddr } from '../../src/engine/drivers/sockaddr.ts';
import * as libc from '../../src/engine/libc.ts';
import { HEADERS_SKIP, headerValues, numbersIn } from '../support/kernel-headers.ts';

test('the limit of descriptors is the one in /proc', () => {
  const line = /Max open files +(\S+)/.exec(readFileSync('/proc/self/limits', 'utf8'))![1]!;
  const expected = line === 'unlimited' ? Number.POSITIVE_INFINITY : Number(line);
  assert.equal(libc.descriptorsMax(), expected);
});

test('the descriptor table grows at once, costs no descriptor, and asks for no more than the limit', () => {
  const tableSize = (): number =>
    Number(/FDSize:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
  const wanted = Math.min(4_000, libc.descriptorsMax());
  const before = readdirSync('/proc/self/fd').length;
  const times = 100;
  for (let less = times - 1; less >= 0; less--) libc.reserveDescriptors(wanted - less);
  // Node itself may open or close a few meanwhile.
  assert(readdirSync('/proc/self/fd').length < before + times / 2, 'no call keeps a descriptor');
  assert(tableSize() >= wanted, `${tableSize()} of ${wanted}`);
  libc.reserveDescriptors(1e9);
});

test('a failed call returns its errno, negative', () => {
  assert.equal(libc.close(-1), -libc.Errno.EBADF);
  const fd = libc.tcpSocket(libc.AF_INET);
  // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
  const foreign = sockAddr('192.0.2.1', 0);
  assert.equal(libc.bind(fd, foreign.bytes, foreign.length), -libc.Errno.EADDRNOTAVAIL);
  assert.equal(libc.recv(fd, new Uint8Array(8), 8), -libc.Errno.ENOTCONN);
  assert.equal(libc.close(fd), 0);
});

test('TCP_INFO of a fresh socket is long enough to hold the retransmits, which are 0', () => {
  const fd = libc.tcpSocket(libc.AF_INET);
  const info = new Uint8Array(256);
  assert(libc.tcpInfo(fd, info) >= 104);
  assert.equal(info[0], 7, 'TCP_CLOSE');
  assert.equal(new DataView(info.buffer).getUint32(100, true), 0);
  libc.close(fd);
});

/** Numbers of libc.ts, sockaddr.ts and tcp-info.ts that have another name in C, or are ours. */
const EXPRESSIONS: Readonly<Record<string, string | null>> = {
  SOCKADDR_BYTES_MAX: 'sizeof(struct sockaddr_in6)',
  SOCKADDR_IN_BYTES: 'sizeof(struct sockaddr_in)',
  SCOPE_AT: 'offsetof(struct sockaddr_in6, sin6_scope_id)',
  UNACKED_OFFSET: 'offsetof(struct tcp_info, tcpi_unacked)',
  LAST_ACK_RECV_OFFSET: 'offsetof(struct tcp_info, tcpi_last_ack_recv)',
  NOTSENT_BYTES_OFFSET: 'offsetof(struct tcp_info, tcpi_notsent_bytes)',
  TOTAL_RETRANS_OFFSET: 'offsetof(struct tcp_info, tcpi_total_retrans)',
  TCP_INFO_BYTES_MAX: null,
  OWN_MAPPING_BYTES: null,
  RETRANSMIT_POSSIBLE_MS: null,
};
/** Not in the kernel's headers for programs: names of the C library, which has the same values for x64 and arm64. */
const OF_THE_LIBRARY =
  /^(?:AF_|SOCK_|MSG_|EFD_|EPOLL_CLOEXEC|F_DUPFD_CLOEXEC|O_ASYNC$|ENOTSUP$|M_MMAP_THRESHOLD$)/;
/** glibc's struct tcp_info of <netinet/tcp.h> ends there. */
const BEYOND_THE_LIBRARY = /tcpi_notsent_bytes/;

for (const machine of ['own', 'other'] as const) {
  test(`numbers of system calls are those of the headers: ${machine} architecture`, {
    skip: HEADERS_SKIP,
  }, (t) => {
    const ours = new Map<string, number>();
    for (const path of ['src/engine/libc.ts', 'src/engine/drivers/sockaddr.ts', 'src/engine/tcp-info.ts'])
      for (const [name, value] of numbersIn(path)) {
        const expression = EXPRESSIONS[name] === undefined ? name : EXPRESSIONS[name];
        if (expression !== null) ours.set(expression, value);
      }
    assert(ours.size > 40, 'the numbers of the sources are found');
    for (const [name, value] of Object.entries(libc.Errno)) ours.set(name, value);
    // Packed on x64 alone: include/uapi/linux/eventpoll.h, EPOLL_PACKED.
    const isX64 = (arch() === 'x64') === (machine === 'own');
    ours.set('sizeof(struct epoll_event)', isX64 ? 12 : 16);
    ours.set('offsetof(struct epoll_event, data)', isX64 ? 4 : 8);
    if (machine === 'own') {
      assert.equal(libc.EPOLL_EVENT_BYTES, ours.get('sizeof(struct epoll_event)'));
      assert.equal(libc.EPOLL_DATA_OFFSET, ours.get('offsetof(struct epoll_event, data)'));
    }
    const { values, missing, version } = headerValues(machine, [...ours.keys()]);
    // EPOLLET is an unsigned bit 31 in C, and a signed one here.
    for (const [expression, value] of values)
      assert.equal(ours.get(expression)! | 0, value | 0, `${expression}, in the headers of Linux ${version}`);
    const unexplained = missing.filter((name) =>
      machine === 'own' ? !BEYOND_THE_LIBRARY.test(name) : !OF_THE_LIBRARY.test(name),
    );
    assert.deepEqual(unexplained, [], 'all others are in the headers');
    t.diagnostic(`headers of Linux ${version}: ${values.size} agree; not in them: ${missing.join(', ')}`);
  });
}
