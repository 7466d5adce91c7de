/** Tests the account of a process's own stand-stills, by moments that are given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { STAND_STILL_MS_MIN, StandStill } from '../../src/base/clock.ts';

test('ticks on time attend all of the time', () => {
  const still = new StandStill(1_000, 500);
  for (let atMs = 1_500; atMs <= 10_500; atMs += 1_000) assert.equal(still.look(atMs), 0);
  assert.equal(still.attendedMs, 10_000);
  assert.deepEqual([still.times, still.longestMs], [0, 0]);
});

test('a tick that is late by seconds is a stand-still, and most of it is not attended', () => {
  const still = new StandStill(1_000, 0);
  assert.equal(still.look(1_000), 0);
  assert.equal(still.look(6_000), 4_000);
  assert.equal(still.attendedMs, 3_000);
  assert.equal(still.look(10_500), 3_500);
  assert.deepEqual([still.times, still.longestMs], [2, 4_000]);
});

test('a busy machine is no stand-still, and its time is attended', () => {
  const still = new StandStill(1_000, 0);
  assert.equal(still.look(1_000 + STAND_STILL_MS_MIN - 1), 0);
  assert.equal(still.times, 0);
  assert.equal(still.look(4_900), 0);
  assert.equal(still.attendedMs, 2_000 + 4_900 - 2_999);
});

test('a tick that comes too early, or twice, changes nothing', () => {
  const still = new StandStill(1_000, 1_000);
  assert.equal(still.look(900), 0);
  assert.equal(still.look(900), 0);
  assert.equal(still.attendedMs, 0);
});

test('what it says for a person: nothing, once, several times', () => {
  const still = new StandStill(1_000, 0);
  assert.equal(still.note('agent a1'), null);
  still.look(5_000);
  assert.equal(still.note('agent a1'), 'agent a1 stood still for 4.0 s: it was stopped, or had no core');
  still.look(9_250);
  assert.equal(
    still.note('agent a1'),
    'agent a1 stood still 2 times, for up to 4.0 s: it was stopped, or had no core',
  );
});
