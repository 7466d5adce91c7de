/** Owns the proof that readings come from the kernel's files as they are, and that a missing file is no reading. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { readCounters, readKernel } from '../../src/host/kernel-readings.ts';

const FILES: Readonly<Record<string, string>> = {
  'sys/net/netfilter/nf_conntrack_count': '1200\n',
  'sys/net/netfilter/nf_conntrack_max': '262144\n',
  'sys/net/ipv4/neigh/default/gc_thresh3': '1024\n',
  'sys/net/ipv4/tcp_max_tw_buckets': '131072\n',
  'sys/net/ipv4/tcp_mem': '100\t200\t300\n',
  'net/stat/arp_cache': 'entries  allocs   destroys\n0000001f 00000002 00000003\n0000001f 0 0\n',
  'net/sockstat': 'sockets: used 300\nTCP: inuse 27 orphan 1 tw 9 alloc 40 mem 12\nUDP: inuse 4 mem 2\n',
  'net/snmp': 'Tcp: RtoAlgorithm RetransSegs\nTcp: 1 77\n',
  'net/netstat': 'TcpExt: ListenOverflows TCPSynRetrans\nTcpExt: 5 6\n',
  vmstat: 'nr_free_pages 100\noom_kill 2\noom_kill_other 9\n',
};

test('every reading has its limit beside it, and the kills for memory are among the counters', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'c100k-proc-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(FILES)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  assert.deepEqual(readKernel(root), {
    conntrack: { value: 1_200, limit: 262_144 },
    neighbours: { value: 31, limit: 1_024 },
    'tcp-sockets': { value: 27, limit: null },
    'time-wait': { value: 9, limit: 131_072 },
    'tcp-memory-pages': { value: 12, limit: 300 },
  });
  const { RetransSegs, ListenOverflows, oom_kill } = readCounters(root);
  assert.deepEqual([RetransSegs, ListenOverflows, oom_kill], [77, 5, 2]);
});

test('a host that tells nothing gives no readings', () => {
  assert.deepEqual(readKernel('/nonexistent'), {});
  assert.deepEqual(readCounters('/nonexistent'), {});
});

test('this host has sockets and counters', () => {
  assert.ok((readKernel()['tcp-sockets']?.value ?? -1) >= 0);
  assert.ok((readCounters().ActiveOpens ?? 0) > 0);
});
