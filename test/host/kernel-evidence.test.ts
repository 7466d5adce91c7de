/** Owns the proof that readings keep their least and most, and that the ladder of SYN retransmits is the kernel's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keptCounters, synLadderSec, withReadings } from '../../src/host/kernel-evidence.ts';

test('the ladder of retransmits is that of this kernel and that of older ones', () => {
  assert.deepEqual(synLadderSec(4).slice(0, 7), [1, 2, 3, 4, 5, 7, 11]);
  assert.deepEqual(synLadderSec(0).slice(0, 5), [1, 3, 7, 15, 31]);
  assert.deepEqual(synLadderSec(null), synLadderSec(0));
});

test('readings keep the least, the most and the last; one that is missing now changes nothing', () => {
  let samples = withReadings({}, { conntrack: { value: 5, limit: 100 } });
  samples = withReadings(samples, {
    conntrack: { value: 90, limit: 100 },
    'time-wait': { value: 1, limit: null },
  });
  samples = withReadings(samples, { conntrack: { value: 20, limit: 50 } });
  assert.deepEqual(samples, {
    conntrack: { min: 5, max: 90, last: 20, limit: 50 },
    'time-wait': { min: 1, max: 1, last: 1, limit: null },
  });
});

test('only counters that say something about connections are kept', () => {
  assert.deepEqual(keptCounters({ ListenOverflows: 3, InSegs: 1_000, oom_kill: 1, RetransSegs: 0 }), {
    ListenOverflows: 3,
    oom_kill: 1,
  });
});
